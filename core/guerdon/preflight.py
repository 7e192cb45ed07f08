"""What can be known before anything is loaded: the trainer's own arithmetic, and what a backend lacks here."""

from collections.abc import Iterable
from pathlib import Path

from guerdon.errors import RecipeError
from guerdon.index import cache_folder
from guerdon.inputs import Inputs
from guerdon.loading import Key
from guerdon.resolve import Bound, Plan
from guerdon.served import is_adapter
from guerdon.settings import SettingError
from guerdon.training import Facts
from guerdon.traits import attribute


def preflight(plan: Plan, inputs: Inputs, *, checking: bool = False) -> list[str]:
    """The notes of the trainer's preflight, and of the backends'; `checking`: nothing will run now.

    Raises:
        GuerdonError: by a component's word this cannot work; a RecipeError with the place in the recipe.
    """
    known = facts(plan, inputs, checking)
    return [note for key, bound in _parts(plan) for note in _notes(plan, key, bound, known)]


def _parts(plan: Plan) -> Iterable[tuple[Key, Bound]]:
    """What will be used here, by its place in the recipe."""
    recipe = plan.recipe
    if plan.trainer:
        yield ("trainer", recipe.trainer.ref), plan.trainer
    if (recipe.tasks or recipe.eval) and not recipe.launch.node_rank:
        yield ("backend", recipe.backend.ref), plan.backend
        if plan.warmup_backend:
            yield ("loop", "warmup", "backend", recipe.loop.warmup.backend.ref), plan.warmup_backend


def _notes(plan: Plan, key: Key, bound: Bound, known: Facts) -> list[str]:
    target = getattr(bound.function, "preflight", "")
    try:
        return list(attribute(target)(bound.settings, known)) if target else []
    except SettingError as error:
        raise _at(plan, key, bound, error) from error


def facts(plan: Plan, inputs: Inputs, checking: bool) -> Facts:
    """What a trainer's preflight is told."""
    recipe = plan.recipe
    # a registered model is prepared in the cache, if it was ever used
    places = (plan.loaded.folder / Path(plan.model).expanduser(), Path(cache_folder()) / plan.model)
    folder = next((p for p in places if (p / "config.json").is_file() or (p == places[0] and p.is_dir())), None)
    adapter = plan.adapter
    if adapter and not is_adapter(adapter):  # a whole model, gone on with
        folder, adapter = adapter, None
    rows = None
    if plan.rolls_out and inputs.tasks:
        rows = len(inputs.tasks.tasks)
    elif inputs.data and inputs.whole:
        rows = len(inputs.data.rows)
    return Facts(
        model=str(folder.resolve()) if folder else plan.model,
        launch=recipe.launch,
        adapter=adapter,
        rows=rows,
        validation=bool(recipe.data and recipe.data.validation),
        group_size=recipe.loop.group_size,
        sampling=recipe.sampling.body(),
        rewards=tuple((r.name, r.weight) for r in plan.rewards),
        single_turn=plan.single_turn,
        server_share=_server_share(plan.backend),
        checking=checking,
        folder=plan.loaded.folder if plan.loaded.folder.is_dir() else Path(),  # as a training's process does
    )


def _server_share(backend: Bound) -> float:
    target = getattr(backend.function, "gpu_share", "")
    return float(attribute(target)(backend.settings)) if target else 0.0


def _at(plan: Plan, key: Key, bound: Bound, error: SettingError) -> RecipeError:
    """A setting's error where the recipe has it: among the component's, or elsewhere (`loop.group_size`)."""
    own = not error.path or error.path[0] in bound.settings
    return plan.loaded.error((*key, *error.path) if own else error.path, str(error))

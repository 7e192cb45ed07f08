"""What can be known before anything is loaded: the trainer's own arithmetic."""

from pathlib import Path

from guerdon.errors import RecipeError
from guerdon.index import cache_folder
from guerdon.inputs import Inputs
from guerdon.resolve import Bound, Plan
from guerdon.served import is_adapter
from guerdon.settings import SettingError
from guerdon.training import Facts
from guerdon.traits import attribute


def preflight(plan: Plan, inputs: Inputs, *, checking: bool = False) -> list[str]:
    """The notes of the trainer's preflight; `checking`: nothing will run now.

    Raises:
        RecipeError: by the trainer's word this cannot work; with the place in the recipe.
    """
    trainer = plan.trainer
    target = getattr(trainer.function, "preflight", "") if trainer else ""
    if not trainer or not target:
        return []
    try:
        return list(attribute(target)(trainer.settings, facts(plan, inputs, checking)))
    except SettingError as error:
        raise _at(plan, trainer, error) from error


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
        checking=checking,
    )


def _at(plan: Plan, trainer: Bound, error: SettingError) -> RecipeError:
    """A setting's error where the recipe has it: among the trainer's, or elsewhere (`loop.group_size`)."""
    own = not error.path or error.path[0] in trainer.settings
    return plan.loaded.error(("trainer", plan.recipe.trainer.ref, *error.path) if own else error.path, str(error))

"""From a recipe to the components that it names: found, imported, their settings checked.

After this everything that can be wrong without running has been found, with the place in the recipe.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guerdon.errors import ComponentError, GuerdonError, PluginError, RewardError, StoreError, near_miss
from guerdon.invoke import is_async, shape
from guerdon.loading import Key, Loaded
from guerdon.plugins import Component
from guerdon.recipe import REWARD_KEYS, RewardUse, Use
from guerdon.registry import Registry, load, require_extra
from guerdon.settings import SettingError, settings_model, validate


@dataclass(frozen=True)
class Bound:
    """A component with the settings that a recipe gives it."""

    component: Component
    function: Callable[..., Any]
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        c = self.component
        origin = f"{c.package} {c.version}".strip() or c.target
        return f"{c.name} ({origin})"


@dataclass(frozen=True)
class BoundReward(Bound):
    name: str = ""
    weight: float = 1.0
    timeout: float = 10.0


@dataclass(frozen=True)
class Plan:
    """A recipe with its components: all that the engine needs."""

    loaded: Loaded
    registry: Registry
    model: str
    agent: Bound
    rewards: tuple[BoundReward, ...]
    backend: Bound
    trainer: Bound | None
    warmup_backend: Bound | None
    warmup_trainer: Bound | None
    executor: Bound | None = None
    """What starts the rollout workers, where there are any."""
    adapter: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Any:
        return self.loaded.recipe

    @property
    def rolls_out(self) -> bool:
        """Whether the trainer asks for rollouts while it trains."""
        return bool(self.trainer and getattr(self.trainer.function, "rolls_out", False))

    @property
    def single_turn(self) -> bool:
        """Whether the agent asks the model once, without tools."""
        return bool(getattr(self.agent.function, "single_turn", False))

    def model_path(self, model: str = "") -> str:
        """The recipe's model, or another, to hand to backends and trainers: see `model_path`."""
        return model_path(self.registry, self.loaded.folder, model or self.model)


def resolve(loaded: Loaded, registry: Registry) -> Plan:
    """Find and import what the recipe names, and check its settings. No model, task or server is touched.

    Raises:
        RecipeError: with the place in the recipe and what to do.
    """
    recipe, notes = loaded.recipe, list[str]()

    def bind(kind: str, use: Use, key: Key) -> Bound:
        return bind_component(kind, use, key, loaded, registry, notes)

    warmup = recipe.loop.warmup
    trainer = bind("trainers", recipe.trainer, ("trainer",)) if recipe.trainer else None
    warmup_trainer = None
    if warmup and recipe.trainer:
        merged = Use(ref=recipe.trainer.ref, settings={**recipe.trainer.settings, **warmup.trainer})
        warmup_trainer = bind("trainers", merged, ("loop", "warmup", "trainer"))
    elif warmup:
        raise loaded.error(("loop", "warmup"), "there is a warm-up but no trainer; name one, e.g. trainer: sft")
    plan = Plan(
        loaded,
        registry,
        recipe.model,
        _agent(bind("agents", recipe.agent, ("agent",)), loaded),
        tuple(_rewards(loaded, registry, notes)),
        bind("backends", recipe.backend, ("backend",)),
        trainer,
        bind("backends", warmup.backend, ("loop", "warmup", "backend")) if warmup else None,
        warmup_trainer,
        bind("executors", recipe.rollout.executor, ("rollout", "executor")) if recipe.rollout.workers else None,
        _adapter(loaded),
        notes,
    )
    _check_rolling_out(plan)
    if recipe.loop.patience and not (recipe.eval and recipe.eval.every):
        raise loaded.error(
            ("loop", "patience"), "there is nothing to tell progress by: give eval, and eval.every of 1 or more"
        )
    if plan.trainer and recipe.launch.world > 1 and not hasattr(plan.trainer.function, "launcher"):
        raise loaded.error(
            ("launch",), f"trainer {plan.trainer.component.name!r} runs in one process: leave `launch` out"
        )
    _check_model(recipe.model, ("model",), loaded, registry)
    if warmup and warmup.model:
        _check_model(warmup.model, ("loop", "warmup", "model"), loaded, registry)
    return plan


FITTING = {"group_size", "train_timeout"}
"""What of `loop` is for a trainer that rolls out itself."""


def _check_rolling_out(plan: Plan) -> None:
    """A trainer that rolls out takes tasks, and no loop around it."""
    if not plan.rolls_out:
        return
    assert plan.trainer
    loaded, name = plan.loaded, plan.trainer.component.name
    recipe = loaded.recipe
    if recipe.data:
        raise loaded.error(
            ("data",),
            f"trainer {name!r} learns from its own rollouts: train on data by sft, then go on with adapter: RUN",
        )
    for key in sorted(recipe.loop.model_fields_set - FITTING):
        raise loaded.error(
            ("loop", key), f"is for trainers that learn from finished rollouts; {name!r} rolls out while it trains"
        )


def _adapter(loaded: Loaded) -> Path | None:
    """The checkpoint to go on from: the folder of an adapter or a model, or a run's newest."""
    given = loaded.recipe.adapter
    if given is None:
        return None
    from guerdon.checkpoints import kept_checkpoint
    from guerdon.store import Run, find_run

    folder = loaded.folder / Path(given).expanduser()
    if any((folder / name).is_file() for name in ("adapter_config.json", "config.json")):
        return folder.resolve()
    try:
        run = Run(folder if (folder / "run.json").is_file() else find_run(Path(loaded.recipe.runs), given))
    except StoreError as error:
        raise loaded.error(("adapter",), f"{given!r} is no folder of an adapter or a model; and {error}") from error
    try:
        found = kept_checkpoint(run)
    finally:
        run.close()
    if found is None:
        raise loaded.error(("adapter",), f"run {run.id} has trained nothing: it has no checkpoint")
    return found.resolve()


def check_trainable(plan: Plan) -> None:
    """Check that what the trainer makes can be served: a backend function may say `serves_adapters = False`.

    Raises:
        RecipeError: it cannot. Rolling out and evaluating alone would work.
    """
    if plan.trainer and not getattr(plan.backend.function, "serves_adapters", True):
        raise plan.loaded.error(
            ("backend",),
            f"backend {plan.backend.component.name!r} serves only what its server has, not the adapter that trainer "
            f"{plan.trainer.component.name!r} makes: take a local backend, leave the trainer out, or only roll out "
            "(guerdon rollout)",
        )


def bind_component(kind: str, use: Use, key: Key, loaded: Loaded, registry: Registry, notes: list[str]) -> Bound:
    try:
        component = registry.find(kind, use.ref)
        require_extra(component)
        function = load(component)
        if not callable(function):
            raise ComponentError(f"{use.ref!r} is a {type(function).__name__}, not a function")
        settings = validate(f"{_name(kind)} {use.ref!r}", function, use.settings, notes)
    except SettingError as error:
        raise loaded.error((*key, use.ref, *error.path), str(error)) from error
    except (ComponentError, PluginError) as error:
        failed: GuerdonError = loaded.error(key, str(error))
        failed.kind = error.kind
        raise failed from error
    return Bound(component, function, settings)


def _name(kind: str) -> str:
    return "task source" if kind == "tasks" else kind.removesuffix("s")


def _agent(bound: Bound, loaded: Loaded) -> Bound:
    try:
        takes_task(bound)
    except ComponentError as error:
        raise loaded.error(("agent",), str(error)) from error
    return bound


def takes_task(agent: Bound) -> bool:
    """Whether an agent is a plain function of a task and a policy; else it is a context manager that yields one.

    Raises:
        ComponentError: its parameters fit neither.
    """
    name, function = agent.component.name, agent.function
    takes = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if not takes:
        return False
    if len(takes) != 2:
        raise ComponentError(
            f"agent {name!r} takes ({', '.join(takes)}); an agent is `async def agent(task, policy, *, ...)`"
        )
    if not is_async(function):
        raise ComponentError(f"agent {name!r} is not `async def`")
    return True


def _rewards(loaded: Loaded, registry: Registry, notes: list[str]) -> Iterable[BoundReward]:
    names: dict[str, int] = {}
    for i, use in enumerate(loaded.recipe.rewards):
        key = ("rewards", i)
        bound = bind_component("rewards", use, key, loaded, registry, notes)
        if use.name in names:
            raise loaded.error(
                key, f"two rewards are called {use.name!r}: give one a name of its own, {use.ref}: {{label: NAME}}"
            )
        names[use.name] = i
        try:
            shape(bound.function)
        except RewardError as error:
            raise loaded.error(key, str(error)) from error
        _no_reserved(bound, use, key, loaded)
        yield BoundReward(
            bound.component,
            bound.function,
            bound.settings,
            use.name,
            use.weight,
            loaded.recipe.scoring.timeout if use.timeout is None else use.timeout,
        )


def _no_reserved(bound: Bound, use: RewardUse, key: Key, loaded: Loaded) -> None:
    taken = set(settings_model(bound.function).model_fields) & set(REWARD_KEYS)
    if taken:
        raise loaded.error(
            key, f"reward {use.ref!r} has a setting {taken.pop()!r}, a word that every reward's entry has: rename it"
        )


def _check_model(model: str, key: Key, loaded: Loaded, registry: Registry) -> None:
    """A model is a registered name, a folder, or 'owner/name' on a hub; a bare word that is none is likely a typo."""
    names = [c.name for c in registry.of_kind("models")]
    if model in names or (loaded.folder / Path(model).expanduser()).exists():
        return
    if model.startswith((".", "/", "~")):
        raise loaded.error(key, f"there is no folder {model!r}")
    if "/" not in model and ":" not in model and (hint := near_miss(model, names, listing=False)):
        raise loaded.error(key, f"there is no model {model!r}.{hint}")


def model_path(registry: Registry, folder: Path, model: str) -> str:
    """The model to hand to backends and trainers: a registered name is prepared, which may take a while."""
    if model in {c.name for c in registry.of_kind("models")}:
        component = registry.find("models", model)
        require_extra(component)
        return str(load(component)())
    local = folder / Path(model).expanduser()
    return str(local.resolve()) if local.is_dir() else model

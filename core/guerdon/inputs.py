"""What a run works on: the tasks to train on, those to evaluate on, and rows of data."""

from dataclasses import dataclass

from guerdon.data import DataSet, read_data
from guerdon.errors import RewardError, TaskError
from guerdon.invoke import check_wants
from guerdon.loading import Key, dotted
from guerdon.recipe import Tasks
from guerdon.resolve import Plan, bind_component
from guerdon.tasks import TaskSet, hold_out, read_tasks


@dataclass(frozen=True)
class Inputs:
    """As read from their sources; `None` where the recipe has none."""

    tasks: TaskSet | None
    held: TaskSet | None
    data: DataSet | None
    whole: bool = True
    """Whether all of the data was read."""


def read_inputs(plan: Plan, first: int | None = None) -> Inputs:
    """Read all that the recipe names; with `first`, of data only the first rows of each source, and a hub that does not
    answer is noted.

    Raises:
        RecipeError: a row is wrong, with its file and line, or a reward asks for a column that there is not.
    """
    recipe = plan.recipe
    lenient = first is not None
    train = _read(plan, recipe.tasks, ("tasks",), lenient) if recipe.tasks else None
    held: TaskSet | None = None
    if recipe.eval and recipe.eval.tasks:
        held = _read(plan, recipe.eval.tasks, ("eval", "tasks"), lenient)
    elif recipe.eval and train:
        try:
            left, kept = hold_out(train.tasks, recipe.eval, recipe.seed)
        except TaskError as error:
            raise plan.loaded.error(("eval", "holdout"), str(error)) from error
        train, held = TaskSet(left, train.columns), TaskSet(kept, train.columns)
    for i, reward in enumerate(plan.rewards):
        for tasks in filter(None, (train, held)):
            try:
                check_wants(reward.function, [str(c) for c in tasks.tasks[0].fields])
            except RewardError as error:
                raise plan.loaded.error(("rewards", i), f"reward {reward.name!r}: {error}") from error
    _warn(plan, train, held)
    data = _data(plan, first)
    return Inputs(
        train, held, data, whole=not data or not first or all(0 < count < first for count in data.counts.values())
    )


def _data(plan: Plan, first: int | None) -> DataSet | None:
    if not plan.recipe.data:
        return None
    try:
        return read_data(plan.recipe.data, folder=plan.loaded.folder, seed=plan.recipe.seed, first=first)
    except TaskError as error:
        raise plan.loaded.error(("data",), str(error)) from error


def _warn(plan: Plan, train: TaskSet | None, held: TaskSet | None) -> None:
    """Note what is allowed and hardly meant."""
    recipe = plan.recipe
    if held and train and plan.trainer:
        known = {t.text for t in train.tasks}
        shared = sum(t.text in known for t in held.tasks)
        if shared:
            plan.notes.append(f"{shared} of the {len(held.tasks)} tasks to evaluate on are trained on too")
    if recipe.loop.iterations > 1 and not plan.trainer:
        plan.notes.append("there is no trainer: every iteration rolls out with the same model")
    if train and plan.trainer and recipe.loop.group_size > 1 and recipe.sampling.temperature == 0:
        plan.notes.append("sampling.temperature is 0: the attempts at a task will all be the same")
    if plan.trainer and recipe.loop.min_reward is not None and recipe.loop.min_reward <= 0:
        plan.notes.append(f"loop.min_reward is {recipe.loop.min_reward:g}: what earns 0 or less is never trained on")
    if train and recipe.loop.warmup and recipe.loop.warmup.tasks > len(train.tasks):
        plan.notes.append(f"loop.warmup.tasks asks for {recipe.loop.warmup.tasks} tasks, there are {len(train.tasks)}")


def _read(plan: Plan, spec: Tasks, key: Key, lenient: bool) -> TaskSet | None:
    source = None
    if spec.source:
        bound = bind_component("tasks", spec.source, (*key, "source"), plan.loaded, plan.registry, plan.notes)
        source = lambda: bound.function(**bound.settings)  # noqa: E731
    try:
        return read_tasks(spec, folder=plan.loaded.folder, seed=plan.recipe.seed, source=source)
    except TaskError as error:
        if lenient and error.kind == "unreachable":
            plan.notes.append(f"{dotted(key)} was not looked at: {error}")
            return None
        raise plan.loaded.error(key, str(error)) from error

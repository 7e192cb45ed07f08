"""Call a reward: with what its parameters name, and take nothing on trust that it gives back.

A reward's positional parameters name what it wants: `completion`, `answer`, `prompt`, `task`, `trajectory`, or any
column of the task. Plural names (`completions`, `answers`, a column's name + s ...) make it a batch reward: it is
called once for a group and returns a list. Beside a singular one (`completion, answers`) a plural name can only be a
column's. A function with `**kwargs` and `completions` has TRL's signature and is
called as TRL would: completions as lists of messages, and every column as a list. Functions of verl and verifiers get
guerdon's signature when they are loaded (`guerdon.signatures`).
"""

import asyncio
import contextlib
import inspect
import math
import numbers
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Literal

from guerdon.errors import RewardError, near_miss
from guerdon.plugins import Component
from guerdon.signatures import check_guess
from guerdon.task import Task
from guerdon.trajectory import Failure, Score, Trajectory
from guerdon.worker import complaint, in_worker

Item = tuple[Task, Trajectory]

ONE: Mapping[str, Callable[[Task, Trajectory], Any]] = {
    "task": lambda task, _: task,
    "trajectory": lambda _, trajectory: trajectory,
    "prompt": lambda task, _: task.text,
    "completion": lambda _, trajectory: trajectory.completion or "",
    "answer": lambda task, _: task.answer,
    "messages": lambda _, trajectory: trajectory.messages,
}
MANY = {
    "tasks": "task",
    "trajectories": "trajectory",
    "prompts": "prompt",
    "completions": "completion",
    "answers": "answer",
}


@dataclass(frozen=True)
class Shape:
    """How a reward is to be called."""

    kind: Literal["one", "batch", "trl"]
    wants: tuple[str, ...]
    optional: frozenset[str] = frozenset()


def shape(function: Callable[..., Any]) -> Shape:
    """Read from the signature how a reward is to be called.

    >>> shape(lambda completion, answer: 1.0).kind
    'one'
    >>> shape(lambda completions, **kwargs: [1.0]).kind
    'trl'

    Raises:
        RewardError: the signature fits no way of calling it.
    """
    try:
        return _shape(function)
    except TypeError:  # it has no hash
        return _shape.__wrapped__(function)


@lru_cache(256)
def _shape(function: Callable[..., Any]) -> Shape:
    parameters = inspect.signature(function).parameters.values()
    data = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    optional = frozenset(p.name for p in data if p.default is not p.empty)
    wants = tuple(p.name for p in data)
    name = getattr(function, "__name__", "reward")
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        if "completions" not in wants:
            raise RewardError(
                f"{name}{inspect.signature(function)}: **kwargs is TRL's signature, which has `completions`. "
                "Name the columns that it wants; a function of verifiers: wrap it in guerdon.adapters.from_verifiers"
            )
        return Shape("trl", wants, optional)
    if not wants:
        raise RewardError(
            f"{name}{inspect.signature(function)}: it asks for nothing; name e.g. `completion` and `answer`"
        )
    several = set(wants) & MANY.keys() and not set(wants) & set(MANY.values())
    return Shape("batch" if several else "one", wants, optional)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is written as a coroutine, a callable object too."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def check_wants(function: Callable[..., Any], columns: Sequence[str]) -> None:
    """Check that tasks with these columns have all that the reward asks for.

    Raises:
        RewardError: names the parameter, and what there is.
    """
    check_guess(function, columns)
    how = shape(function)
    known = {*ONE, *columns}
    if how.kind != "one":
        known |= {*MANY, *(f"{c}s" for c in columns)}
    if how.kind == "trl":
        known |= {"completion_ids", *_TRL_SETTINGS}
    for name in how.wants:
        if name in known or name in how.optional:
            continue
        if name in MANY:
            raise RewardError(_mixed(how, name))
        raise RewardError(f"it asks for {name!r}, which the tasks do not have.{near_miss(name, known)}")


def _mixed(how: Shape, plural: str) -> str:
    one = {name: MANY.get(name, name) for name in how.wants if name in MANY or name in MANY.values()}
    many = {single: name for name, single in MANY.items()}
    singular = next(name for name in one if name in many)
    return (
        f"it asks for {singular!r}, of one trajectory, and for {plural!r}, of a group (the tasks have no column "
        f"{plural!r}): write {', '.join(one.values())} to be called for each trajectory, "
        f"or {', '.join(many[name] for name in one.values())} to be called for a group and return a list"
    )


Asked = tuple[dict[str, Any] | Failure, int]
"""The arguments of one call, or why there are none; and how many scores it has to give."""


def asked(how: Shape, items: Sequence[Item]) -> list[Asked]:
    """The calls that score these trajectories: one for each, or one for all where the reward takes a group."""
    groups = [(item,) for item in items] if how.kind == "one" else [items] if items else []
    return [(_arguments(how, group), len(group)) for group in groups]


def call(function: Callable[..., Any], settings: Mapping[str, Any], items: Sequence[Item]) -> list[Score]:
    """The scores of these trajectories, one each, in order; whatever goes wrong is in them.

    The items of one call are one group: the trajectories of one task.
    """
    how = shape(function)
    return [score for one in asked(how, items) for score in evaluate(function, settings, how, one)]


def evaluate(function: Callable[..., Any], settings: Mapping[str, Any], how: Shape, one: Asked) -> list[Score]:
    """Make one call; its scores, or the error in their place. Each has its share of the time."""
    arguments, count = one
    if isinstance(arguments, Failure):
        return [Score(None, error=arguments)] * count
    started = time.perf_counter()
    try:
        given = function(**({**arguments, **settings} if settings else arguments))
        if type(given) not in _AS_IT_IS:
            given = _finish(given)
        values = [given] if how.kind == "one" else _listed(given, count)
    except BaseException as error:
        return [Score(None, error=_failure(error), seconds=(time.perf_counter() - started) / count)] * count
    seconds = (time.perf_counter() - started) / count
    return [_score(value, seconds) for value in values]


def outcomes(calls: Sequence[Asked], given: Sequence[list[Score] | Failure], timeout: float) -> list[Score]:
    """The scores of calls that workers made, each with so many seconds, or with why it could not."""
    scores: list[Score] = []
    for (_, count), one in zip(calls, given, strict=True):
        if isinstance(one, Failure):
            seconds = timeout / count if one.kind == "timeout" else 0.0
            scores += [Score(None, error=one, seconds=seconds)] * count
        else:
            scores += one
    return scores


def scorer(component: Component, settings: Mapping[str, Any]) -> Callable[[Any], Any]:
    """A function that scores an item, or the items of a group where the reward takes a group."""
    function = _ready(component)
    if shape(function).kind != "one":
        return lambda items: call(function, settings, items)
    return lambda item: call(function, settings, (item,))[0]


def caller(component: Component, settings: Mapping[str, Any]) -> Callable[[Asked], list[Score]]:
    """The job of a worker (`guerdon.workers`): makes the calls that were `asked`."""
    function = _ready(component)
    return partial(evaluate, function, settings, shape(function))


def _ready(component: Component) -> Callable[..., Any]:
    """The reward, in a process of its own: its module may define `warm_up()`, which is called once."""
    from guerdon.registry import load

    function: Callable[..., Any] = load(component)
    module = sys.modules.get(getattr(function, "__module__", ""))
    if warm_up := getattr(module, "warm_up", None):
        warm_up()
    return function


def _failure(error: BaseException) -> Failure:
    """An exception that a reward has raised, as data."""
    if isinstance(error, MemoryError) and not in_worker():
        return Failure("memory", "it ran out of memory")
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        raise error  # a worker has to be replaced; Ctrl-C is for the caller
    if isinstance(error, ImportError):
        return Failure("missing", f"cannot import {error.name}: {error}")
    return complaint(error)


def _score(value: Any, seconds: float) -> Score:
    try:
        number, reason = _read(value)
    except Exception as error:
        return Score(None, 1.0, "", complaint(error), seconds)
    return Score(number, 1.0, reason, None, seconds)


def _listed(values: Any, count: int) -> Sequence[Any]:
    if isinstance(values, (str, bytes, Mapping, Set)) or not hasattr(values, "__len__"):
        raise RewardError(f"it returned {_shown(values)} for {count} completions; a list is needed", kind="not_a_list")
    if len(values) != count:
        raise RewardError(f"it returned {len(values)} scores for {count} completions", kind="wrong_length")
    return list(values)


def _finish(value: Any) -> Any:
    """Run a reward that was written as a coroutine to its end."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


_AS_IT_IS = frozenset({float, int, bool, tuple, list, type(None), Score})
"""Types that need no look at whether they can be awaited, which takes a microsecond."""


def as_score(value: Any) -> Score:
    """What a reward returned, as a score: a number, `None`, or either with a reason.

    >>> as_score((0.5, "half"))
    Score(value=0.5, weight=1.0, reason='half', error=None, seconds=0.0)

    Raises:
        RewardError: it is none of these, or not finite.
    """
    number, reason = _read(value)
    return Score(number, reason=reason)


def _read(value: Any) -> tuple[float | None, str]:
    reason = ""
    if isinstance(value, Score):
        value, reason = value.value, str(value.reason or "")
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (str, type(None))):
        value, reason = value[0], value[1] or ""
    if value is None:
        return None, reason
    if type(value) is not float:
        value = _number(value)
    if not math.isfinite(value):
        raise RewardError(f"it returned {value}, which is no score", kind="not_finite")
    return value, reason


def _number(value: Any) -> float:
    if hasattr(value, "item"):  # of numpy or torch
        with contextlib.suppress(ValueError, RuntimeError):
            value = value.item()
    if isinstance(value, (numbers.Real, Decimal)):
        return float(value)
    what = f"it returned {_shown(value)}; a number or None is needed, or (number, reason)"
    raise RewardError(what, kind="not_a_number")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _arguments(how: Shape, items: Sequence[Item]) -> dict[str, Any] | Failure:
    try:
        if how.kind == "one":
            return _one_arguments(how, *items[0])
        return _trl_arguments(how, items) if how.kind == "trl" else _batch_arguments(how, items)
    except Exception as error:
        return complaint(error)


def _one_arguments(how: Shape, task: Task, trajectory: Trajectory) -> dict[str, Any]:
    arguments = {}
    for name in how.wants:
        if name in ONE:
            arguments[name] = ONE[name](task, trajectory)
        elif name in task.fields:
            arguments[name] = task.fields[name]
        elif name not in how.optional:
            raise RewardError(f"task {task.id} has no column {name!r}", kind="missing_column")
    return arguments


def _batch_arguments(how: Shape, items: Sequence[Item]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name in how.wants:
        single = MANY.get(name, name)
        if single in ONE:
            arguments[name] = [ONE[single](*item) for item in items]
            continue
        column = name if all(name in task.fields for task, _ in items) else name.removesuffix("s")
        if all(column in task.fields for task, _ in items):
            arguments[name] = [task.fields[column] for task, _ in items]
        elif name not in how.optional:
            raise RewardError(f"the tasks have no column {name!r}", kind="missing_column")
    return arguments


def _trl_arguments(how: Shape, items: Sequence[Item]) -> dict[str, Any]:
    columns = set.intersection(*(set(task.fields) for task, _ in items)) if items else set()
    arguments: dict[str, Any] = {name: [task.fields[name] for task, _ in items] for name in columns}
    arguments["answer"] = [task.answer for task, _ in items]
    arguments["prompts"] = [task.messages for task, _ in items]
    arguments["completions"] = [[{"role": "assistant", "content": t.completion or ""}] for _, t in items]
    arguments["completion_ids"] = [list(t.turns[-1].reply_ids) if t.turns else [] for _, t in items]
    arguments |= _TRL_SETTINGS
    others = replace(how, wants=tuple(name for name in how.wants if name not in arguments))
    return arguments | _batch_arguments(others, items)


def _log(*_: Any) -> None:
    """Where TRL's trainer would take a note."""


_TRL_SETTINGS = {"trainer_state": None, "log_extra": _log, "log_metric": _log}
"""What TRL's trainer gives beside the data."""

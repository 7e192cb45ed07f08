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
from guerdon.worker import in_worker

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
    for name in how.wants:
        if name in known or name in how.optional or (how.kind == "trl" and name in _TRL):
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


_TRL = frozenset({"completion_ids", "trainer_state", "log_extra", "log_metric"})


def call(function: Callable[..., Any], settings: Mapping[str, Any], items: Sequence[Item]) -> list[Score]:
    """The scores of these trajectories, one each, in order; whatever goes wrong is in them.

    The items of one call are one group: the trajectories of one task.
    """
    how = shape(function)
    if how.kind == "one":
        return [_guarded(partial(_one, function, how, settings, *item), 1)[0] for item in items]
    return _guarded(partial(_many, function, how, settings, items), len(items))


def scorer(component: Component, settings: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The job of a worker (`guerdon.workers`): scores an item, or the items of a group where the reward takes a group.

    The module that the reward is from may define `warm_up()`, which is called once.
    """
    from guerdon.registry import load

    function = load(component)
    module = sys.modules.get(getattr(function, "__module__", ""))
    if warm_up := getattr(module, "warm_up", None):
        warm_up()
    if shape(function).kind != "one":
        return lambda items: call(function, settings, items)
    return lambda item: call(function, settings, (item,))[0]


def _guarded(run: Callable[[], list[Score]], count: int) -> list[Score]:
    started = time.perf_counter()
    try:
        scores = run()
    except RewardError as error:
        scores = [Score(None, error=Failure(error.kind, str(error)))] * count
    except MemoryError:
        if in_worker():
            raise  # that worker has to be replaced
        scores = [Score(None, error=Failure("memory", "it ran out of memory"))] * count
    except ImportError as error:
        scores = [Score(None, error=Failure("missing", f"cannot import {error.name}: {error}"))] * count
    except Exception as error:
        message = f"{type(error).__name__}: {error}{_line_of(error)}"
        scores = [Score(None, error=Failure("raised", message))] * count
    seconds = (time.perf_counter() - started) / max(count, 1)
    return [replace(s, seconds=seconds) for s in scores]


def _line_of(error: BaseException) -> str:
    """Where it was raised: the last line of the traceback, for whoever wrote the reward."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace else ""


def _one(
    function: Callable[..., Any], how: Shape, settings: Mapping[str, Any], task: Task, trajectory: Trajectory
) -> list[Score]:
    arguments = {}
    for name in how.wants:
        if name in ONE:
            arguments[name] = ONE[name](task, trajectory)
        elif name in task.fields:
            arguments[name] = task.fields[name]
        elif name not in how.optional:
            raise RewardError(f"task {task.id} has no column {name!r}", kind="missing_column")
    return [as_score(_finish(function(**arguments, **settings)))]


def _many(function: Callable[..., Any], how: Shape, settings: Mapping[str, Any], items: Sequence[Item]) -> list[Score]:
    arguments = _trl_arguments(how, items) if how.kind == "trl" else _batch_arguments(how, items)
    values, count = _finish(function(**{**arguments, **settings})), len(items)
    if isinstance(values, (str, bytes, Mapping, Set)) or not hasattr(values, "__len__"):
        raise RewardError(f"it returned {_shown(values)} for {count} completions; a list is needed", kind="not_a_list")
    if len(values) != count:
        raise RewardError(f"it returned {len(values)} scores for {count} completions", kind="wrong_length")
    return [_guarded(partial(_as_list, value), 1)[0] for value in values]


def _finish(value: Any) -> Any:
    """Run a reward that was written as a coroutine to its end."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def as_score(value: Any) -> Score:
    """What a reward returned, as a score: a number, `None`, or either with a reason.

    >>> as_score((0.5, "half"))
    Score(value=0.5, weight=1.0, reason='half', error=None, seconds=0.0)

    Raises:
        RewardError: it is none of these, or not finite.
    """
    reason = ""
    if isinstance(value, Score):
        value, reason = value.value, str(value.reason)
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
        value, reason = value
    if value is None:
        return Score(None, reason=reason)
    if hasattr(value, "item"):  # of numpy or torch
        with contextlib.suppress(ValueError, RuntimeError):
            value = value.item()
    if isinstance(value, (numbers.Real, Decimal)):
        number = float(value)
        if not math.isfinite(number):
            raise RewardError(f"it returned {number}, which is no score", kind="not_finite")
        return Score(number, reason=reason)
    raise RewardError(f"it returned {_shown(value)}; a number or None is needed", kind="not_a_number")


def _as_list(value: Any) -> list[Score]:
    return [as_score(value)]


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


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
    arguments["trainer_state"] = None
    arguments["log_extra"] = arguments["log_metric"] = lambda *_: None
    others = replace(how, wants=tuple(name for name in how.wants if name not in arguments))
    return arguments | _batch_arguments(others, items)

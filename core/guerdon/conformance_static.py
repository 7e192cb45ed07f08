"""What can be read of a component without putting it to work: documentation, signature, settings."""

import inspect
import pickle
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import PydanticUserError, ValidationError

from guerdon.conformance_subject import Seen
from guerdon.invoke import is_async, shape
from guerdon.plugins import Component
from guerdon.recipe import REWARD_KEYS
from guerdon.resolve import Bound, takes_task
from guerdon.settings import describe, settings_model, validate


def documented(_: Component, function: Callable[..., Any], __: Mapping[str, Any]) -> Seen:
    """A first line, and a line under "Args:" for every setting."""
    about, settings = describe(function)
    bare = [s.name for s in settings if not s.help]
    if not about:
        return "failed", "it has no docstring: its first line is what `guerdon plugins show` tells of it"
    if bare:
        return "failed", f"its docstring has no line under `Args:` for {', '.join(bare)}"
    return "passed", textwrap.shorten(about.partition("\n\n")[0], 90, placeholder=" ...")


def signature(component: Component, function: Callable[..., Any], _: Mapping[str, Any]) -> Seen:
    """It can be called as its kind is called."""
    return _SIGNATURES[component.kind](component, function)


def _reward(_: Component, function: Callable[..., Any]) -> Seen:
    how = shape(function)
    taken = sorted(set(settings_model(function).model_fields) & set(REWARD_KEYS))
    if taken:
        return "failed", f"{taken[0]!r} is a word that every reward's entry in a recipe has: rename the setting"
    called = {"one": "called for each completion", "batch": "called for a group", "trl": "called as TRL would"}[
        how.kind
    ]
    return "passed", f"asks for {', '.join(how.wants)}; {called}"


def _agent(component: Component, function: Callable[..., Any]) -> Seen:
    if takes_task(Bound(component, function, {})):
        return "passed", "called with a task and a policy"
    return _context(function, "which yields a coroutine function of a task and a policy")


def _backend(_: Component, function: Callable[..., Any]) -> Seen:
    if wrong := _positional(function, "model"):
        return "failed", wrong
    return _context(function, "which yields an endpoint")


def _executor(_: Component, function: Callable[..., Any]) -> Seen:
    if wrong := _positional(function, "start"):
        return "failed", wrong
    return _context(function, "while which workers run")


def _of_a_job(_: Component, function: Callable[..., Any]) -> Seen:
    if wrong := _positional(function, "job"):
        return "failed", wrong
    if is_async(function):
        return "failed", "it is `async def`: a plain function is needed"
    return "passed", "called with a job, in a process of its own"


def _source(_: Component, function: Callable[..., Any]) -> Seen:
    if wrong := _positional(function):
        return "failed", wrong
    return (
        ("failed", "it is `async def`: a plain function is needed") if is_async(function) else ("passed", "called bare")
    )


def _positional(function: Callable[..., Any], *wanted: str) -> str:
    """What is wrong with the positional parameters, whatever their names."""
    takes = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if len(takes) == len(wanted):
        return ""
    return f"it takes ({', '.join(takes)}) where ({', '.join(wanted)}) is given; settings come after `*`"


def _context(function: Callable[..., Any], what: str) -> Seen:
    inner = inspect.unwrap(function)
    if hasattr(function, "__aenter__") or (inner is not function and inspect.isasyncgenfunction(inner)):
        return "passed", f"an async context manager, {what}"
    if is_async(inner) or inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        return "failed", f"it is no async context manager, {what}: put @asynccontextmanager before it"
    return "warning", f"only a run can tell whether it returns an async context manager, {what}"


_SIGNATURES: dict[str, Callable[[Component, Callable[..., Any]], Seen]] = {
    "rewards": _reward,
    "agents": _agent,
    "backends": _backend,
    "executors": _executor,
    "trainers": _of_a_job,
    "exporters": _of_a_job,
    "tasks": _source,
    "models": _source,
}


class _Nothing:
    """Of no type that a setting could have."""


def settings(_: Component, function: Callable[..., Any], given: Mapping[str, Any]) -> Seen:
    """Each setting has a type that refuses what is wrong, and a default that it accepts; those given are right."""
    validate("settings", function, given)
    try:
        model = settings_model(function)
        names = {f.alias or n: f for n, f in model.model_fields.items()}
        required = {n: given[n] for n, f in names.items() if f.is_required()}
        loose = [n for n in names if _accepts(model, {**required, n: _Nothing()})]
        wrong = [n for n, f in names.items() if not f.is_required() and not _accepts(model, {**required, n: f.default})]
    except PydanticUserError as error:
        return "failed", f"a setting's type cannot be checked: {error.message.splitlines()[0]}"
    if loose:
        return (
            "failed",
            f"{', '.join(loose)}: anything is accepted; annotate it, with a type imported at run time",
        )
    if wrong:
        return "failed", f"the default of {', '.join(wrong)} is not of its own type"
    return "passed", ", ".join(names) + ": wrong types refused, defaults right" if names else "it has none"


def _accepts(model: Any, values: Mapping[str, Any]) -> bool:
    try:
        model(**values)
    except ValidationError:
        return False
    return True


def picklable(_: Component, function: Callable[..., Any], given: Mapping[str, Any]) -> Seen:
    """Settings and function can be sent to another process."""
    for what, thing in (("its settings", validate("settings", function, given)), ("the function", function)):
        try:
            back = pickle.loads(pickle.dumps(thing))
        except Exception as error:
            return "failed", f"{what}: {type(error).__name__}: {error}"
        if what == "its settings" and back != thing:
            return "failed", f"{what}: not equal to what was sent"
    return "passed", "settings and function"


CHECKS: dict[str, Callable[[Component, Callable[..., Any], Mapping[str, Any]], Seen]] = {
    "documented": documented,
    "signature": signature,
    "settings": settings,
    "picklable": picklable,
}

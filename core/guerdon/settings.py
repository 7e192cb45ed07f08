"""A component's settings: the keyword-only parameters of its function, validated from the signature.

A function may carry traits (`guerdon.traits`): `renamed`, from names that its settings once had (or have in other
libraries) to today's, which are translated with a note; and `elsewhere`, from names that users may expect here to where
in the recipe they are.
"""

import contextlib
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from guerdon.errors import ComponentError, near_miss


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as a user reads of it."""

    name: str
    type: str
    default: Any
    help: str


class SettingError(ComponentError):
    """A setting is wrong; `path` leads to it from the component's own settings."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


def settings_model(function: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of a component's settings, made from its signature.

    >>> def short(completion: str, *, max_words: int = 100) -> float: ...
    >>> settings_model(short)(max_words="7").max_words
    7
    """
    hints = _hints(function)
    fields: dict[str, Any] = {
        _field(name): (hints.get(name, Any), Field(default=... if p.default is p.empty else p.default, alias=name))
        for name, p in _parameters(function).items()
    }
    name = getattr(function, "__name__", type(function).__name__)
    return create_model(name, __config__=_FORBID, **fields)


def _field(name: str) -> str:
    """A field's name that pydantic has no use for itself, as it has for `copy`; its alias is what users write."""
    return f"setting_{name}" if hasattr(BaseModel, name) or name.startswith("_") else name


_FORBID = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())


def validate(
    what: str, function: Callable[..., Any], given: Mapping[str, Any], notes: list[str] | None = None
) -> dict[str, Any]:
    """The settings to call `function` with: those given, with their types, the rest at their defaults.

    `what` names the component in messages; translations of old names are appended to `notes`.

    Raises:
        SettingError: an unknown setting, or a value of the wrong type.
    """
    known = _parameters(function)
    given = _translate(what, function, given, known, notes if notes is not None else [])
    elsewhere: Mapping[str, str] = getattr(function, "elsewhere", {})
    for name in given:
        if name not in known and name in elsewhere:
            raise SettingError(f"{what} has no setting {name!r}: in a recipe it is {elsewhere[name]}", (name,))
        if name not in known:
            raise SettingError(f"{what} has no setting {name!r}.{_instead(name, function, known)}", (name,))
    try:
        made = settings_model(function)(**given)
        return {name: getattr(made, _field(name)) for name in known}
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(first["loc"])
        shown = f" (got {first['input']!r})" if first["type"] != "missing" else ""
        raise SettingError(f"{what}: {'.'.join(map(str, path))}: {first['msg']}{shown}", path) from None


def _instead(name: str, function: Callable[..., Any], known: Collection[str]) -> str:
    parameter = inspect.signature(function).parameters.get(name)
    if parameter and parameter.default is not parameter.empty:
        return f" Settings are keyword-only: put `*,` before `{name}` in its signature"
    return near_miss(name, known)


def describe(function: Callable[..., Any]) -> tuple[str, list[Setting]]:
    """The docstring without its "Args:" section, and the settings with types, defaults and help."""
    text = inspect.getdoc(function) or ""
    helps = dict(_arguments(text))
    hints = _hints(function)
    settings = [
        Setting(name, _type_name(hints.get(name, Any)), p.default, helps.get(name, ""))
        for name, p in _parameters(function).items()
    ]
    about = re.sub(r"\n*^Args:\n(?:[ \t]+.*\n?|\n(?=[ \t]))*\n*", "\n\n", text, flags=re.M)
    return about.strip(), settings


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as error:  # of a builtin
        raise ComponentError(f"its parameters cannot be read: {error}. Wrap it in a function of your own") from None
    return {n: p for n, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The settings' types; one with names that only a type checker sees is left out, and so is not checked."""
    target = inspect.unwrap(function)
    if not inspect.isroutine(target):  # a callable object
        target = type(target).__call__
    names, hints = getattr(target, "__globals__", {}), dict[str, Any]()
    for name, p in _parameters(function).items():
        if p.annotation is not p.empty:
            only = SimpleNamespace(__annotations__={name: p.annotation})
            with contextlib.suppress(Exception):  # an annotation may be any expression
                hints |= get_type_hints(only, names, include_extras=True)
    return hints


def _translate(
    what: str,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    known: Collection[str],
    notes: list[str],
) -> dict[str, Any]:
    renamed: Mapping[str, str] = getattr(function, "renamed", {})
    out: dict[str, Any] = {}
    for name, value in given.items():
        today = renamed.get(name, name)
        if name not in known and today in known:
            if today in given:
                raise SettingError(f"{what}: {name!r} is an old name of {today!r}; give one of them", (name,))
            notes.append(f"{what}: {name!r} is now {today!r}")
            name = today
        out[name] = value
    return out


def _arguments(doc: str) -> list[tuple[str, str]]:
    """Name and help of each entry in a Google-style "Args:" section."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))+)", doc + "\n", re.M)
    if not section:
        return []
    entries = re.split(r"^(?=\*{0,2}\w+(?: \([^)]*\))?:)", textwrap.dedent(section[1]), flags=re.M)
    found = []
    for entry in entries:
        match = re.match(r"\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*)", entry, re.S)
        if match:
            found.append((match[1], " ".join(match[2].split())))
    return found


def _type_name(hint: Any) -> str:
    """
    >>> from pydantic import PositiveInt
    >>> _type_name(PositiveInt | None), _type_name(dict[str, Any])
    ('int | None', 'dict[str, Any]')
    """
    hint = getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint  # bounds are for pydantic
    if hint is Any:
        return "any"
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(_type_name(one) for one in get_args(hint)).replace("NoneType", "None")
    if isinstance(hint, type) and not getattr(hint, "__args__", None):
        return hint.__name__
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", str(hint))

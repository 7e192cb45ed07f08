"""Read a recipe: YAML with the place of every value, overrides, `${VAR}`, and errors that say where.

YAML is read as 1.2 has it where 1.1 surprises: `2e-4` is a number, `010` is ten, `on` and `no` are text.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from guerdon.errors import RecipeError, counted, near_miss
from guerdon.recipe import LAUNCH_VARIABLES, Part, Recipe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Loaded:
    """A recipe, and where each of its values comes from."""

    recipe: Recipe
    source: str
    folder: Path
    raw: dict[str, Any]
    """With the overrides, but `${VAR}` not replaced: fit to be written to disk."""
    places: Mapping[Key, str] = field(default_factory=dict)
    """'line 3, column 5', 'command line' or 'environment, N_GPUS', by key."""

    def error(self, key: Key, message: str) -> RecipeError:
        return RecipeError(where(self.source, self.places, key) + message)


def read_recipe(path: Path, overrides: Iterable[str] = (), *, source: str = "", folder: Path | None = None) -> Loaded:
    """Read the recipe in a file, apply `a.b=value` overrides. Relative paths start from `folder`, else from the file's.

    Raises:
        RecipeError: with file, line, column and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    return parse_recipe(text, overrides, source=source or str(path), folder=folder or path.parent.resolve())


def parse_recipe(text: str, overrides: Iterable[str], *, source: str, folder: Path) -> Loaded:
    """The same from text. `folder` is what relative paths in it start from."""
    raw, places = _parse_yaml(text, source)
    for override in overrides:
        _override(raw, places, override)
    expanded = _launched(_expand(raw, (), source, places), places)
    try:
        recipe = Recipe(**expanded)
    except ValidationError as error:
        raise _recipe_error(error, source, places) from None
    except TypeError as error:  # a key that is not text
        raise RecipeError(f"{source}: {error}") from None
    return Loaded(recipe, source, folder, raw, places)


def where(source: str, places: Mapping[Key, str], key: Key) -> str:
    """'gsm.yaml, line 3, column 5, loop.group_size: ', by the nearest place that is known."""
    name = dotted(key)
    # a reward's weight is written under its name, which the typed recipe's keys do not have
    inside = [p for p in places if key and len(p) == len(key) + 1 and (*p[:-2], p[-1]) == key]
    if key not in places and len(inside) == 1:
        key = inside[0]
        name = dotted(key)
    for end in range(len(key), -1, -1):
        if place := places.get(key[:end]):
            return f"{origin(source, place)}{f', {name}' if name else ''}: "
    return f"{source}{f', {name}' if name else ''}: "


def origin(source: str, place: str) -> str:
    """A place with the file that it is in."""
    return f"{source}, {place}" if place.startswith("line ") else place


def dotted(key: Key) -> str:
    """`('rewards', 1, 'numeric')` as `rewards[1].numeric`.

    >>> dotted(("rewards", 1, "numeric"))
    'rewards[1].numeric'
    """
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of numbers and booleans."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":int", ":float", ":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?\d+$"), list("-+0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _parse_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[Key, str]]:
    places: dict[Key, str] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise RecipeError(f"{source}: the recipe is empty")
        _note_places(node, (), places, source)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"{source}{at}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RecipeError(f"{source}: the recipe is nested too deeply, or holds itself") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{source}, line 1: a recipe is a mapping of keys to values, not a {type(data).__name__}")
    return data, places


def _note_places(node: yaml.Node, key: Key, places: dict[Key, str], source: str) -> None:
    places[key] = f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _note_places(item, (*key, i), places, source)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise RecipeError(
                    f"{source}, line {name.start_mark.line + 1}: a key is a word, not a list or a mapping"
                )
            if name.value in seen:
                mark = name.start_mark
                raise RecipeError(
                    f"{source}, line {mark.line + 1}, column {mark.column + 1}: "
                    f"the key {dotted((*key, name.value))!r} is given twice"
                )
            seen.add(name.value)
            _note_places(value, (*key, name.value), places, source)
            # a wrong key is best shown where it is written
            places[(*key, name.value)] = f"line {name.start_mark.line + 1}, column {name.start_mark.column + 1}"


def _override(raw: dict[str, Any], places: dict[Key, str], text: str) -> None:
    """Apply one `a.b[0].c=value`; the value is YAML."""
    path, equals, value = text.partition("=")
    parts = [p for p in re.split(r"[.\[\]]+", path.strip()) if p]
    if not equals or not parts:
        raise RecipeError(f"override {text!r}: write it as key=value, e.g. loop.iterations=3")
    key: list[str | int] = []

    def put(node: Any, parts: list[str]) -> Any:
        if not parts:
            return _value(value, text)
        if isinstance(node, str) and node == parts[0]:
            node = {node: None}  # `agent: math` and agent.math.max_turns=3
        elif isinstance(node, (str, list)) and key == ["data"]:
            node = {"path": node}  # `data: rows.jsonl` and data.limit=3
        if node is None:
            node = {}
        if isinstance(node, list):
            i, inner = _item(node, parts, text)
            key.append(i)
            node[i] = put(node[i], inner)
        elif isinstance(node, dict):
            key.append(parts[0])
            node[parts[0]] = put(node.get(parts[0]), parts[1:])
        else:
            raise RecipeError(f"override {text!r}: {dotted(tuple(key))} is {node!r}, it has no {parts[0]!r}")
        return node

    put(raw, parts)
    for old in [k for k in places if k[: len(key)] == tuple(key)]:
        del places[old]
    places[tuple(key)] = "command line"


def _item(items: list[Any], parts: list[str], text: str) -> tuple[int, list[str]]:
    """Which item of a list, and what of the path is left: by number, or by a component's name."""
    if parts[0].isdigit():
        if int(parts[0]) >= len(items):
            raise RecipeError(f"override {text!r}: the list has {counted(items, 'item')}, counted from 0")
        return int(parts[0]), parts[1:]
    names = [str(next(iter(item), "") if isinstance(item, dict) else item) for item in items]
    if names.count(parts[0]) != 1:
        raise RecipeError(f"override {text!r}: the list has no {parts[0]!r}.{near_miss(parts[0], names)}")
    return names.index(parts[0]), parts


def _value(value: str, text: str) -> Any:
    try:
        return _Loader(value).get_single_data()
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise RecipeError(f"override {text!r}: the value is not valid YAML: {problem}") from None


_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def _expand(value: Any, key: Key, source: str, places: Mapping[Key, str]) -> Any:
    """Replace `${VAR}` and `${VAR:-default}` by the environment's value; a value that comes to nothing is null."""
    if isinstance(value, dict):
        return {k: _expand(v, (*key, k), source, places) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, (*key, i), source, places) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found and match[2] is not None:  # as a shell has it: set to nothing is not set
            return match[2]
        if found is None:
            raise RecipeError(
                f"{where(source, places, key)}the environment has no variable {match[1]!r}; "
                f"set it, or write ${{{match[1]}:-default}}"
            )
        return found

    expanded = _VARIABLE.sub(replace, value)
    return expanded if expanded or not _VARIABLE.fullmatch(value) else None


def _launched(recipe: dict[str, Any], places: dict[Key, str]) -> dict[str, Any]:
    """With what `launch` does not say as the environment says it."""
    launch = recipe.get("launch", {})
    if not isinstance(launch, dict):
        return recipe
    absent = {key: name for key, name in LAUNCH_VARIABLES.items() if key not in launch and os.environ.get(name)}
    places.update({("launch", key): f"environment, {name}" for key, name in absent.items()})
    said = {key: os.environ[name] for key, name in absent.items()}
    return {**recipe, "launch": {**launch, **said}} if said else recipe


def _recipe_error(error: ValidationError, source: str, places: Mapping[Key, str]) -> RecipeError:
    found: dict[Key, dict[str, None]] = {}
    for one in error.errors():
        key = tuple(k for k in one["loc"] if not (isinstance(k, str) and _TAG.match(k)))
        found.setdefault(key, {})[_complaint(one, key)] = None
    # of what may be a number or a mapping, a mistake inside the mapping is the one to tell
    lines = [
        where(source, places, key) + "; or ".join(said)
        for key, said in found.items()
        if not any(len(other) > len(key) > 0 and other[: len(key)] == key for other in found)
    ]
    return RecipeError("\n".join(lines))


_TAG = re.compile(r"(?:function-|constrained-).*|bool$|int$|float$|str$|list\[.*")
"""What pydantic puts into the place of an error beside keys: which type of several was tried."""


def _complaint(one: "ErrorDetails", key: Key) -> str:
    if one["type"] == "extra_forbidden":
        return f"unknown key {key[-1]!r}.{near_miss(str(key[-1]), _fields_at(key[:-1]))}"
    if one["type"] == "missing":
        return "this key is required"
    if one["type"] == "none_required":
        return "leave it out here"
    message = re.sub(r" or instance of \w+", "", one["msg"].removeprefix("Value error, "))
    given = one["input"]
    return message + (f" (got {given!r})" if isinstance(given, (str, int, float, bool)) or given is None else "")


def _fields_at(key: Key) -> list[str]:
    """The keys that a recipe knows at this place."""
    model: type[Part] = Recipe
    for name in (part for part in key if isinstance(part, str)):
        info = model.model_fields.get(name)
        inner = next(_parts(info.annotation), None) if info else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _parts(annotation: Any) -> Iterator[type[Part]]:
    """The pieces of a recipe that a type has in it."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _parts(inner)

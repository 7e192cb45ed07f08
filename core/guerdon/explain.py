"""A recipe explained: every value with its origin; and the JSON Schema of recipes for editors."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.errors import PydanticUserError

from guerdon.errors import ComponentError
from guerdon.hookspecs import KINDS
from guerdon.loading import Key, dotted, origin
from guerdon.plugins import Plugins
from guerdon.recipe import REWARD_KEYS, Part, Recipe, RewardUse, Use
from guerdon.registry import load
from guerdon.resolve import Bound, Plan
from guerdon.settings import settings_model


def explained(plan: Plan) -> list[tuple[str, Any, str]]:
    """Key, value and origin of each value of a recipe, the components' settings and defaults included."""
    bound: dict[Key, Bound] = {("agent",): plan.agent, ("backend",): plan.backend}
    bound |= {("rewards", i): r for i, r in enumerate(plan.rewards)}
    if plan.trainer:
        bound["trainer",] = plan.trainer
    rows = []
    for key, place, value in _leaves(plan.recipe, (), bound):
        written = _written(plan.loaded.raw, place)
        if isinstance(written, str) and "${" in written:
            value = written  # what the environment holds may be a secret
        known = written is not _ABSENT or place in plan.loaded.places
        rows.append((dotted(key), value, _origin(plan, place) if known else "default"))
    return rows


_ABSENT = object()


def _written(raw: Any, key: Key) -> Any:
    """The value as the recipe has it."""
    for part in key:
        if part == "path" and isinstance(raw, (str, list)):  # `data: rows.jsonl`
            return raw
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return raw


def _origin(plan: Plan, key: Key) -> str:
    """The nearest place that is known: an override may hold a whole mapping."""
    place = next(p for end in range(len(key), -1, -1) if (p := plan.loaded.places.get(key[:end])))
    return origin(plan.loaded.source, place)


def _leaves(part: Any, key: Key, bound: Mapping[Key, Bound]) -> Iterator[tuple[Key, Key, Any]]:
    """Key, key as it is written, and value; a component stands under its own name."""
    if isinstance(part, Use):
        yield from _component(part, key, bound)
    elif isinstance(part, Part):
        for name in type(part).model_fields:
            value = getattr(part, name)
            if value is not None:
                yield from _leaves(value, (*key, name), bound)
    elif isinstance(part, list) and any(isinstance(item, Part) for item in part):
        for i, item in enumerate(part):
            yield from _leaves(item, (*key, i), bound)
    else:
        yield key, key, part


def _component(use: Use, key: Key, bound: Mapping[Key, Bound]) -> Iterator[tuple[Key, Key, Any]]:
    yield key, key, str(bound.get(key, use.ref))
    settings = bound[key].settings if key in bound else use.settings
    renamed: Mapping[str, str] = getattr(bound[key].function, "renamed", {}) if key in bound else {}
    given = {renamed.get(name, name): name for name in use.settings}
    for name, value in settings.items():
        yield (*key, use.ref, name), (*key, use.ref, given.get(name, name)), value
    if isinstance(use, RewardUse):
        weight = (*key, use.ref, "weight")
        yield weight, weight, use.weight


def _linked(schema: Any) -> Any:
    """The marks as references, and their defaults as a recipe writes them."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    linked = {key: _linked(value) for key, value in schema.items()}
    if linked.get("component") in KINDS:
        linked["$ref"] = f"#/$defs/{linked.pop('component')}"
        if linked.get("default"):
            linked["default"] = linked["default"]["ref"]
    return linked


def recipe_schema(plugins: Plugins | None = None) -> dict[str, Any]:
    """JSON Schema of a recipe in this environment.

    A component that cannot be imported, or whose settings have no JSON form, is known by its name only.
    """
    plugins = plugins or Plugins()
    schema: dict[str, Any] = _linked(Recipe.model_json_schema())
    definitions = schema.setdefault("$defs", {})
    for place in (schema["properties"]["data"], definitions["Data"]["properties"]["validation"]):
        place["anyOf"] += [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]  # short for {path: ...}
    for kind in KINDS:
        if kind in ("models", "recipes", "exporters"):
            continue
        components = [c for c in plugins.components if c.kind == kind]
        names = list(dict.fromkeys(c.name for c in components))
        choices: list[dict[str, Any]] = [{"enum": names}] if names else []
        choices.append({"type": "string", "pattern": ":", "description": "package:name, module:attr or ./file.py:attr"})
        for component in components:
            try:
                inner = settings_model(load(component)).model_json_schema()
            except (ComponentError, PydanticUserError):
                inner = {"type": "object"}
            if kind == "rewards":
                inner.setdefault("properties", {}).update(
                    {k: RewardUse.model_json_schema()["properties"][k] for k in REWARD_KEYS}
                )
            definitions.update(inner.pop("$defs", {}))
            choices.append(
                {
                    "type": "object",
                    "properties": {component.name: inner},
                    "required": [component.name],
                    "additionalProperties": False,
                }
            )
        choices.append(
            {"type": "object", "patternProperties": {":": {"type": "object"}}, "additionalProperties": False}
        )
        definitions[kind] = {"anyOf": choices}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "guerdon recipe"
    return schema

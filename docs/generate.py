"""Write docs/reference/{recipe,components,cli}.md from the code: `python docs/generate.py`; a test says when."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from guerdon.cli import cli
from guerdon.look import component_card
from guerdon.plugins import Plugins
from guerdon.recipe import Part, Recipe, Use

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- written by docs/generate.py -->\n\n"


def recipe() -> str:
    """Every key of a recipe."""
    lines = [
        "# The recipe\n",
        NOTE + "One YAML file. A component is written as its name, or as its name with settings:",
        "`numeric: {relative: 1e-6}`. A reference is a registered name, `package:name`, `module:attribute` or",
        "`./file.py:attribute`; [components.md](components.md) lists guerdon's own. `${VAR}` and `${VAR:-default}`",
        "read the environment; `${VAR:-}` is null where it has none. Any value can be overridden on the command line:",
        "`guerdon run gsm.yaml tasks.limit=20 trainer.sft.learning_rate=1e-5 rewards.numeric.weight=2`.",
        "`guerdon schema > recipe.schema.json` writes a JSON Schema for editors.\n",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
        *(f"| `{key}` | {kind} | {default} | {about} |" for key, kind, default, about in keys(Recipe, "")),
        "",
        "A reward's entry has, beside its own settings, `weight` (default 1), `label` (its name in tables) and",
        "`timeout` (seconds).",
    ]
    return "\n".join(lines) + "\n"


def keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    schemas = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        inner = part_of(field.annotation)
        about = (field.description or "").replace("\n", " ")
        default = "required" if field.is_required() else shown(field.default)
        yield prefix + name, kind_of(schemas[name]), default, about
        # eval.tasks and data.validation are written as tasks and data are
        if inner and not issubclass(inner, Use) and not (prefix and name in ("tasks", "validation")):
            yield from keys(inner, f"{prefix}{name}.")


def part_of(annotation: Any) -> type[BaseModel] | None:
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, Part):
            return one
    return None


def kind_of(schema: dict[str, Any]) -> str:
    """A JSON Schema's type in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(s) for s in schema["anyOf"] if s.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "component" in schema:
        return "component"
    if "$ref" in schema:
        return "mapping"
    if schema["type"] == "array":
        return f"list of {kind_of(schema['items'])}s"
    return {"object": "mapping", "string": "text", "boolean": "true/false"}.get(schema["type"], schema["type"])


def shown(default: Any) -> str:
    if isinstance(default, Use):
        return f"`{default.ref}`"
    if isinstance(default, BaseModel) or default is None or default in ({}, []):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def components() -> str:
    """guerdon's own components with their settings."""
    lines = ["# Components\n", NOTE + "What `guerdon plugins show NAME` prints, for all that guerdon brings itself.\n"]
    own = [c for c in Plugins().components if c.package == "guerdon" and c.kind != "recipes"]
    for component in sorted(own, key=lambda c: (c.kind, c.name)):
        (card,) = component_card(f"{component.kind.removesuffix('s')}:{component.name}")
        extra = f", `pip install 'guerdon[{card['extra']}]'`" if card["extra"] else ""
        lines.append(f"## {card['name']} ({card['kind']}{extra})\n\n{card['about']}\n")
        if card["settings"]:
            lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
            for s in card["settings"]:
                kind, default = (text.replace("|", "\\|") for text in (s["type"], repr(s["default"])))
                lines.append(f"| `{s['name']}` | {kind} | `{default}` | {s['help']} |")
            lines.append("")
    return "\n".join(lines)


def commands() -> str:
    """Every command's help."""
    lines = ["# The command line\n", NOTE + "`guerdon` and `python -m guerdon` are the same command.\n"]
    for context in walk(cli, None, "guerdon"):
        lines.append(f"## {context.command_path}\n\n```\n{context.get_help()}\n```\n")
    return "\n".join(lines)


def walk(command: click.Command, parent: click.Context | None, name: str) -> Iterator[click.Context]:
    """The context of a command as a user has it, and those of its subcommands."""
    width = {"terminal_width": 100, "max_content_width": 100}
    context = click.Context(command, parent, name, **{**command.context_settings, **width})
    yield context
    if isinstance(command, click.Group):
        for inner, one in command.commands.items():
            yield from walk(one, context, inner)


def documents() -> dict[Path, str]:
    return {
        REFERENCE / "recipe.md": recipe(),
        REFERENCE / "components.md": components(),
        REFERENCE / "cli.md": commands(),
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
        print(path, file=sys.stderr)

"""The model card of an export: README.md with what the model is, how it came to be and how to load it.

Written once, over what libraries put there. It holds the recipe as the run froze it, where `${VAR}` is not replaced;
values under names like `api_key` are left out all the same, and so are paths of folders.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from guerdon import __version__
from guerdon.export_source import Source
from guerdon.report import number

SECRET = re.compile(r"(?i)(api_?key|token|secret|password|credentials?)$")
PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "vllm", "bitsandbytes", "gguf")


def write_card(
    folder: Path,
    source: Source,
    format: str,  # noqa: A002
    function: Callable[..., Any],
    settings: Mapping[str, Any],
    check: Sequence[Mapping[str, Any]],
) -> None:
    """Write README.md into the folder of an export."""
    head = {
        "license": _licence(source),
        "base_model": source.base if _is_hub_id(source.base) else None,
        "library_name": getattr(function, "library", "transformers"),
        "pipeline_tag": "text-generation",
        "tags": ["guerdon", *(["lora"] if format == "lora" else []), *_trainers(source)],
    }
    front = yaml.safe_dump({k: v for k, v in head.items() if v}, sort_keys=False, allow_unicode=True)
    text = "\n".join([f"---\n{front}---\n", *_body(source, format, function, settings, check)])
    (folder / "README.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _body(
    source: Source,
    name: str,
    function: Callable[..., Any],
    settings: Mapping[str, Any],
    check: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    base = Path(source.base).name if Path(source.base).is_absolute() else source.base
    yield f"# {source.short_name}\n"
    options = ", ".join(f"{k}: {v}" for k, v in settings.items() if v)
    kind = "LoRA adapter of" if name == "lora" else "model trained from" if source.run or source.adapter else "copy of"
    yield f"A {kind} {base}, exported as `{name}`{f' ({options})' if options else ''} by guerdon {__version__}.\n"
    if source.run:
        yield from _run(source.run)
    if usage := getattr(function, "usage", ""):
        yield f"## Use\n\n{usage.strip().replace('{base}', base).replace('{folder}', '.')}\n"
    if check:
        yield "## Checked\n\nLoaded again, and asked the same as the trained model in float32, greedily:\n"
        yield "\n".join(f"- {row['file']}: {row['says']}" for row in check) + "\n"
    yield "## Versions\n\n" + ", ".join(_versions(source)) + "\n"


def _run(run: Mapping[str, Any]) -> Iterator[str]:
    recipe, summary = run["recipe"], run["summary"]
    yield "## Training\n"
    lines = [
        ("data", _short(recipe.get("data"))),
        ("tasks", _short(recipe.get("tasks"))),
        ("rewards", ", ".join(_named(r) for r in recipe.get("rewards") or ())),
        ("trainer", _named(recipe["trainer"]) if recipe.get("trainer") else ""),
        ("checkpoint", run["checkpoint"]),
        ("run", summary["run"]),
    ]
    yield "\n".join(f"- {name}: {value}" for name, value in lines if value) + "\n"
    if figures := summary["eval"]:
        yield "| evaluation | tasks | reward | " + " | ".join(_rewards(figures)) + " |"
        yield "|---" * (3 + len(_rewards(figures))) + "|"
        for stage, one in figures.items():
            means = [number(one["rewards"].get(n, {}).get("mean")) for n in _rewards(figures)]
            yield "| " + " | ".join([stage, str(one["tasks"]), number(one["reward"]), *means]) + " |"
        yield ""
    frozen = yaml.safe_dump(_without_secrets(recipe), sort_keys=False, allow_unicode=True)
    yield f"<details><summary>The recipe</summary>\n\n```yaml\n{frozen}```\n\n</details>\n"


def _rewards(figures: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for one in figures.values() for name in one["rewards"]))


def _named(use: Any) -> str:
    return use if isinstance(use, str) else str(next(iter(use)))


def _short(value: Any) -> str:
    """Where rows or tasks are from, in a word."""
    if isinstance(value, Mapping):
        parts = value.get("mix") or ()
        where = value.get("path") or value.get("dataset")
        where = where or (_named(value["source"]) if value.get("source") else None)
        return ", ".join(filter(None, map(_short, parts))) if parts else _short(where)
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return (Path(value).name if value.startswith(("/", "~")) else value) if isinstance(value, str) else ""


def _without_secrets(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _without_secrets(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_secrets(v) for v in value]
    if isinstance(value, str):
        if SECRET.search(name) and not value.startswith("${"):
            return "(left out)"
        return Path(value).name if value.startswith(("/", "~/")) else value
    return value


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).is_dir()


def _licence(source: Source) -> str | None:
    """The base model's, where its folder says so: a model card's `license`."""
    card = Path(source.model) / "README.md"
    if not card.is_file():
        return None
    parts = card.read_text("utf-8", errors="replace").split("---\n", 2)
    try:
        head = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        return None
    found = head.get("license") if isinstance(head, dict) else None
    return found if isinstance(found, str) else None


def _trainers(source: Source) -> list[str]:
    trainer = source.run["recipe"].get("trainer") if source.run else None
    return [_named(trainer).rpartition(":")[2]] if trainer else []


def _versions(source: Source) -> Iterator[str]:
    known = source.run["info"].get("versions") if source.run else None
    for name in ("guerdon", *PACKAGES):
        try:
            yield f"{name} {known[name] if known else version(name)}"
        except (KeyError, PackageNotFoundError):
            continue

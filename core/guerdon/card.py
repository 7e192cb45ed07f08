"""The model card of an export: README.md with what the model is, how it came to be and how to load it.

Written once, over what libraries put there. It holds the recipe as the run froze it, where `${VAR}` is not replaced;
values under names like `api_key` are left out all the same, and of folders of this machine there is only the last name.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from guerdon import __version__
from guerdon.export_source import HUB_ID, Source
from guerdon.report import number

SECRET = re.compile(r"(?i)(key|token|secret|password|passwd|credentials?|authorization|cookie)$")
LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
FOLDER = re.compile(r"(?<![\w.:/$}-])(?:~|/[\w.@+-]+)(?:/[\w.@+-]+)+")
PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "vllm", "bitsandbytes", "gguf")


def write_card(
    folder: Path,
    source: Source,
    format: str,  # noqa: A002
    function: Callable[..., Any],
    settings: Mapping[str, Any],
    check: Sequence[Mapping[str, Any]],
    repository: str = "",
) -> None:
    """Write README.md into the folder of an export, which is loaded from the `repository` where there is one."""
    recipe = public(source.run["recipe"]) if source.run else {}
    trainer = [_named(recipe["trainer"]).rpartition(":")[2]] if recipe.get("trainer") else []
    head = {
        "license": _licence(source),
        "base_model": source.hub,
        "datasets": sorted(set(_hub_sets([recipe.get("data"), recipe.get("tasks")]))),
        "library_name": getattr(function, "library", "transformers"),
        "pipeline_tag": "text-generation",
        "tags": ["guerdon", *(["lora"] if format == "lora" else []), *trainer],
    }
    front = yaml.safe_dump({k: v for k, v in head.items() if v}, sort_keys=False, allow_unicode=True)
    base = source.hub or public(source.base)
    options = ", ".join(f"{k}: {v}" for k, v in settings.items() if v)
    kind = (
        "LoRA adapter of" if format == "lora" else "model trained from" if source.run or source.adapter else "copy of"
    )
    text = [
        f"---\n{front}---\n\n# {repository.rpartition('/')[2] or source.short_name}\n",
        f"A {kind} {base}, exported as `{format}`{f' ({options})' if options else ''} by guerdon {__version__}.\n",
        *(_training(source.run, recipe) if source.run else ()),
        *_use(getattr(function, "usage", ""), base, repository or "."),
        *_checked(check),
        "## Versions\n\n" + ", ".join(_versions(source)),
    ]
    (folder / "README.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def _use(usage: str, base: str, folder: str) -> Iterator[str]:
    if usage:
        yield f"## Use\n\n{usage.strip().replace('{base}', base).replace('{folder}', folder)}\n"


def _checked(check: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if check:
        yield "## Checked\n\nLoaded again, and asked the same as the trained model in float32, greedily:\n"
        yield "\n".join(f"- {row['file']}: {row['says']}" for row in check) + "\n"


def _training(run: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[str]:
    yield "## Training\n"
    lines = [
        ("data", _short(recipe.get("data"))),
        ("tasks", _short(recipe.get("tasks"))),
        ("rewards", ", ".join(_named(r) for r in recipe.get("rewards") or ())),
        ("trainer", _named(recipe["trainer"]) if recipe.get("trainer") else ""),
        *(_course(name, figures["curve"]) for name, figures in run["summary"]["training"].items()),
        ("checkpoint", run["checkpoint"]),
        ("run", run["summary"]["run"]),
    ]
    yield "\n".join(f"- {name}: {value}" for name, value in lines if value) + "\n"
    if figures := run["summary"]["eval"]:
        names = list(dict.fromkeys(name for one in figures.values() for name in one["rewards"]))
        yield "| evaluation | tasks | reward | " + " | ".join(names) + " |"
        yield "|---" * (3 + len(names)) + "|"
        for stage, one in figures.items():
            means = [number(one["rewards"].get(n, {}).get("mean")) for n in names]
            yield "| " + " | ".join([stage, str(one["tasks"]), number(one["reward"]), *means]) + " |"
        yield ""
    frozen = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    yield f"<details><summary>The recipe</summary>\n\n```yaml\n{frozen}```\n\n</details>\n"


def _course(training: str, curve: Sequence[Mapping[str, float]]) -> tuple[str, str]:
    """The reward (or the loss) at a training's first and last logged step."""
    what = "reward" if any("reward" in row for row in curve) else "loss"
    values = [(row[what], row["step"]) for row in curve if what in row]
    ends = f"{number(values[0][0])} to {number(values[-1][0])} at step {values[-1][1]}" if values else ""
    return f"{what} of {training}", ends


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
    return value if isinstance(value, str) else ""


def _hub_sets(value: Any) -> Iterator[str]:
    """The hub data sets that are named in a part of a recipe."""
    if isinstance(value, Mapping):
        if isinstance(name := value.get("dataset"), str) and re.fullmatch(HUB_ID, name):
            yield name
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from _hub_sets(one)


def public(value: Any, name: str = "") -> Any:
    """A part of a recipe without secrets and without folders of this machine; `name` is the key that it is under.

    >>> public({"api_key": "sk-1", "url": "https://me:pw@host/v1", "~/mine.py:fun": ["/home/me/rows.jsonl"]})
    {'api_key': '(left out)', 'url': 'https://host/v1', 'mine.py:fun': ['rows.jsonl']}
    """
    if isinstance(value, dict):
        return {public(str(k)): public(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [public(v, name) for v in value]
    if not isinstance(value, str):
        return value
    if SECRET.search(name) and not value.startswith("${"):
        return "(left out)"
    return FOLDER.sub(lambda found: Path(found[0]).name, LOGIN.sub("", value))


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


def _versions(source: Source) -> Iterator[str]:
    known = source.run["info"].get("versions") if source.run else None
    for name in ("guerdon", *PACKAGES):
        try:
            yield f"{name} {known[name] if known else version(name)}"
        except (KeyError, PackageNotFoundError):
            continue

"""What is exported: the checkpoint that a run keeps, or a folder with an adapter or a model; what is known of it."""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from guerdon.checkpoints import kept_checkpoint
from guerdon.errors import ComponentError, GuerdonError, StoreError
from guerdon.plugins import Plugins
from guerdon.registry import Registry, load
from guerdon.resolve import model_path
from guerdon.store import Run, find_run
from guerdon.summary import summarise
from guerdon.task import Message

PROMPTS = (
    "What is the capital of France?",
    "Compute 12 * 7 + 5 and explain each step.",
    "Write a Python function that reverses a string.",
    "Name three uses of copper.",
)
"""Every exported model is asked these."""

OF_THE_RUN = 4
"""So many of the run's own tasks are asked beside them."""

HUB_ID = r"[\w-][\w.-]*/[\w.-]+"
CACHED = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/[^/]+/?$")
"""A hub model's folder in the hub's own cache."""


class ExportError(GuerdonError):
    kind = "export"


@dataclass(frozen=True)
class Source:
    """A model to export. `model` is what to load, `base` what its owner calls it, and `hub` its hub id, if it has one.

    `run` is `None` for a folder.
    """

    model: str
    adapter: Path | None
    name: str
    base: str
    short_name: str = ""
    hub: str = ""
    prompts: tuple[list[Message], ...] = ()
    run: Mapping[str, Any] | None = field(default=None, repr=False)


def find_source(target: str, runs: Path) -> Source:
    """A folder with an adapter or a model, or a run by its folder, id, a part of that, or "last".

    Raises:
        StoreError: there is no such run, or it has trained nothing.
        ExportError: the folder's model is not there.
    """
    folder = Path(target).expanduser()
    if folder.is_dir() and not (folder / "run.json").is_file():
        return _folder(folder.resolve())
    try:
        return _run(find_run(runs, target))
    except StoreError as error:
        if "/" in target or folder.suffix:
            raise StoreError(f"{error} It is no folder either") from None
        raise


def _folder(folder: Path) -> Source:
    name = folder.name.lstrip(".")
    if (folder / "adapter_config.json").is_file():
        registry, base = Registry(Plugins()), base_of(folder)
        hub = _hub_id(registry, base)
        return Source(to_load(registry, base), folder, name, hub or Path(base).name, name, hub, _prompts(()))
    if (folder / "config.json").is_file():
        return Source(str(folder), None, name, name, name, "", _prompts(()))
    raise no_model(folder)


def no_model(folder: Path) -> StoreError:
    """What to say of a folder that holds neither a run nor an adapter nor a model."""
    hint = ". GGUF files are for llama.cpp" if any(folder.glob("*.gguf")) else ""
    return StoreError(
        f"{folder} holds no run.json, adapter_config.json or config.json: it is no run and no model{hint}"
    )


def base_of(adapter: Path) -> str:
    """The model that an adapter is for, as it says itself: a folder or a hub id."""
    try:
        model = str(json.loads((adapter / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"] or "")
    except (ValueError, KeyError, TypeError):
        raise ExportError(
            f"{adapter}/adapter_config.json is broken: no base_model_name_or_path is read in it"
        ) from None
    if cached := CACHED.search(model):
        return f"{cached[1]}/{cached[2]}"
    if Path(model).is_dir():
        return str(Path(model).resolve())
    if re.fullmatch(HUB_ID, model):
        return model
    raise ExportError(
        f"the adapter {adapter} is for the model {model!r}, and there is no such folder; write where it is now as "
        "base_model_name_or_path in its adapter_config.json"
    )


def to_load(registry: Registry, model: str) -> str:
    """A model's folder, or its hub id; one that a plugin prepares is taken from there, also by its hub id."""
    prepared = [c.name for c in registry.of_kind("models") if _hub_id(registry, c.name) == model]
    return model_path(registry, registry.folder, prepared[0] if prepared else model)


def _hub_id(registry: Registry, model: str) -> str:
    """The hub id of a model: its own name, or `hub_id` of the function that prepares it; empty for a folder."""
    if model in {c.name for c in registry.of_kind("models")}:
        with contextlib.suppress(ComponentError):
            return str(getattr(load(registry.find("models", model)), "hub_id", ""))
        return ""
    return model if re.fullmatch(HUB_ID, model) and not (registry.folder / model).is_dir() else ""


def _run(folder: Path) -> Source:
    run = Run(folder)
    try:
        checkpoint = kept_checkpoint(run)
        if checkpoint is None:
            raise StoreError(f"run {run.id} has no checkpoint: it has trained nothing yet")
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text("utf-8"))
        known = {"info": run.info, "recipe": recipe, "summary": summarise(run), "checkpoint": checkpoint.name}
        prompts = _prompts([task.messages for task in run.tasks().values()])
    finally:
        run.close()
    checkpoint = checkpoint.resolve()
    adapter = checkpoint if (checkpoint / "adapter_config.json").is_file() else None
    registry = Registry(Plugins(), Path(run.info["folder"]))
    base = str(recipe["model"])
    if "${" in base and adapter:  # what it stands for is not known here; the adapter says it too
        base = base_of(adapter)
    model = to_load(registry, base) if adapter else str(checkpoint)
    short = str(run.info.get("name") or run.id)
    return Source(model, adapter, run.id, base, short, _hub_id(registry, base), prompts, known)


def _prompts(tasks: Sequence[list[Message]]) -> tuple[list[Message], ...]:
    step = max(1, len(tasks) // OF_THE_RUN)
    return (*([{"role": "user", "content": p}] for p in PROMPTS), *tasks[::step][:OF_THE_RUN])

"""What is exported: a run's newest checkpoint, or a folder with an adapter or a model, and what is known of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guerdon.errors import GuerdonError, StoreError
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


class ExportError(GuerdonError):
    kind = "export"


@dataclass(frozen=True)
class Source:
    """A model to export. `model` is what to load, `base` what its owner calls it; `run` is `None` for a folder."""

    model: str
    adapter: Path | None
    name: str
    base: str
    short_name: str = ""
    prompts: tuple[list[Message], ...] = ()
    run: Mapping[str, Any] | None = field(default=None, repr=False)


def find_source(target: str, runs: Path) -> Source:
    """A folder with an adapter or a model, or a run by its folder, id, a part of that, or "last".

    Raises:
        StoreError: there is no such run, or it has trained nothing.
        ExportError: the folder's model is not there.
    """
    from guerdon.store import find_run

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
        model = base_of(folder)
        return Source(model, folder, name, _called(model), name, _prompts(()))
    if (folder / "config.json").is_file():
        return Source(str(folder), None, name, name, name, _prompts(()))
    raise StoreError(f"{folder} holds no run.json, adapter_config.json or config.json: it is no run and no model")


def base_of(adapter: Path) -> str:
    """The model that an adapter is for, as it says itself: a folder or a hub id."""
    model = str(json.loads((adapter / "adapter_config.json").read_text()).get("base_model_name_or_path") or "")
    hub_like = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    if Path(model).is_dir() or hub_like:
        return str(Path(model).resolve()) if Path(model).is_dir() else model
    raise ExportError(
        f"the adapter {adapter} is for the model {model!r}, and there is no such folder; write where it is now as "
        "base_model_name_or_path in its adapter_config.json"
    )


def _run(folder: Path) -> Source:
    import yaml

    from guerdon.checkpoints import newest_checkpoint
    from guerdon.store import Run
    from guerdon.summary import summarise

    run = Run(folder)
    try:
        checkpoint = newest_checkpoint(run)
        if checkpoint is None:
            raise StoreError(f"run {run.id} has no checkpoint: it has trained nothing yet")
        text = (folder / "recipe.yaml").read_text("utf-8")
        recipe = yaml.safe_load(text)
        known = {
            "info": run.info,
            "recipe": recipe,
            "summary": summarise(run),
            "checkpoint": checkpoint.name,
        }
        prompts = _prompts([task.messages for task in run.tasks().values()])
        short = str(run.info.get("name") or run.id)
        whole = not (checkpoint / "adapter_config.json").is_file()
        base = str(recipe["model"])
        model = str(checkpoint.resolve()) if whole else _model(base, run, checkpoint)
        return Source(model, None if whole else checkpoint.resolve(), run.id, base, short, prompts, known)
    finally:
        run.close()


def _model(base: str, run: Any, checkpoint: Path) -> str:
    """The base model of a run, prepared; by what the adapter says where the recipe's name needs the environment."""
    from guerdon.plugins import Plugins
    from guerdon.registry import Registry
    from guerdon.resolve import model_path

    if "${" in base:
        return base_of(checkpoint)
    folder = Path(run.info["folder"])
    return model_path(Registry(Plugins(), folder), folder, base)


def _called(model: str) -> str:
    return Path(model).name if Path(model).is_dir() else model


def _prompts(tasks: Sequence[list[Message]]) -> tuple[list[Message], ...]:
    step = max(1, len(tasks) // OF_THE_RUN)
    return (*([{"role": "user", "content": p}] for p in PROMPTS), *tasks[::step][:OF_THE_RUN])

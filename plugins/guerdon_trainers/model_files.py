"""The files of a model and of an adapter: whether they are all there, and fit the settings."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from guerdon.export_source import CACHED
from guerdon.settings import SettingError
from guerdon_trainers.model import LORA_SETTINGS

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "*.tiktoken")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def check_model(folder: Path) -> None:
    """That a folder holds a whole model: raises `SettingError` with the names of the files that it lacks."""
    if not folder.is_dir():
        return
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path") or "BASE"
        raise SettingError(
            f"{folder} is a LoRA adapter, not a model: set model: {base} and adapter: {folder}", ("model",)
        )
    lacking = [] if (folder / "config.json").exists() else ["config.json"]
    if not any(True for pattern in TOKENIZERS for _ in folder.glob(pattern)):
        lacking.append("tokenizer.json")
    lacking += _lacking_weights(folder)
    if lacking:
        shown = ", ".join(lacking[:6]) + (f" and {len(lacking) - 6} more" if len(lacking) > 6 else "")
        raise SettingError(f"the model's folder {folder} lacks {shown}: copy or download it again", ("model",))


def _lacking_weights(folder: Path) -> list[str]:
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.exists():
            shards = sorted(set(_json(index).get("weight_map", {}).values()))
            return [shard for shard in shards if not _is_there(folder / shard)]
    found = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    pointers = [path.name for path in found if not _is_there(path)]
    return pointers if found else ["model.safetensors"]


def _is_there(path: Path) -> bool:
    """Whether it is the file itself, not a note of Git LFS on where to get it."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return not file.read(32).startswith(b"version https://git-lfs")


def check_adapter(folder: Path, settings: Mapping[str, Any], model: str) -> Iterator[str]:
    """That an adapter can be gone on from with these settings; notes on what of them it goes over.

    Raises:
        SettingError: it lacks files, or has another shape.
    """
    lacking = [] if (folder / "adapter_config.json").exists() else ["adapter_config.json"]
    if not any(_is_there(folder / name) for name in ("adapter_model.safetensors", "adapter_model.bin")):
        lacking.append("adapter_model.safetensors")
    if lacking:
        raise SettingError(f"the adapter's folder {folder} lacks {' and '.join(lacking)}", ("adapter",))
    if settings["tuning"] == "full":
        raise SettingError(
            "tuning: full trains the model's own weights: leave out `adapter`, or take lora", ("tuning",)
        )
    has = _json(folder / "adapter_config.json")
    for name, setting in LORA_SETTINGS.items():
        given = settings[setting]
        if name not in has or given == "all-linear" or _plain(has[name]) == _plain(given):
            continue
        raise SettingError(
            f"{setting} is {given}, and the adapter {folder} has {_plain(has[name])}: set it to that, or start a new "
            "adapter",
            (setting,),
        )
    for name, value in (settings["lora_options"] or {}).items():
        if name in has and _plain(has[name]) != _plain(value):
            yield f"lora_options.{name} is {value}, but the adapter {folder} keeps what it has, {_plain(has[name])}"
    base = str(has.get("base_model_name_or_path") or "")
    if base and not _same_model(base, model):
        yield (
            f"the adapter {folder} was trained on {base}, and the model is {model}: on other weights, or on weights "
            "that it was merged into, it does harm"
        )


def _plain(value: Any) -> Any:
    """Names in no order, as peft keeps them."""
    return sorted(value) if isinstance(value, list) else value


def _same_model(base: str, model: str) -> bool:
    """Whether two models, folders or hub ids, are one, as far as their names tell."""
    ours, theirs = (Path(f"{hub[1]}/{hub[2]}" if (hub := CACHED.search(each)) else each) for each in (model, base))
    if ours.is_dir() and theirs.is_dir():
        return ours.resolve() == theirs.resolve()
    return ours.name.lower() == theirs.name.lower()  # one may be a copy of the other, or lie elsewhere now


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}", ("model",)) from error

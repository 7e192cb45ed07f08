"""How conversations are written for a model and what ends a turn, by its folder's files.

A server knows its base model's tokenizer alone, while a training may give the adapter's another chat template or end of
sequence. So what an adapter's folder says otherwise goes into each request.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

END = "<|im_end|>"


def chatml(end: str = END) -> str:
    """guerdon's ChatML, for models without a template: tools in Hermes form, marks around what the assistant says."""
    text = files("guerdon_backends").joinpath("chat_template.jinja").read_text(encoding="utf-8")
    return text.replace(END, end)


def template(folder: Path) -> str | None:
    """The chat template of a model's or an adapter's folder."""
    if (file := folder / "chat_template.jinja").exists():
        return file.read_text(encoding="utf-8")
    found = _config(folder).get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((one.get("template") for one in found if one.get("name") == "default"), None)
    return found


def end(folder: Path) -> str | None:
    """The token that ends a sequence."""
    found = _config(folder).get("eos_token")
    return found.get("content") if isinstance(found, dict) else found


def without_template(folder: Path) -> str:
    """The template to serve a model with that has none; '' where it has one."""
    if template(folder):
        return ""
    return chatml(END if _token_id(folder, END) is not None else end(folder) or END)


def otherwise(adapter: Path, base: Path) -> dict[str, Any]:
    """What requests to this adapter have to say, over what a server of its base knows."""
    says: dict[str, Any] = {}
    if not _config(base):
        return says
    own, stop = template(adapter), end(adapter)
    if own and own != (template(base) or without_template(base)):
        says["chat_template"] = own
    if stop and stop != end(base) and (token := _token_id(adapter, stop)) is not None:
        says["stop_token_ids"] = [token]
    return says


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "tokenizer_config.json")


def _token_id(folder: Path, token: str) -> int | None:
    added = _json(folder / "tokenizer.json").get("added_tokens", [])
    return next((one["id"] for one in added if one["content"] == token), None)


def _json(file: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read

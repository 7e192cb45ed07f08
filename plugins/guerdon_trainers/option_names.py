"""The entries of `options` and `lora_options`, looked at before anything starts: importing trl takes seconds, so the
names that its classes take are read in their source.
"""

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from guerdon.errors import near_miss
from guerdon.settings import SettingError
from guerdon_trainers.arguments import OURS
from guerdon_trainers.model import LORA_SETTINGS

SFT = "trl.trainer.sft_config:SFTConfig"
GRPO = "trl.trainer.grpo_config:GRPOConfig"
LORA = "peft.tuners.lora.config:LoraConfig"


def check_options(settings: Mapping[str, Any], cls: str, ours: Mapping[str, str], backend: str) -> None:
    """That `options` fit the trl class `cls`, and `lora_options` peft's, as far as can be told here.

    Args:
        ours: The names, beside `OURS`, that `options` may not hold, and what to use.
        backend: Unsloth's classes have more options than trl's.

    Raises:
        SettingError: an option that a setting stands for, or that the class does not have.
    """
    for key, target, taken in (("options", cls, {**OURS, **ours}), ("lora_options", LORA, LORA_SETTINGS)):
        for name in settings[key] or ():
            if name in taken:
                raise SettingError(f"use {taken[name]} instead", (key, name))
            known = option_names(target) if key == "lora_options" or backend != "unsloth" else None
            if known and name not in known:
                whose, what = target.partition(".")[0], target.partition(":")[2]
                hint = near_miss(name, known, listing=False)
                raise SettingError(f"{whose}'s {what} has no such option.{hint}", (key, name))


@cache
def option_names(target: str) -> frozenset[str]:
    """The fields of a dataclass "package.module:Class", and of its bases; none where its source does not tell.

    >>> option_names("nobody.nothing:Config")
    frozenset()
    """
    module, _, name = target.partition(":")
    try:
        return frozenset(_fields(module, name))
    except (LookupError, OSError, ValueError, SyntaxError, RecursionError):
        return frozenset()


def _fields(module: str, name: str) -> set[str]:
    """Of the class of this name in a module, or in that which the module has it from."""
    file = _file(module)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    for node in nodes:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [_fields(module, ast.unparse(base)) for base in node.bases]
            return {field for line in node.body if (field := _field(line))}.union(*bases)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            return _fields(".".join([*above, *filter(None, [node.module])]), name)
    raise LookupError(name)


def _file(module: str) -> Path:
    top, *rest = module.split(".")
    spec = find_spec(top)  # of a package in a package it would import the outer one
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(module)
    place = Path(spec.submodule_search_locations[0], *rest)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _field(line: ast.stmt) -> str:
    """The name that a line of a dataclass adds to its arguments, if any."""
    if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
        return ""
    said = ast.unparse(line)
    return "" if "ClassVar" in said or "init=False" in said else line.target.id

"""guerdon's own trainers."""

from typing import Any

import guerdon


@guerdon.hookimpl
def register_trainers(register: Any) -> None:
    register("sft", "guerdon_trainers.sft:sft", extra="train")


@guerdon.hookimpl
def register_recipes(register: Any) -> None:
    register("quickstart", "guerdon_trainers:recipes/quickstart.yaml")

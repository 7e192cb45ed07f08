"""guerdon's own trainers."""

from typing import Any

import guerdon


@guerdon.hookimpl
def register_trainers(register: Any) -> None:
    register("sft", "guerdon_trainers.sft:sft", extra="train")
    register("grpo", "guerdon_trainers.grpo:grpo", extra="train")


@guerdon.hookimpl
def register_exporters(register: Any) -> None:
    register("lora", "guerdon_trainers.export.lora:lora", extra="train")
    register("merged_16bit", "guerdon_trainers.export.merged:merged_16bit", extra="train")
    register("merged_4bit", "guerdon_trainers.export.merged:merged_4bit", extra="quantize")
    register("gguf", "guerdon_trainers.export.gguf:gguf", extra="train")


@guerdon.hookimpl
def register_recipes(register: Any) -> None:
    for name in ("quickstart", "gsm-hard-loop", "gsm8k-loop", "gsm8k-grpo", "verl-sft", "open-r1-sft", "qwen3-8b-sft"):
        register(name, f"guerdon_trainers:recipes/{name}.yaml")

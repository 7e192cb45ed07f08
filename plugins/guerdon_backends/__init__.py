"""Backends and models that come with guerdon; each is imported when a recipe uses it."""

from collections.abc import Callable

import guerdon


@guerdon.hookimpl
def register_backends(register: Callable[..., None]) -> None:
    register("auto", "guerdon_backends.auto:auto")
    register("openai", "guerdon_backends.openai_backend:openai")
    register("transformers", "guerdon_backends.embedded:transformers", extra="train")
    register("vllm", "guerdon_backends.vllm_server:vllm")
    register("demonstrations", "guerdon_backends.demonstrations:demonstrations")


@guerdon.hookimpl
def register_models(register: Callable[..., None]) -> None:
    register("smollm2-135m", "guerdon_backends.models:smollm2_135m", extra="train")

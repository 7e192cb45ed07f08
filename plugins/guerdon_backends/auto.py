"""Choose a backend from what the model is and what the environment says."""

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from guerdon.policy import Endpoint
from guerdon.traits import traits

log = logging.getLogger("guerdon")


def gpu_share(settings: Mapping[str, Any]) -> float:
    """vLLM's, where that is sure to be taken: OPENAI_BASE_URL may mean another server."""
    from guerdon_backends import vllm_server

    return 0.0 if os.environ.get("OPENAI_BASE_URL") or vllm_server.unusable() else vllm_server.gpu_share(settings)


@traits(gpu_share=gpu_share)
@asynccontextmanager
async def auto(model: str) -> AsyncIterator[Endpoint]:
    """`openai` where OPENAI_BASE_URL is set and the model is no local folder; `vllm` on a GPU; else `transformers`."""
    from pathlib import Path

    from guerdon_backends.vllm_server import unusable, vllm

    folder = Path(model).expanduser().is_dir()
    url = os.environ.get("OPENAI_BASE_URL", "")
    if url and not folder:
        from guerdon_backends.openai_backend import openai

        log.info("backend openai: OPENAI_BASE_URL is set (%s)", url)
        chosen = openai(model)
    elif lacks := unusable():
        from guerdon_backends.embedded import transformers

        log.info("backend transformers: vllm would need %s", lacks)
        chosen = transformers(model)
    else:
        log.info("backend vllm: there is a GPU, and vllm is installed")
        chosen = vllm(model)
    async with chosen as endpoint:
        yield endpoint

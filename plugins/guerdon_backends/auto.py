"""Choose a backend from what the model is and what the environment says."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from guerdon.policy import Endpoint

log = logging.getLogger("guerdon")


@asynccontextmanager
async def auto(model: str) -> AsyncIterator[Endpoint]:
    """The `openai` backend where OPENAI_BASE_URL is set and the model is no local folder, else `transformers`."""
    from pathlib import Path

    folder = Path(model).expanduser().is_dir()
    url = os.environ.get("OPENAI_BASE_URL", "")
    if url and not folder:
        from guerdon_backends.openai_backend import openai

        log.info("backend openai: OPENAI_BASE_URL is set (%s)", url)
        chosen = openai(model)
    else:  # vllm goes here, before transformers: where it is installed and there is a GPU
        from guerdon_backends.embedded import transformers

        log.info("backend transformers: %s", "the model is a local folder" if folder else "OPENAI_BASE_URL is not set")
        chosen = transformers(model)
    async with chosen as endpoint:
        yield endpoint

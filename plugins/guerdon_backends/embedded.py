"""A local transformers model, served by a process of our own for as long as the backend is open."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from guerdon.logs import server_log
from guerdon.policy import Endpoint


@asynccontextmanager
async def transformers(
    model: str,
    *,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    max_batch: PositiveInt = 32,
    threads: NonNegativeInt = 0,
    start_timeout: PositiveFloat = 300,
    device: str = "auto",
) -> AsyncIterator[Endpoint]:
    """A folder or hub model on this machine, without vLLM: batched generation, tool calls, token ids, LoRA swaps.

    Args:
        dtype: The numbers to compute in; auto: float32 on a CPU, bfloat16 on a GPU.
        max_batch: Sequences generated at once; further ones wait.
        threads: CPU threads; 0: OMP_NUM_THREADS, else one for each core.
        start_timeout: Seconds until the server must answer.
        device: Where the model runs: auto, cpu, cuda, cuda:1.

    Raises:
        BackendError: The model's files are missing, or the server does not start.
    """
    from guerdon_backends.local import LocalEndpoint, served_name
    from guerdon_backends.models import local_folder

    folder = await asyncio.to_thread(local_folder, model)
    name = served_name(model, folder)
    command = [sys.executable, "-m", "guerdon_backends.server", "--exit-with-parent", "--model", folder, "--name", name]
    command += ["--dtype", dtype, "--device", device, "--max-batch", str(max_batch), "--threads", str(threads)]
    # passive: threads that spin while they wait make torch ten times slower on a shared machine
    quiet = {"TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive"}
    env = {key: os.environ.get(key, value) for key, value in quiet.items()} | {"HF_HUB_OFFLINE": "1"}
    with server_log("transformers") as log_file:
        endpoint = LocalEndpoint(name, command, folder=folder, log_file=log_file, start_timeout=start_timeout, env=env)
        try:
            await endpoint.start()
            yield endpoint
        finally:
            await endpoint.stop()

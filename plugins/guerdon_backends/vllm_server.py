"""vLLM: served by a process of our own for as long as the backend is open, or by one that runs already.

The adapter is swapped in the running server: a start takes minutes, a swap less than a second. Another base model means
another start. vLLM can read whole weights into a running server too (`reload_weights`), by a development route that
changes from version to version, does not look at what it reads, and leaves half of it in place when it fails.
"""

import asyncio
import importlib.util
import inspect
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from guerdon.errors import BackendError
from guerdon.logs import server_log
from guerdon.policy import Endpoint
from guerdon.training import Facts
from guerdon.traits import traits

OURS = ("model", "host", "port", "served-model-name", "api-key", "uds")
"""Flags that `options` may not hold."""
KEY_ENV = "VLLM_API_KEY"
LACKS = "Backend vllm needs {}. Take backend: transformers."


@traits(preflight="guerdon_backends.vllm_server:preflight", gpu_share="guerdon_backends.vllm_server:gpu_share")
@asynccontextmanager
async def vllm(
    model: str,
    *,
    url: str = "",
    api_key_env: str = KEY_ENV,
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.7,
    max_length: PositiveInt | None = None,
    quantization: str | None = None,
    dtype: str = "auto",
    tensor_parallel: PositiveInt = 1,
    data_parallel: PositiveInt = 1,
    max_lora_rank: Literal[0, 8, 16, 32, 64, 128, 256, 320, 512] = 64,
    tool_parser: str | None = "hermes",
    eager: bool = False,
    start_timeout: PositiveFloat = 600,
    options: dict[str, Any] | None = None,
) -> AsyncIterator[Endpoint]:
    """A folder or hub model on this machine's GPUs, by vLLM: token ids, tool calls, LoRA swaps, sleep.

    Args:
        url: A vLLM server that runs already, e.g. http://gpu-1:8000/v1; it is asked and given adapters, and neither
            started nor ended. All settings below but `api_key_env` are for starting one.
        api_key_env: The environment variable that holds that server's key, if it has one.
        gpu_memory: The share of each GPU's memory that the server takes.
        max_length: Tokens of prompt and reply together; null: what the model can.
        quantization: How weights are quantised as they are loaded, e.g. bitsandbytes or fp8.
        dtype: The numbers to compute in, e.g. bfloat16; auto: the model's.
        tensor_parallel: GPUs that each copy of the model is split over.
        data_parallel: Copies of the model.
        max_lora_rank: The highest rank of an adapter; 0: no adapters, for whole models only, a little faster.
        tool_parser: How the model writes tool calls, by vLLM's name for it; null: they stay text.
        eager: No compilation and no CUDA graphs: a faster start, slower tokens.
        start_timeout: Seconds until the server must answer.
        options: Any other flag of `vllm serve` by its name, e.g. {kv-cache-dtype: fp8}; null leaves one of ours out.

    Raises:
        BackendError: There is no GPU or no vLLM, the model's files are missing, or the server does not start; or it is
            not there, not well, or serves another model.
    """
    given = locals()
    changed = [n for n, p in inspect.signature(vllm).parameters.items() if n != "model" and given[n] != p.default]
    refused = [n for n in changed if (n in ("url", "api_key_env")) != bool(url)]
    if refused:
        why = (
            "is for starting a server, and `url` names one that runs"
            if url
            else "is for a server that runs: give `url`"
        )
        raise BackendError(f"The vllm setting {refused[0]!r} {why}.", kind="settings")
    from guerdon_backends.local import SleepyEndpoint, served_name
    from guerdon_backends.models import local_folder
    from guerdon_backends.running import KEPT, running
    from guerdon_backends.speech import without_template

    if url:
        folder = str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else ""
        async with running(model, folder, url, os.environ.get(api_key_env, "").strip() or "none", api_key_env) as one:
            yield one
        return
    if lacks := unusable():
        raise BackendError(LACKS.format(lacks), kind="no_vllm")
    folder = await asyncio.to_thread(local_folder, model)
    name = served_name(model, folder)
    flags = {
        "model": folder,
        "served-model-name": name,
        "gpu-memory-utilization": gpu_memory,
        "max-model-len": max_length,
        "quantization": quantization,
        "dtype": dtype,
        "tensor-parallel-size": tensor_parallel if tensor_parallel > 1 else None,
        "data-parallel-size": data_parallel if data_parallel > 1 else None,
        "enforce-eager": eager or None,
        "enable-lora": bool(max_lora_rank) or None,
        "max-lora-rank": max_lora_rank or None,
        "max-loras": KEPT if max_lora_rank else None,
        "enable-auto-tool-choice": bool(tool_parser) or None,
        "tool-call-parser": tool_parser,
        "trust-request-chat-template": True,  # an adapter's own
        "enable-sleep-mode": True,
        "logprobs-mode": "processed_logprobs",  # as sampled from, temperature and all
        "generation-config": "vllm",  # what a request leaves open is neutral, not the model's own top_p and top_k
        "disable-uvicorn-access-log": True,
        "log-error-stack": False,  # each request of a dead engine would log it, longer each time: 380 MB
    }
    flags |= spelled(options)
    if taken := [key for key in OURS if flags.get(key) not in (None, folder, name)]:
        raise BackendError(f"The vllm option {taken[0]!r} is guerdon's to set: leave it out.", kind="settings")
    key = secrets.token_hex(16)
    env = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_SERVER_DEV_MODE": "1",  # sleep
        KEY_ENV: key,  # loopback is everybody's on this machine
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    # not `vllm serve`: with data_parallel that starts several API servers, and an adapter is loaded into one of them
    command = [sys.executable, "-m", "guerdon_backends.child", "vllm.entrypoints.openai.api_server"]
    with server_log("vllm") as log_file:
        if "chat-template" not in flags and (needed := without_template(Path(folder))):
            written_to = log_file.with_suffix(".jinja")
            written_to.write_text(needed, encoding="utf-8")
            flags["chat-template"] = str(written_to)
        command += written(flags)
        endpoint = SleepyEndpoint(
            name,
            command,
            folder=folder,
            log_file=log_file,
            start_timeout=start_timeout,
            env=env,
            key=key,
            retries=2,
            poll=0.5,
        )
        try:
            await endpoint.start()
            yield endpoint
        finally:
            await endpoint.stop()


def preflight(settings: Mapping[str, Any], facts: Facts) -> list[str]:
    """That a server cannot be started here: an error, or a note where only the recipe is checked.

    Raises:
        BackendError: there is no GPU or no vLLM.
    """
    lacks = "" if settings["url"] else unusable()
    if lacks and not facts.checking:
        raise BackendError(LACKS.format(lacks), kind="no_vllm")
    return [f"backend vllm needs {lacks}, which is not here"] if lacks else []


def gpu_share(settings: Mapping[str, Any]) -> float:
    """What a server started here takes of each GPU's memory; of one that runs already it is not known."""
    default: float = inspect.signature(vllm).parameters["gpu_memory"].default
    flags = spelled(settings.get("options"))
    share = flags.get("gpu-memory-utilization") or settings.get("gpu_memory", default)
    return 0.0 if settings.get("url") else float(share)


def unusable() -> str:
    """What vLLM lacks here, in words; empty where it can run. Imports neither it nor torch."""
    if not has_gpu():
        return "a CUDA GPU"
    if importlib.util.find_spec("vllm") is None:
        return "the package vllm (pip install 'guerdon[vllm]')"
    return ""


def has_gpu() -> bool:
    """Whether there is a CUDA GPU that this process may use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    if smi := shutil.which("nvidia-smi"):
        try:
            found = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return found.returncode == 0 and "GPU" in found.stdout
    return any(Path("/dev").glob("nvidia[0-9]*"))


def spelled(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options by the names that flags have, however they are written.

    >>> spelled({"kv_cache_dtype": "fp8", "--enforce-eager": True})
    {'kv-cache-dtype': 'fp8', 'enforce-eager': True}
    """
    return {key.lstrip("-").replace("_", "-"): value for key, value in (options or {}).items()}


def written(flags: Mapping[str, Any]) -> Iterator[str]:
    """Flags as words of a command line.

    >>> list(written({"max-loras": 2, "enable-lora": True, "dtype": None, "rope-scaling": {"factor": 4}}))
    ['--max-loras', '2', '--enable-lora', '--rope-scaling', '{"factor": 4}']
    >>> list(written({"enable-prefix-caching": False, "middleware": ["a", "b"]}))
    ['--no-enable-prefix-caching', '--middleware', 'a', 'b']
    """
    for name, value in flags.items():
        if value is None:
            continue
        if isinstance(value, bool):
            yield f"--{'' if value else 'no-'}{name}"
            continue
        yield f"--{name}"
        for one in value if isinstance(value, list) else [value]:
            yield json.dumps(one) if isinstance(one, dict) else str(one)

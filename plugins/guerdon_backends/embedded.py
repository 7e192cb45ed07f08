"""A local transformers model, served by a process of our own for as long as the backend is open."""

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from guerdon.errors import BackendError
from guerdon.policy import Endpoint
from guerdon.task import Task

log = logging.getLogger("guerdon")


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
    from guerdon_backends.models import local_folder

    folder = await asyncio.to_thread(local_folder, model)
    name = model if not Path(model).expanduser().is_dir() else Path(folder).resolve().name
    options = ["--model", folder, "--name", name, "--dtype", dtype, "--device", device]
    options += ["--max-batch", str(max_batch), "--threads", str(threads)]
    with tempfile.TemporaryDirectory(prefix="guerdon-server-") as scratch:
        endpoint = Embedded(name, options, Path(scratch) / "server.log", start_timeout)
        try:
            await endpoint.start()
            yield endpoint
        finally:
            await endpoint.stop()


class Embedded:
    """The endpoint and its process. A server that dies is started once more, with its adapter."""

    def __init__(self, name: str, options: list[str], log_file: Path, start_timeout: float) -> None:
        self.model = name
        self.process: asyncio.subprocess.Process | None = None
        self._base = name
        self._options = options
        self._log_file = log_file
        self._start_timeout = start_timeout
        self._adapter: Path | None = None
        self._version = 0
        self._restarts = 1
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Start the process and wait until it is healthy."""
        from guerdon_backends.endpoint import HttpEndpoint

        started = time.monotonic()
        log.info("starting the server for %s", self._base)
        with self._log_file.open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "guerdon_backends.server", "--exit-with-parent", *self._options],
                stdin=asyncio.subprocess.PIPE,  # held, not written: the server ends when it closes, so with us
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                # passive: threads that spin while they wait make torch ten times slower on a shared machine
                env={
                    "TOKENIZERS_PARALLELISM": "false",
                    "OMP_WAIT_POLICY": "passive",
                    **os.environ,
                    "HF_HUB_OFFLINE": "1",
                },
                start_new_session=True,  # Ctrl-C is ours to handle, not the server's
            )
        assert self.process.stdout is not None
        died = asyncio.create_task(self.process.wait())
        try:
            async with asyncio.timeout(self._start_timeout):
                url = (await self.process.stdout.readline()).decode().strip()
                self._http = HttpEndpoint(url + "/v1", self._base, "none", timeout=86400, retries=0, token_ids=True)
                self._url = url
                await self._wait_until_healthy(died)
        except TimeoutError:
            raise BackendError(
                f"The server for {self._base} was not ready within {self._start_timeout:g} s (`start_timeout`). "
                f"{self._tail()}",
                kind="timeout",
            ) from None
        log.info("%s is served at %s (%.1f s)", self._base, url, time.monotonic() - started)

    async def stop(self) -> None:
        """Terminate, wait ten seconds, kill."""
        if http := getattr(self, "_http", None):
            await http.aclose()
        process = self.process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        process = self.process
        try:
            return await self._http.complete(body, task)
        except BackendError as error:
            if error.kind not in ("refused", "dropped"):
                raise
            await self._recover(process, error)
        return await self._http.complete(body, task)

    async def load_adapter(self, path: Path | None) -> None:
        """Serve this adapter from now on, under a name never used before; None: the base model."""
        old, name = self.model, self._base
        if path is not None:
            self._version += 1
            name = f"{self._base}-v{self._version}"
            await self._http.post("/load_lora_adapter", {"lora_name": name, "lora_path": str(path.resolve())})
        self.model = self._http.model = name
        self._adapter = path
        if old not in (self._base, self.model):
            with contextlib.suppress(BackendError):  # a new server never had it
                await self._http.post("/unload_lora_adapter", {"lora_name": old})

    async def _recover(self, process: asyncio.subprocess.Process | None, error: BackendError) -> None:
        """Start the server again when it has died, once; many requests may find it dead at once."""
        async with self._lock:
            if self.process is not process:
                return  # another request was first
            code = await self._exit_code()
            if code is None:
                raise error
            message = f"The server for {self._base} died ({describe_exit(code)}). {self._tail()}"
            if self._restarts == 0:
                raise BackendError(message, kind="server_died") from None
            self._restarts -= 1
            log.warning("%s\nStarting it again.", message)
            await self._http.aclose()
            await self.start()
            self.model = self._http.model = self._base
            if self._adapter:
                await self.load_adapter(self._adapter)

    async def _exit_code(self) -> int | None:
        """The code, when the process ends within a second: its connections drop a little earlier."""
        assert self.process is not None
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.process.wait(), 1)
        return None

    async def _wait_until_healthy(self, died: "asyncio.Task[int]") -> None:
        import httpx

        async with httpx.AsyncClient(timeout=2) as http:
            while True:
                if died.done():
                    code = describe_exit(died.result())
                    raise BackendError(
                        f"The server for {self._base} did not start ({code}). {self._tail()}", kind="server_died"
                    )
                with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
                    if (await http.get(self._url + "/health")).status_code == 200:
                        return
                await asyncio.wait([died], timeout=0.1)

    def _tail(self, lines: int = 15) -> str:
        text = self._log_file.read_text("utf-8", "replace").strip().splitlines()[-lines:]
        return "The end of its log:\n" + "\n".join(text) if text else "Its log is empty."


def describe_exit(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

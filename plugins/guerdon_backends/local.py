"""A model server in a process of our own: started, watched, given adapters, started again once, ended for certain."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from guerdon.errors import BackendError
from guerdon.task import Task
from guerdon_backends.endpoint import HttpEndpoint

log = logging.getLogger("guerdon")

GRACE = 10.0
"""Seconds between asking a server to end and killing what is left of it."""
KEPT = 2
"""Adapters that the server has at a time: the newest, and the one before for requests that are still being answered."""


class LocalEndpoint:
    """The endpoint and its process, which takes `--host` and `--port`, answers /health, and loads LoRA adapters.

    A server that dies is started once more, with its adapter.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        start_timeout: float,
        env: Mapping[str, str] | None = None,
        key: str = "none",
        retries: int = 0,
        poll: float = 0.1,
    ) -> None:
        self.model = name
        self.process: asyncio.subprocess.Process | None = None
        # Bound for as long as we are open and never listened on: no other program is given this port, and the server,
        # which sets SO_REUSEADDR too, can take it.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        host, port = self._port.getsockname()
        self._url = f"http://{host}:{port}"
        self._command = [*command, "--host", host, "--port", str(port)]
        self._http = HttpEndpoint(self._url + "/v1", name, key, timeout=86400, retries=retries, token_ids=True)
        self._base = name
        self._env = {**os.environ, **(env or {})}
        self._log_file = log_file
        self._start_timeout = start_timeout
        self._poll = poll
        self._adapter: Path | None = None
        self._version = 0
        self._loaded: list[str] = []
        self._restarts = 1
        self._lock = asyncio.Lock()
        self._ready = asyncio.Event()  # not while a server is started again: it has no adapter yet
        self._ready.set()

    async def start(self) -> None:
        """Start the process and wait until it is healthy.

        Raises:
            BackendError: it died, or was not ready in time; with the end of its log.
        """
        started = time.monotonic()
        log.info("starting the server for %s", self._base)
        with self._log_file.open("wb") as printed:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,  # held, not written: the server ends when it closes, so with us
                stdout=printed,
                stderr=printed,
                env=self._env,
                start_new_session=True,  # Ctrl-C is ours to handle, not the server's
            )
        died = asyncio.create_task(self.process.wait())
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._wait_until_healthy(died)
        except TimeoutError:
            raise BackendError(
                f"The server for {self._base} was not ready within {self._start_timeout:g} s (`start_timeout`). "
                f"{self._tail()}",
                kind="timeout",
            ) from None
        log.info("%s is served at %s (%.1f s)", self._base, self._url, time.monotonic() - started)

    async def stop(self) -> None:
        """End the process and all that it started; on return the GPU memory that they held is free."""
        await self._http.aclose()
        await self._end()
        self._port.close()

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        await self._ready.wait()
        process = self.process
        try:
            return await self._http.complete(body, task)
        except BackendError as error:
            await self._recover(process, error)
        return await self._http.complete(body, task)

    async def stream(self, body: dict[str, Any], task: Task) -> AsyncIterator[dict[str, Any]]:
        """The response's chunks. A server that dies before the first of them is started again, as for `complete`."""
        await self._ready.wait()
        process, begun = self.process, False
        try:
            async for chunk in self._http.stream(body, task):
                begun = True
                yield chunk
            return
        except BackendError as error:
            if begun:
                raise
            await self._recover(process, error)
        async for chunk in self._http.stream(body, task):
            yield chunk

    async def load_adapter(self, path: Path | None) -> None:
        """Serve this adapter from now on, under a name never used before (caches are by name); None: the base model."""
        await self._ready.wait()
        process = self.process
        try:
            await self._load(path)
        except BackendError as error:
            await self._recover(process, error)
            await self._load(path)

    async def _load(self, path: Path | None) -> None:
        name = self._base
        if path is not None:
            self._version += 1
            name = f"{self._base}-v{self._version}"
            await self._http.post("/load_lora_adapter", {"lora_name": name, "lora_path": str(path.resolve())})
            self._loaded.append(name)
        self.model = self._http.model = name
        self._adapter = path
        while len(self._loaded) > KEPT:
            with contextlib.suppress(BackendError):  # a server that is full forgets by itself
                await self._http.post("/unload_lora_adapter", {"lora_name": self._loaded.pop(0)})

    async def _recover(self, process: asyncio.subprocess.Process | None, error: BackendError) -> None:
        """Start the server again when it has died, once; many requests may find it dead at once."""
        code = None
        if self.process is process:
            if error.kind not in ("refused", "dropped") and not error.kind.startswith("http_5"):
                raise error
            code = await _exit_code(process)
        async with self._lock:
            if self.process is not process:
                return  # another request was first
            if code is None:
                raise error
            self._ready.clear()
            try:
                await self._start_again(code)
            finally:
                self._ready.set()

    async def _start_again(self, code: int) -> None:
        """A new process, with the adapter that the old one had."""
        message = f"The server for {self._base} died ({describe_exit(code)}). {self._tail()}"
        if self._restarts == 0:
            raise BackendError(message, kind="server_died") from None
        self._restarts -= 1
        log.warning("%s\nStarting it again.", message)
        await self._end()  # what it started may live on
        await self.start()
        self._loaded.clear()
        self.model = self._http.model = self._base
        if self._adapter:
            await self._load(self._adapter)

    async def _end(self) -> None:
        """Ask the process to end, and kill what is left of its group after ten seconds."""
        if self.process is None:
            return
        with contextlib.suppress(TimeoutError, ProcessLookupError):
            if self.process.returncode is None:
                self.process.terminate()
                async with asyncio.timeout(GRACE):
                    await self.process.wait()
                    await _group_gone(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.process.wait()
                await _group_gone(self.process.pid)

    async def _wait_until_healthy(self, died: "asyncio.Task[int]") -> None:
        async with httpx.AsyncClient(timeout=2) as http:
            while True:
                if died.done():
                    code = describe_exit(died.result())
                    raise BackendError(
                        f"The server for {self._base} did not start ({code}). {self._tail()}", kind="server_died"
                    )
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(self._url + "/health")).status_code == 200:
                        return
                await asyncio.wait([died], timeout=self._poll)

    def _tail(self, lines: int = 15) -> str:
        text = self._log_file.read_text("utf-8", "replace").strip().splitlines()[-lines:]
        return "The end of its log:\n" + "\n".join(text) if text else "Its log is empty."


class SleepyEndpoint(LocalEndpoint):
    """A vLLM server, which gives its GPU memory back between `sleep` and `wake`; what asks it meanwhile wakes it."""

    def __init__(self, name: str, command: Sequence[str], **settings: Any) -> None:
        super().__init__(name, command, **settings)
        self._asleep = False
        self._waking = asyncio.Lock()

    async def start(self) -> None:
        await super().start()
        self._asleep = False

    async def sleep(self) -> None:
        """Move the weights to the CPU's memory and forget the cache; waits for no request."""
        if not self._asleep:
            await self._http.post("/sleep?level=1", {}, root=self._url)
            self._asleep = True

    async def wake(self) -> None:
        async with self._waking:
            if self._asleep:
                process = self.process
                try:
                    await self._http.post("/wake_up", {}, root=self._url)
                except BackendError as error:
                    await self._recover(process, error)
                self._asleep = False

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        await self.wake()
        return await super().complete(body, task)

    async def stream(self, body: dict[str, Any], task: Task) -> AsyncIterator[dict[str, Any]]:
        await self.wake()
        async for chunk in super().stream(body, task):
            yield chunk

    async def load_adapter(self, path: Path | None) -> None:
        await self.wake()
        await super().load_adapter(path)


async def _exit_code(process: asyncio.subprocess.Process | None) -> int | None:
    """The code, when the process ends within a second: its connections drop a little earlier."""
    assert process is not None
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(process.wait(), 1)
    return None


async def _group_gone(group: int) -> None:
    while any(_members(group)):
        await asyncio.sleep(0.05)


def _members(group: int) -> Iterator[int]:
    """The processes of a group that still run; zombies, which some containers never clear away, hold nothing."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, its_group = file.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                yield int(file.parent.name)


def served_name(model: str, folder: str) -> str:
    """What a server calls a model: its hub id, or the name of its folder."""
    return Path(folder).resolve().name if Path(model).expanduser().is_dir() else model


def describe_exit(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

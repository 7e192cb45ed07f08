"""A model server in a process of our own: started, watched, given adapters, started again once, ended for certain."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from guerdon.errors import BackendError
from guerdon_backends.endpoint import HttpEndpoint
from guerdon_backends.gpu_memory import GpuMemory
from guerdon_backends.running import RunningEndpoint

log = logging.getLogger("guerdon")

GRACE = 10.0
"""Seconds between asking a server to end and killing what is left of it."""
DYING = 60.0
"""Seconds that a server may take to end once it refuses or is not well: vLLM does when its engine has died."""

CAUSE = re.compile(r"\b[A-Z]\w*(?:Error|Exception): .+")
CONSEQUENCE = re.compile(r"initialization failed|See root cause above|See stack trace \(above\)|^SystemExit")
"""What a parent process says when its child has failed: true, and no help."""
ENGINE = re.compile(r"\((?:EngineCore|Worker)")
"""How the lines of vLLM's engines begin. Its server's own tell of bad requests too."""
NOISE = re.compile(r"nanobind|^ - (?:leaked |\.\.\. skipped)|resource_tracker|warnings\.warn\(")
"""What libraries say at any end."""


class LocalEndpoint(RunningEndpoint):
    """The endpoint and its process, which takes `--host` and `--port`, answers /health, and loads LoRA adapters.

    A server that dies is started once more, with its adapter.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: str,
        log_file: Path,
        start_timeout: float,
        env: Mapping[str, str] | None = None,
        key: str = "none",
        retries: int = 0,
        poll: float = 0.1,
    ) -> None:
        self.process: asyncio.subprocess.Process | None = None
        # Bound for as long as we are open and never listened on: no other program is given this port, and the server,
        # which sets SO_REUSEADDR too, can take it.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        host, port = self._port.getsockname()
        self._url = f"http://{host}:{port}"
        http = HttpEndpoint(self._url + "/v1", name, key, timeout=86400, retries=retries, token_ids=True)
        super().__init__(http, folder=folder)
        self._command = [*command, "--host", host, "--port", str(port)]
        self._env = {**os.environ, **(env or {})}
        self._log_file = log_file
        self._log_start = 0
        self._start_timeout = start_timeout
        self._poll = poll
        self._restarts = 1
        self._ending: asyncio.Task[int | None] | None = None
        self._memory = GpuMemory()

    async def start(self) -> None:
        """Start the process and wait until it is healthy.

        Raises:
            BackendError: it died, or was not ready in time; with the end of its log.
        """
        started = time.monotonic()
        log.info("starting the server for %s", self._base)
        await self._memory.before()
        self._starts += 1
        with self._log_file.open("ab") as printed:
            self._log_start = printed.tell()
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
        await self._memory.taken()
        log.info("%s is served at %s (%.1f s)", self._base, self._url, time.monotonic() - started)

    async def stop(self) -> None:
        """End the process and all that it started; on return the GPU memory that they held is free."""
        with contextlib.closing(self._port):
            try:
                await self._http.aclose()
            finally:
                await self._end()

    async def load_adapter(self, path: Path | None) -> None:
        starts = self._starts
        try:
            await super().load_adapter(path)
        except BackendError as error:
            await self._revive(starts, error)
            await super().load_adapter(path)

    async def _recover(self, starts: int, model: str, error: BackendError) -> None:
        if error.kind == "http_404":
            return await super()._recover(starts, model, error)
        await self._revive(starts, error)

    async def _revive(self, starts: int, error: BackendError) -> None:
        """Start the server again when it has died, once; many requests may find it dead at once."""
        code = None
        if self._starts == starts:
            if error.kind not in ("refused", "dropped") and not error.kind.startswith("http_5"):
                raise error
            if self._ending is None or self._ending.done():
                self._ending = asyncio.create_task(self._exit_code())
            code = await asyncio.shield(self._ending)
        async with self._lock:
            if self._starts != starts:
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

    async def _exit_code(self) -> int | None:
        """The code of a server that is ending, once it has: its connections drop earlier. None of one that is well."""
        assert self.process is not None
        died = asyncio.create_task(self.process.wait())
        try:
            async with httpx.AsyncClient(timeout=2) as http, asyncio.timeout(DYING):
                while not died.done() and not await self._healthy(http):
                    await asyncio.wait([died], timeout=self._poll)
        except TimeoutError:
            pass
        finally:
            died.cancel()
        return self.process.returncode

    async def _end(self) -> None:
        """Ask the process to end, kill what is left of its group after ten seconds, and see that its memory is free."""
        if self.process is None:
            return
        try:
            await self._memory.at_end(died=self.process.returncode is not None)
        finally:  # also where one is in a hurry
            await self._end_processes(self.process)
        if held := await self._memory.still_held(GRACE):
            log.warning("The server for %s has ended, and the GPU still holds memory: %s", self._base, held)

    async def _end_processes(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(TimeoutError, ProcessLookupError):
            if process.returncode is None:
                process.terminate()
                async with asyncio.timeout(GRACE):
                    await process.wait()
                    await _group_gone(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await process.wait()
                await _group_gone(process.pid)

    async def _wait_until_healthy(self, died: "asyncio.Task[int]") -> None:
        async with httpx.AsyncClient(timeout=2) as http:
            while True:
                if died.done():
                    code = describe_exit(died.result())
                    raise BackendError(
                        f"The server for {self._base} did not start ({code}). {self._tail()}", kind="server_died"
                    )
                if await self._healthy(http):
                    return
                await asyncio.wait([died], timeout=self._poll)

    async def _healthy(self, http: httpx.AsyncClient) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (await http.get(self._url + "/health")).status_code == 200
        return False

    def _tail(self, lines: int = 15) -> str:
        """What its log says since the last start: the cause, if one is to be seen further up, and the end."""
        log_text = self._log_file.read_bytes()[self._log_start :].decode("utf-8", "replace").strip()
        text = [line for line in log_text.splitlines() if not NOISE.search(line)]
        where = f" ({self._log_file})" if self._log_file.parent.name == "logs" else ""
        if not text:
            return f"Its log{where} is empty."
        telling = [line for line in text if ENGINE.match(line)] or text
        causes = [found[0] for line in telling if (found := CAUSE.search(line)) and not CONSEQUENCE.search(found[0])]
        above = f"Its log{where} says: {causes[-1]}\n" if causes and causes[-1] not in "\n".join(text[-lines:]) else ""
        return f"{above}The end of its log{where}:\n" + "\n".join(text[-lines:])


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
                starts = self._starts
                try:
                    await self._http.post("/wake_up", {}, root=self._url)
                except BackendError as error:
                    await self._revive(starts, error)
                self._asleep = False

    async def _until_ready(self) -> None:
        await self.wake()
        await super()._until_ready()


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

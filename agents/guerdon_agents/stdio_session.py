"""An MCP session over stdio, as far as an agent needs one: the server's tools, and calls of them.

The mcp package does the same for several milliseconds of CPU a call, and takes more than a second to import.

What is covered:
    Both eras of the protocol: the initialize handshake (2024-11-05 to 2025-11-25), and 2026-07-28, where every
    request carries its envelope, with servers that speak nothing else. Requests in flight at once, answered in any
    order; a deadline for each; `notifications/cancelled` for those that nobody waits for any longer. The server's
    pings are answered. It is stopped as the specification says: its input is closed, then SIGTERM, then SIGKILL.

What is not covered:
    Resources, prompts, sampling, roots, elicitation, tasks: no such capability is announced, so a server that asks
    for one is refused. Notifications (progress, logging, changed lists) are passed over.

Message formats: modelcontextprotocol.io/specification. POSIX only.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import guerdon
from guerdon_agents.session import Late, Lost, Refused

HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
ENVELOPE = "2026-07-28"

UNSUPPORTED_VERSION, NO_METHOD = -32022, -32601

INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""Variables that every server gets, as from the mcp package; a server from elsewhere is not shown our keys."""

GRACE_SECONDS = 2.0
"""For a server to end once its input is closed, and again once it is terminated."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Not to ASCII, which would let half a surrogate pair pass."""

log = logging.getLogger("guerdon")


class StdioSession(asyncio.SubprocessProtocol):
    """Use as an async context manager, then `list_tools` and `call_tool`, as `guerdon_agents.session` says.

    Raises:
        OSError: The command cannot be run.
        Lost: The server ended, or shares no version of the protocol with us.
    """

    def __init__(self, command: str, args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self._command = [command, *args]
        self._env = dict(env or {})
        self._loop = asyncio.get_running_loop()
        self._exited = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self._rest = b""
        self._closed = False
        self._envelope: dict[str, Any] = {}

    async def __aenter__(self) -> "StdioSession":
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._process, _ = await self._loop.subprocess_exec(
            lambda: self,
            *self._command,
            env=inherited | self._env,
            # not sys.stderr: in a notebook it is no file that a process could write to
            stderr=sys.__stderr__ or subprocess.DEVNULL,
            start_new_session=True,
        )
        self._input: Any = self._process.get_pipe_transport(0)
        try:
            await self._negotiate()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._input.close()
        try:
            for stop in (None, signal.SIGTERM, signal.SIGKILL):
                if stop:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._process.get_pid(), stop)
                await asyncio.wait([self._exited], timeout=GRACE_SECONDS)
                if self._exited.done():
                    break
        finally:
            with contextlib.suppress(ProcessLookupError):  # what a wrapper (npx, a shell) leaves behind, too
                os.killpg(self._process.get_pid(), signal.SIGKILL)
            self._process.close()
            self._lose()

    async def list_tools(self, seconds: float | None = None) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self._request("tools/list", dict(cursor), seconds)
            tools += page.get("tools", ())
            if not page.get("nextCursor"):
                return tools
            cursor = {"cursor": page["nextCursor"]}

    async def call_tool(self, name: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]:
        result = await self._request("tools/call", {"name": name, "arguments": arguments}, seconds)
        if result.get("resultType", "complete") != "complete":
            raise Refused(f"the tool asks for what is not offered here ({result['resultType']})")
        return result

    async def _negotiate(self) -> None:
        """The handshake first: servers of before 2026 know nothing else, and some end when asked anything else."""
        about = {"name": "guerdon", "version": guerdon.__version__}
        try:
            offer = {"protocolVersion": HANDSHAKE[0], "capabilities": {}, "clientInfo": about}
            version = (await self._request("initialize", offer)).get("protocolVersion")
        except Refused as refusal:
            if refusal.code not in (UNSUPPORTED_VERSION, NO_METHOD):
                raise Lost(str(refusal)) from None
            prefix = "io.modelcontextprotocol/"
            stamp = {"protocolVersion": ENVELOPE, "clientCapabilities": {}, "clientInfo": about}
            self._envelope = {"_meta": {prefix + key: value for key, value in stamp.items()}}
            return
        if version not in HANDSHAKE:
            raise Lost(f"it speaks version {version!r} of the protocol, which is not known here")
        self._send({"method": "notifications/initialized"})

    async def _request(self, method: str, params: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        if self._closed:
            raise Lost("Connection closed")
        self._count = number = self._count + 1
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._send({"id": number, "method": method, "params": params | self._envelope})
        self._waiting[number] = answer
        # cheaper than asyncio.timeout, which would go through this task's cancellation
        deadline = self._loop.call_later(seconds, _too_late, answer, seconds) if seconds else None
        try:
            return await answer
        finally:
            if deadline:
                deadline.cancel()
            if self._waiting.pop(number, None) and method != "initialize" and not self._closed:  # nobody waits any more
                self._send({"method": "notifications/cancelled", "params": {"requestId": number}})

    def _send(self, message: dict[str, Any]) -> None:
        if not self._input.is_closing():
            self._input.write(_encode({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = rest
            for line in lines:
                self._receive(line)
        else:
            self._rest += rest

    def _receive(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            method, number = message.get("method"), message.get("id")
        except (ValueError, AttributeError, RecursionError):
            if line.strip():
                log.debug("an MCP server wrote what is no message: %r", line[:200])
            return
        if method is None:
            self._answered(number, message)
        elif number is not None:
            refusal = {"code": NO_METHOD, "message": "Method not found"}
            self._send({"id": number, **({"result": {}} if method == "ping" else {"error": refusal})})

    def _answered(self, number: Any, message: dict[str, Any]) -> None:
        answer = self._waiting.pop(number, None) if isinstance(number, int) else None
        if answer is None or answer.done():  # it came too late
            return
        result, error = message.get("result"), message.get("error")
        if isinstance(result, dict):
            answer.set_result(result)
        elif isinstance(error, dict):
            answer.set_exception(Refused(str(error.get("message")), error.get("code")))
        else:
            answer.set_exception(Refused("the server's answer has neither a result nor an error"))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._lose()

    def process_exited(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)

    def _lose(self) -> None:
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(Lost("Connection closed"))


def _too_late(answer: "asyncio.Future[dict[str, Any]]", seconds: float) -> None:
    if not answer.done():
        answer.set_exception(Late(f"timed out after {seconds:g} s"))

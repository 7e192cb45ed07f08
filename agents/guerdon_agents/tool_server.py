"""One MCP server that many rollouts share: started once, restarted once when it dies, stopped for certain.

An MCP session must be opened and closed in one asyncio task (its cancel scopes belong to it), while rollouts come
and go in tasks of their own; so each connection has a keeper task that does both. A call that loses its server
restarts it, or finds it restarted by another rollout, and is repeated where the tool is declared read-only or
idempotent. A server that does not answer in time counts as lost, but its call is not repeated.

Nothing here knows an agent framework.
"""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TextIO, cast

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, Tool

from guerdon.errors import AgentError, ComponentError, near_miss

START_SECONDS = 60.0
"""How long a server may take to answer for the first time."""

_KEYS = {"name", "command", "args", "env", "url", "headers"}

log = logging.getLogger("guerdon")

Connect = Callable[[], Client]


def calculator() -> tuple[str, Connect]:
    """guerdon's own calculator, as a process of this interpreter."""
    # mcp hands on few variables; an interpreter that was told where its packages are has to hear it again
    env = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    args = ["-m", "guerdon_agents.calculator"]
    return from_settings({"name": "calculator", "command": sys.executable, "args": args, "env": env})


def from_settings(spec: Mapping[str, Any]) -> tuple[str, Connect]:
    """A server's name, and what makes a client of it: {command, args, env} (stdio) or {url, headers} (HTTP).

    Raises:
        ComponentError: the description has an unknown key, or not exactly one of command and url.
    """
    for key in spec:
        if key not in _KEYS:
            raise ComponentError(f"mcp_servers: unknown key {key!r}.{near_miss(key, _KEYS)}")
    if ("command" in spec) == ("url" in spec):
        given = ", ".join(spec) or "none"  # without the values: there are secrets among them
        raise ComponentError(f"mcp_servers: give one of command and url, got the keys: {given}")
    name = str(spec.get("name") or spec.get("command") or spec.get("url"))
    if "url" in spec:
        return name, lambda: Client(_http(spec["url"], spec.get("headers")))
    parameters = StdioServerParameters(command=spec["command"], args=spec.get("args", []), env=spec.get("env"))
    # not sys.stderr: in a notebook it is no file that a process could write to
    errors = cast(TextIO, sys.__stderr__)
    return name, lambda: Client(stdio_client(parameters, errors))


@asynccontextmanager
async def _http(url: str, headers: Mapping[str, str] | None) -> AsyncIterator[Any]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    # no read timeout: the session has its own, and an event stream is silent between calls
    timeout = httpx2.Timeout(30.0, read=None)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, follow_redirects=True) as http,
        streamable_http_client(url, http_client=http) as streams,
    ):
        yield streams


class ToolServer:
    """Use as an async context manager; `tools` is what the server offers, `call` runs one of them.

    `timeout` is how many seconds a call may take.

    Raises:
        AgentError: (kind tool_server) the server does not start or answer, or died twice under one call.
    """

    def __init__(self, name: str, connect: Connect, *, timeout: float) -> None:
        self.name = name
        self.tools: list[Tool] = []
        self._connect = connect
        self._timeout = timeout
        self._connections: list[_Connection] = []  # the last one is in use
        self._opening = asyncio.Lock()
        self._ended = False

    async def __aenter__(self) -> "ToolServer":
        try:
            await self._connection()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        for connection in self._connections:
            connection.stop()
        await _all_done(connection.keeper for connection in self._connections)

    async def call(self, tool: Tool, arguments: dict[str, Any]) -> str:
        """The tool's result as text; a refusal by tool or server is text too, for the model to read."""
        for last_try in (False, True):
            connection = await self._connection()
            lost: Exception
            try:
                result = await connection.client.call_tool(tool.name, arguments, read_timeout_seconds=self._timeout)
                return _text(result)
            except MCPError as error:
                if error.code not in (CONNECTION_CLOSED, REQUEST_TIMEOUT):
                    return f"Error: {error.message}"
                lost = error
            except Exception as error:  # whatever the transport raises: this session is not to be trusted
                lost = error
            if not connection.stopped:
                log.warning("MCP server %r is lost (%s) and will be restarted", self.name, _reason(lost))
                connection.stop()
            late = isinstance(lost, MCPError) and lost.code == REQUEST_TIMEOUT
            if last_try or late or not _repeatable(tool):
                break
        raise self._error(f"failed in a call of {tool.name!r}", lost)

    async def _connection(self) -> "_Connection":
        """The one in use; a new one if that was stopped. However many rollouts ask, one opens it."""
        async with self._opening:
            if self._ended:  # or a rollout that outlives us would start a server that nobody stops
                raise AgentError(f"MCP server {self.name!r} was shut down", kind="tool_server")
            if not self._connections or self._connections[-1].stopped:
                await self._open()
            return self._connections[-1]

    async def _open(self) -> None:
        connection = _Connection(self._connect)
        self._connections.append(connection)
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(connection.opened)
                self.tools = self.tools or await _all_tools(connection.client)
        except TimeoutError as error:
            connection.stop()
            raise self._error(f"did not answer within {START_SECONDS:.0f} s", error) from None
        except Exception as error:
            connection.stop()
            raise self._error("did not start", error) from None
        except BaseException:
            connection.stop()
            raise

    def _error(self, what: str, error: BaseException) -> AgentError:
        return AgentError(f"MCP server {self.name!r} {what}: {_reason(error)}", kind="tool_server")


class _Connection:
    """A client and its keeper, the task that opens and closes it."""

    def __init__(self, connect: Connect) -> None:
        self.client = connect()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped = False
        self._stop = asyncio.Event()
        self.keeper = asyncio.create_task(self._keep())

    def stop(self) -> None:
        """Returns at once; the keeper's end is the server's."""
        self.stopped = True
        self._stop.set()
        if not self.opened.done():
            self.keeper.cancel()

    async def _keep(self) -> None:
        try:
            async with self.client:
                self.opened.set_result(None)
                await self._stop.wait()
        except Exception as error:
            if self.opened.done():
                log.debug("closing an MCP connection: %s", _reason(error))
            else:
                self.opened.set_exception(error)
                self.opened.exception()  # seen: whoever waited for it may have been cancelled
        finally:
            self.stopped = True
            self.opened.cancel()


async def _all_done(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Waits for tasks that end soon, also while being cancelled: else a server could outlive us."""
    pending, cancelled = set(tasks), None
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
            pending = {task for task in pending if not task.done()}
    if cancelled:
        raise cancelled


async def _all_tools(client: Client) -> list[Tool]:
    page = await client.list_tools()
    tools = page.tools
    while page.next_cursor:
        page = await client.list_tools(cursor=page.next_cursor)
        tools = tools + page.tools
    return tools


def _repeatable(tool: Tool) -> bool:
    hints = tool.annotations
    return bool(hints and (hints.read_only_hint or hints.idempotent_hint))


def _text(result: CallToolResult) -> str:
    return "\n".join(part.text if part.type == "text" else f"[{part.type}]" for part in result.content)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__

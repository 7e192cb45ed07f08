"""One MCP server that many rollouts share: started once, restarted once when it dies, stopped for certain.

An MCP session is opened and closed in one asyncio task (the mcp package's cancel scopes belong to it), while rollouts
come and go in tasks of their own; so each connection has a keeper task that does both. A call that loses its server
restarts it, or finds it restarted by another rollout, and is repeated where the tool is declared read-only or
idempotent. A server that does not answer in time counts as lost, but its call is not repeated.

Nothing here knows an agent framework.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from guerdon.errors import AgentError, ComponentError, near_miss
from guerdon_agents.session import HttpSession, Late, Refused, Session, text_of
from guerdon_agents.stdio_session import StdioSession

START_SECONDS = 60.0
"""How long a server may take to answer for the first time."""

_KEYS = {"name", "command", "args", "env", "url", "headers"}

log = logging.getLogger("guerdon")

Connect = Callable[[], Session]


@dataclass(frozen=True)
class Tool:
    """A tool of a running server. `schema` is the JSON schema of its arguments."""

    server: "ToolServer"
    name: str
    description: str
    schema: dict[str, Any]
    repeatable: bool

    async def __call__(self, arguments: str) -> str:
        """Its result for arguments as the model wrote them, or what is wrong with those: text for the model to read.

        Raises:
            AgentError: (kind tool_server) the server failed.
        """
        try:
            parsed = json.loads(arguments or "{}")
            if isinstance(parsed, dict):
                return await self.server.call(self, parsed)
        except (ValueError, RecursionError):  # among them a half surrogate pair, which cannot be sent
            pass
        return f"Error: the arguments of {self.name} must be a JSON object."


@asynccontextmanager
async def tools_of(mcp_servers: Sequence[Mapping[str, Any]], *, timeout: float) -> AsyncIterator[dict[str, Tool]]:
    """The tools of guerdon's calculator and of these servers, by name; the servers run as long as the context is open.

    Raises:
        ComponentError: a server is described wrongly, or two offer a tool of one name.
        AgentError: (kind tool_server) one does not start.
    """
    offered = [calculator(), *(from_settings(spec) for spec in mcp_servers)]
    async with AsyncExitStack() as stack:
        tools: dict[str, Tool] = {}
        for name, connect in offered:
            server = await stack.enter_async_context(ToolServer(name, connect, timeout=timeout))
            for tool in server.tools:
                if tool.name in tools:
                    both = f"{tools[tool.name].server.name!r} and {name!r}"
                    raise ComponentError(f"mcp_servers: {both} both offer a tool named {tool.name!r}")
                tools[tool.name] = tool
        yield tools


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
        if find_spec("mcp") is None:
            raise ComponentError("mcp_servers: for a server at a URL, install the extra: pip install 'guerdon[agents]'")
        return name, lambda: HttpSession(spec["url"], spec.get("headers"))
    return name, lambda: StdioSession(spec["command"], spec.get("args", ()), spec.get("env"))


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
                return text_of(await connection.session.call_tool(tool.name, arguments, self._timeout))
            except Refused as refusal:
                return f"Error: {refusal}"
            except (UnicodeError, RecursionError):  # the arguments cannot be written as JSON
                raise
            except Exception as error:  # whatever the transport raises: this session is not to be trusted
                lost = error
            if not connection.stopped:
                log.warning("MCP server %r is lost (%s) and will be restarted", self.name, _reason(lost))
                connection.stop()
            if last_try or isinstance(lost, Late) or not tool.repeatable:
                break
        raise self._error(f"failed in a call of {tool.name!r}", lost)

    async def _connection(self) -> "_Connection":
        """The one in use; a new one if that was stopped. However many rollouts ask, one opens it."""
        if self._connections and self._connections[-1].ready:
            return self._connections[-1]
        async with self._opening:
            if self._ended:  # or a rollout that outlives us would start a server that nobody stops
                raise AgentError(f"MCP server {self.name!r} was shut down", kind="tool_server")
            if not self._connections or self._connections[-1].stopped:
                await self._open()
            return self._connections[-1]

    async def _open(self) -> None:
        connection = _Connection(self._connect)
        self._connections = [*(c for c in self._connections if not c.keeper.done()), connection]
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(connection.opened)
                self.tools = self.tools or [self._tool(t) for t in await connection.session.list_tools()]
        except TimeoutError as error:
            connection.stop()
            raise self._error(f"did not answer within {START_SECONDS:.0f} s", error) from None
        except Exception as error:
            connection.stop()
            raise self._error("did not start", error) from None
        except BaseException:
            connection.stop()
            raise

    def _tool(self, offered: Mapping[str, Any]) -> Tool:
        hints = offered.get("annotations") or {}
        repeatable = bool(hints.get("readOnlyHint") or hints.get("idempotentHint"))
        return Tool(self, offered["name"], offered.get("description") or "", offered["inputSchema"], repeatable)

    def _error(self, what: str, error: BaseException) -> AgentError:
        return AgentError(f"MCP server {self.name!r} {what}: {_reason(error)}", kind="tool_server")


class _Connection:
    """A session and its keeper, the task that opens and closes it."""

    def __init__(self, connect: Connect) -> None:
        self.session = connect()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped = False
        self._stop = asyncio.Event()
        self.keeper = asyncio.create_task(self._keep())

    @property
    def ready(self) -> bool:
        return not self.stopped and self.opened.done()

    def stop(self) -> None:
        """Returns at once; the keeper's end is the server's."""
        if not (self.stopped or self.opened.done()):
            self.keeper.cancel()  # once only: another would disturb its closing
        self.stopped = True
        self._stop.set()

    async def _keep(self) -> None:
        try:
            async with self.session:
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


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__

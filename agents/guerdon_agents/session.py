"""What an agent needs of an MCP server, whatever the transport: its tools, calls of them, and how these go wrong."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol


class Session(Protocol):
    """An MCP session, an async context manager. Tools and results are as in the protocol's JSON.

    Raises:
        Refused: The server answered a request with an error; the session goes on.
        Lost: There is no server any more.
        Late: (a Lost) It did not answer within so many seconds.
    """

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, *_: object) -> Any: ...

    async def list_tools(self, seconds: float | None = None) -> list[dict[str, Any]]: ...

    async def call_tool(self, name: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]: ...


class Lost(Exception):
    """The session is over."""


class Late(Lost):
    """No answer in time: the server may yet be busy with the request."""


class Refused(Exception):
    """The server's own error, for whoever asked; `code` is JSON-RPC's."""

    def __init__(self, message: str, code: Any = None) -> None:
        super().__init__(message)
        self.code = code


class HttpSession:
    """A server at a URL, through the mcp package's client."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        from mcp import Client

        self._client = Client(_http(url, headers))

    async def __aenter__(self) -> "HttpSession":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(None, None, None)

    async def list_tools(self, seconds: float | None = None) -> list[dict[str, Any]]:
        page = await self._client.list_tools()
        tools = page.tools
        while page.next_cursor:
            page = await self._client.list_tools(cursor=page.next_cursor)
            tools = tools + page.tools
        return [_json(tool) for tool in tools]

    async def call_tool(self, name: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        json.dumps(arguments, ensure_ascii=False).encode()  # half a surrogate pair is no reason to lose the session
        try:
            return _json(await self._client.call_tool(name, arguments, read_timeout_seconds=seconds))
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise Late(error.message) from None
            if error.code == CONNECTION_CLOSED:
                raise Lost(error.message) from None
            raise Refused(error.message, error.code) from None


def _json(model: Any) -> dict[str, Any]:
    data: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return data


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


def text_of(result: Mapping[str, Any]) -> str:
    """A tool's result as text for a model: its content, else its structured content.

    What is no text (an image, a sound, a link) is named in brackets.

    >>> text_of({"content": [{"type": "text", "text": "84"}, {"type": "image", "data": "..."}]})
    '84\\n[image]'
    """
    content = result.get("content")
    if content:
        text = "\n".join(map(_block, content))
    elif "structuredContent" in result:
        text = json.dumps(result["structuredContent"], ensure_ascii=False)
    else:
        text = ""
    # half a surrogate pair can be written in JSON, but neither be sent nor stored
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _block(block: Mapping[str, Any]) -> str:
    kind = block.get("type")
    text = (block.get("resource", {}) if kind == "resource" else block).get("text")
    if isinstance(text, str) and kind in ("text", "resource"):
        return text
    return f"[{kind} {block['uri']}]" if "uri" in block else f"[{kind}]"

"""The gateway: an OpenAI-compatible endpoint on loopback, for agents of any framework.

Each rollout has a key of its own, which opens that rollout's recorder and nothing else. What is asked here and by
`policy.complete` is recorded alike.
"""

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from guerdon.errors import BackendError
from guerdon.policy import Endpoint
from guerdon.recorder import Recorder
from guerdon.task import Task

STATUS = {"timeout": 504, "http_400": 400, "http_401": 401, "http_404": 404, "http_422": 422, "http_429": 429}


class Gateway:
    """Hands out recorders, and serves those that are open."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._open: dict[str, Recorder] = {}

    @contextlib.contextmanager
    def recorder(self, endpoint: Endpoint, task: Task, sampling: Mapping[str, Any]) -> Iterator[Recorder]:
        """The policy of one rollout, served for as long as the context is open."""
        key = "rollout-" + secrets.token_urlsafe(16)
        recorder = Recorder(endpoint, task, sampling, base_url=self.base_url, api_key=key)
        self._open[key] = recorder
        try:
            yield recorder
        finally:
            del self._open[key]
            recorder.closed = True

    async def answer(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of the reply to a chat completion request."""
        recorder = self._open.get(key)
        if recorder is None:
            return 401, _error("this key belongs to no running rollout")
        if body.get("stream"):
            return 400, _error("the gateway does not stream: ask without `stream`")
        messages, tools = body.pop("messages", None), body.pop("tools", None) or []
        for name, value in (("messages", messages), ("tools", tools)):
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                return 400, _error(f"`{name}` is missing or no list of objects")
        body.pop("model", None)
        try:
            return 200, await recorder.complete(messages, tools=tools, **body)
        except BackendError as error:
            return STATUS.get(error.kind, 502), _error(str(error), error.kind)
        except Exception as error:  # the endpoint's fault: the rollout fails, not the gateway
            return 500, _error(f"{type(error).__name__}: {error}", "error")

    def models(self, key: str) -> tuple[int, dict[str, Any]]:
        recorder = self._open.get(key)
        if recorder is None:
            return 401, _error("this key belongs to no running rollout")
        card = {"id": recorder.model, "object": "model", "created": int(time.time()), "owned_by": "guerdon"}
        return 200, {"object": "list", "data": [card]}


def _error(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind}}


@asynccontextmanager
async def serve_gateway() -> AsyncIterator[Gateway]:
    """A gateway on a free port of 127.0.0.1, in this event loop."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    class Server(uvicorn.Server):
        """Leaves the signals alone: Ctrl-C is the engine's."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    listener = socket.create_server(("127.0.0.1", 0))
    gateway = Gateway(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")

    def key_of(request: Request) -> str:
        return request.headers.get("authorization", "").removeprefix("Bearer ").strip()

    async def chat(request: Request) -> JSONResponse:
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return JSONResponse(_error("the body is no JSON object"), 400)
        status, reply = await gateway.answer(key_of(request), body)
        return JSONResponse(reply, status)

    async def models(request: Request) -> JSONResponse:
        status, reply = gateway.models(key_of(request))
        return JSONResponse(reply, status)

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models)])
    config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield gateway
    finally:
        server.should_exit = True
        await serving
        listener.close()

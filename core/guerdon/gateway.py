"""The gateway: an OpenAI-compatible endpoint, for agents of any framework and for workers.

Each rollout has a key of its own, which opens that rollout's recorder and nothing else: what is asked here and by
`policy.complete` is recorded alike. The workers' token opens the endpoint itself (`Gateway.serve`), unrecorded: each
worker has a gateway of its own that records. A worker says whose rollout asks in the body's field `guerdon_task`
(`{"id", "prompt", "answer", "fields"}`, see `HttpEndpoint(hand_task=True)`); the field is taken out here.

At most `limit` requests are at the endpoint at a time, the others wait in order. A client that goes away, and a rollout
that is over, end what they asked. Errors are in OpenAI's shape, with guerdon's `kind` beside; the endpoint has tried
again what is worth it, so clients are told not to.
"""

import asyncio
import contextlib
import hashlib
import hmac
import resource
import secrets
import socket
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

from guerdon.errors import BackendError
from guerdon.fastjson import encoded, loads
from guerdon.policy import Endpoint
from guerdon.recorder import Recorder
from guerdon.streams import as_chunk
from guerdon.task import Task
from guerdon.wire import DONE, TASK_FIELD, event

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Headers = Sequence[tuple[bytes, bytes]]

COMPLETED = {"/v1/chat/completions": "messages", "/v1/completions": "prompt"}
"""By path, the field that is to be completed."""
IDS = ("prompt_token_ids", "token_ids")
STATUS = {"timeout": 504, "closed": 409}
"""Of kinds of errors; `http_404` has its own in it, and all others are 502."""

LONGEST = 64 << 20
"""Bytes of a request's body."""
LIMIT = 1000
"""Requests at the endpoint at a time."""
FILES = 65536
"""Open files of the process, where the system allows as many: hundreds of rollouts have two or three each."""
DEADLINE = 3600.0
"""Seconds for one request, waiting for its turn included; a rollout's own deadline is mostly shorter."""


class Gateway:
    """Hands out recorders, and serves those that are open: an ASGI app.

    `token` is the workers'; `more` has apps by the prefix of their paths, which they do not see.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        token: str = "",
        more: Mapping[str, App] | None = None,
    ) -> None:
        self.base_url = base_url
        self.token = token or secrets.token_urlsafe(24)
        self.more = dict(more or {})
        self.deadline = DEADLINE
        self.limit(LIMIT)
        self._open: dict[bytes, Recorder] = {}
        self._served: Endpoint | None = None
        self._served_model = ""

    def limit(self, count: int) -> None:
        """How many requests may be at the endpoint at a time, from now on."""
        self._turns = asyncio.Semaphore(count)

    def serve(self, endpoint: Endpoint | None, model: str = "") -> None:
        """What the workers' token opens from now on; `model` is the name that they see, default the endpoint's."""
        self._served, self._served_model = endpoint, model

    @contextlib.contextmanager
    def recorder(
        self, endpoint: Endpoint, task: Task, sampling: Mapping[str, Any], model: str = ""
    ) -> Iterator[Recorder]:
        """The policy of one rollout, served for as long as the context is open; `model` is its stable name."""
        key = "rollout-" + secrets.token_urlsafe(16)
        recorder = Recorder(endpoint, task, sampling, base_url=self.base_url, api_key=key, model=model)
        self._open[_digest(key.encode())] = recorder
        try:
            yield recorder
        finally:
            del self._open[_digest(key.encode())]
            recorder.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for prefix, app in self.more.items():
            if scope["path"].startswith(prefix + "/"):
                return await app({**scope, "path": scope["path"].removeprefix(prefix)}, receive, send)
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except _Gone:
            pass
        except BackendError as error:
            await answer.error(error)
        except Exception as error:  # the endpoint's fault: the rollout fails, not the gateway
            await answer.error(BackendError(f"{type(error).__name__}: {error}", kind="http_500"))
        return None

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        caller = self._caller(headers)
        if method == "GET" and path.startswith("/v1/models"):
            name = caller.model if isinstance(caller, Recorder) else self._served_model or caller.model
            card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "guerdon"}
            return await answer.whole({"object": "list", "data": [card]} if path == "/v1/models" else card)
        if method != "POST" or path not in COMPLETED:
            raise BackendError(f"there is no {method} {path} here", kind="http_404")
        body = await _body(receive)
        if COMPLETED[path] not in body:
            raise BackendError(f"`{COMPLETED[path]}` is missing or no list of objects", kind="http_400")
        async with _connected(receive), self._turn():
            if isinstance(caller, Recorder):
                await self._recorded(caller, body, answer)
            else:
                await self._passed_on(caller, body, answer)

    def _caller(self, headers: Mapping[bytes, bytes]) -> Recorder | Endpoint:
        """Whom a request's key opens."""
        key = headers.get(b"authorization", b"").removeprefix(b"Bearer ").strip()
        if recorder := self._open.get(_digest(key)):  # by its digest: how long a look-up takes tells nothing of a key
            return recorder
        if not hmac.compare_digest(key, self.token.encode()):
            raise BackendError("this key belongs to no running rollout", kind="http_401")
        if self._served is None:
            raise BackendError("no model is served at the moment", kind="http_503")
        return self._served

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.deadline) as deadline, self._turns:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise BackendError(f"no reply within the gateway's {self.deadline:g} s", kind="timeout") from None

    async def _recorded(self, recorder: Recorder, body: dict[str, Any], answer: "_Answer") -> None:
        if not body.get("stream"):
            return await answer.whole(_asked_for(await recorder.ask(body), body))
        usage = (body.get("stream_options") or {}).get("include_usage")
        async with aclosing(recorder.stream(body)) as chunks:
            async for chunk in chunks:
                if not usage and chunk.pop("usage", None) and not chunk["choices"]:
                    continue
                await answer.piece(event(_asked_for(chunk, body)))
        await answer.end(DONE)

    async def _passed_on(self, endpoint: Endpoint, body: dict[str, Any], answer: "_Answer") -> None:
        """A worker's request; read and written again only where the endpoint has no way around it."""
        try:
            task = Task(**body.pop(TASK_FIELD, {"id": "", "prompt": ""}))
        except TypeError as error:
            raise BackendError(f"`{TASK_FIELD}` is no task: {error}", kind="http_400") from None
        pieces, last = _pieces(endpoint, body, task)
        async with aclosing(pieces):
            if not body.get("stream"):
                return await answer.whole(b"".join([piece async for piece in pieces]))
            async for piece in pieces:
                await answer.piece(piece)
        await answer.end(last)


def _pieces(endpoint: Any, body: dict[str, Any], task: Task) -> tuple[AsyncGenerator[bytes, None], bytes]:
    """What an endpoint answers, as bytes, and what is still to be said after them."""
    if hasattr(endpoint, "raw"):
        return endpoint.raw(body, task), b""

    async def written() -> AsyncGenerator[bytes, None]:
        if not body.pop("stream", None):
            yield encoded(await endpoint.complete(body, task))
        elif not hasattr(endpoint, "stream"):
            yield event(as_chunk(await endpoint.complete(body, task)))
        else:
            async with aclosing(endpoint.stream(body, task)) as chunks:
                async for chunk in chunks:
                    yield event(chunk)

    return written(), DONE


class _Answer:
    """Says one reply to a client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def whole(self, data: bytes | dict[str, Any], status: int = 200, headers: Headers = ()) -> None:
        data = data if isinstance(data, bytes) else encoded(data)
        start = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data)), *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": start})
        await self._send({"type": "http.response.body", "body": data})

    async def piece(self, data: bytes, more: bool = True) -> None:
        """The next part of a stream, of which the status is said with the first."""
        if not self._begun:
            self._begun = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def end(self, last: bytes) -> None:
        await self.piece(last, more=False)

    async def error(self, error: BackendError) -> None:
        status = STATUS.get(error.kind, 502)
        if error.kind.startswith("http_") and error.kind[5:].isdigit():
            status = int(error.kind[5:])
        kind = "invalid_request_error" if status < 500 else error.kind
        said = {"error": {"message": str(error), "type": kind, "param": None, "code": None, "kind": error.kind}}
        if self._begun:
            return await self.piece(event(said), more=False)
        again = [(b"x-should-retry", b"false")] + [(b"connection", b"close")] * (status == 413)
        await self.whole(said, status, again)


def _asked_for(reply: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """A reply, or a chunk of one, without what only the record asked for."""
    ids, logprobs = body.get("return_token_ids"), body.get("logprobs") not in (None, False)
    if ids and logprobs:
        return reply
    choices = []
    for choice in reply["choices"]:
        kept = {name: value for name, value in choice.items() if ids or name not in IDS}
        choices.append(kept if logprobs else {**kept, "logprobs": None})
    return {name: value for name, value in reply.items() if ids or name not in IDS} | {"choices": choices}


async def _body(receive: Receive) -> dict[str, Any]:
    data, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        data += message.get("body", b"")
        more = message.get("more_body", False)
        if len(data) > LONGEST:
            raise BackendError(f"the body has more than {LONGEST} bytes", kind="http_413")
    try:
        body = loads(bytes(data))
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise BackendError("the body is no JSON object", kind="http_400")
    return body


class _Gone(Exception):
    """The client is."""


@asynccontextmanager
async def _connected(receive: Receive) -> AsyncIterator[None]:
    """What runs inside is cancelled when the client goes away. Raises _Gone."""
    answering, gone = asyncio.current_task(), False
    assert answering

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        answering.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        answering.uncancel()
        raise _Gone from None
    finally:
        watching.cancel()


class _Corked:
    """A transport that sends what is written in one turn of the event loop at once: system calls outweigh all else."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written: list[bytes] = []
        self._soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        if not self._written:
            self._soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._written:
            self._transport.write(b"".join(self._written))
            self._written.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _allow_files() -> None:
    """Connections are files, of which a shell mostly allows 1024 though the system allows more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FILES:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard) if hard >= 0 else FILES, hard))


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


@asynccontextmanager
async def serve_gateway(
    host: str = "127.0.0.1", port: int = 0, *, more: Mapping[str, App] | None = None, token: str = ""
) -> AsyncIterator[Gateway]:
    """A gateway in this event loop, on a free port unless one is given.

    Raises:
        BackendError: the address is taken or is none of this machine.
    """
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Server(uvicorn.Server):
        """Leaves the signals alone: Ctrl-C is the engine's."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(cast(asyncio.Transport, _Corked(transport)))

    _allow_files()
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise BackendError(f"cannot listen at {host} port {port}: {error.strerror or error}", kind="refused") from None
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    gateway = Gateway(f"http://{near}:{listener.getsockname()[1]}/v1", more=more, token=token)
    config = uvicorn.Config(
        gateway,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,  # clients close theirs sooner; a connection that closes under a request is an error
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not (server.started or serving.done()):
            await asyncio.sleep(0.005)
        yield gateway
    finally:
        server.should_exit = True
        await serving
        listener.close()

"""An ASGI app on uvicorn in this event loop, and what such an app needs: JSON bodies, replies, who has hung up."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any, cast

from guerdon.errors import BackendError
from guerdon.fastjson import encoded, loads
from guerdon.proxies import reach_directly
from guerdon.stopping import Stoppable
from guerdon.wire import event

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Headers = Sequence[tuple[bytes, bytes]]

STATUS = {"timeout": 504, "closed": 409}
"""Of kinds of errors; `http_404` has its own in it, and all others are 502."""
FILES = 65536
"""Open files of the process, where the system allows as many: hundreds of rollouts have two or three each."""
GONE = "guerdon.gone"
"""In a request's scope, what is to be called when its client goes away."""


class Gone(Exception):
    """The client is."""


async def read_json(receive: Receive, longest: int) -> dict[str, Any]:
    """A request's body of at most so many bytes, which is to be a JSON object.

    Raises:
        Gone: the client.
        BackendError: it is longer, or something else.
    """
    pieces, size, more = list[bytes](), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        more = message.get("more_body", False)
        if size > longest:
            raise BackendError(f"the body has more than {longest} bytes", kind="http_413")
    try:
        body = loads(b"".join(pieces))
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise BackendError("the body is no JSON object", kind="http_400")
    return body


@contextlib.contextmanager
def connected(scope: Scope, seconds: float) -> Iterator[None]:
    """What runs inside is ended when the client goes away, and after so many seconds.

    Raises:
        Gone: the client.
        BackendError: the time is over.
    """
    with Stoppable(seconds, BackendError(f"no reply within the gateway's {seconds:g} s", kind="timeout")) as call:
        scope[GONE] = lambda: call.stop(Gone())
        try:
            yield
        finally:
            del scope[GONE]


class Answer:
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


def listen(host: str, port: int = 0) -> socket.socket:
    """A socket that listens there, at a free port if it is 0.

    Raises:
        BackendError: the address is taken or is none of this machine.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise BackendError(f"cannot listen at {host} port {port}: {error.strerror or error}", kind="refused") from None


@contextlib.asynccontextmanager
async def served(app: App, host: str, port: int) -> AsyncIterator[str]:
    """Serve an app; yields the URL. The address and what it raises are those of `listen`."""
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Server(uvicorn.Server):
        """Leaves the signals alone: Ctrl-C is the engine's."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    class Protocol(HttpToolsProtocol):
        """Says who has gone, for which each request else had to wait in a task of its own."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            plain = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)  # uvloop corks by itself
            super().connection_made(cast(asyncio.Transport, _Corked(transport)) if plain else transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.cycle and (hang_up := cast(Scope, self.cycle.scope).get(GONE)):
                hang_up()

        def on_message_complete(self) -> None:
            super().on_message_complete()
            if not self.pipeline:
                self.flow.resume_reading()  # paused by a long body: nobody would hear that the client has gone

    _allow_files()
    reach_directly(host)
    listener = listen(host, port)
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    config = uvicorn.Config(
        app,
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
        yield f"http://{near}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()

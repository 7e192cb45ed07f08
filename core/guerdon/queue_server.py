"""The queue over HTTP: an ASGI application, mounted beside the engine's gateway and served by `guerdon serve`.

Every call is a POST of JSON to `/queue/<method of WorkQueue>`, and opened by one token.
"""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from guerdon.fastjson import dumps, loads
from guerdon.local_queue import as_text
from guerdon.queue import Item, Outcome, WorkQueue

log = logging.getLogger("guerdon")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

LONGEST_WAIT = 30.0


def queue_app(queue: WorkQueue, token: str) -> App:
    """The ASGI application for a queue."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
        method = scope["path"].rpartition("/")[2]
        if not hmac.compare_digest(given, token.encode()):
            status, answer = 401, {"error": "this token does not open the queue: GUERDON_TOKEN must be the queue's own"}
        elif scope["method"] != "POST" or method not in CALLS:
            status, answer = 404, {"error": "there is no such call"}
        elif (data := await _body(receive)) is None:
            return
        else:
            status, answer = await _answer(queue, method, data, receive)
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": dumps(answer).encode()})

    return app


async def _answer(queue: WorkQueue, method: str, data: bytes, receive: Receive) -> tuple[int, Any]:
    gone = asyncio.ensure_future(receive())  # the body has been read: what comes now is that the caller is gone
    try:
        call = asyncio.ensure_future(CALLS[method](queue, loads(data)))
        await asyncio.wait((call, gone), return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            call.cancel()
            return 400, {}
        return 200, call.result()
    except (ValueError, KeyError, TypeError) as error:
        return 400, {"error": f"{type(error).__name__}: {error}"}
    except Exception as error:  # a full disk, say: the caller tries again
        log.warning("the queue failed: %s: %s", type(error).__name__, error)
        return 500, {"error": f"{type(error).__name__}: {error}"}
    finally:
        gone.cancel()


async def _lease(queue: WorkQueue, asked: Mapping[str, Any]) -> Any:
    """Each stage's spec is sent once."""
    leases = await queue.lease(asked["worker"], asked["count"], asked["seconds"], _wait(asked))
    return {"specs": {lease.stage: lease.spec for lease in leases}, "leases": [_tuple(lease)[1:] for lease in leases]}


def _tuple(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__slots__)


def _wait(asked: Mapping[str, Any]) -> float:
    return min(float(asked["wait"]), LONGEST_WAIT)


async def _results(queue: WorkQueue, asked: Mapping[str, Any]) -> Any:
    found = await queue.results(asked["stage"], asked["after"], _wait(asked))
    return [(*_tuple(r)[:-1], as_text(r.body)) for r in found]


CALLS: dict[str, Callable[[WorkQueue, Mapping[str, Any]], Coroutine[Any, Any, Any]]] = {
    "put": lambda queue, a: queue.put(a["stage"], a["spec"], [Item(*item) for item in a["items"]]),
    "lease": _lease,
    "beat": lambda queue, a: queue.beat(a["worker"], a["held"], a["seconds"]),
    "finish": lambda queue, a: queue.finish(a["worker"], [Outcome(*outcome) for outcome in a["outcomes"]]),
    "release": lambda queue, a: queue.release(a["worker"], a["keys"]),
    "results": _results,
    "cancel": lambda queue, a: queue.cancel(a["stage"]),
    "forget": lambda queue, a: queue.forget(a["stage"]),
    "counts": lambda queue, a: queue.counts(a["stage"]),
}


async def _body(receive: Receive) -> bytes | None:
    """A request's body; `None` when the caller went before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)

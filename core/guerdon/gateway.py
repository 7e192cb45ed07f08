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
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from guerdon.errors import BackendError
from guerdon.fastjson import encoded
from guerdon.http_server import Answer, App, Gone, Receive, Scope, Send, connected, read_json, served
from guerdon.policy import Endpoint
from guerdon.recorder import Recorder
from guerdon.streams import as_chunk
from guerdon.task import Task
from guerdon.wire import DONE, TASK_FIELD, event

COMPLETED = {"/v1/chat/completions": "messages", "/v1/completions": "prompt"}
"""By path, the field that is to be completed."""
IDS = ("prompt_token_ids", "token_ids")

LONGEST = 64 << 20
"""Bytes of a request's body."""
LIMIT = 1000
"""Requests at the endpoint at a time."""
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
        answer = Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except Gone:
            pass
        except BackendError as error:
            await answer.error(error)
        except Exception as error:  # the endpoint's fault: the rollout fails, not the gateway
            await answer.error(BackendError(f"{type(error).__name__}: {error}", kind="http_500"))
        return None

    async def _answer(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        caller = self._caller(headers)
        if method == "GET" and path.startswith("/v1/models"):
            name = caller.model if isinstance(caller, Recorder) else self._served_model or caller.model
            card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "guerdon"}
            return await answer.whole({"object": "list", "data": [card]} if path == "/v1/models" else card)
        if method != "POST" or path not in COMPLETED:
            raise BackendError(f"there is no {method} {path} here", kind="http_404")
        body = await read_json(receive, LONGEST)
        if COMPLETED[path] not in body:
            raise BackendError(f"`{COMPLETED[path]}` is missing or no list of objects", kind="http_400")
        reply = self._recorded if isinstance(caller, Recorder) else self._passed_on
        with connected(scope, self.deadline):
            async with self._turns:
                await reply(caller, body, answer)  # type: ignore[arg-type]

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

    async def _recorded(self, recorder: Recorder, body: dict[str, Any], answer: Answer) -> None:
        if not body.get("stream"):
            return await answer.whole(_asked_for(await recorder.ask(body), body))
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        async with aclosing(recorder.stream(body)) as batches:
            async for chunks in batches:
                said = [c for c in chunks if usage or c["choices"] or not c.get("usage")]
                if said:
                    await answer.piece(b"".join([event(_asked_for(chunk, body, usage)) for chunk in said]))
        await answer.end(DONE)

    async def _passed_on(self, endpoint: Endpoint, body: dict[str, Any], answer: Answer) -> None:
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


def _asked_for(reply: dict[str, Any], body: Mapping[str, Any], usage: bool = True) -> dict[str, Any]:
    """A reply, or a chunk of one, without what only the record asked for."""
    ids, logprobs = body.get("return_token_ids"), body.get("logprobs")
    logprobs = logprobs is not None and logprobs is not False  # 0 asks for those of the sampled tokens
    if not (ids and logprobs):
        choices = []
        for choice in reply["choices"]:
            kept = choice.copy()
            if not ids:
                for name in IDS:
                    kept.pop(name, None)
            if not logprobs:
                kept["logprobs"] = None
            choices.append(kept)
        reply = {**reply, "choices": choices}
        if not ids:
            for name in IDS:
                reply.pop(name, None)
    if not usage:
        reply.pop("usage", None)
    return reply


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
    gateway = Gateway(more=more, token=token)
    async with served(gateway, host, port) as url:
        gateway.base_url = url + "/v1"
        yield gateway

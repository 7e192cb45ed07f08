"""An OpenAI-compatible endpoint over HTTP: deadlines, retries, and errors that say what to do.

The thin path: one pooled aiohttp session, bodies written and read as they are. A call costs a third of a millisecond of
CPU time; by the official client it is five.
"""

import asyncio
import email.utils
import io
import itertools
import json
import os
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from guerdon.errors import BackendError, counted
from guerdon.fastjson import encoded, loads
from guerdon.proxies import proxy_for
from guerdon.stopping import Stoppable
from guerdon.streams import as_chunk
from guerdon.task import Task
from guerdon.wire import DONE, TASK_FIELD, Events, event

T = TypeVar("T")

LONGEST_WAIT = 30.0
"""Seconds between two attempts at most, whatever Retry-After asks for."""

KEPT_OPEN = 4.0
"""Seconds that an idle connection is kept: uvicorn, and so vLLM, closes it after five, maybe under the next request."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes


class Passing(BackendError):
    """Trouble that another attempt may not meet; `wait` is what the server asked for, in seconds."""

    wait: float | None = None


class HttpEndpoint:
    """Chat and text completions from `base_url` (which ends in /v1), as `guerdon.policy.Endpoint` asks for them.

    `timeout` bounds one attempt in seconds, the whole reply included, or the time between two pieces of a stream.
    429, 5xx and dropped connections are tried again up to `retries` times, a stream until it has begun; a refused
    connection, a timeout, other 4xx, and what a server says is in vain (`x-should-retry: false`) are not.
    `token_ids` asks for token ids, as vLLM and guerdon's own server give them, and for logprobs while the attribute
    `logprobs` is true. The attribute `extra` goes into each body. `key_env` is named in
    messages about a refused key. `hand_task` sends the asking rollout's task along, in the body's field `guerdon_task`:
    for a worker, whose server is the engine's gateway.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str,
        *,
        timeout: float,
        retries: int,
        token_ids: bool,
        key_env: str = "",
        hand_task: bool = False,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.timeout = timeout
        self.retries = retries
        self.token_ids = token_ids
        self.logprobs = True
        self.extra: dict[str, Any] = {}
        self.key_env = key_env
        self.hand_task = hand_task
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._opened: aiohttp.ClientSession | None = None

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        """The response's body. Raises BackendError: refused, timeout, http_<status>, dropped, broken_reply."""
        reply = await self._post(*self._request(body, task))
        return parsed(reply.content, reply.url)

    async def stream(self, body: dict[str, Any], task: Task) -> AsyncIterator[dict[str, Any]]:
        """The response's chunks as they come. What a server that does not stream answers is one chunk.

        Raises BackendError as `complete` does.
        """
        async with aclosing(self.batches(body, task)) as batches:
            async for chunks in batches:
                for chunk in chunks:
                    yield chunk

    async def batches(self, body: dict[str, Any], task: Task) -> AsyncGenerator[list[dict[str, Any]], None]:
        """As `stream`, but those chunks at once that come at once: each step up to the agent costs."""
        path, data = self._request({**body, "stream": True}, task)
        events, url = Events(), self.base_url + path
        reply = await self._begun(url, data)
        try:
            if not _streams(reply):
                yield [as_chunk(parsed(await self._read(url, reply.read()), url))]
                return
            while piece := await self._read(url, reply.content.readany()):
                for chunks in _chunks(events.read(piece), url):
                    yield chunks
            for chunks in _chunks(events.end(), url):
                yield chunks
        finally:
            reply.close()  # unless it has been read to its end, the server is told to stop

    async def raw(self, body: dict[str, Any], task: Task) -> AsyncIterator[bytes]:
        """The response as the server sends it, in pieces, unread: server-sent events if the body asks for a stream.

        Raises BackendError as `complete` does, but for replies that are none.
        """
        path, data = self._request(body, task)
        if not body.get("stream"):
            yield (await self._post(path, data)).content
            return
        url = self.base_url + path
        reply = await self._begun(url, data)
        try:
            if not _streams(reply):
                yield event(as_chunk(parsed(await self._read(url, reply.read()), url))) + DONE
                return
            while piece := await self._read(url, reply.content.readany()):
                yield piece
        finally:
            reply.close()

    async def load_adapter(self, path: Path | None) -> None:
        if path is not None:
            raise BackendError(
                f"{self.base_url} serves only the models that the remote server has: "
                f"the adapter {path} cannot be sent there. "
                "Serve the model locally (backend: transformers) to train it.",
                kind="no_adapters",
            )

    async def check(self, timeout: float = 5.0) -> None:
        """Fail now when nobody listens at the URL or the key is refused; a server need not have /models."""
        reply = await self._send("GET", self.base_url + "/models", None, timeout)
        if reply.status in (401, 403):
            raise self._refusal(reply)

    async def post(self, path: str, body: dict[str, Any], *, root: str = "") -> Reply:
        """POST with retries, to the base URL or another root; the reply is a 200."""
        return await self._post(path, encoded(body), root)

    async def aclose(self) -> None:
        if self._opened:
            await self._opened.close()

    def _request(self, body: dict[str, Any], task: Task) -> tuple[str, bytes]:
        """Where a request goes, and its body as it is sent."""
        path, body = "/chat/completions", {**self.extra, **body, "model": self.model}
        if also := self.extra.get("stop_token_ids"):
            body["stop_token_ids"] = sorted({*(body["stop_token_ids"] or []), *also})
        if "prompt" in body:
            path = "/completions"
            body.pop("chat_template", None)
        if self.token_ids:
            body["return_token_ids"] = True
        if self.token_ids and self.logprobs:
            body["logprobs"] = (body.get("logprobs") or 0) if "prompt" in body else True
        if self.hand_task:
            body[TASK_FIELD] = {"id": task.id, "prompt": task.prompt, "answer": task.answer, "fields": task.fields}
        return path, encoded(body)

    async def _post(self, path: str, data: bytes, root: str = "") -> Reply:
        async def once(attempt: int) -> Reply:
            reply = await self._send("POST", (root or self.base_url) + path, data, self.timeout)
            if reply.status != 200:
                raise self._refusal(reply, attempt)
            return reply

        return await self._tried(once)

    async def _begun(self, url: str, data: bytes) -> aiohttp.ClientResponse:
        """A 200, whose body is still to be read; to be closed."""
        quiet = aiohttp.ClientTimeout(connect=self.timeout, sock_read=self.timeout)

        async def once(attempt: int) -> aiohttp.ClientResponse:
            try:
                reply = await self._session.post(url, data=_sent(data), timeout=quiet)
                if reply.status == 200:
                    return reply
                found = Reply(url, reply.status, reply.headers, await reply.read())
            except TROUBLE as error:
                raise self._trouble(url, error, self.timeout) from None
            raise self._refusal(found, attempt)

        return await self._tried(once)

    async def _read(self, url: str, coming: Awaitable[bytes]) -> bytes:
        try:
            return await coming
        except TROUBLE as error:
            raise self._trouble(url, error, self.timeout) from None

    async def _tried(self, once: Callable[[int], Awaitable[T]]) -> T:
        for attempt in itertools.count(1):
            try:
                return await once(attempt)
            except Passing as error:
                if attempt > self.retries:
                    raise
                wait = backoff(attempt - 1) if error.wait is None else min(error.wait, LONGEST_WAIT)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def _send(self, method: str, url: str, data: bytes | None, timeout: float) -> Reply:
        try:
            with Stoppable(timeout, TimeoutError()):
                async with self._session.request(method, url, data=data and _sent(data)) as reply:
                    return Reply(url, reply.status, reply.headers, await reply.read())
        except TROUBLE as error:
            raise self._trouble(url, error, timeout) from None

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:  # now that there is an event loop
            self._opened = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=1000, keepalive_timeout=KEPT_OPEN, ssl=_trust(self.base_url)),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # `timeout` bounds the whole attempt
                proxy=proxy_for(self.base_url),
                middlewares=(),
            )
        return self._opened

    def _trouble(self, url: str, error: Exception, timeout: float) -> BackendError:
        """What the HTTP client raised, as a BackendError."""
        if isinstance(error, TimeoutError):
            return BackendError(
                f"No answer from {url} within {timeout:g} s. The server hangs or is overloaded: look at its log, raise "
                "the backend's `timeout`, or run fewer rollouts at once.",
                kind="timeout",
            )
        if isinstance(error, aiohttp.InvalidURL):
            return BackendError(f"{url!r} is not a URL to post to ({error}). Check `base_url`.", kind="refused")
        if isinstance(error, aiohttp.ClientConnectorError):
            return BackendError(
                f"Cannot connect to {url} ({error.os_error}). Is the server running there?", kind="refused"
            )
        return Passing(
            f"The connection to {url} was dropped ({str(error) or type(error).__name__}). "
            "Did the server crash? Look at its log.",
            kind="dropped",
        )

    def _refusal(self, reply: Reply, attempts: int = 1) -> BackendError:
        status, said = reply.status, error_of(reply.content)
        if isinstance(kind := said.get("kind"), str):  # a gateway of guerdon's, which has tried it all
            return BackendError(str(said.get("message")), kind=kind)
        again = (status == 429 or status >= 500) and reply.headers.get("x-should-retry") != "false"
        hint = ""
        if status in (401, 403):
            source = f"environment variable {self.key_env}" if self.key_env else "backend's settings"
            hint = f" The key comes from the {source}: is it set, and right for this URL?"
        elif status == 404 and reply.url.endswith("/completions"):
            hint = f" Does the server know the model {self.model!r}, and does its base URL end in /v1?"
        elif again:
            hint = f" Gave up after {counted(attempts, 'attempt')}."
        words = excerpt(str(said.get("message") or reply.content.decode("utf-8", "replace")))
        error = (Passing if again else BackendError)(
            f"{reply.url} answered {status}: {words}{hint}", kind=f"http_{status}"
        )
        if isinstance(error, Passing):
            error.wait = retry_after(reply.headers.get("retry-after", ""))
        return error


TROUBLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What the HTTP client raises."""


def _streams(reply: aiohttp.ClientResponse) -> bool:
    return "event-stream" in reply.headers.get("content-type", "")


def _sent(data: bytes) -> bytes | io.BytesIO:
    """A body as aiohttp wants it: above 1 MiB a file, or it warns."""
    return data if len(data) <= 1 << 20 else io.BytesIO(data)


def _trust(url: str) -> ssl.SSLContext | bool:
    """Whom to trust, where the URL is an https one: reading the certificates takes 50 ms."""
    if not url.startswith("https:"):
        return True
    import certifi

    given = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context() if given else ssl.create_default_context(cafile=certifi.where())


def _chunks(found: Iterable[bytes], url: str) -> Iterator[list[dict[str, Any]]]:
    """All at once, if there are any; and those before an error, before it is raised."""
    chunks: list[dict[str, Any]] = []
    try:
        for data in found:
            chunks.append(_chunk(data, url))
    except BackendError:
        if chunks:
            yield chunks
        raise
    if chunks:
        yield chunks


def _chunk(data: bytes, url: str) -> dict[str, Any]:
    chunk = parsed(data, url, chunk=True)
    if error := chunk.get("error"):
        said = error if isinstance(error, dict) else {"message": error}
        if isinstance(kind := said.get("kind"), str):
            raise BackendError(str(said.get("message")), kind=kind)
        raise BackendError(f"{url} failed: {excerpt(str(said.get('message') or error))}", kind="http_500")
    return chunk


def parsed(data: bytes, url: str, *, chunk: bool = False) -> dict[str, Any]:
    """A completion; or a chunk of one, which may have no choices, or an error in their place.

    Raises:
        BackendError: it is none.
    """
    try:
        result: dict[str, Any] = loads(data)
        choices = [] if chunk and result.get("error") else result["choices"]
    except (ValueError, KeyError, TypeError, AttributeError):
        choices = None
    if not isinstance(choices, list) or not (choices or chunk) or not all(isinstance(c, dict) for c in choices):
        what = "chat completion" if url.endswith("/chat/completions") else "completion"
        raise BackendError(
            f"{url} answered 200, but not with a {what}: {excerpt(data.decode('utf-8', 'replace'))} "
            "Is this the base URL of an OpenAI-compatible server?",
            kind="broken_reply",
        )
    return result


def error_of(data: bytes) -> dict[str, Any]:
    """OpenAI's `error` in a body: its message and more; empty when there is none."""
    try:
        error = loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def excerpt(text: str, length: int = 300) -> str:
    """The start of a foreign text, quoted on one line.

    >>> excerpt("a\\nb")
    '"a b".'
    """
    line = " ".join(text.split())
    return json.dumps(line[:length] + ("…" if len(line) > length else ""), ensure_ascii=False) + "."


def backoff(attempt: int) -> float:
    """Seconds to wait before the next attempt: 0.5, 1, 2 ... with a random half, so that clients spread."""
    return min(LONGEST_WAIT, 0.5 * 2.0**attempt) * (0.5 + random.random() / 2)


def retry_after(header: str) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date.

    >>> retry_after("2"), retry_after("soon"), retry_after("")
    (2.0, None, None)
    """
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None

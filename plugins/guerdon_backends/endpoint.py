"""An OpenAI-compatible chat endpoint over HTTP: deadlines, retries, and errors that say what to do."""

import asyncio
import email.utils
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from guerdon.errors import BackendError, counted
from guerdon.task import Task

LONGEST_WAIT = 30.0
"""Seconds between two attempts at most, whatever Retry-After asks for."""


class HttpEndpoint:
    """Chat completions from `base_url` (which ends in /v1), as `guerdon.policy.Endpoint` asks for them.

    `timeout` bounds one attempt in seconds, the whole reply included. 429, 5xx and dropped connections are tried again
    up to `retries` times; a refused connection, a timeout and other 4xx are not. `token_ids` asks for token ids and
    logprobs, as vLLM and guerdon's own server give them. `key_env` is named in messages about a refused key.
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
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.timeout = timeout
        self.retries = retries
        self.token_ids = token_ids
        self.key_env = key_env
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=None,  # `timeout` bounds the whole attempt
            limits=httpx.Limits(max_connections=1000, max_keepalive_connections=1000),
        )

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        """The response's body. Raises BackendError: refused, timeout, http_<status>, dropped, broken_reply."""
        body = {**body, "model": self.model}
        if self.token_ids:
            body |= {"return_token_ids": True, "logprobs": True}
        reply = await self.post("/chat/completions", body)
        return parsed(reply.content, reply.url)

    async def stream(self, body: dict[str, Any], task: Task) -> AsyncIterator[dict[str, Any]]:
        """The response's chunks as they come; nothing is tried again, and `timeout` is between two of them.

        What a server that does not stream answers is one chunk. Raises BackendError as `complete` does.
        """
        body = {**body, "model": self.model, "stream": True}
        url = self.base_url + "/chat/completions"
        with self._errors(url, self.timeout):
            async with self._http.stream("POST", url, json=body, timeout=self.timeout) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    raise self._refusal(reply, attempts=1)
                if "event-stream" not in reply.headers.get("content-type", ""):
                    whole = parsed(await reply.aread(), url)
                    yield {**whole, "choices": [{**c, "delta": c["message"]} for c in whole["choices"]]}
                    return
                async for line in reply.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or data == "[DONE]":
                        continue
                    chunk = parsed(data.encode(), url, chunk=True)
                    if "error" in chunk:
                        raise BackendError(f"{url} failed: {excerpt(str(chunk['error']))}", kind="http_500")
                    yield chunk

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
        reply = await self._send("GET", "/models", None, timeout)
        if reply.status_code in (401, 403):
            raise self._refusal(reply)

    async def post(self, path: str, body: dict[str, Any], *, root: str = "") -> httpx.Response:
        """POST with retries, to the base URL or another root; the response is a 200."""
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                reply = await self._send("POST", path, body, self.timeout, root)
            except BackendError as error:
                if error.kind != "dropped" or last:
                    raise
                wait = backoff(attempt)
            else:
                if reply.status_code == 200:
                    return reply
                if last or (reply.status_code != 429 and reply.status_code < 500):
                    raise self._refusal(reply)
                asked = retry_after(reply.headers.get("retry-after", ""))
                wait = backoff(attempt) if asked is None else min(asked, LONGEST_WAIT)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float, root: str = ""
    ) -> httpx.Response:
        url = (root or self.base_url) + path
        with self._errors(url, timeout):
            async with asyncio.timeout(timeout):
                return await self._http.request(method, url, json=body)

    @contextmanager
    def _errors(self, url: str, timeout: float) -> Iterator[None]:
        """The HTTP client's errors as BackendErrors."""
        try:
            yield
        except (TimeoutError, httpx.TimeoutException):
            raise BackendError(
                f"No answer from {url} within {timeout:g} s. The server hangs or is overloaded: look at its log, raise "
                "the backend's `timeout`, or run fewer rollouts at once.",
                kind="timeout",
            ) from None
        except httpx.ConnectError as error:
            raise BackendError(
                f"Cannot connect to {url} ({error}). Is the server running there?", kind="refused"
            ) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BackendError(
                f"{url!r} is not a URL to post to ({error}). Check `base_url`.", kind="refused"
            ) from None
        except httpx.HTTPError as error:
            raise BackendError(
                f"The connection to {url} was dropped ({str(error) or type(error).__name__}). "
                "Did the server crash? Look at its log.",
                kind="dropped",
            ) from None

    def _refusal(self, reply: httpx.Response, attempts: int = 0) -> BackendError:
        status = reply.status_code
        hint = ""
        if status in (401, 403):
            source = f"environment variable {self.key_env}" if self.key_env else "backend's settings"
            hint = f" The key comes from the {source}: is it set, and right for this URL?"
        elif status == 404:
            hint = f" Does the server know the model {self.model!r}, and does its base URL end in /v1?"
        elif status == 429 or status >= 500:
            hint = f" Gave up after {counted(attempts or self.retries + 1, 'attempt')}."
        return BackendError(f"{reply.url} answered {status}: {error_text(reply)}{hint}", kind=f"http_{status}")


def parsed(data: bytes, url: Any, *, chunk: bool = False) -> dict[str, Any]:
    """A chat completion; or a chunk of one, which may have no choices, or an error in their place.

    Raises:
        BackendError: it is none.
    """
    try:
        result: dict[str, Any] = json.loads(data)
        choices = [result["error"]] if chunk and "error" in result else result["choices"]
    except (ValueError, KeyError, TypeError):
        choices = None
    if not isinstance(choices, list) or not (choices or chunk):
        raise BackendError(
            f"{url} answered 200, but not with a chat completion: {excerpt(data.decode('utf-8', 'replace'))} "
            "Is this the base URL of an OpenAI-compatible server?",
            kind="broken_reply",
        )
    return result


def error_text(reply: httpx.Response) -> str:
    """What the server says about its error: OpenAI's `error.message`, or the start of the body."""
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = reply.text
    return excerpt(str(message))


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

"""An OpenAI-compatible chat endpoint over HTTP: deadlines, retries, and errors that say what to do."""

import asyncio
import email.utils
import json
import random
import time
from pathlib import Path
from typing import Any

import httpx

from guerdon.errors import BackendError
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
        try:
            data = reply.json()
            choices = data["choices"]
        except (ValueError, KeyError, TypeError):
            choices = None
        if not isinstance(choices, list) or not choices:
            raise BackendError(
                f"{reply.url} answered 200, but not with a chat completion: {excerpt(reply.text)} "
                "Is this the base URL of an OpenAI-compatible server?",
                kind="broken_reply",
            )
        result: dict[str, Any] = data
        return result

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

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """POST with retries; the response is a 200."""
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                reply = await self._send("POST", path, body, self.timeout)
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

    async def _send(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> httpx.Response:
        url = self.base_url + path
        try:
            async with asyncio.timeout(timeout):
                return await self._http.request(method, url, json=body)
        except TimeoutError:
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

    def _refusal(self, reply: httpx.Response) -> BackendError:
        status = reply.status_code
        hint = ""
        if status in (401, 403):
            source = f"environment variable {self.key_env}" if self.key_env else "backend's settings"
            hint = f" The key comes from the {source}: is it set, and right for this URL?"
        elif status == 404:
            hint = f" Does the server know the model {self.model!r}, and does its base URL end in /v1?"
        elif status == 429 or status >= 500:
            hint = f" Gave up after {self.retries + 1} attempts."
        return BackendError(f"{reply.url} answered {status}: {error_text(reply)}{hint}", kind=f"http_{status}")


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

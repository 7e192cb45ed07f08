"""The queue from afar: `WorkQueue` over HTTP. A server that restarts, or comes late, is waited for."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from guerdon.errors import GuerdonError
from guerdon.fastjson import dumps, loads
from guerdon.local_queue import as_text
from guerdon.queue import Item, Lease, Outcome, Result

log = logging.getLogger("guerdon")

PUT_AT_ONCE = 1000
"""Items in one request."""

PASSING = (500, 502, 503, 504)
"""Answers of a server, or a proxy before it, that is in trouble."""

SAY_SECONDS = 3.0


class RemoteQueue:
    """The queue at this address, e.g. http://127.0.0.1:4747.

    Raises GuerdonError where the server refuses: the token is wrong, or no queue is there.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = (url if "//" in url else f"http://{url}").rstrip("/")
        self._token = token
        self._session: Any = None

    async def check(self) -> None:
        """Fail now when there is no queue, or the token does not open it.

        Raises:
            GuerdonError: says which.
        """
        try:
            await self._once("counts", dumps({"stage": ""}))
        except _Away as error:
            raise GuerdonError(
                f"there is no queue at {self.url} ({error}): start `guerdon serve` there", kind="queue"
            ) from None

    async def put(self, stage: str, spec: dict[str, Any], items: Sequence[Item]) -> None:
        for start in range(0, max(len(items), 1), PUT_AT_ONCE):
            some = [_tuple(item) for item in items[start : start + PUT_AT_ONCE]]
            await self._ask("put", stage=stage, spec=spec, items=some)

    async def lease(self, worker: str, count: int, seconds: float, wait: float = 0.0) -> list[Lease]:
        answer = await self._ask("lease", worker=worker, count=count, seconds=seconds, wait=wait)
        return [Lease(answer["specs"][lease[1]], *lease) for lease in answer["leases"]]

    async def beat(self, worker: str, held: Sequence[int], seconds: float) -> list[int]:
        lost: list[int] = await self._ask("beat", worker=worker, held=list(held), seconds=seconds)
        return lost

    async def finish(self, worker: str, outcomes: Sequence[Outcome]) -> None:
        await self._ask("finish", worker=worker, outcomes=[(o.key, o.kind, as_text(o.body)) for o in outcomes])

    async def release(self, worker: str, keys: Sequence[int] | None) -> None:
        await self._ask("release", worker=worker, keys=None if keys is None else list(keys))

    async def results(self, stage: str, after: int, wait: float = 0.0) -> list[Result]:
        return [Result(*r) for r in await self._ask("results", stage=stage, after=after, wait=wait)]

    async def cancel(self, stage: str) -> None:
        await self._ask("cancel", stage=stage)

    async def forget(self, stage: str) -> None:
        await self._ask("forget", stage=stage)

    async def counts(self, stage: str) -> dict[str, int]:
        counts: dict[str, int] = await self._ask("counts", stage=stage)
        return counts

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, **asked: Any) -> Any:
        """Every call may be made twice, and is made until it is answered."""
        data = dumps(asked)
        wait, began, said = 0.05, time.monotonic(), False
        while True:
            try:
                return await self._once(method, data)
            except _Away as error:
                if not said and time.monotonic() - began > SAY_SECONDS:
                    log.warning("the queue at %s cannot be reached (%s): waiting for it", self.url, error)
                    said = True
            await asyncio.sleep(wait)
            wait = min(2 * wait, 1.0)

    async def _once(self, method: str, data: str) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=120, sock_connect=10),
                connector=aiohttp.TCPConnector(keepalive_timeout=30),
            )
        try:
            async with self._session.post(f"{self.url}/queue/{method}", data=data) as reply:
                status, text = reply.status, await reply.read()
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise GuerdonError(f"{self.url!r} is no address of a queue: http://HOST:PORT", kind="queue") from None
        except aiohttp.ClientConnectorError as error:
            raise _Away(error.os_error.strerror or str(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Away(str(error) or type(error).__name__) from None
        if status == 200:
            return loads(text)
        problem = _error(status, text)
        if status in PASSING:
            raise _Away(problem)
        raise GuerdonError(f"the queue at {self.url} refuses: {problem}", kind="queue")


class _Away(Exception):
    """The server cannot be reached, or is in trouble: another time, maybe."""


def _error(status: int, text: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if isinstance(error := loads(text)["error"], str):
            return error
    said = " ".join(text[:200].decode(errors="replace").split())
    return f"it answered {status}, {said!r}. Is this the address that `guerdon serve` printed?"


def _tuple(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__slots__)

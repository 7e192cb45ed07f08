"""The queue for asyncio, in the process that has it: calls that wait, and commits that share one write to disk."""

import asyncio
import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from guerdon.fastjson import dumps, loads
from guerdon.queue import Item, Lease, Outcome, Queue, Result, clear_errors
from guerdon.trajectory import Trajectory

T = TypeVar("T")

LOOK_AGAIN = 0.5
"""Seconds until a call that waits looks again: leases run out, and waits before a retry end, without a sound."""


class LocalQueue:
    """Implements `WorkQueue` on a `Queue`. One in memory is called at once, and keeps trajectories as they are."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._writer = _Writer(queue) if queue.path else None
        self._bodies: dict[int, Trajectory | str] = {}
        self._work, self._done = asyncio.Event(), asyncio.Event()
        self._hurried = False

    async def put(self, stage: str, spec: dict[str, Any], items: Sequence[Item]) -> None:
        await self._do(lambda: self._queue.put(stage, spec, items))
        self._work = _ring(self._work)

    async def lease(self, worker: str, count: int, seconds: float, wait: float = 0.0) -> list[Lease]:
        given: list[Lease] = []

        def look() -> list[Lease]:
            given[:] = self._queue.lease(worker, count, seconds)
            return list(given)

        try:
            return await self._until(lambda: self._work, look, wait)
        except asyncio.CancelledError:  # what a caller who has gone was given in this moment goes back
            if self._writer:
                self._writer.post(lambda: self._queue.release(worker, [lease.key for lease in given]))
            raise

    async def beat(self, worker: str, held: Sequence[int], seconds: float) -> list[int]:
        lost = await self._do(lambda: self._queue.beat(worker, held, seconds))
        if seconds <= 0:
            self._work = _ring(self._work)
        return lost

    async def finish(self, worker: str, outcomes: Sequence[Outcome]) -> None:
        if self._writer:
            outcomes = [dataclasses.replace(o, body=as_text(o.body)) for o in outcomes]
        else:
            self._bodies |= {o.key: o.body for o in outcomes}
            outcomes = [Outcome(o.key, o.kind, "") for o in outcomes]
        await self._do(lambda: self._queue.finish(worker, outcomes))
        self._done = _ring(self._done)

    async def release(self, worker: str, keys: Sequence[int] | None) -> None:
        await self._do(lambda: self._queue.release(worker, keys))
        self._work = _ring(self._work)

    async def results(self, stage: str, after: int, wait: float = 0.0) -> list[Result]:
        found = await self._until(lambda: self._done, lambda: self._queue.results(stage, after), wait)
        if self._writer:
            return found
        return [dataclasses.replace(r, body=self._bodies.pop(r.key)) for r in found]

    async def cancel(self, stage: str) -> None:
        await self._do(lambda: self._queue.cancel(stage))

    async def forget(self, stage: str) -> None:
        await self._do(lambda: self._queue.forget(stage))

    async def counts(self, stage: str) -> dict[str, int]:
        return await self._do(lambda: self._queue.counts(stage))

    def hurry(self) -> None:
        """Calls that wait are answered now, and none waits any more: the server is closing."""
        self._hurried = True
        self._work, self._done = _ring(self._work), _ring(self._done)

    async def aclose(self) -> None:
        if self._writer:
            await asyncio.to_thread(self._writer.close)
        self._queue.close()

    async def _do(self, call: Callable[[], T]) -> T:
        return await self._writer.do(call) if self._writer else call()

    async def _until(self, bell: Callable[[], asyncio.Event], look: Callable[[], list[T]], wait: float) -> list[T]:
        """What there is, as soon as there is something."""
        end = time.monotonic() + wait
        while True:
            ringing = bell()
            found = await self._do(look)
            left = end - time.monotonic()
            if found or left <= 0 or self._hurried:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ringing.wait(), min(left, LOOK_AGAIN))


def as_text(body: Trajectory | str) -> str:
    return body if isinstance(body, str) else dumps(body.to_json())


def as_trajectory(body: Trajectory | str) -> Trajectory:
    return Trajectory.from_json(loads(body)) if isinstance(body, str) else body


def _ring(bell: asyncio.Event) -> asyncio.Event:
    bell.set()
    return asyncio.Event()


class _Writer:
    """A thread that has the queue to itself. Calls that come while it writes share its next commit."""

    def __init__(self, work: Queue) -> None:
        self._work = work
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)
        self._thread.start()

    async def do(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put((call, loop, future))
        return await future

    def post(self, call: Callable[[], object]) -> None:
        """The same, for those who do not wait."""
        self._calls.put((call, None, None))

    def close(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while first := self._calls.get():
            calls = [first]
            while not self._calls.empty() and calls[-1]:
                calls.append(self._calls.get())
            asked = [call for call in calls if call]
            try:
                answers: list[Any] = self._answers([call for call, _, _ in asked])
            except Exception:  # one that cannot be done is no other's affair
                answers = [self._answer(call) for call, _, _ in asked]
            for (_, loop, future), answer in zip(asked, answers, strict=True):
                if loop and not loop.is_closed():
                    loop.call_soon_threadsafe(_settle, future, answer)
            if calls[-1] is None:
                return

    def _answers(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        with clear_errors(self._work.path), self._work.transaction():
            return [call() for call in calls]

    def _answer(self, call: Callable[[], T]) -> T | Exception:
        try:
            return self._answers([call])[0]
        except Exception as error:
            return error


def _settle(future: "asyncio.Future[Any]", answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)

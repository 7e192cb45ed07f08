"""A rollout worker: leases rollouts from a queue, runs many at once, and hands over what is finished.

The engine has one of its own, straight on its queue. Others are processes: `python -m guerdon.rollout_worker` with the
queue's address in GUERDON_QUEUE and its token in GUERDON_TOKEN or, with GUERDON_ENGINE=stdin, in the first line of
stdin. `guerdon worker URL` is the same.
"""

import asyncio
import contextlib
import gc
import logging
import math
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from guerdon.errors import GuerdonError
from guerdon.queue import Lease, Outcome, WorkQueue
from guerdon.trajectory import Trajectory
from guerdon.watchdog import watchdog

log = logging.getLogger("guerdon")

Roll = Callable[[Lease], Coroutine[Any, Any, Trajectory]]

PATIENCE = 20.0
"""Seconds that a call for work waits at the queue."""

COLLECT = (10_000, 20, 20)
"""Python's garbage collection while rollouts run: with its usual thresholds it is a third of an agent's CPU time."""

HAND_OVER_SECONDS = 5.0
"""At the end, for what is finished to get to the queue."""


class RolloutWorker:
    """Keeps up to `concurrency` rollouts going, each by `roll`. `pause` is how long calls gather before one is made."""

    def __init__(
        self, queue: WorkQueue, roll: Roll, *, name: str, concurrency: int, lease: float = math.inf, pause: float = 0.0
    ) -> None:
        self.queue = queue
        self.name = name
        self.concurrency = concurrency
        self.running: dict[int, asyncio.Task[Trajectory]] = {}
        self._roll = roll
        self._lease_seconds = lease
        self._pause = pause
        self._outcomes: list[Outcome] = []
        self._free, self._finished = asyncio.Event(), asyncio.Event()
        self._broken: asyncio.Future[None]
        self._watching = 0.0
        self._watch = contextlib.ExitStack()

    async def run(self) -> None:
        """Until it is cancelled; then what is finished is handed over, and the rest given back."""
        tasks = [asyncio.create_task(self._take()), asyncio.create_task(self._hand_over())]
        self._broken = asyncio.get_running_loop().create_future()
        try:
            await asyncio.gather(*tasks, self._broken)
        finally:
            self._watch.close()
            rollouts = list(self.running.values())
            for task in (*tasks, *rollouts):
                task.cancel()
            await asyncio.gather(*tasks, *rollouts, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HAND_OVER_SECONDS):
                    if self._outcomes:
                        await self.queue.finish(self.name, self._outcomes)
                    await self.queue.release(self.name, None)

    def drop(self, keys: list[int]) -> None:
        """Stop rollouts that are no longer this worker's."""
        for key in keys:
            if task := self.running.get(key):
                task.cancel()

    async def _take(self) -> None:
        while True:
            self._free.clear()
            if free := self.concurrency - len(self.running):
                for lease in await self.queue.lease(self.name, free, self._lease_seconds, PATIENCE):
                    self._begin(lease)
            else:
                await self._free.wait()
                await asyncio.sleep(self._pause)

    def _begin(self, lease: Lease) -> None:
        seconds = lease.spec["rollout"]["timeout"]
        if seconds != self._watching:  # an agent that blocks the loop is interrupted
            self._watch.close()
            self._watch.enter_context(watchdog(seconds))
            self._watching = seconds
        if before := self.running.get(lease.key):  # taken away and given again, before this worker heard of the first
            before.cancel()
        task = asyncio.create_task(self._roll(lease))
        self.running[lease.key] = task
        task.add_done_callback(lambda done: self._end(lease, done))

    def _end(self, lease: Lease, task: "asyncio.Task[Trajectory]") -> None:
        if self.running.get(lease.key) is task:
            del self.running[lease.key]
        self._free.set()
        if task.cancelled() or self._broken.done():
            return
        if error := task.exception():
            self._broken.set_exception(error)
            return
        trajectory = task.result()
        kind = trajectory.failure.kind if trajectory.failure else ""
        self._outcomes.append(Outcome(lease.key, kind, trajectory))
        self._finished.set()

    async def _hand_over(self) -> None:
        while True:
            await self._finished.wait()
            await asyncio.sleep(self._pause)
            self._finished.clear()
            outcomes = self._outcomes.copy()
            await self.queue.finish(self.name, outcomes)
            del self._outcomes[: len(outcomes)]


@contextlib.contextmanager
def rarely_collecting() -> Iterator[None]:
    """For the time of many rollouts: garbage is looked for rarely, and not among what was there before."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def main() -> None:
    """A worker process, until it is told to end or the engine that started it has gone."""
    from guerdon.worker_process import work

    try:
        work(os.environ["GUERDON_QUEUE"], _token())
    except GuerdonError as error:
        sys.exit(f"error: {error}")


def _token() -> str:
    """Not from the environment where it can be helped: what is in it at a process's start, others can read."""
    if os.environ.get("GUERDON_ENGINE") == "stdin":
        return sys.stdin.readline().strip()
    return os.environ.pop("GUERDON_TOKEN")  # at least what an agent starts does not inherit it


if __name__ == "__main__":
    main()

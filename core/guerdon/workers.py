"""Worker processes for what may hang, grow or die, each item with a deadline.

A worker that misses a deadline is killed at once, and that item is a failure; so are the items on which a worker dies
or wants too much memory. All others get their results, from another worker where need be. Workers are forked, within
milliseconds, by a process that has the job prepared (`guerdon.spawner`): a pool can be used from any thread, from
asyncio (through threads), and in any kind of process.
"""

import atexit
import contextlib
import os
import pickle
import threading
import weakref
from collections.abc import Sequence
from queue import Empty, LifoQueue
from typing import Any

from guerdon.calls import Call, Lost
from guerdon.errors import GuerdonError, RewardError
from guerdon.processes import SpawnerProcess, WorkerProcess
from guerdon.spawner import SWEEP
from guerdon.trajectory import Failure
from guerdon.worker import Job, complaint, in_worker, prepare

MEMORY_MB = 4096
"""What one worker may allocate, unless a pool is told otherwise."""

WARM_JOBS = 8
"""So many jobs have a spawner that has prepared them; further ones are prepared by each worker for itself."""

_POOLS: "weakref.WeakSet[Workers]" = weakref.WeakSet()


class Workers:
    """At most `count` worker processes, started when they are needed and kept warm; a context manager.

    `memory_mb` is what each may allocate; `None` sets no limit. Threads may share a pool; a process that is forked
    from this one starts with an empty one.
    """

    def __init__(self, count: int, memory_mb: int | None = MEMORY_MB) -> None:
        self.count, self.memory_mb = count, memory_mb or 0
        _POOLS.add(self)
        self._empty()

    def _empty(self) -> None:
        self._idle: LifoQueue[WorkerProcess | None] = LifoQueue()
        for _ in range(self.count):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._closed = False
        self._alive: set[WorkerProcess] = set()
        self._spawners: list[SpawnerProcess] = []
        self._jobs: dict[bytes, str | None] = {}  # what is wrong with it; "" where it is prepared, None where it is not

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, job: Job, items: Sequence[Any], timeout: float) -> list[Any]:
        """For each item, in order, its result or a `Failure`; blocks while all workers are busy.

        `timeout` is in seconds, for each item. One call is run by one worker at a time: for more, call from several
        threads.

        The kinds of failure are timeout, died, memory, raised (or what a `GuerdonError` says), not_sendable, and
        import where the job could not be prepared.

        Raises:
            RuntimeError: the pool was closed.
            RewardError: the system lets no process be started.
        """
        try:
            call = Call(pickle.dumps(job), items, timeout)
        except Exception as error:
            failure = Failure("not_sendable", f"{job.target}: its arguments cannot be sent to a worker: {error}")
            return [failure] * len(items)
        if wrong := self._introduced(call.key):
            return [Failure("import", wrong)] * len(items)
        worker = self._idle.get()
        try:
            while call.todo:
                try:
                    worker = self._fit(worker, call.key)
                    worker.work(call)
                except Lost as lost:
                    how = self._drop(worker, ask=lost.kind == "died")
                    worker = None
                    if self._closed:
                        raise RuntimeError("these workers were closed") from None
                    call.lost(lost, how)
            return call.results
        except BaseException:
            self._drop(worker)
            worker = None
            raise
        finally:
            if self._closed:  # meanwhile, so that no one else would
                self._drop(worker)
                worker = None
            self._idle.put(worker)

    # -- starting and ending --------------------------------------------------------------------------------------

    def _fit(self, worker: "WorkerProcess | None", key: bytes) -> "WorkerProcess":
        """This worker, if it has the job as it should, or a new one."""
        if worker is not None and (key in worker.spawner.keys or self._jobs.get(key) is None):
            return worker
        self._drop(worker)
        with self._lock:
            try:
                worker = WorkerProcess(self._newest(), self.memory_mb)
            except OSError:
                self._begin_again()
                worker = WorkerProcess(self._newest(), self.memory_mb)
            self._alive.add(worker)
            return worker

    def _newest(self) -> "SpawnerProcess":
        if self._closed:
            raise RuntimeError("these workers were closed")
        if not self._spawners:
            self._spawners.append(SpawnerProcess.first())
        return self._spawners[-1]

    def _begin_again(self) -> None:
        """Someone has killed a spawner."""
        for spawner in self._spawners:
            spawner.close()
        self._spawners.clear()
        self._jobs.clear()

    def _introduced(self, key: bytes) -> str | None:
        """Have a spawner prepare this job, unless that was done; what is wrong with it, "" when it is prepared."""
        if key in self._jobs:
            return self._jobs[key]
        with self._starting:
            return self._jobs[key] if key in self._jobs else self._introduce(key)

    def _introduce(self, key: bytes) -> str | None:
        with self._lock:
            newest = self._newest()
        if len(newest.keys) >= WARM_JOBS:
            return None
        try:
            spawner, wrong = newest.introduce(key, self.memory_mb)
        except OSError:
            return None  # it will be found missing when it is to start a worker
        with self._lock:
            if newest not in self._spawners:  # all were closed meanwhile
                if spawner:
                    spawner.close()
                return None
            if spawner:
                self._spawners.append(spawner)
            self._jobs[key] = wrong
        return wrong

    def _drop(self, worker: "WorkerProcess | None", ask: bool = False) -> str | None:
        """Kill a worker; how it had ended, if that is asked and known."""
        if worker is None:
            return None
        with self._lock:
            self._alive.discard(worker)
            first = self._spawners[0] if self._spawners else None
        how = worker.end(ask)
        if first:
            first.tell(SWEEP)
        return how

    def close(self) -> None:
        """Kill the workers, and whatever they have started."""
        with self._lock:
            self._closed = True
            for worker in self._alive:
                worker.kill()  # those that are busy are dropped by the threads that wait for them
            spawners, self._spawners = self._spawners, []
        for spawner in reversed(spawners):
            spawner.close()
        idle: list[WorkerProcess | None] = []
        with contextlib.suppress(Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for dropped in idle:
            self._drop(dropped)
            self._idle.put(None)  # whoever waits for one is told

    def _after_fork(self) -> None:
        """In a forked child: these workers are the parent's."""
        for worker in self._alive:
            worker.close()
        for spawner in self._spawners:
            spawner.disown()
        closed = self._closed
        self._empty()
        self._closed = closed


def _forked() -> None:
    global _shared_pool_lock
    _shared_pool_lock = threading.Lock()
    for pool in list(_POOLS):
        pool._after_fork()


os.register_at_fork(after_in_child=_forked)


_shared_pool: Workers | None = None
_shared_pool_lock = threading.Lock()


def isolated(target: str, *args: Any, timeout: float = 1.0) -> Any:
    """Call the function "package.module:function" in a worker, with a deadline in seconds.

    The workers are this process's own: started at the first call, ended with the process. In a worker the function is
    simply called: that worker has a deadline itself.

    Raises:
        RewardError: it raised, took too long (`kind` is timeout), or its worker died; as `Workers.run` says.
    """
    if in_worker():
        try:
            return prepare(Job("guerdon.worker:caller", (target,)))(args)
        except (GuerdonError, MemoryError):
            raise
        except Exception as error:
            failure = complaint(error)
            raise RewardError(failure.message, kind=failure.kind) from error
    (result,) = shared().run(Job("guerdon.worker:caller", (target,)), [args], timeout)
    if isinstance(result, Failure):
        raise RewardError(result.message, kind=result.kind)
    return result


def shared() -> Workers:
    """This process's own pool, a worker for each core that it may use: made at the first call, closed at its end."""
    global _shared_pool
    with _shared_pool_lock:
        if _shared_pool is None:
            _shared_pool = Workers(
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            )
            atexit.register(_shared_pool.close)
        return _shared_pool


__all__ = ["MEMORY_MB", "Job", "Workers", "in_worker", "isolated", "shared"]

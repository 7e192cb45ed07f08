"""Worker processes for rewards that may hang, grow or die.

Each call has a deadline: a worker that misses it is killed and replaced, and the call becomes an error score while all
others go on. The processes are plain children that speak over pipes (`guerdon.worker`), so the pool can be used from
any thread, from asyncio, and from a process that was itself spawned.
"""

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from guerdon.plugins import Component
from guerdon.reward import Item
from guerdon.trajectory import Failure, Score
from guerdon.worker import receive, send

START_SECONDS = 60.0
"""For a worker to start and import a reward; not part of a call's deadline."""

LONGEST_MS = 2**31 - 1
"""What `poll` takes: 24 days, which is for ever."""


class Workers:
    """At most `count` worker processes, started when they are needed and kept warm."""

    def __init__(self, count: int) -> None:
        self._idle: SimpleQueue[_Worker | None] = SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._alive: set[_Worker] = set()
        for _ in range(count):
            self._idle.put(None)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, component: Component, settings: Mapping[str, Any], items: Sequence[Item], timeout: float
    ) -> list[Score]:
        """The scores of one group; `timeout` is in seconds, for the whole call. Blocks while all workers are busy."""
        worker = self._idle.get()
        try:
            if worker is None or not worker.alive:
                worker = self._start()
            return worker.call(component, settings, items, timeout)
        except _Lost as lost:
            if worker is not None:
                self._drop(worker)
                worker = None
            seconds = lost.seconds / max(len(items), 1)
            return [Score(None, error=lost.failure, seconds=seconds)] * len(items)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Kill the workers."""
        with self._lock:
            self._closed = True
            for worker in self._alive:
                worker.kill()
            self._alive.clear()

    def _start(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise RuntimeError("these workers were closed")
            worker = _Worker()
            self._alive.add(worker)
            return worker

    def _drop(self, worker: "_Worker") -> None:
        worker.kill()
        with self._lock:
            self._alive.discard(worker)


class _Lost(Exception):
    """The worker is no longer of use."""

    def __init__(self, kind: str, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.failure = Failure(kind, message)
        self.seconds = seconds


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C is for the engine: a process started in here never gets it, not even before it has a session."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    def __init__(self) -> None:
        paths = [p or os.getcwd() for p in sys.path]  # noqa: PTH109
        with _no_interrupts():
            self.process = subprocess.Popen(
                [sys.executable, "-m", "guerdon.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # a reward's own children go with its worker
            )
        self.loaded: set[Component] = set()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def call(
        self, component: Component, settings: Mapping[str, Any], items: Sequence[Item], timeout: float
    ) -> list[Score]:
        if component not in self.loaded:
            complaint = self._ask(("load", component), START_SECONDS, "it was not imported within {:g} s")
            if complaint is not None:
                return [Score(None, error=Failure("import", complaint))] * len(items)
            self.loaded.add(component)
        scores: list[Score] = self._ask(("call", component, settings, items), timeout, "no score within {:g} s")
        return scores

    def _ask(self, message: Any, timeout: float, late: str) -> Any:
        assert self.process.stdin and self.process.stdout
        started = time.monotonic()
        try:
            send(self.process.stdin, message)
            answer = select.poll()
            answer.register(self.process.stdout, select.POLLIN)
            if not answer.poll(min(timeout * 1000, LONGEST_MS)):
                raise _Lost("timeout", late.format(timeout) + "; its worker was killed", timeout)
            return receive(self.process.stdout)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
            raise _Lost("not_sendable", f"its task cannot be sent to a worker process: {error}") from None
        except (EOFError, OSError, ValueError):
            code = self._wait()
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            seconds = time.monotonic() - started
            raise _Lost("died", f"the reward ended its worker process ({how})", seconds) from None

    def _wait(self) -> int | None:
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()

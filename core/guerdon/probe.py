"""Watch a reward at work in a process of its own: what it gives, how long it takes, what it touches.

`watch` runs in a worker. `python -m guerdon.probe` only scores, with the hash seed of its environment: a pickled
`(component, settings, items)` on stdin, the values on the original stdout.
"""

import contextlib
import copy
import decimal
import gc
import locale
import os
import pickle
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from guerdon.invoke import Item, call, shape
from guerdon.plugins import Component
from guerdon.registry import load
from guerdon.trajectory import Score

THREADS = 8
BUDGET = 10.0
"""Seconds that the observations may take in all, roughly; a slow reward is watched on fewer items."""
PASSES = 24
"""How often, roughly, every item is scored."""
LONGEST_TIMING = 0.3
"""Seconds of repeated scoring, to know a fast reward's times."""
TIMED = 3000
"""So many items are timed at most."""

Value = float | str | None
"""A score to compare: the number, `None`, or the kind of the error."""


@dataclass
class Observations:
    """What was seen. Each mapping leads from an item's number to what differed."""

    items: int = 0
    again: dict[int, str] = field(default_factory=dict)
    changed: dict[int, str] = field(default_factory=dict)
    batch: dict[int, str] = field(default_factory=dict)
    relative: bool = False
    """A batch reward whose scores depend on who else is in the group."""
    threads: dict[int, str] = field(default_factory=dict)
    seconds: tuple[float, float] = (0.0, 0.0)
    """Median and 99th percentile of one item."""
    written: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    """Files, sockets and processes that it opens at every call, not at the first alone."""
    printed: str = ""
    left: list[str] = field(default_factory=list)
    """Threads and child processes that were there when it had returned."""
    state: list[str] = field(default_factory=list)
    """Parts of the process's state that it changed."""


def value_of(score: Score) -> Value:
    return score.error.kind if score.error else score.value


class Caller:
    """A reward as guerdon calls it: groups are the items of one task."""

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self.single = shape(function).kind == "one"
        self._call = partial(call, function, settings)

    def scores(self, items: Sequence[Item]) -> list[Score]:
        if self.single:
            return self._call(items)
        scores: list[Score] = [Score(None)] * len(items)
        for places in groups(items):
            for place, score in zip(places, self._call([items[i] for i in places]), strict=True):
                scores[place] = score
        return scores

    def values(self, items: Sequence[Item]) -> list[Value]:
        return [value_of(s) for s in self.scores(items)]


def groups(items: Sequence[Item]) -> list[list[int]]:
    """The places of each task's items."""
    found: dict[str, list[int]] = {}
    for i, (task, _) in enumerate(items):
        found.setdefault(task.id, []).append(i)
    return list(found.values())


def watch(component: Component, settings: Mapping[str, Any]) -> Callable[[Sequence[Item]], Observations]:
    """A function that observes the reward on these items."""
    caller = Caller(load(component), settings)
    return lambda items: _observe(caller, settings, items)


def _observe(caller: Caller, settings: Mapping[str, Any], items: Sequence[Item]) -> Observations:
    seen = Observations()
    with _watching(seen) as listener:
        started = time.perf_counter()
        caller.values(items[:1])  # what is imported at the first call
        first = caller.values(items[: min(4, len(items))])
        seconds = (time.perf_counter() - started) / (1 + len(first))
        items = items[: max(4, int(BUDGET / PASSES / max(seconds, 1e-9)))]
        seen.items = len(items)
        kept = copy.deepcopy((list(items), dict(settings)))
        first = caller.values(items)
        listener.touched.clear()
        seen.again = differences(first, caller.values(items))
        seen.touched = sorted(listener.touched)
        seen.changed = _changed(kept, (list(items), dict(settings)))
        _orders(caller, items, first, seen)
        seen.threads = _in_threads(caller, items, first)
        seen.seconds = _times(caller, items)
    return seen


def differences(first: Sequence[Value], other: Sequence[Value]) -> dict[int, str]:
    """Where two lists of scores differ, and how."""
    return {i: f"{a} then {b}" for i, (a, b) in enumerate(zip(first, other, strict=True)) if a != b}


def _changed(before: tuple[list[Item], dict[str, Any]], after: tuple[list[Item], dict[str, Any]]) -> dict[int, str]:
    found = {}
    for i, ((task, trajectory), (task_now, trajectory_now)) in enumerate(zip(before[0], after[0], strict=True)):
        if task != task_now or trajectory != trajectory_now:
            found[i] = "the task" if task != task_now else "the trajectory"
    return found | ({-1: "its settings"} if before[1] != after[1] else {})


def _orders(caller: Caller, items: Sequence[Item], first: Sequence[Value], seen: Observations) -> None:
    """Backwards, shuffled, each other, twice over and one by one."""
    places = list(range(len(items)))
    orders = [places[::-1], random.Random(1).sample(places, len(places))]
    looser = [places[::2], [p for p in places for _ in range(2)]]
    for order in orders if not caller.single else orders + looser:
        for place, value in zip(order, caller.values([items[p] for p in order]), strict=True):
            if value != first[place]:
                seen.batch[place] = f"{first[place]} then {value}"
    alone = [caller.values([item])[0] for item in items]
    if caller.single:
        seen.batch |= differences(first, alone)
    else:
        seen.relative = bool(differences(first, alone))


def _in_threads(caller: Caller, items: Sequence[Item], first: Sequence[Value]) -> dict[int, str]:
    places = list(range(len(items)))
    orders = [places[n % len(places) :] + places[: n % len(places)] for n in range(THREADS)]
    if not caller.single:
        orders = [places] * THREADS
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads change places in the middle of everything
    try:
        with ThreadPoolExecutor(THREADS) as threads:
            results = list(threads.map(lambda order: caller.values([items[p] for p in order]), orders))
    finally:
        sys.setswitchinterval(before)
    found: dict[int, str] = {}
    for order, values in zip(orders, results, strict=True):
        found |= {p: f"{first[p]} then {v}" for p, v in zip(order, values, strict=True) if v != first[p]}
    return found


def _times(caller: Caller, items: Sequence[Item]) -> tuple[float, float]:
    seconds: list[float] = []
    end = time.perf_counter() + LONGEST_TIMING
    gc.collect()
    while not seconds or (len(seconds) < TIMED and time.perf_counter() < end):
        seconds += [s.seconds for s in caller.scores(items)]
    return statistics.median(seconds), sorted(seconds)[int(0.99 * len(seconds))]


# -- what it touches --------------------------------------------------------------------------------------------------


class _Listener:
    """An audit hook: it stays for the life of the process, and listens only while it is told to."""

    def __init__(self) -> None:
        self.on = False
        self.written: set[str] = set()
        self.touched: set[str] = set()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(args[0], (str, bytes)):
            self._opened(os.fsdecode(args[0]), args[2] or 0)
        elif event in _EVENTS:
            self.touched.add(event)

    def _opened(self, path: str, flags: int) -> None:
        if path.startswith(("/dev/", "/proc/", "/sys/")) or "__pycache__" in path:
            return
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.written.add(os.path.abspath(path))  # noqa: PTH100  an audit hook is better plain
        elif not path.endswith((".py", ".pyc", ".so")):
            self.touched.add(path)


_EVENTS = {"socket.connect", "subprocess.Popen", "os.system", "os.fork", "os.posix_spawn", "sqlite3.connect"}


@contextlib.contextmanager
def _watching(seen: Observations) -> Iterator[_Listener]:
    """Within this context files, sockets, processes, prints, threads and children are noted."""
    listener = _Listener()
    sys.addaudithook(listener)
    threads, children, state = set(threading.enumerate()), _children(), _state()
    with _printed(seen):
        listener.on = True
        try:
            yield listener
        finally:
            listener.on = False
    seen.written = sorted(path for path in listener.written if Path(path).exists())
    seen.state = [name for name, now in _state().items() if now != state[name]]
    seen.left = [f"thread {t.name}" for t in threading.enumerate() if t not in threads]
    seen.left += [f"process {pid}" for pid in sorted(_children() - children)]


@contextlib.contextmanager
def _printed(seen: Observations) -> Iterator[None]:
    """What goes to stdout, from Python or from below, is kept."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as kept:
        stdout = os.dup(1)
        os.dup2(kept.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(stdout, 1)
            os.close(stdout)
        kept.seek(0)
        seen.printed = kept.read(200).decode(errors="replace")


def _children() -> set[int]:
    """This process's children, where the system tells."""
    found: set[int] = set()
    for tasks in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= set(map(int, tasks.read_text().split()))
    return found


def _state() -> dict[str, Any]:
    context = decimal.getcontext()
    return {
        "os.environ": dict(os.environ),
        "the working folder": os.getcwd(),  # noqa: PTH109
        "the recursion limit": sys.getrecursionlimit(),
        "the longest int": sys.get_int_max_str_digits(),
        "random's state": random.getstate(),
        "decimal's context": (context.prec, context.rounding, context.Emin, context.Emax),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the alarm signal": signal.getsignal(signal.SIGALRM),
    }


def main() -> None:
    from guerdon.worker import own_pipes

    orders, out = own_pipes()
    component, settings, items = pickle.load(orders)
    pickle.dump(Caller(load(component), settings).values(items), out)
    out.flush()


if __name__ == "__main__":
    main()

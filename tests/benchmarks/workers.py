"""Worker processes in figures: `python tests/benchmarks/workers.py [--batches N] [--seed N]`.

What an item costs beside its own work, what a lost worker costs, by how much a deadline is overrun, what a second
worker brings, and whether random batches with hostile items give all others what they always have.
"""

import argparse
import math
import os
import pickle
import random
import resource
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from table import table
from test_workers import HOSTILE, MARK, marked

from guerdon.trajectory import Failure
from guerdon.workers import Job, Workers

SIMPLE = Job("jobs:simple")


def milliseconds(seconds: Sequence[float]) -> list[str]:
    ordered = sorted(seconds)
    return [
        f"{1000 * s:.1f}" for s in (statistics.median(ordered), ordered[math.ceil(0.9 * len(ordered)) - 1], ordered[-1])
    ]


def timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def starts() -> list[list[object]]:
    """From nothing to a first result, and a lost worker replaced: with and without sympy imported."""
    lines = []
    for name, job in (("a small module", SIMPLE), ("sympy imported", Job("jobs:with_sympy"))):
        first, again = [], []
        for _ in range(5):
            with Workers(1) as workers:
                first.append(timed(lambda w=workers, j=job: w.run(j, [1], 60)))  # type: ignore[misc]
                for _ in range(20):
                    (pid,) = workers.run(job, ["pid"], 5)
                    os.kill(pid, 9)
                    time.sleep(0.01)
                    again.append(timed(lambda w=workers, j=job: w.run(j, [1], 60)))  # type: ignore[misc]
        lines.append([f"first result, {name}", len(first), *milliseconds(first)])
        lines.append([f"a lost worker replaced, {name}", len(again), *milliseconds(again)])
    return lines


def overruns(repeats: int) -> list[list[object]]:
    """Milliseconds that a call takes beyond its deadline of 1 s."""
    lines = []
    with Workers(1) as workers:
        workers.run(SIMPLE, [1], 5)
        for what in ("hang", "c hang", "sympy", "grow slowly"):
            over = [timed(lambda w=what: workers.run(SIMPLE, [w], 1.0)) - 1.0 for _ in range(repeats)]  # type: ignore[misc]
            lines.append([f"beyond a deadline of 1 s: {what}", len(over), *milliseconds(over)])
    return lines


def overhead(items: int) -> list[list[object]]:
    """Microseconds an item, for an item that takes none; beside that, what pickling alone takes."""
    given = list(range(items))

    def pickling() -> None:
        for _ in range(2):  # there and back
            pickle.loads(pickle.dumps(given))

    pickle_each = min(timed(pickling) for _ in range(3)) / items / 2
    with Workers(1) as workers:
        workers.run(SIMPLE, [1], 5)
        wall, here, there = [], [], []
        for _ in range(5):
            (before,) = workers.run(SIMPLE, ["cpu"], 5)
            cpu = time.process_time()
            wall.append(timed(lambda: workers.run(SIMPLE, given, 5)) / items)
            here.append((time.process_time() - cpu) / items)
            (after,) = workers.run(SIMPLE, ["cpu"], 5)
            there.append((after - before) / items)
        single = [timed(lambda: workers.run(SIMPLE, [1], 5)) for _ in range(2000)]
    lines = [
        ("wall", wall),
        ("CPU of the caller", here),
        ("CPU of the worker", there),
        ("pickling, one side", [pickle_each]),
    ]
    return [[f"{name}, µs an item", items, f"{1e6 * statistics.median(v):.2f}"] for name, v in lines] + [
        ["a call with one item, µs", len(single), f"{1e6 * statistics.median(single):.0f}"]
    ]


def throughput(items: int) -> list[list[object]]:
    """Items a second with one worker and with two, for items of some 20 µs."""
    chunks = [[("work", 200)] * 200 for _ in range(items // 200)]
    rates = {}
    for count in (1, 2, 1, 2):
        with Workers(count) as workers, ThreadPoolExecutor(count + 1) as threads:
            list(threads.map(lambda c, w=workers: w.run(SIMPLE, c, 5), chunks[:20]))  # type: ignore[misc]
            took = timed(lambda w=workers, t=threads: list(t.map(lambda c: w.run(SIMPLE, c, 5), chunks)))  # type: ignore[misc]
        rates.setdefault(count, []).append(items / took)
    one, two = max(rates[1]), max(rates[2])
    return [["1 worker", f"{one:,.0f}", ""], ["2 workers", f"{two:,.0f}", f"{two / one:.2f}"]]


def batches(count: int, seed: int) -> list[list[object]]:
    """Random batches with hostile items: how many there were, whether all others were right, what is left."""
    os.environ[MARK] = mark = f"benchmark-{os.getpid()}"
    kinds: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    lock = threading.Lock()
    rss = []

    def run(seed: int) -> None:
        r = random.Random(seed)
        batch: list[Any] = [r.randrange(10**6) for _ in range(r.randint(1, 24))]
        for _ in range(r.choice([0, 0, 1, 1, 2, 3])):
            batch.insert(r.randint(0, len(batch)), r.choice(HOSTILE)(r))
        results = workers.run(SIMPLE, batch, 0.1)
        with lock:
            figures["batches"] += 1
            if figures["batches"] in (count // 4, count):
                rss.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            figures["wrong length"] += len(results) != len(batch)
            for item, result in zip(batch, results, strict=False):
                if isinstance(item, int):
                    figures["ordinary items"] += 1
                    figures["of them lost or changed"] += result != 2 * item
                    if result != 2 * item:
                        print(f"  seed {seed}: {item} -> {result}")
                else:
                    figures["hostile items"] += 1
                    kinds[result.kind if isinstance(result, Failure) else "a result"] += 1

    with Workers(2, 512) as workers, ThreadPoolExecutor(2) as threads:
        r = random.Random(seed)
        took = timed(lambda: list(threads.map(run, [r.randrange(10**12) for _ in range(count)])))
    figures["processes left"] = len(marked(mark))
    names = ("batches", "ordinary items", "hostile items", "wrong length", "of them lost or changed", "processes left")
    lines: list[list[object]] = [[name, f"{figures[name]:,}"] for name in names]
    lines.append(["seconds", f"{took:.0f}"])
    lines.append(["peak MB of the caller, after a quarter and at the end", " ".join(f"{m:.0f}" for m in rss)])
    return lines + [[f"hostile: {kind}", f"{n:,}"] for kind, n in kinds.most_common()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(table(["ms", "times", "median", "p90", "max"], starts() + overruns(10)), "\n")
    print(table(["what an item costs", "items", "median"], overhead(200_000)), "\n")
    print(table(["throughput", "items/s", "ratio"], throughput(200_000)), "\n")
    print(table(["random batches with hostile items", ""], batches(options.batches, options.seed)))


if __name__ == "__main__":
    main()

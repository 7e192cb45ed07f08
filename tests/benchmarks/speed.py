"""Throughput beside math-verify: one process, one run, in turns, so that a noisy machine hits both.

Times are CPU seconds of this process and of all that it started: guerdon's slow tier in workers is in them.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import mixes
from mixes import Both
from pairs import Pair, read_pairs
from peers import math_verify
from table import table

TICK = os.sysconf("SC_CLK_TCK")
TURN = 256
"""Pairs that one grader scores before it is the other's turn: a batch of a training step, whole groups."""


class Timed:
    """A grader with its clock: CPU and wall seconds in all, wall seconds of each pair, and how many it got right."""

    def __init__(self, name: str, grade: Callable[[Both], bool]) -> None:
        self.name, self.grade = name, grade
        self.cpu, self.wall, self.right = 0.0, 0.0, 0
        self.each: list[float] = []

    def run(self, items: Sequence[Both]) -> None:
        cpu, started = time.process_time(), time.perf_counter()
        last = started
        for item in items:
            self.right += self.grade(item) == item.expected
            now = time.perf_counter()
            self.each.append(now - last)
            last = now
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - started

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        return sorted(self.each)[min(int(share * len(self.each)), len(self.each) - 1)] * 1000


def report(folder: Path, gsm8k: Path | None) -> None:
    """Print the three mixes; each in a fresh process, so that the last finds cold caches."""
    heads = ["", "pairs", "right %", "pairs/s (CPU)", "ratio", "pairs/s (wall)", "ratio", "p50 ms", "p99 ms", "max ms"]
    lines = []
    for name in ("gsm8k", "math", "latex"):
        command = [sys.executable, __file__, str(folder), name, str(gsm8k or "")]
        lines += json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(table(heads, lines))


def one_mix(folder: Path, name: str, gsm8k: Path | None) -> None:
    pairs = read_pairs(folder)
    items = {"gsm8k": lambda: mixes.gsm8k(pairs, gsm8k), "math": lambda: mixes.math(pairs),
             "latex": lambda: mixes.latex(pairs)}[name]()  # fmt: skip
    ours, peer = Timed("guerdon", _guerdon), Timed("math-verify", _math_verify)
    _warm_up(ours, peer)
    gc.collect()
    before = _children_seconds()
    for turn, part in enumerate(mixes.chunks(items, TURN)):
        for grader in (ours, peer) if turn % 2 else (peer, ours):
            grader.run(part)
    ours.cpu += _children_seconds() - before
    print(json.dumps([_line(name, grader, peer, len(items)) for grader in (ours, peer)]))


def _warm_up(*graders: Timed) -> None:
    """What is imported, compiled and started with the first calls, guerdon's slow tier too; no text of the mixes."""
    from guerdon.workers import isolated

    isolated("guerdon_rewards.mathematics.symbolic:warm_up", timeout=60.0)
    for grader in graders:
        for gold, pred in (("12345", r"\boxed{12346}"), (r"\frac{12345}{7}", r"\boxed{\frac{12347}{7}}")):
            with suppress(Exception):
                grader.grade(Both(gold, pred, f"\\boxed{{{gold}}}", pred, False))


def _line(mix: str, grader: Timed, peer: Timed, count: int) -> list[object]:
    return [
        f"{mix}: {grader.name}",
        count,
        f"{grader.right / count:.2%}",
        f"{count / grader.cpu:,.0f}",
        f"{peer.cpu / grader.cpu:.1f}x",
        f"{count / grader.wall:,.0f}",
        f"{peer.wall / grader.wall:.1f}x",
        *(f"{grader.percentile(share):.3f}" for share in (0.5, 0.99, 1.0)),
    ]


def _guerdon(item: Both) -> bool:
    from guerdon_rewards.equivalence import equivalence

    try:
        result = equivalence(completion=item.pred, answer=item.gold)
    except Exception:
        return False
    return bool(result[0] if isinstance(result, tuple) else result)


def _math_verify(item: Both) -> bool:
    return math_verify()(item.peer_gold, item.peer_pred)


def _children_seconds() -> float:
    """CPU seconds of this process's descendants, those that have ended too."""
    stats = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            stats[int(folder.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    ended = os.times()
    total, mine = (ended.children_user + ended.children_system) * TICK, {os.getpid()}
    for _ in range(len(stats)):  # from parents to children, until there are no more
        new = {pid for pid, (parent, _) in stats.items() if parent in mine and pid not in mine}
        if not new:
            break
        mine |= new
        total += sum(stats[pid][1] for pid in new)
    return total / TICK


def batch(pairs: Sequence[Pair], sizes: Sequence[int] = (1000, 2000, 4000, 8000, 16000, 32000)) -> None:
    """Is time linear in the size of a batch? Distinct inputs, so that caches don't help."""
    source = distinct(pairs)
    lines: list[list[object]] = []
    for size in sizes:
        items = [next(source) for _ in range(size)]
        cpu = time.process_time()
        for gold, pred in items:
            _score(gold, pred)
        cpu = time.process_time() - cpu
        lines.append([size, f"{cpu:.2f}", f"{cpu / size * 1e6:.1f}"])
    print(table(["pairs", "CPU s", "microseconds each"], lines))


def memory(pairs: Sequence[Pair], count: int = 1_000_000) -> None:
    """Is memory flat over many scorings, all of them different?"""
    source, lines = distinct(pairs), []
    started, done = time.perf_counter(), 0
    for share in (0.01, 0.1, 0.25, 0.5, 1.0):
        while done < count * share:
            _score(*next(source))
            done += 1
        lines.append([done, f"{_rss():.1f}", f"{time.perf_counter() - started:.0f}"])
    print(table(["scorings", "RSS MB", "s"], lines))


def two_workers(pairs: Sequence[Pair], count: int = 20_000) -> None:
    """Pairs a second with one worker and with two, from as many threads."""
    from concurrent.futures import ThreadPoolExecutor

    from guerdon.trajectory import Failure
    from guerdon.workers import Job, Workers

    source, job = distinct(pairs), Job("work:scorer")
    items = [next(source) for _ in range(count)]
    parts = [items[i : i + 500] for i in range(0, count, 500)]
    rates: dict[int, list[float]] = {}
    for number in (1, 2, 1, 2):
        with Workers(number) as workers, ThreadPoolExecutor(number) as threads:

            def score(part: list[tuple[str, str]], workers: Workers = workers) -> list[object]:
                return workers.run(job, part, timeout=60.0)

            list(threads.map(score, [parts[0]] * number * 2))  # all started and warm
            started = time.perf_counter()
            results = [got for part in threads.map(score, parts) for got in part]
            rates.setdefault(number, []).append(count / (time.perf_counter() - started))
            if failed := [r for r in results if isinstance(r, Failure) and r.kind != "raised"]:
                print(f"{len(failed)} of {count} failed: {failed[0]}")
    one, two = max(rates[1]), max(rates[2])
    print(f"{one:,.0f} pairs/s with one worker, {two:,.0f} with two: {two / one:.2f}x ({os.cpu_count()} cores)")


def distinct(pairs: Sequence[Pair]) -> Any:
    """(reference, completion) without end, no two the same: the clean core's with their digits redrawn."""
    import random

    draw = random.Random(0)
    quick = [p for p in pairs if p.clean and any(c.isdigit() for c in p.gold) and _is_quick(p)]
    while True:
        draw.shuffle(quick)
        for pair in quick:
            digits = "".join(draw.sample("123456789", 9))
            change = str.maketrans("123456789", digits)
            yield pair.gold.translate(change), pair.pred.translate(change)


def _is_quick(pair: Pair) -> bool:
    """Decided by the fast tiers: the slow one has its own bound, and is not what these tables are about."""
    started = time.perf_counter()
    for _ in range(2):
        started = time.perf_counter()
        _score(pair.gold, pair.pred)
    return time.perf_counter() - started < 0.005


def _score(gold: str, pred: str) -> None:
    from guerdon_rewards.equivalence import equivalence

    with suppress(Exception):
        equivalence(completion=pred, answer=gold)


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    one_mix(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if sys.argv[3] else None)

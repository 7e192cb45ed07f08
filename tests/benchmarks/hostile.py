"""Inputs made to hang, crash, fool or run code: in workers with a deadline, and in the plain function.

For the figures with gmpy2 (with which sympy can stay in C code for minutes), run the table in an environment that
has it: the first line says whether it was there.
"""

import contextlib
import importlib.util
import os
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairs import Hostile, Pair
from table import table
from watched import watched

DEADLINE = 1.0
FAIR = 0.05
"""Seconds by which a deadline may be overrun."""


def report(items: Sequence[Hostile], plain_limit: float = 30.0) -> None:
    """Print, for workers and for the plain function: how many are fine, what is wrong, the slowest."""
    gmpy2 = "with" if importlib.util.find_spec("gmpy2") else "without"
    print(f"{len(items)} inputs, {gmpy2} gmpy2, deadline {DEADLINE:g} s in workers")
    with _empty_folder() as folder:
        ways = {"workers": _in_workers(items), "plain function": _plain(items, plain_limit)}
        written = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    heads = ["", "fine", "recorded errors", "wrong", "over the deadline", "slowest s", "which", "over 0.1 s"]
    print(table(heads, [_line(name, results) for name, results in ways.items()]))
    print(f"files written: {', '.join(written) or 'none'}")
    for name, results in ways.items():
        for item, score, error, seconds in results:
            wrong = _wrong(item, score, error)
            if wrong or error or seconds > DEADLINE:
                print(f"  {name}: {item.id}: {'WRONG ' if wrong else ''}{error or score} in {seconds:.3f} s")


Result = tuple[Hostile, float | None, str, float]


def _in_workers(items: Sequence[Hostile]) -> list[Result]:
    import guerdon

    equivalence = guerdon.reward("equivalence", timeout=DEADLINE)
    equivalence.scores(["1"], answers=["1"])
    results: list[Result] = []
    for item in items:
        started = time.perf_counter()
        (score,) = equivalence.scores([item.pred], answers=[item.gold])
        seconds = time.perf_counter() - started
        error = f"{score.error.kind}: {score.error.message}" if score.error else ""
        results.append((item, score.value, error, seconds))
    return results


def _ready(workers: Any, job: Any) -> None:
    (first,) = workers.run(job, [("1", "1")], timeout=60)
    if first != 1.0:
        raise RuntimeError(f"the workers are not ready: {first}")


def _plain(items: Sequence[Hostile], limit: float) -> list[Result]:
    results: list[Result] = []
    answers = watched("work:verdict", [(i.gold, i.pred) for i in items], limit)
    for item, (_, got, seconds) in zip(items, answers, strict=True):
        score, _, error, seconds, _ = (None, "", got, seconds, 0) if isinstance(got, str) else got
        results.append((item, score, error, seconds))
    return results


def _line(name: str, results: Sequence[Result]) -> list[object]:
    wrong = sum(_wrong(i, score, error) for i, score, error, _ in results)
    errors = sum(bool(error) for _, _, error, _ in results)
    late = sum(seconds > DEADLINE + FAIR for *_, seconds in results)
    slowest = max(results, key=lambda r: r[3])
    slow = sum(seconds > 0.1 for *_, seconds in results)
    fine = len(results) - wrong - sum(bool(e) and not _wrong(i, s, e) for i, s, e, _ in results)
    return [name, fine, errors, wrong, late, f"{slowest[3]:.3f}", slowest[0].id, slow]


def _wrong(item: Hostile, score: float | None, error: str) -> bool:
    """An error, or no score, is an answer too, only no reward."""
    return item.want is not None and not error and (score or 0.0) != float(item.want)


def batches(pairs: Sequence[Pair], items: Sequence[Hostile], count: int, seed: int = 0) -> None:
    """Batches of 8 pairs with, in most, hostile items: the other scores are those of a quiet batch, nothing is left."""
    from work import TRAPS, score_of

    from guerdon.trajectory import Failure
    from guerdon.workers import Job, Workers

    draw = random.Random(seed)
    quiet = [(p.gold, p.pred) for p in draw.sample([p for p in pairs if p.clean], min(500, len(pairs)))]
    with contextlib.suppress(Exception):
        score_of(quiet[0])
    expected = {item: _score(item) for item in quiet}
    texts = [(i.gold, i.pred) for i in items if len(i.pred) < 200_000]
    traps = [("1", trap) for trap in TRAPS]
    job, mark = Job("work:trapped_scorer"), uuid.uuid4().hex
    os.environ["GUERDON_BENCHMARK"] = mark
    changed, lost, outcomes, slowest = 0, 0, Counter[str](), 0.0
    started = time.perf_counter()
    with _empty_folder(), Workers(2) as workers:
        _ready(workers, job)
        for _ in range(count):
            batch = [draw.choice(quiet) for _ in range(8)]
            for place in range(8):
                chance = draw.random()
                if chance < 0.15:
                    batch[place] = draw.choice(texts)
                elif chance < 0.15 + 0.005:
                    batch[place] = draw.choice(traps)
            begun = time.perf_counter()
            results = workers.run(job, batch, timeout=0.25 if any(b in traps for b in batch) else DEADLINE)
            slowest = max(slowest, time.perf_counter() - begun)
            lost += len(batch) - len(results)
            for item, got in zip(batch, results, strict=False):
                if item in expected:
                    changed += got != expected[item] and not (isinstance(got, Failure) and expected[item] == "raised")
                else:
                    outcomes[got.kind if isinstance(got, Failure) else "scored"] += 1
    time.sleep(0.5)
    left = _with_mark(mark)
    print(f"{count} batches of 8 in {time.perf_counter() - started:.0f} s; slowest {slowest:.2f} s")
    print(f"results lost {lost}, scores of other items changed {changed}, processes left {len(left)} {left or ''}")
    print("hostile items: " + ", ".join(f"{kind} {n}" for kind, n in outcomes.most_common()))


def _score(item: tuple[str, str]) -> Any:
    from work import score_of

    try:
        return score_of(item)
    except Exception:
        return "raised"


def _with_mark(mark: str) -> list[str]:
    """The processes, this one left out, that have inherited the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and folder.name != str(os.getpid()) and mark.encode() in (folder / "environ").read_bytes():
                found.append(f"{folder.name} {(folder / 'cmdline').read_text()[:60]}")
    return found


@contextlib.contextmanager
def _empty_folder() -> Iterator[Path]:
    """Where hostile code would write: its payloads touch `dl/marks/...`."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "dl" / "marks").mkdir(parents=True)
        with contextlib.chdir(name):
            yield Path(name)

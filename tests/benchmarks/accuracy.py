"""How often `equivalence` and math-verify are right, by source and by kind."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pairs import Pair
from peers import Verdict, verdicts
from table import table

STUCK = 20.0
"""Seconds after which a pair is given up, so that a table is printed at all."""

Graded = Sequence[tuple[Pair, Verdict]]


@dataclass(frozen=True)
class Tally:
    """Of some rows: how many, how many right, wrongly accepted (of how many negatives), wrongly rejected ..."""

    rows: int
    right: int
    accepted: int
    negatives: int
    rejected: int
    undecided: int
    errors: int

    @property
    def share(self) -> float:
        return self.right / self.rows if self.rows else float("nan")


def grade(pairs: Iterable[Pair]) -> list[tuple[Pair, Verdict]]:
    """guerdon's verdicts, as a user would ask for them: the raw texts, the default settings."""
    from guerdon_rewards.equivalence import equivalence

    return [(pair, ask(equivalence, pair)) for pair in pairs]


def ask(function: Callable[..., Any], pair: Pair) -> Verdict:
    started = time.perf_counter()
    score, reason, error = None, "", ""
    try:
        with _given_up_after(STUCK):
            result = function(completion=pair.pred, answer=pair.gold)
        score, reason = result if isinstance(result, tuple) else (result, "")
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    return Verdict(score, reason, error, time.perf_counter() - started)


def tally(graded: Graded) -> Tally:
    """No verdict, and an error, count as not rewarded: right where the label is "wrong"."""
    right = [v.accepted == p.expected for p, v in graded]
    return Tally(
        rows=len(right),
        right=sum(right),
        accepted=sum(v.accepted and not p.expected for p, v in graded),
        negatives=sum(not p.expected for p, _ in graded),
        rejected=sum(p.expected and not v.accepted for p, v in graded),
        undecided=sum(v.score is None and not v.error for _, v in graded),
        errors=sum(bool(v.error) for _, v in graded),
    )


def mean_over_sources(graded: Graded, at_least: int = 10) -> float:
    """The mean of the sources' shares of right answers, for sources with this many rows or more."""
    tallies = [tally(rows) for rows in _by(graded, "source").values()]
    shares = [t.share for t in tallies if t.rows >= at_least]
    return sum(shares) / len(shares) if shares else float("nan")


def report(pairs: Sequence[Pair], cache: Path, failures: Path | None = None, sources: bool = True) -> None:
    """Print the tables; write every row that guerdon got wrong to `failures`."""
    graders = {"guerdon": grade(pairs), "math-verify": list(zip(pairs, verdicts(pairs, cache), strict=True))}
    heads = ["", "rows", "right", "%", "mean %", "wrongly accepted", "wrongly rejected", "undecided", "errors", "s"]
    parts: dict[str, Callable[[Pair], bool]] = {
        "clean core": lambda p: p.clean,
        "core, doubtful": lambda p: p.split == "core" and not p.clean,
        "silver": lambda p: p.split == "silver",
    }
    print(table(heads, [_line(f"{part}: {g}", _only(graded, keep)) for part, keep in parts.items()
                        for g, graded in graders.items()]))  # fmt: skip
    if sources:
        clean = {g: _only(graded, parts["clean core"]) for g, graded in graders.items()}
        for column in ("source", "kind"):
            print("\n" + _split(clean, column))
    if failures:
        _write(failures, graders["guerdon"], [v for _, v in graders["math-verify"]])


def _line(name: str, graded: Graded) -> list[object]:
    t = tally(graded)
    accepted = f"{t.accepted} ({t.accepted / t.negatives:.2%})" if t.negatives else "0"
    mean = f"{mean_over_sources(graded):.2%}"
    seconds = sum(v.seconds for _, v in graded)
    return [
        name,
        t.rows,
        t.right,
        f"{t.share:.2%}",
        mean,
        accepted,
        t.rejected,
        t.undecided,
        t.errors,
        f"{seconds:.1f}",
    ]


def _split(clean: dict[str, Graded], column: str) -> str:
    """A line for each source or kind: % right, (wrongly accepted / wrongly rejected), errors where there are any."""
    names = Counter(getattr(p, column) for p, _ in clean["guerdon"])
    parts = {g: _by(graded, column) for g, graded in clean.items()}
    lines: list[list[object]] = []
    for name, count in names.most_common():
        tallies = [tally(parts[g][name]) for g in clean]
        cells = [f"{t.share:6.1%} ({t.accepted}/{t.rejected}){f' {t.errors} err' if t.errors else ''}" for t in tallies]
        lines.append([name, count, *cells])
    return table([column, "rows", *(f"{g} (accepted/rejected)" for g in clean)], lines)


def _only(graded: Graded, keep: Callable[[Pair], bool]) -> Graded:
    return [(p, v) for p, v in graded if keep(p)]


def _by(graded: Graded, column: str) -> dict[str, list[tuple[Pair, Verdict]]]:
    parts: dict[str, list[tuple[Pair, Verdict]]] = {}
    for pair, verdict in graded:
        parts.setdefault(getattr(pair, column), []).append((pair, verdict))
    return parts


def _write(path: Path, graded: Graded, peer: Sequence[Verdict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for (p, v), other in zip(graded, peer, strict=True):
            if v.accepted != p.expected or v.error:
                part = "silver" if p.split == "silver" else "clean" if p.clean else "doubtful"
                row = {"part": part, "id": p.id, "source": p.source, "kind": p.kind, "form": p.form,
                       "expected": p.expected, "gold": p.gold, "pred": p.pred, "pred_bare": p.pred_bare,
                       "score": v.score, "reason": v.reason, "error": v.error, "seconds": round(v.seconds, 4),
                       "math_verify": other.accepted, "doubtful": p.doubtful}  # fmt: skip
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def _given_up_after(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"gave up after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

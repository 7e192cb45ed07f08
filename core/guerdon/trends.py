"""How a run's trajectories change: what is looked at of each, its first and last iterations, means with their error."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from guerdon.trajectory import Trajectory

GROUPS = 16
"""Groups of attempts (or single ones) in each third, before a word is said: below, one odd task makes a trend."""
LONG = 20
"""Characters: shorter answers (a number, a letter) are the same without anything being wrong."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a trajectory is looked at."""

    id: str
    attempt: int
    phase: str
    iteration: int
    task: str
    tokens: int
    cut: bool
    said: int
    """A hash of all that the model said."""
    long: bool
    failure: str
    message: str
    reward: float | None
    scores: Mapping[str, float | None]
    parts: Mapping[str, float]
    """The scores by their weights: what the reward is the sum of."""
    errors: Mapping[str, str]

    @property
    def group(self) -> tuple[int, str]:
        return self.iteration, self.task


def seen(t: Trajectory) -> Seen:
    said = [turn.reply.get("content") or "" for turn in t.turns]
    calls = [[c.get("function") for c in turn.reply.get("tool_calls") or () if isinstance(c, dict)] for turn in t.turns]
    return Seen(
        t.id,
        t.attempt,
        t.phase,
        t.iteration,
        t.task_id,
        t.reply_tokens,
        any(turn.finish_reason == "length" for turn in t.turns),
        hash(f"{said} {calls}"),
        sum(map(len, map(str, said))) >= LONG,
        t.failure.kind if t.failure else "",
        t.failure.message if t.failure else "",
        None if t.failure else t.reward,
        {name: s.value for name, s in t.scores.items()},
        {name: s.value * s.weight for name, s in t.scores.items() if s.value is not None},
        {name: s.error.message for name, s in t.scores.items() if s.error},
    )


@dataclass(frozen=True)
class Change:
    """A mean before and after; `error` is the standard error of the difference."""

    before: float
    after: float
    error: float

    @property
    def by(self) -> float:
        return self.after - self.before

    @property
    def ends(self) -> list[float]:
        return [self.before, self.after]

    def __str__(self) -> str:
        return f"{self.before:.2f} to {self.after:.2f}"


def thirds(records: Sequence[Seen], least: int | None = None) -> tuple[list[Seen], list[Seen]]:
    """Those of the first and of the last third of the iterations (of `least` of them); with one iteration, no first."""
    iterations = sorted({r.iteration for r in records})
    third = least or max(1, round(len(iterations) / 3))
    early, late = set(iterations[:third] if len(iterations) > 1 else ()), set(iterations[-third:])
    return [r for r in records if r.iteration in early], [r for r in records if r.iteration in late]


def groups(records: Iterable[Seen], value: Callable[[Seen], Any]) -> list[list[Any]]:
    """The values, by task and iteration."""
    by_task: dict[tuple[int, str], list[Any]] = defaultdict(list)
    for r in records:
        if (found := value(r)) is not None:
            by_task[r.group].append(found)
    return list(by_task.values())


def change(first: Sequence[Seen], last: Sequence[Seen], value: Callable[[Seen], float | None]) -> Change | None:
    """How a mean over groups has changed; `None` on too little evidence."""
    before, after = ([fmean(g) for g in groups(records, value)] for records in (first, last))
    if min(len(before), len(after)) < GROUPS:
        return None
    error = math.sqrt(variance(before) / len(before) + variance(after) / len(after))
    return Change(fmean(before), fmean(after), error)

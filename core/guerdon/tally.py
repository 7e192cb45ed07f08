"""Statistics of rewards, in memory that does not grow: means, spreads, times, what did not apply, errors by kind."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from guerdon.trajectory import Score, Trajectory


@dataclass
class Tally:
    """What one reward has given so far. Times are in seconds.

    The mean is of a compensated sum (Neumaier), so that it is what `statistics.fmean` gives; the spread, of the
    population, is Welford's.
    """

    count: int = 0
    scored: int = 0
    positive: int = 0
    not_applicable: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)
    """The last message of each kind of error."""
    last_error: str = ""
    least: float = math.inf
    most: float = -math.inf
    seconds: float = 0.0
    slowest: float = 0.0
    _sum: float = 0.0
    _lost: float = 0.0
    _centre: float = 0.0
    _squares: float = 0.0

    def add(self, score: Score) -> None:
        self.count += 1
        self.seconds += score.seconds
        self.slowest = max(self.slowest, score.seconds)
        if score.error:
            self.errors[score.error.kind] += 1
            self.messages[score.error.kind] = self.last_error = score.error.message
        elif score.value is None:
            self.not_applicable += 1
        if score.value is not None:  # an error too may have one: scoring.on_error is zero
            self._add(score.value)

    def _add(self, value: float) -> None:
        self.scored += 1
        self.positive += value > 0
        self.least, self.most = min(self.least, value), max(self.most, value)
        total = self._sum + value
        small, large = (value, self._sum) if abs(self._sum) >= abs(value) else (self._sum, value)
        self._lost += (large - total) + small
        self._sum = total
        distance = value - self._centre
        self._centre += distance / self.scored
        self._squares += distance * (value - self._centre)

    @property
    def mean(self) -> float | None:
        return (self._sum + self._lost) / self.scored if self.scored else None

    @property
    def std(self) -> float | None:
        return math.sqrt(max(self._squares, 0.0) / self.scored) if self.scored else None

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "std": self.std,
            "min": self.least if self.scored else None,
            "max": self.most if self.scored else None,
            "count": self.count,
            "positive": self.positive,
            "not_applicable": self.not_applicable,
            "errors": dict(self.errors),
            "seconds": round(self.seconds, 6),
            "slowest": round(self.slowest, 6),
        }


def tally(trajectories: Sequence[Trajectory]) -> dict[str, Tally]:
    """Statistics of each reward over scored trajectories."""
    tallies: dict[str, Tally] = {}
    for trajectory in trajectories:
        for name, score in trajectory.scores.items():
            tallies.setdefault(name, Tally()).add(score)
    return tallies

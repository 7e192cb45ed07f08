"""Statistics of rewards: means, spreads, what did not apply, and errors by kind."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from guerdon.trajectory import Score, Trajectory


@dataclass
class Tally:
    """What one reward has given so far."""

    values: list[float] = field(default_factory=list)
    not_applicable: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str = ""
    seconds: float = 0.0

    def add(self, score: Score) -> None:
        self.seconds += score.seconds
        if score.error:
            self.errors[score.error.kind] += 1
            self.last_error = score.error.message
        elif score.value is None:
            self.not_applicable += 1
        else:
            self.values.append(score.value)

    @property
    def count(self) -> int:
        return len(self.values) + self.not_applicable + self.errors.total()

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": statistics.fmean(self.values) if self.values else None,
            "std": statistics.pstdev(self.values) if self.values else None,
            "count": self.count,
            "not_applicable": self.not_applicable,
            "errors": dict(self.errors),
            "seconds": round(self.seconds, 6),
        }


def tally(trajectories: Sequence[Trajectory]) -> dict[str, Tally]:
    """Statistics of each reward over scored trajectories."""
    tallies: dict[str, Tally] = {}
    for trajectory in trajectories:
        for name, score in trajectory.scores.items():
            tallies.setdefault(name, Tally()).add(score)
    return tallies

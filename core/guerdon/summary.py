"""A run in figures: what its trajectories came to, stage by stage."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from guerdon.report import number
from guerdon.store import Run
from guerdon.tally import tally
from guerdon.trajectory import Trajectory


def figures(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """What a stage's trajectories came to."""
    good = [t for t in trajectories if not t.failure]
    rewards = [t.reward for t in good if t.reward is not None]
    return {
        "tasks": len({t.task_id for t in trajectories}),
        "rollouts": len(trajectories),
        "failed": len(trajectories) - len(good),
        "reward": statistics.fmean(rewards) if rewards else None,
        "rewards": {name: counts.to_json() for name, counts in tally(trajectories).items()},
        "tool_calls": statistics.fmean([t.tool_calls for t in good]) if good else None,
        "tokens": statistics.fmean([t.reply_tokens for t in good]) if good else None,
        "seconds": sum(t.seconds for t in trajectories),
    }


class RunningMeans:
    """'reward 0.50  numeric 0.40  xml_format 0.10', over what is scored so far."""

    def __init__(self, trajectories: Iterable[Trajectory] = ()) -> None:
        self._sums: dict[str, list[float]] = {"reward": [0.0, 0]}
        self._failed = 0
        for trajectory in trajectories:
            self.add(trajectory)

    def add(self, trajectory: Trajectory) -> None:
        self._failed += trajectory.failure is not None
        values = {"reward": trajectory.reward, **{f" {n}": s.value for n, s in trajectory.scores.items()}}
        for name, value in values.items():
            entry = self._sums.setdefault(name, [0.0, 0])
            if value is not None and not trajectory.failure:
                entry[0] += value
                entry[1] += 1

    def __str__(self) -> str:
        shown = self._sums if len(self._sums) > 2 else {"reward": self._sums["reward"]}
        parts = [f"{name.strip()} {number(total / n if n else None, 2)}" for name, (total, n) in shown.items()]
        return "  ".join([*parts, f"failed {self._failed}"] if self._failed else parts)


def summarise(run: Run) -> dict[str, Any]:
    """A run's figures: what `guerdon show RUN --json` prints."""
    stages = run.stages()
    return {
        "run": run.id,
        "finished": "finished" in stages,
        "eval": {n.removeprefix("eval-"): d for n, d in stages.items() if n.startswith("eval-")},
        "rollouts": {n.removeprefix("rollout-"): d for n, d in stages.items() if n.startswith("rollout-")},
        "training": {n.removeprefix("train-"): d for n, d in stages.items() if n.startswith("train-")},
    }

"""A run in figures: what its trajectories came to, stage by stage."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guerdon.intervals import difference, interval
from guerdon.report import number
from guerdon.store import Run
from guerdon.tally import tally
from guerdon.trajectory import Trajectory

CURVE = re.compile(r"loss|eval_loss|reward|rewards/.+/mean")
"""The logged figures that tell how a training went."""


def figures(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """What a stage's trajectories came to; those of an evaluation with their scores `by_task`, to be compared."""
    good = [t for t in trajectories if not t.failure]
    scores = by_task(good)
    rewards = {name: counts.to_json() for name, counts in tally(trajectories).items()}
    means = [t.reward for t in good if t.reward is not None]
    found = {
        "tasks": len({t.task_id for t in trajectories}),
        "rollouts": len(trajectories),
        "failed": len(trajectories) - len(good),
        "reward": statistics.fmean(means) if means else None,
        "interval": interval(scores["reward"]),
        "rewards": {
            n: {**counts, "interval": interval(scores.get(f"rewards.{n}", {}))} for n, counts in rewards.items()
        },
        "tool_calls": statistics.fmean([t.tool_calls for t in good]) if good else None,
        "tokens": statistics.fmean([t.reply_tokens for t in good]) if good else None,
        "seconds": sum(t.seconds for t in trajectories),
    }
    return {**found, "by_task": scores} if any(t.phase == "eval" for t in trajectories) else found


def by_task(trajectories: Iterable[Trajectory]) -> dict[str, dict[str, list[float]]]:
    """The scores of each task's attempts, for the `reward` and for each of the rewards (`rewards.NAME`)."""
    found: dict[str, dict[str, list[float]]] = {"reward": {}}
    for t in trajectories:
        for name, value in (("reward", t.reward), *((f"rewards.{n}", s.value) for n, s in t.scores.items())):
            if value is not None:
                found.setdefault(name, {}).setdefault(t.task_id, []).append(value)
    return found


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
    trained = {n.removeprefix("train-"): d for n, d in stages.items() if n.startswith("train-")}
    curves = _curves(run.metrics())
    points = 8 if len(curves) < 3 else 2
    return {
        "run": run.id,
        "finished": "finished" in stages,
        "eval": compared({n.removeprefix("eval-"): d for n, d in stages.items() if n.startswith("eval-")}),
        "rollouts": {n.removeprefix("rollout-"): d for n, d in stages.items() if n.startswith("rollout-")},
        "training": {
            n: {**trained.get(n, {}), "curve": _thinned(curves.get(n, []), points)} for n in {**curves, **trained}
        },
    }


def _curves(metrics: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """By training, finished or not: the loss, the reward and the mean of each reward, at the steps that were logged."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in metrics:
        kept = {name.removesuffix("/mean"): value for name, value in row.items() if CURVE.fullmatch(name)}
        if kept:
            steps = found.setdefault(row["stage"].removeprefix("train-"), {})
            steps.setdefault(row["step"], {"step": row["step"]}).update(kept)
    return {name: list(steps.values()) for name, steps in found.items()}


def _thinned(rows: Sequence[dict[str, float]], most: int) -> list[dict[str, float]]:
    """The first, the last, and what lies evenly between them."""
    return [rows[i] for i in sorted({round(k * (len(rows) - 1) / (most - 1)) for k in range(most)})] if rows else []


def compared(evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Evaluations in order, without their scores by task; each after the first with its `difference` from that one."""
    found: dict[str, dict[str, Any]] = {}
    first: Mapping[str, Any] = {}
    for name, data in evaluations.items():
        scores = data.get("by_task", {})
        found[name] = {key: value for key, value in data.items() if key != "by_task"}
        if found and first:
            changes = {n: change for n in scores if (change := difference(first.get(n, {}), scores[n]))}
            rewards = {n.removeprefix("rewards."): c for n, c in changes.items() if n != "reward"}
            if "reward" in changes:
                found[name]["difference"] = {"from": next(iter(found)), **changes["reward"], "rewards": rewards}
        first = first or scores
    return found

"""A run in figures: what its trajectories came to, stage by stage."""

import math
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guerdon.intervals import difference, interval
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
    """'reward 0.50 ±0.50  numeric 0.40 ±0.49  failed 2 (timeout 2)  tried again 1  810 tokens/s', so far.

    Means with standard deviations. Tokens are counted from its making on: those of the trajectories given then are not.
    """

    def __init__(self, trajectories: Iterable[Trajectory] = ()) -> None:
        self._sums: dict[str, list[float]] = {"reward": [0.0, 0.0, 0.0]}
        self._failed: Counter[str] = Counter()
        self._again = self._tokens = 0
        for trajectory in trajectories:
            self.add(trajectory)
        self._tokens, self._started = 0, time.perf_counter()

    def add(self, trajectory: Trajectory) -> None:
        self._tokens += trajectory.reply_tokens
        self._again += trajectory.tries > 1
        if trajectory.failure:
            self._failed[trajectory.failure.kind] += 1
            return
        if trajectory.reward is not None:
            self._count("reward", trajectory.reward)
        for name, score in trajectory.scores.items():
            if score.value is not None:
                self._count(f" {name}", score.value)
            else:
                self._sums.setdefault(f" {name}", [0.0, 0.0, 0.0])

    def _count(self, name: str, value: float) -> None:
        """Number, mean and sum of squares about it (Welford)."""
        entry = self._sums.setdefault(name, [0.0, 0.0, 0.0])
        entry[0] += 1
        distance = value - entry[1]
        entry[1] += distance / entry[0]
        entry[2] += distance * (value - entry[1])

    def __str__(self) -> str:
        sums, failed = dict(self._sums), Counter(dict(self._failed))  # the screen asks in a thread of its own
        shown = sums if len(sums) > 2 else {"reward": sums["reward"]}
        parts = [f"{name.strip()} {_mean_and_spread(*entry)}" for name, entry in shown.items()]
        if failed:
            kinds = ", ".join(f"{kind} {n}" for kind, n in failed.most_common(4))
            parts.append(f"failed {failed.total()} ({kinds})")
        if self._again:
            parts.append(f"tried again {self._again}")
        if self._tokens:
            parts.append(f"{self._tokens / (time.perf_counter() - self._started):,.0f} tokens/s")
        return "  ".join(parts)


def _mean_and_spread(count: float, mean: float, squares: float) -> str:
    return f"{mean:.2f} ±{math.sqrt(squares / count):.2f}" if count else "-"


def summarise(run: Run) -> dict[str, Any]:
    """A run's figures: what `guerdon show RUN --json` prints."""
    stages = run.stages()
    trained = {n.removeprefix("train-"): d for n, d in stages.items() if n.startswith("train-")}
    best = stages.get("best")
    curves = _curves(run.metrics())
    points = 8 if len(curves) < 3 else 2
    return {
        "run": run.id,
        "finished": "finished" in stages,
        "eval": compared(
            {n.removeprefix("eval-"): d for n, d in stages.items() if n.startswith("eval-")},
            best["checkpoint"] if best else "",
        ),
        "best": best,
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


def compared(evaluations: Mapping[str, Mapping[str, Any]], best: str = "") -> dict[str, dict[str, Any]]:
    """Evaluations in order, without their scores by task; each after the first with its `difference` from that one.

    A difference says which tasks are `left_out` of it, if any. That of the `best` checkpoint says so; one with
    `same_as` is another's under a second name.
    """
    found: dict[str, dict[str, Any]] = {}
    start = ""
    for name, data in evaluations.items():
        scores = data.get("by_task", {})
        found[name] = {key: value for key, value in data.items() if key != "by_task"}
        if start:
            first = evaluations[start]["by_task"]
            changes = {n: change for n in scores if (change := difference(first.get(n, {}), scores[n]))}
            rewards = {n.removeprefix("rewards."): c for n, c in changes.items() if n != "reward"}
            if "reward" in changes:
                found[name]["difference"] = {"from": start, **changes["reward"], "rewards": rewards}
                two = {start: evaluations[start], data.get("same_as") or name: data}
                if text := _left_out(changes["reward"]["tasks"], two):
                    found[name]["difference"]["left_out"] = text
        elif scores:
            start = name
    if best in found:
        found[best]["best"] = True
    return found


def _left_out(shared: int, two: Mapping[str, Mapping[str, Any]]) -> str:
    """'10 of 20 tasks left out: failed in iteration-2'; nothing where both evaluations have a reward for each task."""
    tasks, why = max(data["tasks"] for data in two.values()), []
    for name, data in two.items():
        if len(data["by_task"]["reward"]) < data["tasks"]:
            kinds = ["failed"] if data["failed"] else []
            kinds += ["without a reward"] if unscored(data) > data["failed"] else []
            why.append(f"{' or '.join(kinds)} in {name}")
    return f"{tasks - shared} of {tasks} tasks left out: {', '.join(why)}" if why else ""


def unscored(evaluation: Mapping[str, Any]) -> int:
    """How many of its rollouts failed, or have no reward."""
    given: int = sum(map(len, evaluation["by_task"].get("reward", {}).values()))
    return int(evaluation["rollouts"]) - given

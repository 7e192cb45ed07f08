"""What the page tells of a run: read from the store once, finished or not."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, pstdev
from typing import Any, Literal

import yaml

from guerdon.alarms import Alarm, alarms
from guerdon.card import public
from guerdon.errors import StoreError
from guerdon.html.chart import Point
from guerdon.report import number
from guerdon.store import Run
from guerdon.summary import summarise
from guerdon.task import Task
from guerdon.trajectory import Trajectory
from guerdon.trends import Seen, seen

LISTED = 200
"""Trajectories to browse."""
STEPS = 120
"""Points of a curve; of a longer training several steps are one."""


@dataclass(frozen=True)
class Change:
    """A held-out task, with its trajectory of the first evaluation and that of the newest."""

    before: Trajectory
    after: Trajectory
    by: float


class Facts:
    """A run's figures and trajectories, of which only what is counted is kept: those to be read are few."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.info = run.info
        self.recipe: dict[str, Any] = public(yaml.safe_load((run.folder / "recipe.yaml").read_text("utf-8")) or {})
        self.stages = run.stages()
        self.summary = summarise(run)
        self.trajectories = [seen(t) for t in run.each()]
        self.metrics = run.metrics()
        self.tasks = run.tasks()

    @cached_property
    def alarms(self) -> list[Alarm]:
        return alarms(self.run, self.trajectories)

    @property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.summary["eval"]
        return found

    @property
    def own_evaluations(self) -> dict[str, dict[str, Any]]:
        """Without those that are another's under a second name, as `after` is the best one's."""
        return {n: f for n, f in self.evaluations.items() if not f.get("same_as")}

    @cached_property
    def policies(self) -> dict[int, str]:
        """The names of the evaluations by the number of the policy, which is the iteration of their rollouts."""
        return {f.get("policy", i): name for i, (name, f) in enumerate(self.own_evaluations.items())}

    def task(self, t: Trajectory) -> Task:
        return self.tasks.get((t.phase, t.task_id)) or Task(t.task_id, t.task_id)

    def _read(self, record: Seen) -> Trajectory:
        return self.run.trajectory(record.id)

    def where(self, t: Trajectory | Seen) -> str:
        """The stage that a trajectory is of, in words."""
        if t.phase == "eval":
            return f"evaluation {self.policies.get(t.iteration, t.iteration)}"
        return {"train": f"training {t.iteration}", "warmup": "warm-up"}.get(t.phase, t.phase)

    @property
    def rolls_out(self) -> bool:
        """Whether the trainer asked for rollouts while it trained: iterations are its steps then."""
        return not any(n.startswith("rollout-") and n[8:].isdigit() for n in self.stages) and any(
            row["stage"] != "train-warmup" and "reward" in row for row in self.metrics
        )

    @cached_property
    def state(self) -> Literal["finished", "running", "stopped"]:
        if "finished" in self.stages:
            return "finished"
        try:
            with self.run.executing():
                return "stopped"
        except StoreError:
            return "running"

    @cached_property
    def by_stage(self) -> dict[tuple[str, int], list[Seen]]:
        """By phase and iteration, in the order of a run."""
        found: dict[tuple[str, int], list[Seen]] = defaultdict(list)
        for t in self.trajectories:
            found[t.phase, t.iteration].append(t)
        order = {"warmup": 0, "train": 1, "eval": 2}
        return dict(sorted(found.items(), key=lambda item: (order.get(item[0][0], 3), item[0][1])))

    def iterations(self, phase: str) -> list[tuple[int, list[Seen]]]:
        return [(iteration, found) for (p, iteration), found in self.by_stage.items() if p == phase]

    # -- curves ---------------------------------------------------------------------------------------------------

    def reward_curves(self) -> dict[str, list[Point]]:
        """For the reward and each of its parts, the mean and the spread (one standard deviation) by iteration."""
        trained = self.iterations("train")
        size = -(-len(trained) // STEPS) or 1
        curves: dict[str, list[Point]] = {}
        for i in range(0, len(trained), size):
            part = trained[i : i + size]
            good = [t for _, found in part for t in found if not t.failure]
            values: dict[str, list[float]] = {"reward": [t.reward for t in good if t.reward is not None]}
            for t in good:
                for name, score in t.scores.items():
                    if score is not None:
                        values.setdefault(name, []).append(score)
            where = str(part[0][0]) if len(part) == 1 else f"{part[0][0]} to {part[-1][0]}"
            for name, found in values.items():
                if found:
                    mean, spread = fmean(found), pstdev(found)
                    note = f"{name} at {where}: {mean:.3f}, standard deviation {spread:.3f}, {len(found)} rollouts"
                    low, high = max(mean - spread, min(found)), min(mean + spread, max(found))
                    curves.setdefault(name, []).append(Point(part[0][0], mean, low, high, note))
        if len(curves) == 2 and {len(c) for c in curves.values()} and _alike(*curves.values()):
            del curves["reward"]  # one reward, of weight 1
        return curves

    def training_curves(self) -> tuple[dict[str, list[list[Point]]], dict[float, str]]:
        """By the name of a logged figure, one segment a training, one after the other; and where each begins."""
        trainings: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
        for row in self.metrics:
            for name, value in row.items():
                if name not in ("at", "stage", "step") and isinstance(value, int | float):
                    trainings[row["stage"].removeprefix("train-")][name].append((row["step"], value))
        curves: dict[str, list[list[Point]]] = defaultdict(list)
        begins: dict[float, str] = {}
        start = 0
        for training, figures in trainings.items():
            begins[start] = training
            for name, values in figures.items():
                size = -(-len(values) // (2 * STEPS)) or 1
                kept = [values[i] for i in range(0, len(values), size)]
                label = f" of {training}" if len(trainings) > 1 else ""
                curves[name].append(
                    [Point(start + step, v, note=f"{name} at step {step}{label}: {v:.4g}") for step, v in kept]
                )
            start += max(step for values in figures.values() for step, _ in values)
        return dict(curves), begins

    def seconds(self) -> list[tuple[str, dict[str, float]]]:
        """Where the time of each iteration and evaluation went, by part; scoring, which is within the rollouts' time,
        is taken out of that."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for name, data in self.stages.items():
            if isinstance(spent := data.get("seconds"), Mapping):
                parts = {part: float(s) for part, s in spent.items() if isinstance(s, int | float)}
                whole = "eval" if "eval" in parts else "rollout"
                if "score" in parts and whole in parts:
                    parts["score"] = min(parts["score"], parts[whole])
                    parts[whole] -= parts["score"]
                found[_row(*name.partition("-")[::2])].update(parts)
        return [(name, dict(parts)) for name, parts in found.items() if sum(parts.values()) > 0]

    # -- trajectories ---------------------------------------------------------------------------------------------

    def evaluated(self) -> list[list[Seen]]:
        """Those of the first evaluation and of the one that the run ends with, its best; or of one alone."""
        stages = dict(self.iterations("eval"))
        last = next(reversed(self.evaluations.values()), {}).get("policy", max(stages, default=0))
        ends = dict.fromkeys((min(stages, default=0), last))
        return [stages[policy] for policy in ends if policy in stages]

    def newest(self) -> list[Seen]:
        """Those of the newest evaluation; without one, of the newest iteration."""
        stages = self.evaluated() or [found for phase in ("warmup", "train") for _, found in self.iterations(phase)]
        return stages[-1] if stages else []

    def extremes(self, count: int = 3) -> tuple[list[Trajectory], list[Trajectory]]:
        """The best and the worst of the newest, at most one a task; what failed is worst of all."""
        ranked = sorted(self.newest(), key=lambda t: (-_rank(t), t.attempt))
        best = list({t.task: t for t in reversed([t for t in ranked if not t.failure])}.values())[::-1][:count]
        taken = {t.id for t in best}
        highest = max(map(_rank, best), default=0.0)
        worst = list({t.task: t for t in ranked if t.id not in taken and _rank(t) < highest}.values())[::-1]
        return [*map(self._read, best)], [*map(self._read, sorted(worst, key=_rank)[:count])]

    def changed(self, count: int = 3) -> list[Change]:
        """The held-out tasks whose reward differs most between the evaluations, up and down."""
        stages = self.evaluated()
        if len(stages) < 2:
            return []
        first, last = ({t.task: t for t in reversed(found)} for found in stages)
        by = {name: (last[name].reward or 0.0) - (first[name].reward or 0.0) for name in last if name in first}
        up = sorted((name for name in by if by[name] > 0), key=lambda name: -by[name])[:count]
        down = sorted((name for name in by if by[name] < 0), key=lambda name: by[name])[:count]
        return [Change(self._read(first[name]), self._read(last[name]), by[name]) for name in up + down]

    def listed(self) -> Iterator[Trajectory]:
        """At most `LISTED`: an even share of each stage, of it first what failed, then the best and worst in turn."""
        queues = [_from_both_ends(found) for found in self.by_stage.values()]
        if len(queues) > LISTED // 4:
            queues = [queues[i * len(queues) // (LISTED // 4)] for i in range(LISTED // 4)]
        chosen: list[Seen] = []
        while len(chosen) < LISTED and any(queues):
            for queue in queues:
                if queue and len(chosen) < LISTED:
                    chosen.append(queue.pop())
        places = {t.id: i for i, t in enumerate(t for found in self.by_stage.values() for t in found)}
        return map(self._read, sorted(chosen, key=lambda t: places[t.id]))


def outcome(t: Trajectory) -> str:
    """'0.500', or why it failed."""
    return t.failure.kind if t.failure else number(t.reward)


def _from_both_ends(found: Iterable[Seen]) -> list[Seen]:
    """To be taken from the end: failures, then best, worst, second best ..."""
    ranked = sorted((t for t in found if not t.failure), key=_rank)
    taken = []
    while ranked:
        taken.append(ranked.pop())
        if ranked:
            taken.append(ranked.pop(0))
    failures = [t for t in found if t.failure]
    mixed = failures[:5] + taken[: LISTED // 8] + failures[5:] + taken[LISTED // 8 :]
    return mixed[::-1]


def _rank(t: Seen) -> float:
    return float("-inf") if t.reward is None else t.reward


def _alike(a: Sequence[Point], b: Sequence[Point]) -> bool:
    return len(a) == len(b) and all(p.y == q.y for p, q in zip(a, b, strict=True))


def _row(kind: str, rest: str) -> str:
    """What a stage's time is counted to: rollout-2, train-iteration-2 and eval-iteration-2 are all of iteration 2."""
    number = rest if kind == "rollout" else rest.removeprefix("iteration-")
    if number.isdigit():
        return f"iteration {number}"
    return f"evaluate {rest}" if kind == "eval" else rest or kind

"""Intervals of means, differences on the same tasks, and how a run shows them."""

import json
import random
import re
import time
from pathlib import Path
from statistics import fmean, variance

import pytest
from command import guerdon

from guerdon.intervals import difference, interval, student, wilson
from guerdon.store import Run
from guerdon.summary import figures, summarise
from guerdon.trajectory import Failure, Score, Trajectory


def alone(values: list[float]) -> dict[str, list[float]]:
    return {str(i): [v] for i, v in enumerate(values)}


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_as_newcombe_has_it(hits: int, count: int, low: float, high: float) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I."""
    assert wilson(hits / count, count) == pytest.approx((low, high), abs=5e-5)
    assert interval(alone([1.0] * hits + [0.0] * (count - hits))) == pytest.approx((low, high), abs=5e-5)


def test_a_paired_difference_is_as_newcombe_has_it() -> None:
    """Newcombe 1998, on paired data: 36 both, 12 only now, 2 only before."""
    before = alone([1.0] * 36 + [0.0] * 12 + [1.0] * 2)
    after = alone([1.0] * 36 + [1.0] * 12 + [0.0] * 2)
    found = difference(before, after)
    assert found and found["tasks"] == 50 and found["mean"] == pytest.approx(0.2)
    assert found["interval"] == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize(("freedom", "value"), [(2, 4.303), (3, 3.182), (5, 2.571), (29, 2.045), (1318, 1.962)])
def test_student(freedom: int, value: float) -> None:
    assert student(freedom) == pytest.approx(value, rel=0.01 if freedom == 2 else 2e-3)


def test_other_scores_have_students_interval() -> None:
    values = [0.5, 2.0, 3.5, 0.0, 2.5]
    low, high = interval(alone(values)) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(fmean(values))
    assert (high - low) / 2 == pytest.approx(2.776 * (variance(values) / 5) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_attempts_of_one_task_are_not_counted_as_tasks(scale: float) -> None:
    draw = random.Random(0)
    once = {str(i): [scale * (draw.random() < 0.4)] for i in range(60)}
    same = {task: scores * 8 for task, scores in once.items()}
    assert interval(same) == pytest.approx(interval(once))
    mixed = {task: [scale * (draw.random() < 0.4) for _ in range(8)] for task in once}  # no task is like another
    (low, high), (wide_low, wide_high) = interval(mixed) or (0, 0), interval(once) or (0, 0)
    assert high - low < 0.6 * (wide_high - wide_low)


def test_the_same_tasks_tell_more_than_two_sets() -> None:
    draw = random.Random(1)
    before = {str(i): [draw.gauss(0, 3)] for i in range(200)}
    after = {task: [scores[0] + draw.gauss(0.5, 0.5)] for task, scores in before.items()}
    found = difference(before, after)
    assert found and found["interval"][0] > 0.35 and found["interval"][1] < 0.65
    (_, high), (low, _) = interval(before) or (0, 0), interval(after) or (0, 0)
    assert high > low, "the two intervals say nothing"


@pytest.mark.parametrize("kind", ["zero or one", "sums", "change"])
def test_nineteen_of_twenty_intervals_hold_the_truth(kind: str) -> None:
    draw, held, rounds = random.Random(2), 0, 400
    for _ in range(rounds):
        level = [draw.gauss(0, 1) for _ in range(40)]  # tasks differ
        old = {str(i): [float(draw.gauss(a, 1) > 0) for _ in range(4)] for i, a in enumerate(level)}
        new = {str(i): [float(draw.gauss(a, 1) > 0) for _ in range(4)] for i, a in enumerate(level)}
        if kind == "change":
            found, truth = (difference(old, new) or {})["interval"], 0.0
        elif kind == "sums":
            found, truth = interval({t: [2 * s + 0.5 for s in scores] for t, scores in old.items()}), 1.5
        else:
            found, truth = interval(old), 0.5
        held += bool(found) and found[0] <= truth <= found[1]
    assert 0.92 < held / rounds < 0.985


def test_where_there_is_nothing_to_tell() -> None:
    assert interval({}) is None and interval({"a": []}) is None
    assert interval(alone([2.0, 1.0])) is None, "two tasks"
    assert interval(alone([3.5] * 9)) is None, "no spread"
    assert difference(alone([1.0]), {"other": [1.0]}) is None
    low, high = (difference(alone([0.0] * 4), alone([1.0] * 4)) or {})["interval"]
    assert 0 < low < 0.5 and high == 1.0
    assert (difference(alone([0.25] * 4), alone([2.0] * 4)) or {})["interval"] is None


def evaluation(policy: int, rewards: list[float | None]) -> list[Trajectory]:
    """One rollout a task; `None` is one that failed."""
    return [
        Trajectory(
            f"eval-{policy}-{i}-0",
            str(i),
            "eval",
            policy,
            0,
            "chat",
            "m",
            failure=Failure("timeout", "slow") if r is None else None,
            scores={} if r is None else {"numeric": Score(float(r > 0.5)), "length": Score(r, 0.5)},
            reward=None if r is None else float(r > 0.5) + 0.5 * r,
        )
        for i, r in enumerate(rewards)
    ]


def test_a_run_is_shown_with_its_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(3)
    before: list[float | None] = [draw.random() * 0.7 for _ in range(1319)]
    after: list[float | None] = [(b or 0) + 0.3 * draw.random() for b in before]
    after[0] = None
    info = {"recipe": "r", "seed": 0, "versions": {"guerdon": "0"}, "stage": ""}
    run = Run.create(tmp_path / "runs", "r", "model: m\n", info)
    run.finish_stage("eval-before", figures(evaluation(0, before)))
    run.finish_stage("eval-after", {**figures(evaluation(2, after)), "held_out": True})
    started = time.perf_counter()
    summary = summarise(run)
    assert time.perf_counter() - started < 0.5  # measured: 0.02 s
    run.close()

    newest = summary["eval"]["after"]
    change = newest["difference"]
    assert "by_task" not in newest and "difference" not in summary["eval"]["before"]
    assert (change["from"], change["tasks"]) == ("before", 1318)
    assert change["interval"][0] < change["mean"] < change["interval"][1]
    assert change["left_out"] == "1 of 1319 tasks left out: failed in after"
    assert set(change["rewards"]) == {"numeric", "length"}
    assert newest["rewards"]["numeric"]["interval"][0] < newest["rewards"]["numeric"]["mean"]
    assert guerdon(tmp_path, "show", "last", "--json").json["eval"]["after"]["difference"] == json.loads(
        json.dumps(change)
    )

    shown = guerdon(tmp_path, "show", "last").out
    low, high = change["interval"]
    assert "1319 held-out tasks, before and after (95 % intervals in brackets)" in shown
    assert "difference, over the 1318 tasks that both have" in shown
    assert f"{change['mean']:+.3f} [{low:+.3f}, {high:+.3f}]" in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80


def test_a_run_is_shown_with_the_course_of_its_training(tmp_path: Path) -> None:
    """Finished or not; at most eight of the steps that were logged."""
    run = Run.create(
        tmp_path / "runs", "r", "model: m\n", {"recipe": "r", "seed": 0, "created": 0, "versions": {"guerdon": "0"}}
    )
    run.log("train-grpo", 0, {"tasks": 20.0})
    for step in range(1, 102):
        run.log(
            "train-grpo", step, {"loss": 0.5, "grad_norm": 3.0, "rewards/short/mean": 2.0, "rewards/short/std": 9.0}
        )
        run.log("train-grpo", step, {"reward": step / 100})
    curve = summarise(run)["training"]["grpo"]["curve"]
    assert [row["step"] for row in curve] == [1, 15, 30, 44, 58, 72, 87, 101]
    assert curve[-1] == {"step": 101, "loss": 0.5, "rewards/short": 2.0, "reward": 1.01}
    shown = guerdon(tmp_path, "show", "last").out
    assert re.search(r"training grpo: not finished\nstep +loss +rewards/short +reward\n1 +0.500 +2.000 +0.010\n", shown)
    run.finish_stage("train-grpo", {"rows": 808})
    run.close()
    assert "training grpo: 808 rows\n" in guerdon(tmp_path, "show", "last").out
    assert guerdon(tmp_path, "runs").out.splitlines()[-1].endswith("0.500")

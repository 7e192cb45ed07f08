"""Statistics of rewards, kept in a fixed amount of memory."""

import random
import statistics

import pytest

from guerdon.summary import figures
from guerdon.tally import Tally
from guerdon.trajectory import Failure, Score, Trajectory


def test_figures_are_those_of_all_values_at_once() -> None:
    r = random.Random(0)
    values = [1e9 + r.random() for _ in range(1000)] + [0.1] * 10 + [-3.0]
    tally = Tally()
    for value in values:
        tally.add(Score(value, seconds=0.5))
    told = tally.to_json()
    assert told["mean"] == pytest.approx(statistics.fmean(values), rel=1e-15)
    assert told["std"] == pytest.approx(statistics.pstdev(values), rel=1e-9)
    assert (told["min"], told["max"], told["count"], told["positive"]) == (-3.0, max(values), 1011, 1010)
    assert (told["seconds"], told["slowest"]) == (505.5, 0.5)


def test_a_mean_of_equal_scores_is_that_score() -> None:
    tally = Tally()
    for _ in range(10):
        tally.add(Score(0.1))
    assert (tally.mean, tally.std) == (0.1, 0.0)


def test_errors_are_counted_by_kind_with_the_last_message() -> None:
    tally = Tally()
    for kind, message in (("timeout", "a"), ("died", "b"), ("timeout", "c")):
        tally.add(Score(None, error=Failure(kind, message), seconds=1.0))
    tally.add(Score(None))
    assert tally.errors == {"timeout": 2, "died": 1} and tally.messages == {"timeout": "c", "died": "b"}
    assert (tally.last_error, tally.count, tally.not_applicable) == ("c", 4, 1)
    assert (tally.mean, tally.std, tally.to_json()["min"]) == (None, None, None)


def test_an_error_that_counts_as_zero_is_in_the_mean_and_counted_once() -> None:
    """`scoring.on_error: zero`: the mean is that of the same numbers as its interval and the weighted sum."""
    given = [
        Score(1.0),
        Score(0.0, error=Failure("raised", "no")),
        Score(None),
        Score(None, error=Failure("died", "no")),
    ]
    made = [Trajectory(f"t{i}", str(i), "eval", 0, 0, "a", "m") for i in range(len(given))]
    told = figures([t.scored({"r": score}) for t, score in zip(made, given, strict=True)])["rewards"]["r"]
    assert (told["mean"], told["min"], told["count"], told["not_applicable"]) == (0.5, 0.0, 4, 1)
    assert told["errors"] == {"raised": 1, "died": 1}
    assert told["interval"][0] < told["mean"] < told["interval"][1]


def test_what_has_weight_0_does_not_change_what_is_learnt() -> None:
    trajectory, metric = Trajectory("t", "0", "train", 1, 0, "a", "m"), Score(0.7, 0.0)
    broken = Score(None, 0.0, error=Failure("raised", "no"))
    assert trajectory.scored({"main": Score(None), "metric": metric}).reward is None
    assert trajectory.scored({"main": Score(1.0), "metric": broken}).reward == 1.0
    assert trajectory.scored({"main": Score(None, error=Failure("raised", "no")), "metric": metric}).reward is None
    # where all are only measured, a reward of 0 says that something was
    assert trajectory.scored({"metric": metric}).reward == 0.0
    assert trajectory.scored({"metric": metric, "other": broken}).reward is None

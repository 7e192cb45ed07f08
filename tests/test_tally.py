"""Statistics of rewards, kept in a fixed amount of memory."""

import random
import statistics

import pytest

from guerdon.tally import Tally
from guerdon.trajectory import Failure, Score


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

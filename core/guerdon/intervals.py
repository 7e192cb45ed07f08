"""How far an evaluation's means can be trusted: 95 % intervals, and what changed between two on the same tasks.

The attempts at one task are alike, so standard errors are clustered by task; and two evaluations are compared task by
task, which takes out how tasks differ from each other (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640).
Scores of 0 and 1 get Wilson's interval (Wilson 1927, "Probable inference, the law of succession, and statistical
inference"), right for few tasks and near 0 and 1 too, at the effective number of attempts (Kish 1965); their
difference is Newcombe's (1998, "Improved confidence intervals for the difference between binomial proportions based on
paired data"). Other scores get Student's t.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist, StatisticsError, correlation, fmean
from typing import Any

Interval = tuple[float, float]
Scores = Mapping[str, Sequence[float]]
"""By task, those of its attempts."""

Z = NormalDist().inv_cdf(0.975)


def interval(scores: Scores) -> Interval | None:
    """The 95 % interval of the mean over all attempts.

    `None` where there is nothing to tell it from: no scores, or, unless they are all 0 or 1, fewer than three tasks or
    no spread between them.

    >>> low, high = interval({"a": [1.0], "b": [0.0], "c": [1.0], "d": [1.0]})
    >>> round(low, 3), round(high, 3)
    (0.301, 0.954)
    """
    groups = [group for group in scores.values() if group]
    count = sum(map(len, groups))
    if not count:
        return None
    mean = _mean(groups)
    variance = sum((math.fsum(g) - len(g) * mean) ** 2 for g in groups) / count**2  # of the mean, clustered by task
    if _binary(groups):
        spread = mean * (1 - mean)
        effective = min(count, spread / variance) if variance else count if spread else len(groups)
        return wilson(mean, effective)
    return _student(mean, variance, len(groups))


def difference(before: Scores, after: Scores) -> dict[str, Any] | None:
    """What changed on the tasks that both have: how many they are, the mean change, its 95 % `interval` (or `None`).

    `None` when they share no task.
    """
    shared = [task for task, scores in before.items() if scores and after.get(task)]
    if not shared:
        return None
    old, new = [before[task] for task in shared], [after[task] for task in shared]
    changes = [fmean(b) - fmean(a) for a, b in zip(old, new, strict=True)]
    change = fmean(changes)
    if _binary(old) and _binary(new):
        found = _square_and_add(change, old, new)
    else:
        variance = sum((c - change) ** 2 for c in changes) / len(changes) ** 2
        found = _student(change, variance, len(changes))
    return {"tasks": len(shared), "mean": change, "interval": found}


def wilson(share: float, count: float) -> Interval:
    """Wilson's 95 % score interval of a share among `count`.

    >>> [round(end, 4) for end in wilson(0.0, 30)]
    [0.0, 0.1135]
    """
    weight = Z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def student(freedom: int) -> float:
    """What leaves out 2.5 % of Student's t on each side: Abramowitz and Stegun 26.7.5, below 1 % off from 2 degrees of
    freedom on.

    >>> round(student(29), 3)
    2.045
    """
    z = Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / float(freedom) ** i for i, term in enumerate(terms))


def _student(mean: float, variance: float, tasks: int) -> Interval | None:
    if tasks < 3 or variance <= 1e-24 * max(1.0, mean * mean):  # below, it is the noise of floats
        return None
    half = student(tasks - 1) * math.sqrt(variance * tasks / (tasks - 1))
    return mean - half, mean + half


def _square_and_add(change: float, old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Interval | None:
    """Newcombe's: from the two intervals, and how the tasks' results go together."""
    low_old, high_old = interval({str(i): group for i, group in enumerate(old)}) or (0.0, 1.0)
    low_new, high_new = interval({str(i): group for i, group in enumerate(new)}) or (0.0, 1.0)
    was, now = _mean(old), _mean(new)
    try:
        together = correlation([fmean(g) for g in old], [fmean(g) for g in new])
    except StatisticsError:  # one of them is constant
        together = 0.0

    def length(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * together * a * b + b * b))

    low = change - length(now - low_new, high_old - was)
    return max(-1.0, low), min(1.0, change + length(high_new - now, was - low_old))


def _mean(groups: Iterable[Sequence[float]]) -> float:
    return fmean(value for group in groups for value in group)


def _binary(groups: Iterable[Sequence[float]]) -> bool:
    return all(value in (0.0, 1.0) for group in groups for value in group)

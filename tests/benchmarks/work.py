"""What the benchmarks let other processes do; found there by `module:function`, as guerdon's own workers do it."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

Item = tuple[str, str]
"""A reference answer and a completion."""


def verdict(item: Sequence[str]) -> list[Any]:
    """[score, reason, error, seconds, CPU seconds] of `equivalence`, called as a user would."""
    from guerdon_rewards.equivalence import equivalence

    gold, completion = item
    score, reason, error = None, "", ""
    started, cpu = time.perf_counter(), time.process_time()
    try:
        result = equivalence(completion=completion, answer=gold)
        score, reason = result if isinstance(result, tuple) else (result, "")
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"[:300]
    return [score, reason, error, time.perf_counter() - started, time.process_time() - cpu]


def score_of(item: Item) -> float | None:
    """The score alone; errors are raised."""
    from guerdon_rewards.equivalence import equivalence

    result = equivalence(completion=item[1], answer=item[0])
    return result[0] if isinstance(result, tuple) else result


def scorer() -> Callable[[Item], float | None]:
    """For `guerdon.workers.Job`."""
    return score_of


def trapped_scorer() -> Callable[[Item], float | None]:
    """The same, with completions that do to a worker what no reward should."""

    def score(item: Item) -> float | None:
        trap = TRAPS.get(item[1])
        return trap() if trap else score_of(item)

    return score


def _hang() -> float:
    while True:
        pass


def _hang_in_c() -> float:
    return float(len(str(pow(3, 10**9))))


def _exit() -> float:
    os._exit(3)


def _die() -> float:
    os.kill(os.getpid(), 9)
    return 0.0


def _grow() -> float:
    kept = []
    while True:
        kept.append(bytearray(50_000_000))


def _raise() -> float:
    raise ValueError("a trap")


def _leave_a_child() -> float:
    import subprocess

    subprocess.Popen(["sleep", "600"])
    return 0.0


TRAPS: dict[str, Callable[[], float]] = {
    f"trap:{f.__name__.strip('_')}": f for f in (_hang, _hang_in_c, _exit, _die, _grow, _raise, _leave_a_child)
}


def warm_up() -> None:
    """Before the first item: what would be imported with it."""
    score_of(("1", r"\boxed{\frac{2}{2}}"))

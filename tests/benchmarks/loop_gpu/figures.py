"""What a loop came to: the success rate of each evaluation on held-out tasks, and where the time of an iteration went.

    guerdon run tests/benchmarks/loop_gpu/warmup.yaml                          # once; with the data beside the recipes
    guerdon run tests/benchmarks/loop_gpu/gsm8k.yaml adapter=RUN               # adapters swapped in the running server
    python tests/benchmarks/loop_gpu/restarted.py run .../gsm8k.yaml adapter=RUN      # a server for each iteration
    guerdon run tests/benchmarks/loop_gpu/gsm_hard.yaml adapter=RUN
    python tests/benchmarks/loop_gpu/figures.py RUN [RUN ...]

All figures are from the runs' stores, as tables in Markdown. `other` is what no stage has timed: choosing and writing
rows, loading the tasks.
"""

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guerdon.loop import spent
from guerdon.report import number
from guerdon.stopwatch import WORDS
from guerdon.store import Run, find_run
from guerdon.summary import summarise


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def evaluations(summary: dict[str, Any]) -> Iterator[str]:
    """Right answers of all attempts, failed ones too."""
    rows = []
    for name, figures in summary["eval"].items():
        if figures.get("same_as"):
            continue
        right = max((r["positive"] for r in figures["rewards"].values()), default=0)
        low, high = figures["interval"] or (None, None)
        change = figures.get("difference")
        rows.append(
            [
                f"{name}{', the best' if figures.get('best') else ''}",
                f"{right} of {figures['rollouts']} ({right / figures['rollouts']:.1%})",
                f"{number(figures['reward'])} [{number(low)}, {number(high)}]",
                number(change["mean"], sign="+") if change else "",
                figures["failed"],
            ]
        )
    return table(["held-out tasks", "right", "of those that did not fail", "change", "failed"], rows)


def iterations(run: Run, stages: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Seconds by what was done."""
    ends = times(run)
    count = sum(name.startswith("rollout-") and name[8:].isdigit() for name in stages)
    rows, last = [], max((at for name, at in ends.items() if name in BEFORE), default=None)
    for i in range(1, count + 1):
        seconds = Counter(spent(run, i))
        end = max(ends.get(f"{stage}-{i}", 0.0) for stage in ("rollout", "train-iteration", "eval-iteration"))
        wall = end - last if last else sum(seconds.values())
        own = sum(value for what, value in seconds.items() if what != "score")  # rewards run beside rollouts
        done = stages[f"rollout-{i}"]
        trained = stages.get(f"train-iteration-{i}", {})
        rows.append(
            [
                i,
                f"{done['rollouts']} ({done['failed']} failed)",
                number(done["reward"]),
                trained.get("rows", ""),
                *(f"{seconds[what]:.1f}" for what in WORDS),
                f"{max(0.0, wall - own):.1f}",
                f"{wall:.1f}",
            ]
        )
        last = end
    columns = ["iteration", "rollouts", "reward", "rows", *(f"{word} s" for word in WORDS.values()), "other s", "all s"]
    return table(columns, rows)


BEFORE = ("eval-before", "eval-warmup", "eval-data", "train-warmup", "train-data")
"""The stages before the first iteration."""


def times(run: Run) -> dict[str, float]:
    """When each stage was finished."""
    with sqlite3.connect(f"file:{run.folder}/store.db?mode=ro", uri=True) as database:
        return dict(database.execute("select name, at from stages"))


def main(names: Sequence[str]) -> None:
    for name in names:
        run = Run(find_run(Path("runs"), name))
        summary, stages = summarise(run), run.stages()
        before = stages.get("eval-before", {}).get("seconds", {})
        print(f"{run.id}: the first start of the server took {before.get('serve', 0.0):.1f} s\n")
        print("\n".join([*evaluations(summary), "", *iterations(run, stages), ""]))
        run.close()


if __name__ == "__main__":
    main(sys.argv[1:] or ["last"])

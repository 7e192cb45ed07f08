"""The checkpoints of a run, in the order in which they were trained."""

from pathlib import Path

from guerdon.store import Run

STAGES = ("data", "warmup", "iteration", "grpo")


def newest_checkpoint(run: Run) -> Path | None:
    """The folder of the last training that made one: a LoRA adapter or a whole model; `None` where there is none.

    A training that found no rows leaves the policy as it was, and has no checkpoint.
    """
    for name in reversed(trained(run)):
        if (folder := run.folder / "checkpoints" / name).is_dir():
            return folder
    return None


def trained(run: Run) -> list[str]:
    """The finished trainings that had rows, by name: data, warmup, iteration-1, ..., grpo."""
    stages = {n.removeprefix("train-"): done for n, done in run.stages().items() if n.startswith("train-")}
    return sorted((n for n, done in stages.items() if done.get("rows")), key=_order)


def _order(name: str) -> tuple[int, int]:
    kind, _, number = name.partition("-")
    return STAGES.index(kind) if kind in STAGES else len(STAGES), int(number) if number.isdigit() else 0

"""The checkpoints of a run, in the order in which they were trained, and the one that it leaves behind."""

from pathlib import Path

from guerdon.store import Run

STAGES = ("data", "warmup", "iteration", "grpo")


def kept_checkpoint(run: Run) -> Path | None:
    """The folder of the best checkpoint, where the run has compared them, else of the newest; `None`: there is none.

    It holds a LoRA adapter or a whole model. A training that found no rows leaves the policy as it was, and has none.
    """
    for name in filter(None, (kept(run), *reversed(trained(run)))):
        if (folder := run.folder / "checkpoints" / name).is_dir():
            return folder
    return None


def kept(run: Run) -> str | None:
    """The name of that checkpoint, also where its folder is gone."""
    best = run.stage("best")
    return best["checkpoint"] if best else next(reversed(trained(run)), None)


def trained(run: Run) -> list[str]:
    """The finished trainings that had rows, by name: data, warmup, iteration-1, ..., grpo."""
    stages = {n.removeprefix("train-"): done for n, done in run.stages().items() if n.startswith("train-")}
    return sorted((n for n, done in stages.items() if done.get("rows")), key=_order)


def _order(name: str) -> tuple[int, int]:
    kind, _, number = name.partition("-")
    return STAGES.index(kind) if kind in STAGES else len(STAGES), int(number) if number.isdigit() else 0

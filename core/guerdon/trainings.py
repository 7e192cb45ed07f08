"""A run's trainings: each in a process that is started while its rows are made; its checkpoint becomes the policy."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guerdon.collect import Collector
from guerdon.errors import TrainingError, counted
from guerdon.live import Live
from guerdon.resolve import Bound
from guerdon.served import Served
from guerdon.task import Message, Task
from guerdon.trainer_run import Training, train


class Trainings:
    """Does them, and has the process of the one to come. A training learns from checkpoints/`name`.jsonl."""

    def __init__(self, collector: Collector, served: Served) -> None:
        self._collector, self._served = collector, served
        self._plan, self._run, self._report = collector.plan, collector.run, collector.report
        self._early: Training | None = None

    async def expect(self, name: str, trainer: Bound) -> None:
        """Start the process of a training that is to come, once the policy's server runs: what it imports takes as long
        as a training does. Several processes are not started before their time."""
        if self._plan.recipe.launch.world > 1 or self._run.stage(f"train-{name}") is not None:
            return
        self._early = Training(trainer, self._job(name), **self._place(name), early=True)
        try:
            await self._early.start()
        except OSError:  # it will be started, or fail, when its time has come
            await self.forget()

    async def forget(self) -> None:
        """End a training's process that waits, where there is one."""
        early, self._early = self._early, None
        if early:
            await early.close()
            _tidy(early.job["work"])

    async def train(
        self,
        name: str,
        trainer: Bound,
        *,
        validation: Path | None = None,
        rollouts: Mapping[str, Any] | None = None,
        tasks: Sequence[Task] = (),
        prompts: Mapping[str, list[Message]] | None = None,
    ) -> None:
        """One training. A trainer that rolls out is given `rollouts`, what it is told of them; `tasks` are those that
        it may ask for, and `prompts` what a model is asked for each."""
        stage, target = f"train-{name}", self._run.folder.absolute() / "checkpoints" / name
        job = self._job(name, validation=validation, rollouts=rollouts)
        partial, work = job["output"], job["work"]
        shutil.rmtree(partial, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        if not rollouts or self._plan.single_turn:  # else the server is needed while it trains
            await self._served.sleep()
        with self._served.clock("train"), self._report.stage("training", 1) as meter:
            live = Live(self._collector, self._served, stage, meter, tasks)
            live.prompts = dict(prompts or {})
            early, self._early, timeout = self._early, None, self._plan.recipe.loop.train_timeout
            await train(trainer, job, live, **self._place(name), timeout=timeout, early=early)
        if self._plan.recipe.launch.node_rank:
            return
        if not partial.is_dir():
            raise TrainingError(f"trainer {trainer.component.name!r} wrote no checkpoint to its output folder")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        self._served.take(target)
        _tidy(work)
        figure = "reward" if rollouts else "loss"  # a policy gradient's loss is about 0 throughout
        logged = [m[figure] for m in self._run.metrics() if m["stage"] == stage and figure in m]
        if logged:
            self._report.say(f"  {figure} {logged[0]:.3f} -> {logged[-1]:.3f} in {counted(logged, 'logged step')}")

    def begun(self, name: str) -> bool:
        """Whether a training has left what it can go on from."""
        work = self._run.folder / "checkpoints" / f"{name}-steps"
        return work.is_dir() and any(work.iterdir())

    def _job(self, name: str, **more: Any) -> dict[str, Any]:
        folder = self._run.folder.resolve() / "checkpoints"
        return {
            "model": self._served.model(),
            "adapter": self._served.adapter.resolve() if self._served.adapter else None,
            "rows": folder / f"{name}.jsonl",
            "output": folder / f".{name}.partial",
            "work": folder / f"{name}-steps",
            "seed": self._plan.recipe.seed,
            "validation": None,
            "rollouts": None,
            **more,
        }

    def _place(self, name: str) -> dict[str, Any]:
        """Where a training runs, and prints."""
        log = self._run.folder / "logs" / f"train-{name}.log"
        return {"launch": self._plan.recipe.launch, "folder": self._plan.loaded.folder, "output": log}


def _tidy(work: Path) -> None:
    """Leave of a training's own folder, where it has one, only the checkpoints that one could go on from."""
    if not work.is_dir():
        return
    for path in work.iterdir():
        if not path.name.startswith("checkpoint-"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not any(work.iterdir()):
        work.rmdir()

"""The engine: a plan in, a finished run out; the one place that composes the stages.

    evaluate -> (demonstrate -> train) -> iterations of (roll out -> score -> choose -> train) -> evaluate -> compare

Each stage notes in the store that it is done, and a rollout that is stored is never run again, so a run that was
stopped at any point goes on from there.
"""

import asyncio
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guerdon.errors import AgentError, RewardError, TrainingError, counted
from guerdon.gateway import Gateway, serve_gateway
from guerdon.groups import Groups
from guerdon.invoke import Item
from guerdon.policy import Endpoint
from guerdon.recipe import Eval, Recipe, Tasks
from guerdon.report import Report, compare
from guerdon.resolve import AllTasks, Bound, Plan, model_path
from guerdon.rollout import Agent, Attempt, RolloutRunner, entered, open_agent
from guerdon.rows import choose, write_rows
from guerdon.scoring import Scorer
from guerdon.store import Run
from guerdon.summary import RunningMeans, figures, summarise
from guerdon.tally import tally
from guerdon.task import Task
from guerdon.training import train
from guerdon.trajectory import Trajectory


@dataclass
class Engine:
    """One run being executed."""

    plan: Plan
    run: Run
    report: Report
    scorer: Scorer
    gateway: Gateway
    stack: AsyncExitStack
    train_tasks: list[Task]
    eval_tasks: list[Task]
    model: str = ""
    adapter: Path | None = None
    _agent: Agent | None = None
    _endpoint: Endpoint | None = None
    _served: Path | None = None
    _complaints: set[str] = field(default_factory=set)

    @property
    def recipe(self) -> Recipe:
        recipe: Recipe = self.plan.recipe
        return recipe

    @property
    def eval_spec(self) -> Tasks:
        """Where the held-out tasks are from."""
        return (self.recipe.eval and self.recipe.eval.tasks) or self.recipe.tasks

    async def agent(self) -> Agent:
        if self._agent is None:
            self._agent = await self.stack.enter_async_context(open_agent(self.plan.agent))
        return self._agent

    async def endpoint(self) -> Endpoint:
        """The policy's server, answering with the newest adapter."""
        if self._endpoint is None:
            self._endpoint = await self.stack.enter_async_context(
                open_backend(self.plan.backend, self.prepared_model())
            )
        if self._served != self.adapter:
            await self._endpoint.load_adapter(self.adapter)
            self._served = self.adapter
        return self._endpoint

    def prepared_model(self) -> str:
        if not self.model:
            self.model = model_path(self.plan, self.plan.model)
        return self.model

    def tell(self, hook: str, **what: Any) -> None:
        """Call a 1:N hook of every plugin; what one does wrong there is said once, and stops nothing."""
        what["run"] = str(self.run.folder)
        for one in getattr(self.plan.registry.plugins.hook, hook).get_hookimpls():
            try:
                one.function(*(what[name] for name in one.argnames))
            except Exception as error:
                complaint = f"plugin {one.plugin_name!r}: its hook {hook} failed: {type(error).__name__}: {error}"
                if complaint not in self._complaints:
                    self._complaints.add(complaint)
                    self.report.warn(complaint)

    # -- stages ---------------------------------------------------------------------------------------------------

    async def everything(self) -> None:
        recipe = self.recipe
        await self.evaluate("before")
        if recipe.loop.warmup:
            await self.warm_up()
        for iteration in range(1, recipe.loop.iterations + 1):
            trajectories = await self.iteration(iteration)
            if self.plan.trainer:
                await self.train(f"iteration-{iteration}", self.plan.trainer, trajectories)
        if self.plan.trainer and (recipe.loop.iterations or recipe.loop.warmup):
            await self.evaluate("after", recipe.loop.iterations + 1)

    async def evaluate(self, name: str, policy: int = 0) -> None:
        """The agent on the held-out tasks, with the policy as it is now.

        `policy` counts: 0 is the model itself, 1 after the warm-up, k + 1 after iteration k. One policy's rollouts are
        done once, whatever the evaluation is called.
        """
        stage = f"eval-{name}"
        if not self.eval_tasks or self.run.stage(stage) is not None:
            return
        self.report.head(
            f"Evaluate {name}{' training' if self.plan.trainer else ''}: {counted(self.eval_tasks, 'task')}"
        )
        settings = self.recipe.eval or Eval(holdout=1)
        sampling = {**self.recipe.sampling.body(), "temperature": settings.temperature}
        trajectories = await self.roll_out(
            "eval", policy, self.eval_tasks, settings.attempts, sampling, await self.endpoint()
        )
        self.run.finish_stage(stage, {**figures(trajectories), "held_out": self.recipe.eval is not None})

    async def warm_up(self) -> None:
        """Demonstrations of the same agent with another backend, and a training on them."""
        warmup = self.recipe.loop.warmup
        assert warmup and self.plan.warmup_backend and self.plan.warmup_trainer
        if self.run.stage("train-warmup") is None:
            tasks = self.train_tasks[: warmup.tasks]
            backend = self.plan.warmup_backend
            self.report.head(f"Warm-up: {counted(tasks, 'demonstration')} by {backend.component.name}")
            async with open_backend(backend, model_path(self.plan, warmup.model or self.plan.model)) as endpoint:
                teacher = " ".join(filter(None, (backend.component.name, warmup.model)))
                body = self.recipe.sampling.body()
                trajectories = await self.roll_out("warmup", 0, tasks, 1, body, endpoint, teacher)
            self.run.finish_stage("rollout-warmup", figures(trajectories))
        else:
            trajectories = []
        await self.train("warmup", self.plan.warmup_trainer, trajectories)

    async def iteration(self, iteration: int) -> list[Trajectory]:
        """Roll out one iteration's tasks."""
        stage = f"rollout-{iteration}"
        tasks = self._tasks_of(iteration)
        group = self.recipe.loop.group_size
        if self.run.stage(stage) is None:
            self.report.head(
                f"Iteration {iteration}: roll out {counted(tasks, 'task')}, {counted(group, 'attempt')} each"
            )
            body = self.recipe.sampling.body()
            trajectories = await self.roll_out("train", iteration, tasks, group, body, await self.endpoint())
            self.run.finish_stage(stage, figures(trajectories))
            return trajectories
        return self.run.trajectories("train", iteration)

    def _tasks_of(self, iteration: int) -> list[Task]:
        """Each iteration takes the next tasks, those of the warm-up first left aside."""
        count = self.recipe.loop.tasks
        if count is None:
            return self.train_tasks
        start = self.recipe.loop.warmup.tasks if self.recipe.loop.warmup else 0
        start += (iteration - 1) * count
        size = len(self.train_tasks)
        return [self.train_tasks[(start + i) % size] for i in range(min(count, size))]

    async def train(self, name: str, trainer: Bound, trajectories: Sequence[Trajectory]) -> None:
        """Train on the best of these, from the adapter so far; the new adapter becomes the policy."""
        stage, target = f"train-{name}", self.run.folder / "checkpoints" / name
        if self.run.stage(stage) is not None:
            self._take(name)
            return
        loop = self.recipe.loop
        keep = 1.0 if name == "warmup" else loop.keep_top  # demonstrations are all as good as they get
        chosen = choose(trajectories, min_reward=loop.min_reward, keep_top=keep, seed=self.recipe.seed)
        rows = self.run.folder / "checkpoints" / f"{name}.jsonl"
        count = write_rows(rows, chosen)
        self.report.head(f"Train on {counted(count, 'row')} from {len(chosen)} of {len(trajectories)} trajectories")
        if not count:
            self.report.warn(
                f"no trajectory earned {self._threshold()}: nothing to train on, the policy stays as it is"
            )
            self.run.finish_stage(stage, {"rows": 0})
            return
        await self._train(stage, trainer, rows, target, name)
        self.run.finish_stage(stage, {"rows": count, "trajectories": len(chosen)})
        self.adapter = target

    def _threshold(self) -> str:
        least = self.recipe.loop.min_reward
        return "a positive reward" if least is None else f"a reward of {least:g}"

    async def _train(self, stage: str, trainer: Bound, rows: Path, target: Path, name: str) -> None:
        partial = target.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        self.run.forget_metrics(stage)  # of a training that was killed
        job = {
            "model": self.prepared_model(),
            "adapter": self.adapter.resolve() if self.adapter else None,
            "rows": rows.resolve(),
            "output": partial.resolve(),
            "seed": self.recipe.seed,
        }
        with self.report.stage("training", 1) as meter:

            def log(step: int, total: int, metrics: Mapping[str, float]) -> None:
                self.run.log(stage, step, metrics)
                self.tell("metrics_logged", stage=stage, step=step, metrics=metrics)
                loss = f"loss {metrics['loss']:.3f}" if "loss" in metrics else ""
                meter.step(loss, done=step, total=total)

            await train(
                trainer.component,
                trainer.settings,
                job,
                log=log,
                output=self.run.folder / "logs" / f"{stage}.log",
                timeout=self.recipe.loop.train_timeout,
            )
        if not partial.is_dir():
            raise TrainingError(f"trainer {trainer.component.name!r} wrote no checkpoint to its output folder")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        losses = [m["loss"] for m in self.run.metrics() if m["stage"] == stage and "loss" in m]
        if losses:
            self.report.say(f"  loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")

    async def train_stored(self) -> None:
        """Train on the newest iteration that the run has rolled out, without rolling out more."""
        stored = self.run.trajectories("train")
        if not self.plan.trainer or not stored:
            lacks = "trajectories of training tasks" if self.plan.trainer else "trainer in its recipe"
            raise TrainingError(f"run {self.run.id} has no {lacks}")
        iteration = stored[-1].iteration
        name = f"iteration-{iteration}"
        if self.run.stage(f"train-{name}") is not None:
            raise TrainingError(f"run {self.run.id} was trained on iteration {iteration}, its newest, before")
        for earlier in ("warmup", *(f"iteration-{i}" for i in range(1, iteration))):
            self._take(earlier)
        await self.train(name, self.plan.trainer, [t for t in stored if t.iteration == iteration])

    async def evaluate_newest(self) -> None:
        """Evaluate the run's newest checkpoint, or the model itself where there is none."""
        names = ["warmup", *(f"iteration-{i}" for i in range(1, self.recipe.loop.iterations + 1))]
        trained = [policy for policy, name in enumerate(names, start=1) if self._take(name)]
        await self.evaluate(names[trained[-1] - 1] if trained else "before", trained[-1] if trained else 0)

    def _take(self, name: str) -> bool:
        """Make a finished training's adapter the policy; whether there is one."""
        done = self.run.stage(f"train-{name}")
        if done and done["rows"]:
            self.adapter = self.run.folder / "checkpoints" / name
        return bool(done and done["rows"])

    # -- rollouts -------------------------------------------------------------------------------------------------

    async def roll_out(
        self,
        phase: str,
        iteration: int,
        tasks: Sequence[Task],
        group_size: int,
        sampling: dict[str, Any],
        endpoint: Endpoint,
        model: str = "",
    ) -> list[Trajectory]:
        """Roll out and score what is not stored yet of this stage; all of the stage's trajectories come back."""
        # what failed, perhaps for want of a server, is tried again when a run goes on
        stored = {t.id: t for t in self.run.trajectories(phase, iteration) if not t.failure}
        self.run.add_tasks(phase, tasks)
        attempts = [Attempt(t, phase, iteration, k) for t in tasks for k in range(group_size)]
        runner = RolloutRunner(
            await self.agent(),
            self.plan.agent.component.name,
            endpoint,
            self.gateway,
            self.recipe.rollout,
            sampling,
            model or f"{self.plan.model}{f' + {self.adapter.name}' if self.adapter else ''}",
            (self.eval_spec if phase == "eval" else self.recipe.tasks).expose,
        )
        groups = Groups(attempts, stored.values())
        finished: dict[str, Trajectory] = dict(stored)

        async def score(group: Sequence[Item]) -> None:
            scored = await self.scorer.score(group)
            self.run.add(scored)
            for trajectory in scored:
                finished[trajectory.id] = trajectory
                means.add(trajectory)
                meter.step(str(means))
                self.tell("rollout_finished", trajectory=trajectory)

        means = RunningMeans(t for t in stored.values() if t.scores)
        started = time.perf_counter()
        with self.report.stage("rollouts", len(attempts)) as meter:
            meter.done = len(attempts) - len(groups.missing)
            try:
                async with aclosing(runner.run_all(groups.missing)) as rollouts, asyncio.TaskGroup() as scoring:
                    for group in groups.whole():
                        scoring.create_task(score(group))
                    async for attempt, trajectory in rollouts:
                        self.run.add([trajectory])
                        finished[trajectory.id] = trajectory
                        if whole := groups.add(attempt, trajectory):
                            scoring.create_task(score(whole))
            except BaseExceptionGroup as errors:  # one is enough to tell
                raise errors.exceptions[0] from None
        trajectories = [finished[a.id] for a in attempts]
        self._say_outcome(trajectories, time.perf_counter() - started)
        if self.recipe.rollout.max_failures < 1 and all(t.failure for t in trajectories):
            raise AgentError(f"all of the {len(trajectories)} rollouts failed, see above")
        for name, counts in tally(trajectories).items():
            if self.recipe.scoring.max_errors < 1 and counts.errors.total() == counts.count:
                raise RewardError(f"reward {name!r} failed on all trajectories: {counts.last_error}")
        return trajectories

    def _say_outcome(self, trajectories: Sequence[Trajectory], seconds: float) -> None:
        failures = [t for t in trajectories if t.failure]
        self.report.say(f"  {RunningMeans(trajectories)}  ({counted(trajectories, 'rollout')}, {seconds:.0f} s)")
        if failures:
            kinds = defaultdict(list)
            for t in failures:
                assert t.failure
                kinds[t.failure.kind].append(t.failure.message)
            for kind, messages in kinds.items():
                self.report.warn(f"{counted(messages, 'rollout')} failed ({kind}), e.g. {messages[0]}")
        for name, counts in tally(trajectories).items():
            if counts.errors:
                self.report.warn(
                    f"reward {name!r} failed on {counts.errors.total()} of {counts.count} trajectories "
                    f"({', '.join(f'{n} {kind}' for kind, n in counts.errors.items())}): {counts.last_error}"
                )


@asynccontextmanager
async def open_backend(bound: Bound, model: str) -> AsyncIterator[Endpoint]:
    """A backend's endpoint, started for this model."""
    async with entered(bound, bound.function(model, **bound.settings)) as endpoint:
        yield endpoint


async def execute(plan: Plan, tasks: AllTasks, run: Run, report: Report, stage: str = "") -> dict[str, Any]:
    """Execute a plan, all of it or one `stage` (rollout, train, eval); go on where a stopped run was.

    Returns the run's summary.

    Raises:
        GuerdonError: what went wrong; all that was finished is in the store.
    """
    train_set, eval_set = tasks
    for note in plan.notes:
        report.say(f"note: {note}")
    async with AsyncExitStack() as stack:
        scorer = stack.enter_context(Scorer(plan.rewards, plan.recipe.scoring))
        gateway = await stack.enter_async_context(serve_gateway())
        engine = Engine(plan, run, report, scorer, gateway, stack, train_set.tasks, eval_set.tasks if eval_set else [])
        if stage == "rollout":
            await engine.iteration(1)
        elif stage == "train":
            await engine.train_stored()
        elif stage == "eval":
            engine.eval_tasks = engine.eval_tasks or engine.train_tasks
            await engine.evaluate_newest()
        else:
            await engine.everything()
        if stage == run.info["stage"]:
            run.finish_stage("finished", {})
        summary = summarise(run)
        engine.tell("run_finished", summary=summary)
    if summary["eval"]:
        report.head("Result")
        compare(report, summary["eval"])
    return summary

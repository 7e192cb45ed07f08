"""The engine: a plan in, a finished run out; the one place that composes the stages.

    evaluate -> (train on data) -> (demonstrate -> train)
             -> iterations of (roll out -> score -> choose -> train -> evaluate)       see guerdon.loop
             -> keep the best -> evaluate -> compare

A trainer that rolls out itself (GRPO) has one training in the place of the iterations. Each stage notes in the store
that it is done, and a rollout that is stored is never run again, so a run that was stopped at any point goes on from
there.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from guerdon.alarms import Watch, comparing
from guerdon.checkpoints import kept, kept_checkpoint
from guerdon.collect import Collector
from guerdon.data import keep_data, write_data
from guerdon.errors import TrainingError, counted
from guerdon.inputs import Inputs
from guerdon.live import first_prompts
from guerdon.logs import kept_in
from guerdon.loop import conclude, improve, learn
from guerdon.recipe import Eval, Recipe, Tasks
from guerdon.report import Report, compare
from guerdon.resolve import Bound, Plan
from guerdon.rollout import Attempt
from guerdon.scoring import Scorer
from guerdon.served import Served, open_backend
from guerdon.store import Run
from guerdon.summary import RunningMeans, figures, summarise
from guerdon.tally import tally
from guerdon.task import Task
from guerdon.trainings import Trainings
from guerdon.trajectory import Trajectory
from guerdon.workplace import workplace


@dataclass
class Engine:
    """One run being executed."""

    plan: Plan
    run: Run
    report: Report
    collector: Collector
    served: Served
    inputs: Inputs
    train_tasks: list[Task] = field(default_factory=list)
    eval_tasks: list[Task] = field(default_factory=list)
    watch: Watch = field(init=False)
    trainings: Trainings = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(comparing(self.plan.rewards))
        self.trainings = Trainings(self.collector, self.served)

    @property
    def recipe(self) -> Recipe:
        recipe: Recipe = self.plan.recipe
        return recipe

    @property
    def eval_spec(self) -> Tasks | None:
        """Where the held-out tasks are from."""
        return (self.recipe.eval and self.recipe.eval.tasks) or self.recipe.tasks

    def checkpoints(self) -> list[str]:
        """The trainings of this recipe, in order; a policy's number is its place here, from 1. The model has 0."""
        data = ["data"] if self.recipe.data else []
        if not self.plan.trainer or not self.recipe.tasks:
            return data
        if self.plan.rolls_out:
            return [self.plan.trainer.component.name]
        return [*data, "warmup", *(f"iteration-{i}" for i in range(1, self.recipe.loop.iterations + 1))]

    def number(self, checkpoint: str) -> int:
        """The number of a policy: what its rollouts have as their iteration."""
        return self.checkpoints().index(checkpoint) + 1

    # -- stages ---------------------------------------------------------------------------------------------------

    async def everything(self) -> None:
        recipe, trainer = self.recipe, self.plan.trainer
        if recipe.launch.node_rank:
            return await self.join()
        await self.evaluate("before")
        if recipe.data:
            await self.train_on_data()
        if trainer and self.plan.rolls_out:
            await self.reinforce(trainer)
        elif recipe.tasks:
            if recipe.loop.warmup:
                await self.warm_up()
            await improve(self)
        await conclude(self)

    async def join(self) -> None:
        """Take part in the training of another machine, which does all else."""
        launch = self.recipe.launch
        self.report.say(f"machine {launch.node_rank} of {launch.nodes}: results are written on {launch.main_address}")
        if self.recipe.data and not self.recipe.tasks:
            return await self.train_on_data()
        if self.plan.trainer and self.plan.rolls_out:
            return await self.reinforce(self.plan.trainer)
        raise TrainingError("a loop of rollouts and trainings runs on one machine; leave launch.nodes out")

    async def evaluate(self, name: str, policy: int = 0) -> None:
        """The agent on the held-out tasks, with the policy as it is now.

        `policy` is its number (see `checkpoints`). A policy is evaluated once, whatever the evaluation is called.
        """
        stage = f"eval-{name}"
        if not self.eval_tasks or self.run.stage(stage) is not None:
            return
        for other, done in self.run.stages().items():
            if other.startswith("eval-") and done.get("policy") == policy:
                return self.run.finish_stage(stage, {**done, "same_as": other.removeprefix("eval-"), "seconds": {}})
        training = self.plan.trainer and name in ("before", "after")
        self.report.head(f"Evaluate {name}{' training' if training else ''}: {counted(self.eval_tasks, 'task')}")
        settings = self.recipe.eval or Eval(holdout=1)
        sampling = {**self.recipe.sampling.body(), "temperature": settings.temperature}
        trajectories = await self.roll_out(
            "eval", policy, self.eval_tasks, settings.attempts, sampling, await self.served.endpoint(logprobs=False)
        )
        facts = {**figures(trajectories), "policy": policy, "held_out": self.recipe.eval is not None}
        self._finish(stage, facts)

    async def warm_up(self) -> None:
        """Demonstrations of the same agent with another backend, and a training on them."""
        warmup = self.recipe.loop.warmup
        assert warmup and self.plan.warmup_backend and self.plan.warmup_trainer
        if self.run.stage("train-warmup") is None:
            tasks = self.train_tasks[: warmup.tasks]
            backend = self.plan.warmup_backend
            self.report.head(f"Warm-up: {counted(tasks, 'demonstration')} by {backend.component.name}")
            async with open_backend(backend, self.plan.model_path(warmup.model or "")) as endpoint:
                teacher = " ".join(filter(None, (backend.component.name, warmup.model)))
                body = self.recipe.sampling.body()
                await self.trainings.expect("warmup", self.plan.warmup_trainer)
                trajectories = await self.roll_out("warmup", 0, tasks, 1, body, endpoint, teacher)
            self._finish("rollout-warmup", figures(trajectories))
        else:
            trajectories = []
        await learn(self, "warmup", self.plan.warmup_trainer, trajectories)

    async def iteration(self, iteration: int, trainer: Bound | None = None) -> list[Trajectory]:
        """Roll out one iteration's tasks, which `trainer` is to learn from."""
        stage = f"rollout-{iteration}"
        tasks = self._tasks_of(iteration)
        group = self.recipe.loop.group_size
        if self.run.stage(stage) is None:
            self.report.head(
                f"Iteration {iteration}: roll out {counted(tasks, 'task')}, {counted(group, 'attempt')} each"
            )
            body = self.recipe.sampling.body()
            endpoint = await self.served.endpoint(logprobs=not trainer)  # rows have none
            if trainer:
                await self.trainings.expect(f"iteration-{iteration}", trainer)
            trajectories = await self.roll_out("train", iteration, tasks, group, body, endpoint)
            self._finish(stage, figures(trajectories))
            return trajectories
        trained = self.run.stage(f"train-iteration-{iteration}") is not None
        return [] if trained else self.run.trajectories("train", iteration)

    def _tasks_of(self, iteration: int) -> list[Task]:
        """Each iteration takes the next tasks, those of the warm-up first left aside."""
        count = self.recipe.loop.tasks
        if count is None:
            return self.train_tasks
        start = self.recipe.loop.warmup.tasks if self.recipe.loop.warmup else 0
        start += (iteration - 1) * count
        size = len(self.train_tasks)
        return [self.train_tasks[(start + i) % size] for i in range(min(count, size))]

    async def train_on_data(self) -> None:
        """Train on the recipe's rows."""
        stage, data, trainer = "train-data", self.inputs.data, self.plan.trainer
        assert data is not None and trainer
        if self.run.stage(stage) is not None:
            return self.take("data")
        folder = self.run.folder / "checkpoints"
        rows, validation, begun = folder / "data.jsonl", folder / "validation.jsonl", self.trainings.begun("data")
        count = keep_data(data.rows, rows, begun)
        held = keep_data(data.validation, validation, begun) if data.validation is not None else 0
        self.report.head(f"Train on {counted(count, 'row')}{f', validate on {held}' if held else ''}")
        for note in data.notes:
            self.report.say(f"  {note}")
        await self.trainings.train("data", trainer, validation=validation.resolve() if held else None)
        self._finish(stage, {"rows": count, "validation": held})

    async def reinforce(self, trainer: Bound) -> None:
        """A training that rolls out itself, as it goes."""
        name = trainer.component.name
        stage, loop = f"train-{name}", self.recipe.loop
        if self.run.stage(stage) is not None:
            return self.take(name)
        self.report.head(f"Train with {name}: {counted(self.train_tasks, 'task')}, {loop.group_size} attempts each")
        prompts = {t.id: t.messages for t in self.train_tasks}
        if self.plan.single_turn:
            prompts = await first_prompts(self.collector, await self.collector.agent(), self.train_tasks)
        rows = self.run.folder / "checkpoints" / f"{name}.jsonl"
        write_data(({"task": task, "prompt": prompt} for task, prompt in prompts.items()), rows)
        self.run.add_tasks("train", self.train_tasks)
        facts = {
            "group_size": loop.group_size,
            "sampling": self.recipe.sampling.body(),
            "rewards": tuple((r.name, r.weight) for r in self.plan.rewards),
            "single_turn": self.plan.single_turn,
        }
        started = time.perf_counter()
        await self.trainings.train(name, trainer, rollouts=facts, tasks=self.train_tasks, prompts=prompts)
        trajectories = self.run.trajectories("train")
        if trajectories:
            self._say_outcome(trajectories, time.perf_counter() - started)
        self.run.finish_stage(f"rollout-{name}", figures(trajectories))
        self._finish(stage, {"rows": len(trajectories), "trajectories": len(trajectories)})

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
        self.served.take(kept_checkpoint(self.run) or self.served.adapter)
        await learn(self, name, self.plan.trainer, [t for t in stored if t.iteration == iteration])

    async def evaluate_newest(self) -> None:
        """Evaluate the run's best checkpoint, where it has compared them, else the newest, beside the model itself.

        Raises:
            TrainingError: there are no tasks.
        """
        if not self.eval_tasks:
            raise TrainingError(f"run {self.run.id} has no tasks to evaluate on: give its recipe `eval` and `rewards`")
        await self.evaluate("before")
        name = kept(self.run)
        if name and self.number(name) not in {done.get("policy") for done in self.run.stages().values()}:
            self.take(name)
            await self.evaluate(name, self.number(name))

    def _finish(self, stage: str, facts: Mapping[str, Any]) -> None:
        """Note that a stage is done, what it came to, and where its time went."""
        self.run.finish_stage(stage, {**facts, "seconds": self.served.clock.take()})

    def take(self, name: str) -> None:
        """Make a finished training's checkpoint the policy, if it made one."""
        done = self.run.stage(f"train-{name}")
        if done and done["rows"]:
            self.served.take(self.run.folder / "checkpoints" / name)

    # -- rollouts -------------------------------------------------------------------------------------------------

    async def roll_out(
        self,
        phase: str,
        iteration: int,
        tasks: Sequence[Task],
        group_size: int,
        sampling: dict[str, Any],
        endpoint: Any,
        model: str = "",
    ) -> list[Trajectory]:
        """Roll out and score what is not stored yet of this stage; all of the stage's trajectories come back."""
        # what failed, perhaps for want of a server, is tried again when a run goes on
        stored = [t for t in self.run.trajectories(phase, iteration) if not t.failure]
        self.run.add_tasks(phase, tasks)
        attempts = [Attempt(t, phase, iteration, k) for t in tasks for k in range(group_size)]
        spec = self.eval_spec if phase == "eval" else self.recipe.tasks
        runner = await self.collector.runner(endpoint, sampling, model or self.served.name, spec.expose if spec else [])
        scored = [t for t in stored if t.scores and not any(score.error for score in t.scores.values())]
        means = RunningMeans(scored)
        started = time.perf_counter()
        with self.report.stage("rollouts", len(attempts)) as meter:
            meter.done = len({t.id for t in scored} & {a.id for a in attempts})
            meter.counts = self.collector.counts

            def seen(trajectory: Trajectory) -> None:
                means.add(trajectory)
                meter.step(means)

            trajectories = await self.collector.collect(runner, attempts, stored, seen)
        seconds, clock = time.perf_counter() - started, self.served.clock
        clock.add("eval" if phase == "eval" else "rollout", seconds)
        clock.add("score", sum(score.seconds for t in trajectories for score in t.scores.values()))
        self._say_outcome(trajectories, seconds)
        self.collector.judge(trajectories)
        for alarm in self.watch.add(trajectories):
            self.report.alarm(alarm)
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


async def execute(
    plan: Plan,
    inputs: Inputs,
    run: Run,
    report: Report,
    stage: str = "",
    *,
    server: str = "",
    token: str = "",
    host: str = "",
) -> dict[str, Any]:
    """Execute a plan, all of it or one `stage` (rollout, train, eval); go on where a stopped run was.

    `server` is the `guerdon serve` whose workers roll out, and `token` what opens it; `host` is the address at which
    workers reach this process.
    Returns the run's summary.

    Raises:
        GuerdonError: what went wrong; all that was finished is in the store.
    """
    for note in plan.notes:
        report.say(f"note: {note}")
    async with AsyncExitStack() as stack:
        scorer = stack.enter_context(Scorer(plan.rewards, plan.recipe.scoring))
        stack.enter_context(kept_in(run.folder / "logs"))
        served = Served(plan)
        stack.push_async_callback(served.close)
        served.take(plan.adapter)
        place = await stack.enter_async_context(workplace(plan, run, server, token, host))
        collector = Collector(plan, run, report, scorer, place.gateway, stack, place)
        train_set, held = inputs.tasks, inputs.held
        engine = Engine(plan, run, report, collector, served, inputs)
        engine.train_tasks = train_set.tasks if train_set else []
        engine.eval_tasks = held.tasks if held else []
        stack.push_async_callback(engine.trainings.forget)
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
        collector.tell("run_finished", summary=summary)
    if summary["eval"]:
        report.head("Result")
        compare(report, summary["eval"])
    return summary

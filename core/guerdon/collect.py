"""Roll out and score: attempts in, scored trajectories out, each stored as soon as it is there."""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import yaml

from guerdon.errors import AgentError, GuerdonError, RewardError
from guerdon.fastjson import dumps
from guerdon.gateway import Gateway
from guerdon.groups import Groups
from guerdon.invoke import Item
from guerdon.local_queue import as_trajectory
from guerdon.policy import Endpoint
from guerdon.queue import NOWHERE, STATUSES, Result
from guerdon.queue import Item as QueueItem
from guerdon.report import Report
from guerdon.resolve import Plan
from guerdon.rollout import Agent, Attempt, RolloutRunner, open_agent
from guerdon.rollout_worker import RolloutWorker, rarely_collecting
from guerdon.scoring import Scorer
from guerdon.store import Run
from guerdon.tally import tally
from guerdon.trajectory import Failure, Trajectory
from guerdon.workplace import Workplace, identity

T = TypeVar("T")

ENOUGH_TO_JUDGE = 8
"""Rollouts before the rate of failures can stop a run."""

PATIENCE = 2.0
"""Seconds that a call for results waits."""

COUNT_SECONDS = 0.5

ABSENT_SECONDS = 5.0
"""Without a worker at the queue of a `guerdon serve`; then that is said."""

LET_GO_SECONDS = 3.0


@dataclass(frozen=True)
class Rollouts:
    """What a stage's rollouts run on."""

    endpoint: Endpoint
    sampling: dict[str, Any]
    model: str
    expose: list[str]


@dataclass
class Collector:
    """What rollouts and their scores need, for as long as a run is executed."""

    plan: Plan
    run: Run
    report: Report
    scorer: Scorer
    gateway: Gateway
    stack: AsyncExitStack
    place: Workplace
    _counts: dict[str, int] = field(default_factory=dict)
    _tally: Counter[str] = field(default_factory=Counter)
    _agent: Agent | None = None
    _complaints: set[str] = field(default_factory=set)
    _say_absent_at: float = 0.0

    async def agent(self) -> Agent:
        if self._agent is None:
            self._agent = await self.stack.enter_async_context(open_agent(self.plan.agent))
        return self._agent

    async def runner(self, endpoint: Endpoint, sampling: dict[str, Any], model: str, expose: list[str]) -> Rollouts:
        """What a stage's rollouts are to run on; `model` is the policy's name in their record."""
        if self.place.inside:
            await self.agent()  # what is wrong with it is better known before the first rollout
        return Rollouts(endpoint, sampling, model, expose)

    async def collect(
        self,
        runner: Rollouts,
        attempts: Sequence[Attempt],
        stored: Sequence[Trajectory] | None = None,
        seen: Callable[[Trajectory], None] = lambda _: None,
    ) -> list[Trajectory]:
        """The trajectories of these attempts, in order; those `stored` are not run again, but scored again where a
        reward failed: it may have been mended.

        Nor are those that workers finished while the engine was away; but where nothing is `stored` (`None`, not
        empty) all are run anew. `seen` is told each that is scored.

        Raises:
            AgentError: more rollouts failed than the recipe allows, or there are no workers.
            RewardError: by the recipe's rule a reward has failed too often, or at all.
        """
        finished: dict[str, Trajectory] = {t.id: _unless_errors(t) for t in stored or ()}
        groups = Groups(attempts, finished.values())
        todo = {a.id: a for a in groups.missing}
        tally = self._tally = Counter[str]()
        self._counts = {}

        async def score(group: Sequence[Item]) -> None:
            for trajectory in await self.score(group):
                finished[trajectory.id] = trajectory
                seen(trajectory)

        try:
            rollouts = self._rolled_out(runner, groups.missing, anew=stored is None)
            async with aclosing(rollouts), asyncio.TaskGroup() as scoring:
                for group in groups.whole():
                    scoring.create_task(score(group))
                async for trajectories in rollouts:
                    await self.run.add_soon(trajectories)
                    for trajectory in trajectories:
                        finished[trajectory.id] = trajectory
                        if whole := groups.add(todo[trajectory.id], trajectory):
                            scoring.create_task(score(whole))
                        tally["failed" if trajectory.failure else "succeeded"] += 1
                        tally["retried"] += trajectory.tries > 1
                        self._judge_rate(tally, trajectory)
        except BaseExceptionGroup as errors:  # one is enough to tell
            raise errors.exceptions[0] from None
        return [finished[a.id] for a in attempts]

    async def _rolled_out(
        self, rollouts: Rollouts, attempts: Sequence[Attempt], anew: bool
    ) -> AsyncGenerator[list[Trajectory], None]:
        """Queue attempts, and take their trajectories as they come."""
        if not attempts:
            return
        stage, queue, waiting = self._stage(attempts[0]), self.place.queue, {a.id: a for a in attempts}
        if anew:
            await queue.forget(stage)
        async with self._workers(rollouts, waiting) as workers:
            await self._put(stage, rollouts, waiting)
            try:
                last, count_at = 0, 0.0
                while waiting:
                    new = await _unless_ended(queue.results(stage, last, PATIENCE), workers)
                    last = new[-1].number if new else last
                    if (now := time.monotonic()) > count_at:
                        self._counts = await queue.counts(stage)
                        count_at = now + max(COUNT_SECONDS, 20 * (time.monotonic() - now))
                        self._note_absence(now)
                        if not any(self._counts[status] for status in STATUSES) and not new:
                            # the server came back with another queue
                            last = 0
                            await self._put(stage, rollouts, waiting)
                    if found := [_trajectory(waiting.pop(r.id), r, rollouts.model) for r in new if r.id in waiting]:
                        yield found
            except BaseException:
                with contextlib.suppress(TimeoutError, GuerdonError):
                    async with asyncio.timeout(LET_GO_SECONDS):
                        await queue.cancel(stage)
                raise
            self._counts = {}
            await queue.forget(stage)

    @asynccontextmanager
    async def _workers(self, rollouts: Rollouts, attempts: Mapping[str, Attempt]) -> AsyncIterator[list[Any]]:
        """What rolls out: the engine's own worker, or those elsewhere, which call its gateway. Failures end them."""
        if not self.place.inside:
            self.gateway.serve(rollouts.endpoint, self.plan.recipe.model)
            workers = await self.place.workers()
            with rarely_collecting():  # their calls of the model come by here
                yield workers
            return
        settings, agent = self.plan.recipe.rollout, await self.agent()
        runner = RolloutRunner(
            agent,
            self.plan.agent.component.name,
            rollouts.endpoint,
            self.gateway,
            settings,
            rollouts.sampling,
            rollouts.model,
            rollouts.expose,
            self.plan.recipe.model,
        )
        worker = RolloutWorker(
            self.place.queue,
            lambda lease: runner.run(attempts[lease.id], lease.tries),
            name="engine",
            concurrency=settings.concurrency,
        )
        working = asyncio.create_task(worker.run())
        try:
            with rarely_collecting():
                yield [working]
        finally:
            working.cancel()
            await asyncio.wait([working])

    def _note_absence(self, now: float) -> None:
        """Say that no worker is at the queue of a `guerdon serve`: once, and again when some came and went."""
        if self.place.inside or self.place.executor or self._counts["workers"]:
            self._say_absent_at = 0.0
        elif not self._say_absent_at:
            self._say_absent_at = now + ABSENT_SECONDS
        elif now > self._say_absent_at and self.place.start:
            self._say_absent_at = math.inf
            self.report.warn(f"no worker is at the queue: start `guerdon worker {self.place.start.url}` there")

    async def _put(self, stage: str, rollouts: Rollouts, attempts: Mapping[str, Attempt]) -> None:
        await self.place.queue.put(stage, self._spec(rollouts), [self._item(a) for a in attempts.values()])

    def _stage(self, attempt: Attempt) -> str:
        return f"{identity(self.run)}/{attempt.phase}-{attempt.iteration}"

    def _spec(self, rollouts: Rollouts) -> dict[str, Any]:
        """What workers need to know."""
        recipe = self.plan.recipe
        rules = {"tries": recipe.rollout.tries, "timeout": recipe.rollout.timeout}
        if self.place.inside:
            return {"rollout": rules}
        raw = self.plan.loaded.raw  # `${VAR}` as it is written: workers replace it
        own = {"model": "-", "tasks": {"path": "-"}, "rewards": ["-"], "agent": raw.get("agent", recipe.agent.ref)}
        return {
            "recipe": yaml.safe_dump(own, sort_keys=False, allow_unicode=True),
            "folder": str(self.plan.loaded.folder),
            "model": rollouts.model,
            "serves": recipe.model,
            "sampling": rollouts.sampling,
            "expose": rollouts.expose,
            "url": self.gateway.base_url,
            "rollout": rules,
        }

    def _item(self, attempt: Attempt) -> QueueItem:
        task = "" if self.place.inside else dumps(asdict(attempt.task))
        seconds = self.plan.recipe.rollout.timeout
        return QueueItem(attempt.id, task, attempt.phase, attempt.iteration, attempt.attempt, seconds)

    def counts(self) -> dict[str, int]:
        """Of the stage that is rolled out, for showing: its rollouts that are queued, running, succeeded, failed, those
        tried more than once (retried), and the workers that are alive. A second old, mostly."""
        under_way = {name: self._counts.get(name, 0) for name in ("queued", "running", "workers")}
        ended = {name: self._tally[name] for name in ("succeeded", "failed")}
        return {**under_way, **ended, "retried": self._tally["retried"] + self._counts.get("retried", 0)}

    async def score(self, group: Sequence[Item]) -> list[Trajectory]:
        """Score the trajectories of one task, store them, and tell the plugins."""
        scored = await self.scorer.score(group)
        await self.run.add_soon(scored)
        for trajectory in scored:
            self.tell("rollout_finished", trajectory=trajectory)
        return scored

    def _judge_rate(self, counts: Counter[str], last: Trajectory) -> None:
        failed, allowed = counts["failed"], self.plan.recipe.rollout.max_failures
        finished = failed + counts["succeeded"]
        if finished >= ENOUGH_TO_JUDGE and failed / finished > allowed and last.failure:
            raise AgentError(
                f"{failed} of {finished} rollouts failed, more than rollout.max_failures "
                f"({allowed:g}) allows; the last ({last.failure.kind}): {last.failure.message}"
            )

    def judge(self, trajectories: Sequence[Trajectory]) -> None:
        """Is there something to go on with?

        Raises:
            AgentError: all rollouts failed.
            RewardError: a reward failed on all.
        """
        recipe = self.plan.recipe
        if recipe.rollout.max_failures < 1 and all(t.failure for t in trajectories):
            first = next((t.failure for t in trajectories if t.failure), Failure("", ""))
            raise AgentError(
                f"all of the {len(trajectories)} rollouts failed, the first ({first.kind}): {first.message}"
            )
        for name, counts in tally(trajectories).items():
            if recipe.scoring.max_errors < 1 and counts.errors.total() == counts.count:
                raise RewardError(f"reward {name!r} failed on all trajectories: {counts.last_error}")

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


async def _unless_ended(call: Coroutine[Any, Any, T], workers: Sequence["asyncio.Task[None]"]) -> T:
    """What a call gives; if a worker ends before, its error is raised."""
    calling = asyncio.ensure_future(call)
    try:
        await asyncio.wait((calling, *workers), return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            if worker.done():
                worker.result()
        return calling.result()
    finally:
        calling.cancel()


def _unless_errors(trajectory: Trajectory) -> Trajectory:
    """A trajectory, without its scores if one of them is an error."""
    failed = any(score.error for score in trajectory.scores.values())
    return replace(trajectory, scores={}, reward=None) if failed else trajectory


def _trajectory(attempt: Attempt, result: Result, model: str) -> Trajectory:
    if result.body:
        found = as_trajectory(result.body)
        if result.kind == NOWHERE and found.failure:
            raise AgentError(f"no worker can run the agent: {found.failure.message}", kind=NOWHERE)
        return found
    failure = Failure(result.kind, f"the worker that ran it died, {result.tries} times")
    return attempt.trajectory(model=model, tries=result.tries, failure=failure)

"""Roll out and score: attempts in, scored trajectories out, each stored as soon as it is there."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

from guerdon.errors import AgentError, RewardError
from guerdon.gateway import Gateway
from guerdon.groups import Groups
from guerdon.invoke import Item
from guerdon.policy import Endpoint
from guerdon.report import Report
from guerdon.resolve import Plan
from guerdon.rollout import Agent, Attempt, RolloutRunner, open_agent
from guerdon.scoring import Scorer
from guerdon.store import Run
from guerdon.tally import tally
from guerdon.trajectory import Failure, Trajectory


@dataclass
class Collector:
    """What rollouts and their scores need, for as long as a run is executed."""

    plan: Plan
    run: Run
    report: Report
    scorer: Scorer
    gateway: Gateway
    stack: AsyncExitStack
    _agent: Agent | None = None
    _complaints: set[str] = field(default_factory=set)

    async def agent(self) -> Agent:
        if self._agent is None:
            self._agent = await self.stack.enter_async_context(open_agent(self.plan.agent))
        return self._agent

    async def runner(
        self, endpoint: Endpoint, sampling: dict[str, Any], model: str, expose: list[str]
    ) -> RolloutRunner:
        return RolloutRunner(
            await self.agent(),
            self.plan.agent.component.name,
            endpoint,
            self.gateway,
            self.plan.recipe.rollout,
            sampling,
            model,
            expose,
        )

    async def collect(
        self,
        runner: RolloutRunner,
        attempts: Sequence[Attempt],
        stored: Sequence[Trajectory] = (),
        seen: Callable[[Trajectory], None] = lambda _: None,
    ) -> list[Trajectory]:
        """The trajectories of these attempts, in order; those `stored` are not run again.

        `seen` is told each that is scored.

        Raises:
            AgentError: more rollouts failed than the recipe allows.
            RewardError: by the recipe's rule a reward has failed too often, or at all.
        """
        finished: dict[str, Trajectory] = {t.id: t for t in stored}
        groups = Groups(attempts, finished.values())

        async def score(group: Sequence[Item]) -> None:
            for trajectory in await self.score(group):
                finished[trajectory.id] = trajectory
                seen(trajectory)

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
        return [finished[a.id] for a in attempts]

    async def score(self, group: Sequence[Item]) -> list[Trajectory]:
        """Score the trajectories of one task, store them, and tell the plugins."""
        scored = await self.scorer.score(group)
        self.run.add(scored)
        for trajectory in scored:
            self.tell("rollout_finished", trajectory=trajectory)
        return scored

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

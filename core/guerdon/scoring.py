"""Score trajectories with a recipe's rewards, apply its rule for failures, and keep count."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from guerdon.errors import RewardError
from guerdon.invoke import Asked, Item, Shape, asked, evaluate, is_async, outcomes, shape
from guerdon.recipe import Scoring
from guerdon.resolve import BoundReward
from guerdon.tally import Tally
from guerdon.trajectory import Score, Trajectory
from guerdon.workers import Job, Workers

ENOUGH_TO_JUDGE = 8
"""Scores of one reward before its rate of errors can stop a run."""

BREATH_SECONDS = 0.01
"""Inline rewards let the event loop go on so often."""


class Scorer:
    """The rewards of a recipe, ready to use; a context manager, for the worker processes that they share."""

    def __init__(self, rewards: Sequence[BoundReward], settings: Scoring) -> None:
        self.rewards = rewards
        self.settings = settings
        self.tallies = {r.name: Tally() for r in rewards}
        self._workers = Workers(settings.workers, settings.memory_mb)
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="score")

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._workers.close()

    async def score(self, group: Sequence[Item]) -> list[Trajectory]:
        """Score the trajectories of one group (one task). Those that failed are handed back as they are.

        Raises:
            RewardError: by the recipe's rule a reward has failed too often, or at all.
        """
        done = [i for i, (_, t) in enumerate(group) if t.failure is None]
        items = [group[i] for i in done]
        columns = await asyncio.gather(*(self._reward(reward, items) for reward in self.rewards)) if items else []
        scored = [t for _, t in group]
        for place, i in enumerate(done):
            scores = {r.name: column[place] for r, column in zip(self.rewards, columns, strict=True)}
            scored[i] = scored[i].scored(scores)
        return scored

    async def _reward(self, reward: BoundReward, items: Sequence[Item]) -> list[Score]:
        scores = await self._call(reward, items)
        if self.settings.on_error == "retry" and any(s.error for s in scores):
            again = await self._call(reward, items)
            scores = [b if a.error else a for a, b in zip(scores, again, strict=True)]
        tally = self.tallies[reward.name]
        for score in scores:
            tally.add(score)
        self._judge(reward, tally)
        lost = 0.0 if self.settings.on_error == "zero" else None
        return [Score(lost if s.error else s.value, reward.weight, s.reason, s.error, s.seconds) for s in scores]

    async def _call(self, reward: BoundReward, items: Sequence[Item]) -> list[Score]:
        how = shape(reward.function)
        calls = asked(how, items)
        if reward.component.inline and not is_async(reward.function):
            return await _inline(reward, how, calls)
        job = Job("guerdon.invoke:caller", (reward.component, dict(reward.settings)))
        loop = asyncio.get_running_loop()
        timeout = reward.timeout * calls[0][1]  # a group's scores are one call
        given = await loop.run_in_executor(self._threads, self._workers.run, job, calls, timeout)
        return outcomes(calls, given, timeout)

    def _judge(self, reward: BoundReward, tally: Tally) -> None:
        failed = tally.errors.total()
        if not failed:
            return
        if self.settings.on_error == "abort":
            raise RewardError(f"reward {reward.name!r} failed, and scoring.on_error is abort: {tally.last_error}")
        if tally.count >= ENOUGH_TO_JUDGE and failed / tally.count > self.settings.max_errors:
            raise RewardError(
                f"reward {reward.name!r} failed on {failed} of {tally.count} trajectories, more than "
                f"scoring.max_errors ({self.settings.max_errors:g}) allows; the last: {tally.last_error}"
            )


async def _inline(reward: BoundReward, how: Shape, calls: Sequence[Asked]) -> list[Score]:
    scores, since = list[Score](), time.monotonic()
    for one in calls:
        scores += evaluate(reward.function, reward.settings, how, one)
        if time.monotonic() - since > BREATH_SECONDS:
            await asyncio.sleep(0)
            since = time.monotonic()
    return scores

"""Run an agent on a task: every rollout ends as a trajectory, whatever happens in it."""

import asyncio
import ctypes
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from guerdon.errors import ComponentError, GuerdonError
from guerdon.gateway import Gateway
from guerdon.policy import Endpoint, Policy
from guerdon.recipe import Rollout
from guerdon.recorder import Recorder
from guerdon.registry import missing
from guerdon.resolve import Bound, takes_task
from guerdon.task import Task
from guerdon.trajectory import Failure, Trajectory
from guerdon.watchdog import INTERRUPTIBLE, Blocked

log = logging.getLogger("guerdon")

Agent = Callable[[Task, Policy], Awaitable[str]]

GRACE_SECONDS = 3.0
"""For an agent to end once it is cancelled; then it is left behind."""


@dataclass(frozen=True)
class Attempt:
    """One rollout to do."""

    task: Task
    phase: str
    iteration: int
    attempt: int

    @property
    def id(self) -> str:
        return f"{self.phase}-{self.iteration}-{self.task.id}-{self.attempt}"

    def trajectory(self, *, model: str, tries: int, agent: str = "", **what: Any) -> Trajectory:
        """What came of it: `what` are further fields of the trajectory, `failure` alone where it was not begun."""
        return Trajectory(
            self.id, self.task.id, self.phase, self.iteration, self.attempt, agent, model, tries=tries, **what
        )


@dataclass
class RolloutRunner:
    """An agent with the policy to run it on."""

    agent: Agent
    name: str
    endpoint: Endpoint
    gateway: Gateway
    settings: Rollout
    sampling: dict[str, Any]
    model: str
    expose: list[str] = field(default_factory=list)
    asks: str = ""
    """The model's name as the agent sees it, whatever the policy is; default, the endpoint's."""

    async def run(self, attempt: Attempt, tries: int = 1) -> Trajectory:
        """Roll out one attempt. Failures of the agent, its tools and the model are in the trajectory."""
        # the demonstrations' endpoint is handed the whole task, the agent never is
        with self.gateway.recorder(self.endpoint, attempt.task, self.sampling, self.asks) as recorder:
            started = time.perf_counter()
            outcome = await self._outcome(attempt.task.for_agent(self.expose), recorder)
            return attempt.trajectory(
                agent=self.name,
                model=self.model,
                tries=tries,
                turns=tuple(recorder.turns),
                tools=tuple(recorder.tools),
                completion=outcome if isinstance(outcome, str) else None,
                failure=outcome if isinstance(outcome, Failure) else None,
                seconds=round(time.perf_counter() - started, 6),
            )

    async def _outcome(self, task: Task, recorder: Recorder) -> str | Failure:
        """The agent's answer, or why there is none; the agent is over then, or left behind."""
        # a task of its own: a cancellation that it raises or swallows is its own affair
        agent = asyncio.create_task(self._answer(task, recorder))
        try:
            await asyncio.wait([agent], timeout=self.settings.timeout)
            late = not agent.done()
        finally:
            await _end(agent)
        if late:
            return Failure("timeout", f"the rollout took longer than {self.settings.timeout:g} s")
        if agent.cancelled():
            return Failure("cancelled", "the agent was cancelled, by itself or by a library that it uses")
        return agent.result()

    async def _answer(self, task: Task, recorder: Recorder) -> str | Failure:
        INTERRUPTIBLE.set(True)  # in this asyncio task, and in those that the agent starts
        try:
            answer: Any = await self.agent(task, recorder)
        except (Blocked, BaseExceptionGroup) as error:
            return self._blocked(error)
        except (Exception, SystemExit) as error:
            return _failure(recorder.error or error)
        if isinstance(answer, str):
            return answer
        return Failure("no_completion", f"the agent returned {type(answer).__name__}, not its answer as text")

    def _blocked(self, error: BaseException) -> Failure:
        if isinstance(error, BaseExceptionGroup) and not error.subgroup(Blocked):
            return _failure(error)
        message = (
            f"the agent blocked all rollouts for {self.settings.timeout:g} s: "
            "let it `await`, or call what blocks by asyncio.to_thread"
        )
        log.warning("%s", message)  # at once: the others had to wait
        return Failure("blocked", message)


async def _end(agent: "asyncio.Task[Any]") -> None:
    """Cancel an agent's task if it still runs; one that swallows this is left behind, and holds nobody up."""
    agent.cancel()
    try:
        await asyncio.wait([agent], timeout=GRACE_SECONDS)
    finally:
        if not agent.done():
            log.warning("an agent goes on though it was cancelled; it is left behind")
            asyncio.tasks._unregister_task(agent)  # asyncio.run would wait for it at its end
            # and never destroyed: a coroutine that swallows everything would spin when Python closes it
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(agent))


def _failure(error: BaseException) -> Failure:
    if isinstance(error, GuerdonError):
        return Failure(error.kind, str(error))
    return Failure("agent", f"{type(error).__name__}: {error}")


@asynccontextmanager
async def open_agent(bound: Bound) -> AsyncIterator[Agent]:
    """An agent ready for rollouts: a plain function with its settings, or what its context manager yields.

    Raises:
        ComponentError: it is neither, or something that it needs is not installed.
    """
    function, settings = bound.function, dict(bound.settings)
    if takes_task(bound):

        async def run(task: Task, policy: Policy) -> str:
            answer: str = await function(task, policy, **settings)
            return answer

        yield run
    else:
        async with entered(bound, function(**settings)) as agent:
            yield agent


@asynccontextmanager
async def entered(bound: Bound, manager: Any) -> AsyncIterator[Any]:
    """Enter a component's context manager; an extra that is missing is named with its pip line.

    Raises:
        ComponentError: it is no context manager, or it raised.
    """
    name = bound.component.name
    if not isinstance(manager, AbstractAsyncContextManager):
        if inspect.iscoroutine(manager):
            manager.close()
        raise ComponentError(f"{name!r} gave a {type(manager).__name__}: write it with @contextlib.asynccontextmanager")
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(manager)
        except GuerdonError:
            raise
        except Exception as error:
            lacks = missing(bound.component, error) if isinstance(error, ImportError) else None
            raise lacks or ComponentError(f"{name!r} did not start: {type(error).__name__}: {error}") from error
        yield opened

"""Run an agent on a task: every rollout ends as a trajectory, whatever happens in it."""

import asyncio
import ctypes
import inspect
import json
import logging
import os
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from guerdon.errors import BackendError, ComponentError, GuerdonError
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

CAUSES = 3
"""Of what an agent raised, that are told at most."""

LIBRARIES = ("<", *(f"{Path(file).parent}{os.sep}" for file in (__file__, os.__file__)))
"""How the names of files begin whose lines tell an agent's author nothing: generated, guerdon's, Python's own."""


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
        except (Exception, SystemExit, Blocked, BaseExceptionGroup) as error:
            blocked = error.subgroup(Blocked) if isinstance(error, BaseExceptionGroup) else isinstance(error, Blocked)
            return self._blocked() if blocked else _failure(error, recorder)
        if isinstance(answer, str):
            return answer
        return Failure("no_completion", f"the agent returned {type(answer).__name__}, not its answer as text")

    def _blocked(self) -> Failure:
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


def _failure(error: BaseException, recorder: Recorder) -> Failure:
    """Why an agent ended: its last request failed, if that is what it raised, or something of its own."""
    refused = recorder.error
    if refused and any(_tells(link, refused, recorder.base_url) for link in _chain(error)):
        return Failure(refused.kind, str(refused))
    leaf = _leaf(error)
    before = f" (its last request had failed: {refused})" if refused else ""
    if isinstance(leaf, GuerdonError):
        return Failure(leaf.kind, f"{leaf}{before}")
    return Failure("agent", f"{_with_cause(leaf)}{_line_of(leaf) or _line_of(error)}{before}")


def _tells(error: BaseException, refused: BackendError, address: str) -> bool:
    """Whether an exception is the failed request's: itself, or a client's, of its words or of the gateway's address.

    Of a program that the agent ran all that is known is that it failed.
    """
    words, said, asked = str(refused), _said(error), ""
    with suppress(Exception):
        asked = str(getattr(error, "url", "") or error.request.url)  # type: ignore[attr-defined]
    # frameworks show the reply's JSON as it is, or as a dict
    told = any(form in said for form in (words, repr(words)[1:-1], json.dumps(words)[1:-1])) if words else False
    return (
        error is refused or isinstance(error, SubprocessError) or told or bool(address and address in f"{said} {asked}")
    )


def _chain(error: BaseException) -> list[BaseException]:
    """An exception, what it was raised from or during, and what it groups."""
    chain: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        link = ahead.pop()
        if link is not None and not any(link is other for other in chain):
            chain.append(link)
            ahead += [link.__cause__, link.__context__]
            ahead += link.exceptions if isinstance(link, BaseExceptionGroup) else ()
    return chain


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:
        return f"{type(error).__name__}, which cannot be shown"


def _with_cause(error: BaseException) -> str:
    """What an exception says, and those that it was raised from where they say more."""
    text = _said(error)
    for _ in range(CAUSES):
        if error.__cause__ is None:
            break
        error = _leaf(error.__cause__)
        said = _said(error)
        if said.partition(": ")[2] not in text:
            text = f"{text.rstrip('.')}. {said}"
    return text


def _line_of(error: BaseException) -> str:
    """Where it was raised: the last line that is of no library."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(Path(file), line) for file, line in frames if not file.startswith(LIBRARIES)]
    own = [(file, line) for file, line in own if not {"site-packages", "dist-packages"} & set(file.parts)]
    return f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""


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

"""A worker that is a process of its own: its agents, its way to the model, and its end.

It knows of a recipe only the agent. Model calls go to the engine's gateway, which has the backend.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guerdon import event_loop
from guerdon.errors import AgentError, GuerdonError
from guerdon.fastjson import dumps, loads
from guerdon.gateway import Gateway, serve_gateway
from guerdon.http_endpoint import HttpEndpoint
from guerdon.loading import parse_recipe
from guerdon.plugins import Plugins
from guerdon.proxies import reach_directly
from guerdon.queue import LEASE_SECONDS, Lease
from guerdon.queue_client import RemoteQueue
from guerdon.recipe import Rollout
from guerdon.registry import Registry
from guerdon.resolve import bind_component, takes_task
from guerdon.rollout import Agent, Attempt, RolloutRunner, open_agent
from guerdon.rollout_worker import RolloutWorker, rarely_collecting
from guerdon.task import Task
from guerdon.trajectory import Failure, Trajectory

log = logging.getLogger("guerdon")

BEAT_SECONDS = 3.0

GATHER_SECONDS = 0.004
"""Calls to the queue wait so long for more to say."""

IDLE_SECONDS = 300.0
"""Then an agent is closed, with its servers: its run is over, it seems."""

END_SECONDS = 8.0
"""For a worker that is told to end, to hand over and to stop its agents; then it is killed."""


def work(url: str, token: str, concurrency: int = 0) -> None:
    """Be a worker for the queue at this address. Ends on SIGINT and SIGTERM, giving back what it has not finished.

    From the environment: GUERDON_WORKER is its name in the run (GUERDON_RUN) that started it, which a worker started in
    the place of a dead one has again; GUERDON_CONCURRENCY; and with GUERDON_ENGINE=stdin it goes when its stdin closes.

    Raises:
        GuerdonError: the queue refuses the token.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    named = (os.environ.get("GUERDON_RUN"), os.environ.get("GUERDON_WORKER"))
    # containers of one host may agree in host and process id
    name = "/".join(filter(None, named)) or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    concurrency = concurrency or int(os.environ.get("GUERDON_CONCURRENCY") or 16)
    if os.environ.get("GUERDON_ENGINE") == "stdin":
        threading.Thread(target=_end_with_engine, name="engine", daemon=True).start()
    reach_directly()
    with rarely_collecting():
        event_loop.run(_work(url, token, name, concurrency))


async def _work(url: str, token: str, name: str, concurrency: int) -> None:
    ending, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        if ending.is_set():
            os._exit(130)  # told twice
        ending.set()
        killer = threading.Timer(END_SECONDS, os._exit, (130,))
        killer.daemon = True
        killer.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    queue = RemoteQueue(url, token)
    try:
        async with serve_gateway() as gateway, agents_of(gateway, token) as agents:
            worker = RolloutWorker(
                queue, agents.roll, name=name, concurrency=concurrency, lease=LEASE_SECONDS, pause=GATHER_SECONDS
            )
            told = asyncio.create_task(ending.wait())
            ready = asyncio.create_task(queue.beat(name, [], 0))  # what one of this name had, it has no more
            await asyncio.wait((told, ready), return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                _say_ready()
                log.info("worker %s: up to %d rollouts at a time for %s", name, concurrency, url)
                _beat(RemoteQueue(url, token), worker, loop)
                working = asyncio.create_task(worker.run())
                await asyncio.wait((told, working), return_when=asyncio.FIRST_COMPLETED)
                working.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await working
            ready.cancel()
            told.cancel()
    finally:
        await queue.aclose()


def _say_ready() -> None:
    """Tell the executor, on stdout, which is its pipe; what agents print goes to the log, with stderr."""
    if os.environ.get("GUERDON_ENGINE") == "stdin":
        os.write(1, b"ready\n")
        os.dup2(2, 1)


def _beat(queue: RemoteQueue, worker: RolloutWorker, loop: asyncio.AbstractEventLoop) -> None:
    """Tell the queue that this worker lives, in a thread of its own: an agent may block the others' loop."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                lost = await queue.beat(worker.name, list(worker.running), LEASE_SECONDS)
                if lost:
                    loop.call_soon_threadsafe(worker.drop, lost)
            except Exception as error:  # refused too: a worker with its hands full hears of that only later
                if loop.is_closed():
                    return
                log.warning("saying that this worker lives failed: %s: %s", type(error).__name__, error)

    threading.Thread(target=lambda: asyncio.run(beat()), name="beat", daemon=True).start()


def _end_with_engine() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


@dataclass
class Agents:
    """Rolls out leases, each with the agent of its recipe, which is opened once."""

    gateway: Gateway
    token: str
    _open: dict[str, "_Held"] = field(default_factory=dict)

    async def roll(self, lease: Lease) -> Trajectory:
        """What comes of a lease, whatever happens."""
        attempt = Attempt(Task(**loads(lease.task)), lease.phase, lease.iteration, lease.attempt)
        spec = lease.spec
        try:
            async with self._agent(spec) as (agent, held):
                return await self._runner(spec, agent, held).run(attempt, lease.tries)
        except GuerdonError as error:
            failure = Failure(error.kind, str(error))
        except Exception as error:
            log.exception("rollout %s broke", lease.id)
            failure = Failure("error", f"{type(error).__name__}: {error}")
        return attempt.trajectory(model=spec["model"], tries=lease.tries, failure=failure)

    def _runner(self, spec: Mapping[str, Any], agent: Agent, held: "_Held") -> RolloutRunner:
        settings = Rollout.model_construct(**spec["rollout"])
        return RolloutRunner(
            agent,
            held.name,
            held.endpoint,
            self.gateway,
            settings,
            spec["sampling"],
            spec["model"],
            spec["expose"],
            spec["serves"],
        )

    @asynccontextmanager
    async def _agent(self, spec: Mapping[str, Any]) -> AsyncIterator[tuple[Agent, "_Held"]]:
        """The agent of a spec, an engine's own, whose code may have been edited since the last one; and what goes
        with it. Those that have not been used for long are closed."""
        key = dumps([spec["url"], spec["folder"], spec["recipe"]])
        held = self._open.get(key) or self._open.setdefault(key, _Held(spec, self.token))
        held.used += 1
        try:
            idle = [k for k, h in self._open.items() if not h.used and time.monotonic() - h.last > IDLE_SECONDS]
            for other in [self._open.pop(k) for k in idle]:  # at once: others look here while one is closed
                await other.close()
            try:
                agent = await asyncio.shield(held.agent)
            except Exception as error:
                first = self._open.get(key) is held
                if first:
                    del self._open[key]  # the next lease tries again
                where = f"on {socket.gethostname()}, process {os.getpid()}"
                if first:
                    log.warning("the agent does not start %s: %s", where, error)
                raise AgentError(f"the agent does not start {where}: {error}", kind="agent_start") from None
            yield agent, held
        finally:
            held.used -= 1
            held.last = time.monotonic()

    async def aclose(self) -> None:
        for held in self._open.values():
            await held.close()


class _Held:
    """An agent, opened and closed in one asyncio task, as its context managers may ask, and its way to the model."""

    def __init__(self, spec: Mapping[str, Any], token: str) -> None:
        self.name = ""
        # no deadline but the rollout's own, and retries are the engine's affair
        self.endpoint = HttpEndpoint(
            spec["url"], spec["serves"], token, timeout=86400, retries=1, token_ids=False, hand_task=True
        )
        self.used = 0
        self.last = time.monotonic()
        self.agent: asyncio.Future[Agent] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._hold(spec))

    async def _hold(self, spec: Mapping[str, Any]) -> None:
        try:
            folder = Path(spec["folder"])
            loaded = parse_recipe(spec["recipe"], (), source="the run's recipe", folder=folder)
            bound = bind_component("agents", loaded.recipe.agent, ("agent",), loaded, Registry(Plugins(), folder), [])
            takes_task(bound)
            self.name = bound.component.name
            async with open_agent(bound) as agent:
                self.agent.set_result(agent)
                await self._over.wait()
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # libraries raise those too
            said = f"{type(error).__name__}: {error}"
            if self.agent.done():
                log.warning("an agent did not end well: %s", said)
            else:
                failed = error if isinstance(error, Exception) else AgentError(said)
                self.agent.set_exception(failed)
                self.agent.exception()  # it is told by those who wait for it

    async def close(self) -> None:
        self._over.set()
        await asyncio.wait([self._task])
        await self.endpoint.aclose()


@asynccontextmanager
async def agents_of(gateway: Gateway, token: str) -> AsyncIterator[Agents]:
    agents = Agents(gateway, token)
    try:
        yield agents
    finally:
        await agents.aclose()


__all__ = ["work"]

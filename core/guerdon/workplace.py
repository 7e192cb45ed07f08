"""Where a run's rollouts are done: in the engine, in workers that it starts, or by those of a `guerdon serve`."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from guerdon.executors import WorkerStart
from guerdon.gateway import Gateway, serve_gateway
from guerdon.local_queue import LocalQueue
from guerdon.queue import Queue, WorkQueue
from guerdon.queue_client import RemoteQueue
from guerdon.queue_server import queue_app
from guerdon.resolve import Bound, Plan
from guerdon.rollout import entered
from guerdon.store import Run
from guerdon.traits import attribute

LOOPBACK = "127.0.0.1"


@dataclass
class Workplace:
    """The queue of a run, and the workers on it. `inside`: the engine rolls out itself."""

    queue: WorkQueue
    gateway: Gateway
    inside: bool = True
    executor: Bound | None = None
    start: WorkerStart | None = None
    _workers: list["asyncio.Task[None]"] = field(default_factory=list)

    async def workers(self) -> list["asyncio.Task[None]"]:
        """The engine's workers, started when they are first needed; a task ends when they cannot be kept going."""
        if self.executor and not self._workers:
            started = asyncio.get_running_loop().create_future()
            self._workers = [asyncio.create_task(self._keep(started))]
            await asyncio.wait((started, *self._workers), return_when=asyncio.FIRST_COMPLETED)
        return self._workers

    async def _keep(self, started: "asyncio.Future[None]") -> None:
        assert self.executor
        manager = self.executor.function(self.start, **self.executor.settings)
        async with entered(self.executor, manager):
            started.set_result(None)
            await asyncio.Event().wait()

    async def close(self) -> None:
        for task in self._workers:
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)


async def ask(server: str, token: str) -> None:
    """Is the `guerdon serve` at this address there, and does the token open it?

    Raises:
        GuerdonError: it is not, or refuses the token.
    """
    queue = RemoteQueue(server, token)
    try:
        await queue.check()
    finally:
        await queue.aclose()


def identity(run: Run) -> str:
    """A run among those that share a queue, from many machines."""
    return f"{run.id}@{run.info['created']:.3f}"


def _reached_at(executor: Bound | None) -> str:
    target = getattr(executor.function, "reached_at", "") if executor else ""
    return str(attribute(target)(executor.settings)) if executor and target else ""


@asynccontextmanager
async def workplace(
    plan: Plan, run: Run, server: str = "", token: str = "", host: str = ""
) -> AsyncIterator[Workplace]:
    """The place that the recipe's `rollout` asks for.

    `server` is the address of a `guerdon serve`, `token` opens it, `host` is where workers reach the engine.
    """
    count = plan.recipe.rollout.workers
    host = host or (_reached_at(plan.executor) if count else "") or LOOPBACK
    token = token or secrets.token_urlsafe(24)
    async with contextlib.AsyncExitStack() as stack:
        if not server and not count:
            queue: Any = LocalQueue(Queue())
            stack.push_async_callback(queue.aclose)
            yield Workplace(queue, await stack.enter_async_context(serve_gateway()))
            return
        if server:
            queue = RemoteQueue(server, token)
            stack.push_async_callback(queue.aclose)
            gateway = await stack.enter_async_context(serve_gateway(host=host, token=token))
        else:
            local = Queue(run.folder / "queue.db")
            local.release_all()
            queue = LocalQueue(local)
            stack.push_async_callback(queue.aclose)
            more = {"/queue": queue_app(queue, token)}
            gateway = await stack.enter_async_context(serve_gateway(host=host, token=token, more=more))
            stack.callback(queue.hurry)
            server = gateway.base_url.removesuffix("/v1")
        env = {
            "GUERDON_QUEUE": server,
            "GUERDON_RUN": identity(run),
            "GUERDON_CONCURRENCY": str(plan.recipe.rollout.concurrency),
        }
        start = WorkerStart(server, token, count, env, run.folder / "logs")
        place = Workplace(queue, gateway, False, plan.executor if count else None, start)
        stack.push_async_callback(place.close)
        yield place

"""Workers on a Ray cluster, or a Ray of this machine's.

Each is kept by a Ray task, as `processes` keeps its own: one that dies is started again where it was, and when its
machine dies, Ray runs the task on another.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import PositiveFloat

from guerdon.errors import AgentError, GuerdonError
from guerdon.executors import WorkerStart
from guerdon.traits import traits
from guerdon_executors.processes import GRACE_SECONDS, keep

log = logging.getLogger("guerdon")

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Nothing is sent to Ray's makers, and a task that asks for no GPU is not cut off from them."""


@traits(reached_at="guerdon_executors.ray_executor:reached_at")
@asynccontextmanager
async def ray(
    start: WorkerStart,
    *,
    address: str = "auto",
    cpus: PositiveFloat = 1,
    runtime_env: dict[str, Any] | None = None,
) -> AsyncIterator[None]:
    """Runs rollout workers on a Ray cluster, and starts those that die again.

    Args:
        address: The cluster: auto (RAY_ADDRESS, or the one this machine is part of), HOST:PORT, or ray://HOST:10001;
            local: one for this run, on this machine alone.
        cpus: What Ray sets aside for a worker.
        runtime_env: What Ray prepares for the workers, e.g. {working_dir: .} or {pip: [my-agents]}.

    Raises:
        AgentError: there is no such cluster, or workers do not start there.
    """
    import ray as library

    ours = not library.is_initialized()
    connecting = asyncio.create_task(asyncio.to_thread(_connect, address, cpus * start.count)) if ours else None
    try:
        if connecting:
            await asyncio.shield(connecting)
        remote = library.remote(num_cpus=cpus, max_retries=-1, runtime_env=runtime_env, scheduling_strategy="SPREAD")(
            _kept
        )
        _say_if_too_few(library.cluster_resources().get("CPU", 0), cpus, start.count)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_watched(remote, start, f"worker-{i}")) for i in range(1, start.count + 1)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        if connecting:
            await asyncio.wait([connecting])
            await asyncio.to_thread(library.shutdown)  # of a cluster that is not ours: only leaves it


def _connect(address: str, cpus: float) -> None:
    """In a thread: it takes seconds, and in the main one Ray would take over SIGTERM."""
    import ray as library

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    more: dict[str, Any] = {"address": address}
    if address == "local":
        more |= {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, math.ceil(cpus))}
    try:
        if there := _named(address):
            socket.create_connection(there, 10).close()  # Ray itself would try for minutes
        library.init(**more, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise AgentError(
            f"The Ray cluster {address!r} cannot be joined: {str(error).rstrip('.')}. Start one (ray start --head), "
            "give its address, or take address: local.",
            kind="workers",
        ) from None


def _named(address: str) -> tuple[str, int] | None:
    """The host and port of a cluster, where one is named."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    if address in ("auto", "local"):
        return None
    parts = urlsplit(address if "//" in address else f"//{address}")
    return parts.hostname or "", parts.port or (10001 if "//" in address else 6379)


def _say_if_too_few(there: float, cpus: float, count: int) -> None:
    if there < cpus * count:
        log.warning(
            "The Ray cluster has %g CPUs: %d of the %d workers start now, the others as it grows",
            there,
            there // cpus,
            count,
        )


async def _watched(remote: Any, start: WorkerStart, name: str) -> None:
    """A worker's task, until this is cancelled."""
    import ray as library

    ref = remote.remote(start, name)
    waiting = asyncio.ensure_future(_result(ref))
    try:
        await asyncio.shield(waiting)  # Ray's client does not like its futures cancelled
    except library.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, GuerdonError):
            raise cause from None
        raise AgentError(f"Ray does not run rollout workers: {error}", kind="workers") from None
    finally:
        for force in (False, True):
            if not waiting.done():
                library.cancel(ref, force=force)
                await asyncio.wait([waiting], timeout=GRACE_SECONDS + 5)
        if waiting.done():
            waiting.exception()  # that it was cancelled


async def _result(ref: Any) -> None:
    await ref


def _kept(start: WorkerStart, name: str) -> None:
    """On a machine of the cluster: keep a worker running until Ray cancels this, by an interrupt."""

    async def main() -> None:
        task = asyncio.ensure_future(keep(replace(start, logs=logs), name))
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    here = start.logs if start.logs and start.logs.is_dir() else None  # where the run's folder is shared
    with contextlib.ExitStack() as stack:
        logs = here or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guerdon-worker-")))
        asyncio.run(main())


def reached_at(settings: Mapping[str, Any]) -> str:
    """The address of this machine at which the workers reach the engine, where none is given; empty: its loopback.

    Raises:
        AgentError: there is no route to them.
    """
    if settings["address"] == "local":
        return ""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # connecting one sends nothing
            probe.connect(_named(settings["address"]) or ("192.0.2.1", 9))  # an address that is nobody's: the way out
            return str(probe.getsockname()[0])
    except OSError as error:
        raise AgentError(
            f"The address at which Ray's workers reach this machine is not to be seen ({error}): give it as --host.",
            kind="workers",
        ) from None

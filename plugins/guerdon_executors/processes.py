"""Workers as processes of this machine."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from guerdon.errors import AgentError
from guerdon.executors import WorkerStart

log = logging.getLogger("guerdon")

FALSE_STARTS = 3
"""In a row, of one worker; then something is wrong that another start does not mend."""

GRACE_SECONDS = 10.0
"""For a worker that is told to end; then it is killed."""

TAIL = 2000
"""Characters of a log that are shown."""


@asynccontextmanager
async def processes(start: WorkerStart) -> AsyncIterator[None]:
    """Runs rollout workers as processes of this machine, and starts those that die again."""
    try:
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(keep(start, f"worker-{i}")) for i in range(1, start.count + 1)]
            try:
                yield
            finally:
                for task in kept:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def keep(start: WorkerStart, name: str) -> None:
    """Keep one worker running, until this is cancelled."""
    false_starts = 0
    log_file = (start.logs or Path.cwd()) / f"{name}.log"
    while True:
        with log_file.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "guerdon.rollout_worker"),
                env={**os.environ, **start.env, "GUERDON_WORKER": name, "GUERDON_ENGINE": "stdin"},
                stdin=asyncio.subprocess.PIPE,  # brings the token; closes with this process, and then the worker goes
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        try:
            assert process.stdin and process.stdout
            if not process.stdin.is_closing():  # it may have died already
                process.stdin.write(f"{start.token}\n".encode())
            ready = await process.stdout.readline()
            code = await process.wait()
        finally:
            await _end(process)
        false_starts = 0 if ready else false_starts + 1
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if false_starts == FALSE_STARTS:
            raise AgentError(f"rollout workers do not start: {name} ended {how}. {_tail(log_file)}", kind="workers")
        if ready:
            log.warning("rollout %s ended %s: started again, and what it was doing is queued", name, how)


async def _end(process: asyncio.subprocess.Process) -> None:
    """With all that it started: its group is its own."""
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _tail(log_file: Path) -> str:
    text = log_file.read_text(errors="replace").strip()
    return f"The end of {log_file}:\n{text[-TAIL:]}" if text else f"It said nothing in {log_file}."

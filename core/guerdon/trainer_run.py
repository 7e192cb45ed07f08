"""The processes of one training, as the engine sees them: started, perhaps before their rows are there, run and ended.

A process is started afresh, so that a GPU's memory is really returned when it ends. Its exit is checked, it has a
deadline, and it goes when its parent goes. What it prints is kept in a log, whose last lines are in the error when it
fails.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guerdon.errors import TrainingError
from guerdon.recipe import Launch
from guerdon.resolve import Bound
from guerdon.trainer_talk import Talk
from guerdon.training import Service
from guerdon.traits import attribute

STACK_SECONDS = 0.3
"""For a process to write where it hangs."""

END_SECONDS = 30.0
"""For a training process to end after its last word."""


async def train(
    trainer: Bound,
    job: Mapping[str, Any],
    service: Service,
    *,
    launch: Launch,
    folder: Path,
    output: Path,
    timeout: float,
    early: "Training | None" = None,
) -> None:
    """Run a trainer in a process of its own, or in as many as `launch` says; in `early`, if that was started for this
    job and lives. It has `timeout` seconds from now. The others as in `Training`.

    Raises:
        TrainingError: it failed, ended without a word, or took longer than `timeout` seconds.
        GuerdonError: the service failed.
    """
    if early:
        if early.job == job and await early.run(service, timeout):
            return
        await early.close()
    await Training(trainer, job, launch=launch, folder=folder, output=output).run(service, timeout)


class Training:
    """The process of one training, or its processes.

    `job` is a `TrainingJob` without what the process itself adds. Relative paths in the trainer's settings start from
    `folder`, the recipe's; `output` takes what the processes print. `early`: it is started before its rows are there,
    imports what it will need (a trainer's `warm`) and waits until it is `run`.
    """

    def __init__(
        self,
        trainer: Bound,
        job: Mapping[str, Any],
        *,
        launch: Launch,
        folder: Path,
        output: Path,
        early: bool = False,
    ) -> None:
        self.job = job
        self._trainer, self._launch, self._folder, self._output, self._early = trainer, launch, folder, output, early
        self._talk = Talk((trainer.component, dict(trainer.settings), dict(job), early))
        self._process: asyncio.subprocess.Process | None = None
        self._from = 0
        self._open = contextlib.ExitStack()

    @property
    def begun(self) -> bool:
        """Whether its process has begun to train."""
        return self._talk.begun

    async def start(self) -> None:
        """Start the process; `close` it, or `run` it to its end.

        Raises:
            TrainingError: the trainer runs in one process only.
        """
        words, environment = launcher(self._trainer, self._launch)
        self._output.parent.mkdir(parents=True, exist_ok=True)
        address = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="guerdon-"))) / "trainer"
        server = await asyncio.start_unix_server(self._talk.serve, address)
        self._open.callback(server.close)
        with self._output.open("ab") as printed:
            self._from = printed.tell()
            self._process = await asyncio.create_subprocess_exec(
                *words,
                "guerdon.trainer_process",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env={
                    **os.environ,
                    **environment,
                    "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path),
                    "GUERDON_TRAINER": str(address),
                },
                cwd=self._folder if self._folder.is_dir() else None,
                start_new_session=True,  # Ctrl-C is for the engine, which then ends the trainer
            )

    async def run(self, service: Service, timeout: float) -> bool:
        """Let it train, to its end. `False`: it was started early, and has died without having begun.

        Raises:
            TrainingError, GuerdonError: as `train`.
        """
        talk, output, over = self._talk, self._output, set[asyncio.Task[Any]]()
        talk.begin(service)
        try:
            if self._process is None:
                await self.start()
            process = self._process
            assert process
            over = {asyncio.create_task(process.wait()), asyncio.create_task(talk.ended.wait())}
            await asyncio.wait(over, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not any(waiting.done() for waiting in over):
                advice = _advice(self._trainer, tail(output, self._from, 200), None, timeout)
                where = await _where(talk.processes, output)
                raise TrainingError(
                    f"training took longer than {timeout:g} s and was stopped; its log: {output}{where}{advice}"
                )
            code = await _ended(process, END_SECONDS)
        finally:
            for waiting in over:
                waiting.cancel()
            await self.close()
        if self._early and not talk.begun:
            return False
        self._judge(code)
        return True

    def _judge(self, code: int) -> None:
        """What came of a training that has ended."""
        talk, trainer, output = self._talk, self._trainer, self._output
        if talk.failure:
            raise talk.failure
        if talk.said is None or (code and not talk.said):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            how += " (out of memory is the usual cause)" if code == -signal.SIGKILL else ""
            raise TrainingError(
                f"the training process {how}; the end of {output}:\n{tail(output, self._from)}"
                f"{_advice(trainer, tail(output, self._from, 200), code, None)}"
            )
        if talk.said:
            advice = _advice(trainer, f"{tail(output, self._from, 200)}\n{talk.said}", None, None)
            raise TrainingError(f"{talk.said}\n  its log: {output}{advice}")

    async def close(self) -> None:
        """End what is left of it. One that still waits has nothing to lose, and leaves nothing."""
        process, self._process = self._process, None
        waited = self._early and not self.begun
        self._open.close()
        if process and process.returncode is None:
            await (_kill(process) if waited else _stop(process))
        await self._talk.close()
        if process and not waited:  # one that died while it waited may have done so long ago: its number is another's
            for group in (process.pid, *self._talk.processes):  # children that they left
                _signal(group, signal.SIGKILL)
        if not self._talk.told and not self._from:
            self._output.unlink(missing_ok=True)


def launcher(trainer: Bound, launch: Launch) -> tuple[list[str], dict[str, str]]:
    """The words of the command that comes before the module, and the environment.

    Raises:
        TrainingError: the trainer runs in one process only.
    """
    if launch.world == 1:
        return [sys.executable, "-m"], {}
    if not (target := getattr(trainer.function, "launcher", "")):
        raise TrainingError(f"trainer {trainer.component.name!r} runs in one process: leave `launch` out")
    words, environment = attribute(target)(launch, trainer.settings)
    return words, environment


def _advice(trainer: Bound, log: str, code: int | None, timeout: float | None) -> str:
    """What the trainer itself makes of a failure, by the end of its log."""
    target = getattr(trainer.function, "advice", "")
    said = attribute(target)(log, code, trainer.settings, timeout) if target else ""
    return f"\n{said}" if said else ""


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> int:
    """The exit code of a process that has said its last word; one that then does not end is made to."""
    try:
        return await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        await _stop(process)
        return 0


async def _where(processes: Sequence[int], output: Path) -> str:
    """Have each process write to its log where it is; the innermost calls of each."""
    start = output.stat().st_size
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGUSR1)
        await asyncio.sleep(STACK_SECONDS)  # one after the other, into the same file
    stacks = output.read_bytes()[start:].decode(errors="replace")
    calls = re.findall(r"Current thread .*\n((?: +File .*\n){1,3})", stacks)
    return "".join(f"\nit was at, innermost first:\n{each.rstrip()}" for each in dict.fromkeys(calls))


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the process, and a launcher the processes that it started."""
    _signal(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def tail(path: Path, start: int = 0, lines: int = 15) -> str:
    """The last lines of a log from byte `start` on, indented."""
    with path.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace").splitlines()[-lines:]
    return "\n".join(f"  | {line}" for line in text)

"""What a trainer is given, and the process of its own that it runs in.

The process is started afresh, so that a GPU's memory is really returned when it ends. Its exit is checked, it has a
deadline, and it goes when its parent goes. What it prints is kept in a log, whose last lines are in the error when it
fails.
"""

import asyncio
import contextlib
import os
import pickle
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from guerdon.errors import GuerdonError, TrainingError
from guerdon.recipe import Launch
from guerdon.traits import attribute
from guerdon.worker import HEADER

if TYPE_CHECKING:
    from guerdon.resolve import Bound

STACK_SECONDS = 0.3
"""For a process to write where it hangs."""

END_SECONDS = 30.0
"""For a training process to end after its last word."""


class Log(Protocol):
    """Called in the training process with a step's figures; they reach the run's store and the screen."""

    def __call__(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...


class Rollouts(Protocol):
    """What a trainer that rolls out (`rolls_out`) asks for while it trains. Only the main process may call.

    `group_size` attempts are wanted of each task, sampled by `sampling` (temperature, top_p, top_k, max_tokens, stop,
    seed; those that are not set are left out). `rewards` are names and weights. `single_turn` says that the agent asks
    the model once and has no tools: a trainer may then generate by itself, and have its completions scored.
    """

    group_size: int
    sampling: Mapping[str, Any]
    rewards: tuple[tuple[str, float], ...]
    single_turn: bool

    def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
        """The agent's rollouts of these tasks (ids, one attempt each), with this checkpoint as its model.

        One mapping each, in order: `prompt_ids`, `completion_ids`, `logprobs` and `mask` (of the completion; 1 where
        the model sampled), `scores` by reward (`None`: not applicable), `reward`, the `trajectory`'s id, `failure`.
        A rollout without a turn has no ids.
        """
        ...

    def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
        """Score and store completions that the trainer generated: items have `task`, `completion`, `prompt_ids`,
        `completion_ids`, perhaps `logprobs`; `scores`, `reward` and `trajectory` come back, in order."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One call of a trainer.

    `model` is a folder or a hub id; `adapter` a LoRA adapter to go on from, `None` to start a new one. `rows` is a
    JSONL file: a row has `input_ids` and `labels` (-100 where nothing is learnt; what the server sampled, not
    tokenised again), or `messages` and `tools` for the model's own chat template (learnt on the messages
    whose indices are in `learn`, on all of the assistant's without it), or `prompt` and `completion` as plain texts, or
    `text`; and perhaps a `reward`. `validation` is such a file too. For a trainer that rolls out, a row has `task`, an
    id, and `prompt`, messages; `rollouts` is then given.

    The trainer writes an adapter, or a whole model, with the tokenizer, to the folder `output`. `work` is a folder of
    its own that is kept when it is interrupted: a trainer that finds its checkpoints there goes on from them. `say`
    puts one line on the user's screen. Of a launch with `world` processes one is `main`; `log` and `say` do nothing in
    the others.
    """

    model: str
    adapter: Path | None
    rows: Path
    output: Path
    seed: int
    log: Log
    work: Path = field(default_factory=lambda: Path.cwd() / "work")
    validation: Path | None = None
    rollouts: Rollouts | None = None
    say: Callable[[str], None] = lambda _: None
    main: bool = True
    world: int = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known before a training starts; given to a trainer's preflight with its settings.

    `rows` is how many rows or tasks there are to train on, where it is known. `checking` says that the recipe is only
    looked at (`guerdon check`), perhaps on another machine than it will run on. The others as in `TrainingJob`.
    """

    model: str
    launch: Launch
    adapter: Path | None = None
    rows: int | None = None
    validation: bool = False
    group_size: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    rewards: tuple[tuple[str, float], ...] = ()
    single_turn: bool = False
    checking: bool = False


class Service(Protocol):
    """What the engine does for a training process: shows and keeps what it reports, and rolls out for it."""

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...

    def say(self, text: str) -> None: ...

    async def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]: ...

    async def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]: ...


ASKED = ("generate", "score")
"""What of a service a training process waits for."""


async def train(
    trainer: "Bound",
    job: Mapping[str, Any],
    service: Service,
    *,
    launch: Launch,
    folder: Path,
    output: Path,
    timeout: float,
) -> None:
    """Run a trainer in a process of its own, or in as many as `launch` says. `job` is a `TrainingJob` without what
    the process itself adds. Relative paths in the trainer's settings start from `folder`, the recipe's; `output` takes
    what the processes print.

    Raises:
        TrainingError: it failed, ended without a word, or took longer than `timeout` seconds.
        GuerdonError: the service failed.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    words, environment = launcher(trainer, launch)
    talk = _Talk((trainer.component, dict(trainer.settings), dict(job)), service)
    with output.open("ab") as printed, tempfile.TemporaryDirectory(prefix="guerdon-") as meeting:
        start = printed.tell()
        address = Path(meeting) / "trainer"
        server = await asyncio.start_unix_server(talk.serve, address)
        process = await asyncio.create_subprocess_exec(
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
            cwd=folder if folder.is_dir() else None,
            start_new_session=True,  # Ctrl-C is for the engine, which then ends the trainer
        )
        over = {asyncio.create_task(process.wait()), asyncio.create_task(talk.ended.wait())}
        try:
            await asyncio.wait(over, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not any(waiting.done() for waiting in over):
                advice = _advice(trainer, tail(output, start, 200), None, timeout)
                where = await _where(talk.processes, output)
                raise TrainingError(
                    f"training took longer than {timeout:g} s and was stopped; its log: {output}{where}{advice}"
                )
            code = await _ended(process, END_SECONDS)
        finally:
            if process.returncode is None:
                await _stop(process)
            for waiting in over:
                waiting.cancel()
            server.close()
            await talk.close()
            for group in (process.pid, *talk.processes):  # children that they left
                _signal(group, signal.SIGKILL)
    if talk.failure:
        raise talk.failure
    if talk.said is None or (code and not talk.said):
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        how += " (out of memory is the usual cause)" if code == -signal.SIGKILL else ""
        raise TrainingError(
            f"the training process {how}; the end of {output}:\n{tail(output, start)}"
            f"{_advice(trainer, tail(output, start, 200), code, None)}"
        )
    if talk.said:
        advice = _advice(trainer, f"{tail(output, start, 200)}\n{talk.said}", None, None)
        raise TrainingError(f"{talk.said}\n  its log: {output}{advice}")


def launcher(trainer: "Bound", launch: Launch) -> tuple[list[str], dict[str, str]]:
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


class _Talk:
    """The engine's side of the connections from a training's processes.

    Each says its id and gets the order when it connects. `said` is how it ended: '' well, else an error; `None` when
    none has said.
    """

    def __init__(self, order: Any, service: Service) -> None:
        self.said: str | None = None
        self.failure: GuerdonError | None = None
        self.ended = asyncio.Event()
        self.processes: list[int] = []
        self._order = order
        self._service = service
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._put(writer, self._order)
            while True:
                (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
                kind, *rest = pickle.loads(await reader.readexactly(size))
                if kind in ASKED:
                    await self._put(writer, await getattr(self._service, kind)(*rest))
                elif kind == "done":
                    self._done(*rest)
                elif kind == "here":
                    self.processes += rest
                else:
                    getattr(self._service, kind)(*rest)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled by `close`; asyncio would print it
        except GuerdonError as error:
            self._fail(error)
        except Exception as error:
            self._fail(TrainingError(f"while the trainer was served: {type(error).__name__}: {error}"))
        finally:
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        """What a process that has ended said is still read; then the connections are closed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _put(self, writer: asyncio.StreamWriter, value: Any) -> None:
        data = pickle.dumps(value)
        writer.write(HEADER.pack(len(data)) + data)
        await writer.drain()

    def _done(self, error: str, last: bool) -> None:
        """One process is through; the first error counts, and all is well when the main one says so."""
        self.said = self.said or error
        if last or error:
            self.ended.set()

    def _fail(self, error: GuerdonError) -> None:
        self.failure = self.failure or error
        self.ended.set()


def _advice(trainer: "Bound", log: str, code: int | None, timeout: float | None) -> str:
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

"""What a trainer is given, and the process of its own that it runs in.

The process is started afresh, so that a GPU's memory is really returned when it ends. Its exit is checked, it has a
deadline, and it goes when its parent goes. What it prints is kept in a log, whose last lines are in the error when it
fails.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from guerdon.errors import TrainingError
from guerdon.plugins import Component
from guerdon.recipe import Launch
from guerdon.worker import HEADER

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

    `rows` is how many rows or tasks there are to train on, where it is known. The others as in `TrainingJob`.
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


async def train(
    trainer: Component, settings: Mapping[str, Any], job: Mapping[str, Any], *, log: Log, output: Path, timeout: float
) -> None:
    """Run a trainer in its own process. `job` is a `TrainingJob` without its log; `output` takes what the process
    prints.

    Raises:
        TrainingError: it failed, ended without a word, or took longer than `timeout` seconds.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as printed:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "guerdon.trainer_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=printed,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
            start_new_session=True,  # Ctrl-C is for the engine, which then ends the trainer
        )
        try:
            async with asyncio.timeout(timeout):
                said = await _follow(process, (trainer, dict(settings), dict(job)), log)
            code = await _ended(process, END_SECONDS)
        except TimeoutError:
            raise TrainingError(f"training took longer than {timeout:g} s and was stopped; its log: {output}") from None
        finally:
            if process.returncode is None:
                await _stop(process)
    if said is None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory is the usual cause: a smaller batch_size or max_length helps)" if code == -9 else ""
        raise TrainingError(f"the training process {how}{hint}; the end of {output}:\n{tail(output)}")
    if said:
        raise TrainingError(f"{said}\n  its log: {output}")


async def _follow(process: asyncio.subprocess.Process, order: Any, log: Log) -> str | None:
    """Send the order, hand on what is logged; the error at the end, '' for none, `None` when it just stopped."""
    assert process.stdin and process.stdout
    data = pickle.dumps(order)
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        process.stdin.write(HEADER.pack(len(data)) + data)
        await process.stdin.drain()
        while True:
            (size,) = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
            kind, *rest = pickle.loads(await process.stdout.readexactly(size))
            if kind == "log":
                log(*rest)
            else:
                error: str = rest[0]
                return error
    return None


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> int:
    """The exit code of a process that has said its last word; one that then does not end is made to."""
    try:
        return await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        await _stop(process)
        return 0


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the process and the children that it may have."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, indented."""
    text = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"  | {line}" for line in text)

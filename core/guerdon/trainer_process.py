"""A training process: `python -m guerdon.trainer_process`, one job and out.

It connects to the engine's socket, named in GUERDON_TRAINER, gets its order there, begins when it is told to, and
reports there. One that is started early imports what it will need meanwhile. Of several processes that a launcher
started, each connects and gets the same order; what they report is the main one's.
"""

import faulthandler
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guerdon.plugins import Component
from guerdon.worker import receive, send


class Line:
    """The process's side of the connection. When the engine goes, this process goes too."""

    def __init__(self, address: str) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        self._in, self._out = connection.makefile("rb"), connection.makefile("wb")
        self._answers: queue.Queue[Any] = queue.Queue()
        self._lock = threading.Lock()
        self.order = receive(self._in)
        self.tell("here", os.getpid())
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, *message: Any) -> None:
        with self._lock:
            send(self._out, message)

    def begin(self) -> None:
        """Wait for the word to begin."""
        self._answers.get()
        self.tell("begun")

    def ask(self, *message: Any) -> Any:
        self.tell(*message)
        return self._answers.get()

    def _listen(self) -> None:
        try:
            while True:
                self._answers.put(receive(self._in))
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)


class LiveRollouts:
    """`guerdon.training.Rollouts`, by the engine's hands."""

    def __init__(self, line: Line, facts: Mapping[str, Any]) -> None:
        self.group_size: int = facts["group_size"]
        self.sampling: Mapping[str, Any] = facts["sampling"]
        self.rewards: tuple[tuple[str, float], ...] = facts["rewards"]
        self.single_turn: bool = facts["single_turn"]
        self._line = line

    def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._line.ask("generate", list(tasks), checkpoint, step)
        return answer

    def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._line.ask("score", list(items), step)
        return answer


def warm(trainer: Component, job: Any, settings: Mapping[str, Any]) -> bool:
    """Import what a training will need. `False`: it failed; the process that is then started in its place, when there
    is something to train on, will say so."""
    from guerdon.registry import load
    from guerdon.traits import attribute

    started = time.perf_counter()
    try:
        if target := getattr(load(trainer), "warm", ""):
            attribute(target)(job, settings)
    except Exception:
        traceback.print_exc()
        return False
    print(f"started early: imports {time.perf_counter() - started:.1f} s", flush=True)
    return True


def main() -> int:
    faulthandler.register(signal.SIGUSR1)  # the engine asks where it hangs
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    logger = logging.getLogger("guerdon")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    line = Line(os.environ["GUERDON_TRAINER"])
    trainer, settings, facts, early = line.order
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

    from guerdon.errors import GuerdonError, raised
    from guerdon.registry import load, missing
    from guerdon.training import TrainingJob

    def log(step: int, total: int, metrics: Mapping[str, float]) -> None:
        if rank == 0:
            line.tell("log", step, total, {name: float(value) for name, value in metrics.items()})

    def say(text: str) -> None:
        if rank == 0:
            line.tell("say", text)

    if facts.get("rollouts") is not None:
        facts["rollouts"] = LiveRollouts(line, facts["rollouts"])
    job = TrainingJob(**facts, log=log, say=say, main=rank == 0, world=world)
    if early and not warm(trainer, job, settings):
        return 1
    ready = time.perf_counter()
    line.begin()
    begun = time.perf_counter()
    if early:
        print(f"it was ready, and waited {begun - ready:.1f} s for its rows", flush=True)
    error = ""
    try:
        load(trainer)(job, **settings)
    except GuerdonError as refused:
        error = str(refused)
    except ImportError as lacks:
        error = str(missing(trainer, lacks) or f"cannot import {lacks.name}: {lacks}")
        traceback.print_exc()
    except Exception as mistake:
        error = f"trainer {trainer.name!r} failed: {raised(mistake)}"
        traceback.print_exc()
    if rank == 0:
        print(f"end: {time.perf_counter() - begun:.1f} s after it began")
    sys.stdout.flush()
    line.tell("done", error, rank == 0)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main())

"""Run guerdon's command line in tests, here or in a process of its own, on a small recipe."""

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from guerdon.cli import main
from guerdon.store import Run, list_runs
from guerdon.trajectory import Trajectory

BACKEND = """\
from contextlib import asynccontextmanager
from guerdon_backends.openai_backend import openai

@asynccontextmanager
async def backend(model, *, base_url: str):
    "A server that takes adapters: it calls the model by the adapter's name."
    async with openai(model, base_url=base_url) as endpoint:
        async def load_adapter(path):
            endpoint.model = path.name if path else model
        async def nothing():
            pass
        endpoint.load_adapter, endpoint.sleep, endpoint.wake = load_adapter, nothing, nothing
        yield endpoint
"""
"""For a file of a recipe's parts; the server itself is a `chat_server`."""


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def guerdon(folder: Path, *args: str, code: int = 0) -> Ran:
    """Run a command in this process, in `folder`; its exit code is checked, and that no traceback is shown."""
    out, err, complaints = io.StringIO(), io.StringIO(), logging.StreamHandler(io.StringIO())
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.addHandler(complaints)
    try:
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", ["guerdon", *args]),
            mock.patch.dict(os.environ, COLUMNS="500"),
        ):
            main()
            raise AssertionError("main() returned")
    except SystemExit as end:
        status = end.code
    finally:
        asyncio_log.removeHandler(complaints)
    assert complaints.stream.getvalue() == ""
    return _checked(Ran(int(status or 0), out.getvalue(), err.getvalue()), code)


def start(folder: Path, *args: str, **env: str) -> "subprocess.Popen[str]":
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "guerdon", *args],
        cwd=folder,
        env={**os.environ, "COLUMNS": "500", **env},
        start_new_session=True,
        # a shell that starts tests in the background has SIGINT ignored, and that is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> Ran:
    """Wait for a started command."""
    out, err = process.communicate(timeout=150)
    return _checked(Ran(process.returncode, out, err), code)


def _checked(ran: Ran, code: int) -> Ran:
    assert "Traceback" not in ran.out + ran.err, ran.out + ran.err
    assert ran.code == code, ran.out + ran.err
    return ran


def additions(count: int) -> list[dict[str, str]]:
    """Tasks that `chat_server` can do: 'What is 1 + 1?' and so on."""
    return [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(1, count + 1)]


def write_recipe(folder: Path, base_url: str, rows: Sequence[Mapping[str, Any]] = (), **changes: Any) -> Path:
    """A recipe for the chat agent on these tasks, 4 additions by default; `changes` are keys of the recipe."""
    lines = [json.dumps(row) for row in rows or additions(4)]
    (folder / "tasks.jsonl").write_text("".join(f"{line}\n" for line in lines))
    recipe = {
        "model": "fake",
        "backend": {"openai": {"base_url": base_url, "timeout": 5, "retries": 0}},
        "tasks": {"path": "tasks.jsonl"},
        "rewards": ["numeric"],
        "loop": {"group_size": 1},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


@contextlib.contextmanager
def last_run(folder: Path) -> Iterator[Run]:
    run = Run(list_runs(folder / "runs")[-1])
    try:
        yield run
    finally:
        run.close()


def trajectories(folder: Path, phase: str | None = None) -> list[Trajectory]:
    """Those of the last run."""
    with last_run(folder) as run:
        return run.trajectories(phase)


def wait_until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Look every now and then."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


def processes_with(name: str, value: str) -> list[int]:
    """The processes with an environment variable that contains this value."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has gone, or is not ours
            continue
        if state != "Z" and any(e.startswith(f"{name}=".encode()) and value.encode() in e for e in environment):
            found.append(int(folder.name))
    return found


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()

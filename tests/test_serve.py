"""Three terminals: `guerdon serve`, `guerdon worker`, and a run on them; any of them may be killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server
import pytest
from chat_server import ChatServer, adds
from command import additions, finish, guerdon, processes_with, start, trajectories, wait_until, write_recipe
from test_rollout_workers import PARTS

from guerdon.queue import Queue
from guerdon.queue_client import RemoteQueue
from guerdon.store import list_runs

TOKEN = "a-token-of-the-test"


class Terminals:
    """A queue with workers and runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"GUERDON_TEST": str(folder), "GUERDON_TOKEN": TOKEN}
        self.url = ""
        self.said = ""
        self.started: list[subprocess.Popen[str]] = []

    def serve(self) -> "subprocess.Popen[str]":
        port = self.url.rpartition(":")[2] or "0"
        process = self._start("serve", "--port", port)
        assert process.stdout
        self.said = process.stdout.readline()
        self.url = re.search(r"http://\S+:\d+", self.said)[0]  # type: ignore[index]
        return process

    def worker(self, name: str) -> "subprocess.Popen[str]":
        return self._start("worker", self.url, "--concurrency", "2", GUERDON_WORKER=name)

    def run(self, base_url: str, **changes: Any) -> "subprocess.Popen[str]":
        write_recipe(self.folder, base_url, additions(8), **{"agent": "./parts.py:agent", **changes})
        return self._start("rollout", "recipe.yaml", "--server", self.url)

    def resume(self) -> "subprocess.Popen[str]":
        return self._start("run", "--resume", "--server", self.url)

    def _start(self, *args: str, **env: str) -> "subprocess.Popen[str]":
        self.started.append(start(self.folder, *args, **self.env, **env))
        return self.started[-1]

    def stored(self) -> int:
        runs = list_runs(self.folder / "runs")
        return len(trajectories(self.folder)) if runs and (runs[-1] / "store.db").exists() else 0

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    (tmp_path / "parts.py").write_text(PARTS)
    terminals = Terminals(tmp_path)
    yield terminals
    terminals.end()
    wait_until(lambda: not processes_with("GUERDON_TEST", str(tmp_path)))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Slow enough to be in the middle of something."""

    def slow(body: dict[str, Any]) -> str:
        server.closing.wait(0.15)
        return adds(body)

    with chat_server.serve(slow) as server:
        yield server


def alive(folder: Path) -> int:
    with contextlib.closing(Queue(folder / "queue" / "queue.db")) as queue:
        return queue.counts("")["workers"]


def assert_whole(terminals: Terminals) -> list[Any]:
    found = trajectories(terminals.folder)
    assert [(t.task_id, t.reward, t.failure) for t in found] == [(str(i), 1.0, None) for i in range(8)]
    return found


def test_the_queue_and_the_loop_are_killed(terminals: Terminals, server: ChatServer) -> None:
    terminals.env["TOY_ENGINES"] = "2"
    queue = terminals.serve()
    workers = [terminals.worker("one"), terminals.worker("two")]
    loop = terminals.run(server.base_url, loop={"group_size": 3})
    wait_until(lambda: terminals.stored() >= 4)
    queue.kill()
    queue.communicate()
    queue = terminals.serve()
    wait_until(lambda: terminals.stored() >= 12)
    loop.kill()
    loop.communicate()
    before = len(server.requests)
    finish(terminals.resume())
    found = trajectories(terminals.folder)
    assert Counter(t.task_id for t in found) == {str(i): 3 for i in range(8)}
    assert {t.reward for t in found} == {1.0}
    assert {(t.completion or "").rpartition(" ")[2] for t in found} == {"one", "two"}
    # those that were under way when their loop died: at most four
    assert before <= 12 + 4 + 4 and len(server.requests) <= 24 + 4
    for process in (*workers, queue):
        process.send_signal(signal.SIGINT)
        finish(process)
    everything = b"".join(p.read_bytes() for p in terminals.folder.rglob("*") if p.is_file())
    assert TOKEN.encode() not in everything


def test_a_killed_worker_is_one_try(terminals: Terminals, server: ChatServer) -> None:
    terminals.serve()
    first = terminals.worker("one")
    loop = terminals.run(server.base_url)
    server.wait_for(2)
    first.kill()
    first.communicate()
    terminals.worker("one")  # of the same name: what it had is done again at once, not when its lease runs out
    finish(loop)
    assert sorted(t.tries for t in assert_whole(terminals)) == [1] * 6 + [2] * 2


def test_that_no_worker_is_there_is_said_once(
    terminals: Terminals, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again when workers came and went; meanwhile a log has its lines, though nothing comes."""
    terminals.serve()
    there, late, count = [0, 0, 0, 0, 1, 1, 0, 0, 0, 0], list[Any](), RemoteQueue.counts

    async def counts(queue: RemoteQueue, stage: str) -> dict[str, int]:
        if not there and not late:
            late.append(terminals.worker("late"))
        return {**await count(queue, stage), "workers": there.pop(0) if there else 1}

    monkeypatch.setattr(RemoteQueue, "counts", counts)
    for name, seconds in (("collect.ABSENT_SECONDS", 0.05), ("collect.PATIENCE", 0.1), ("collect.COUNT_SECONDS", 0.0)):
        monkeypatch.setattr(f"guerdon.{name}", seconds)
    for name in ("LINE_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(f"guerdon.report.{name}", 0.1)
    monkeypatch.setenv("GUERDON_TOKEN", TOKEN)
    write_recipe(terminals.folder, server.base_url, additions(8), agent="./parts.py:agent")
    ran = guerdon(terminals.folder, "rollout", "recipe.yaml", "--server", terminals.url)
    assert_whole(terminals)
    assert ran.out.count(f"no worker is at the queue: start `guerdon worker {terminals.url}`") == 2
    assert re.search(r"rollouts 0/8  0:0\d  8 queued", ran.out)


def test_a_worker_that_is_told_to_end_gives_back_what_it_has(terminals: Terminals, server: ChatServer) -> None:
    terminals.serve()
    first = terminals.worker("one")
    loop = terminals.run(server.base_url)
    server.wait_for(3)
    first.send_signal(signal.SIGTERM)
    finish(first)
    assert terminals.stored() < 8
    terminals.worker("two")
    finish(loop)
    assert [t.tries for t in assert_whole(terminals)] == [1] * 8


def test_an_agent_that_starts_nowhere_is_said_soon(terminals: Terminals, server: ChatServer) -> None:
    terminals.serve()
    for name in ("one", "two"):
        terminals.worker(name)
    wait_until(lambda: alive(terminals.folder) == 2)
    started = time.monotonic()
    loop = terminals.run(server.base_url, agent="./parts.py:broken", rollout={"max_failures": 1})
    said = finish(loop, 1).err
    assert "no worker can run the agent" in said and "RuntimeError: no tools here" in said
    assert f"go on with: guerdon run --resume runs/{list_runs(terminals.folder / 'runs')[0].name} --server" in said
    assert time.monotonic() - started < 15


def test_an_agent_that_starts_in_one_worker_of_two(terminals: Terminals, server: ChatServer) -> None:
    terminals.serve()
    for name in ("one", "two"):
        terminals.worker(name)
    wait_until(lambda: alive(terminals.folder) == 2)
    finish(terminals.run(server.base_url, agent="./parts.py:only_in_two"))
    assert {t.tries for t in assert_whole(terminals)} == {1}


def test_serve_says_what_to_type(tmp_path: Path) -> None:
    """What it prints is typed as it is."""
    with chat_server.serve() as server:
        write_recipe(tmp_path, server.base_url)
        process = start(tmp_path, "serve", "--port", "0")
        assert process.stdout
        shown = [process.stdout.readline() for _ in range(4)]
        worker, run = (line.strip().replace("guerdon", f"{sys.executable} -m guerdon", 1) for line in shown[2:])
        assert worker.startswith("GUERDON_TOKEN=") and run.startswith("GUERDON_TOKEN=")
        working = subprocess.Popen(worker, shell=True, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
        subprocess.run(run.replace("RECIPE", "recipe.yaml"), shell=True, cwd=tmp_path, check=True, capture_output=True)
        assert len(trajectories(tmp_path)) == 4
        os.killpg(working.pid, signal.SIGINT)
        working.wait(60)
        process.send_signal(signal.SIGINT)
        finish(process)


def test_what_is_wrong_is_said_at_once(terminals: Terminals, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = terminals.folder
    write_recipe(folder, "http://127.0.0.1:9/v1")
    monkeypatch.setenv("GUERDON_TOKEN", "another")
    terminals.serve()
    for args in (["worker", terminals.url], ["rollout", "recipe.yaml", "--server", terminals.url]):
        assert "this token does not open the queue" in guerdon(folder, *args, code=1).err
    refused = guerdon(folder, "rollout", "recipe.yaml", "--server", "http://127.0.0.1:9", code=1).err
    assert "there is no queue at http://127.0.0.1:9" in refused and "start `guerdon serve` there" in refused
    nowhere = guerdon(folder, "rollout", "recipe.yaml", "--server", terminals.url, "--host", "203.0.113.7", code=1).err
    assert "cannot listen at 203.0.113.7" in nowhere
    assert list_runs(folder / "runs") == [], "no empty one is the last"
    in_use = guerdon(folder, "serve", "--port", terminals.url.rpartition(":")[2], code=1).err
    assert "cannot listen at 127.0.0.1" in in_use
    monkeypatch.delenv("GUERDON_TOKEN")
    for args in (["worker", terminals.url], ["rollout", "recipe.yaml", "--server", terminals.url]):
        assert "set GUERDON_TOKEN to the token of the queue" in guerdon(folder, *args, code=2).err

"""Rollouts in workers: tried again where that helps, and nothing finished is lost or done twice, whoever is killed."""

import contextlib
import gc
import json
import os
import re
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import chat_server
import pytest
from chat_server import Reply, adds
from command import (
    additions,
    finish,
    guerdon,
    last_run,
    processes_with,
    start,
    trajectories,
    wait_until,
    write_recipe,
)

from guerdon.queue import Outcome, Queue
from guerdon.rollout_worker import rarely_collecting
from guerdon.store import list_runs

PARTS = """\
import asyncio, os, time
from contextlib import asynccontextmanager
from guerdon.traits import traits
from guerdon_executors.processes import processes

@asynccontextmanager
async def agent():
    "Says which worker it ran in; one that is opened more often than there are engines would say so."
    opened.append(1)
    async def roll(task, policy):
        assert len(opened) <= int(os.environ.get("TOY_ENGINES", 1))
        assert task.answer is None and policy.model == "fake" and "GUERDON_TOKEN" not in os.environ
        reply = await policy.complete(task.messages)
        return f"{reply['choices'][0]['message']['content']} by {os.environ.get('GUERDON_WORKER')}"
    yield roll
opened = []

async def over_http(task, policy):
    import aiohttp
    key, asked = f"Bearer {policy.api_key}", {"model": policy.model, "messages": task.messages}
    async with aiohttp.ClientSession(headers={"Authorization": key}) as http:
        async with http.post(f"{policy.base_url}/chat/completions", json=asked) as reply:
            return (await reply.json())["choices"][0]["message"]["content"]

@asynccontextmanager
async def broken():
    raise RuntimeError("no tools here")
    yield

@asynccontextmanager
async def only_in_two():
    if os.environ["GUERDON_WORKER"] != "two":
        raise RuntimeError("no tools here")
    async with agent() as roll:
        yield roll

async def looks_around(task, policy):
    there = [open(f"/proc/{pid}/environ", "rb").read() for pid in (os.getpid(), os.getppid())]
    return str([b"GUERDON_TOKEN" in environ for environ in there])

@traits(reached_at=lambda settings: settings["address"])
@asynccontextmanager
async def elsewhere(start, *, address: str = "127.0.0.2"):
    async with processes(start):
        yield

async def dies(task, policy):
    if "What is 1 + 1" in task.text:
        os._exit(3)
    await asyncio.sleep(0.3)
    return f"### {int(task.text.split()[2]) + 1} ###"

async def blocks(task, policy):
    if "1 + 1" in task.text:
        time.sleep(60)
    return "### 3 ###"
"""


class Run:
    """A run in a process of its own, on a server of which replies can be held back."""

    def __init__(self, folder: Path, count: int = 8) -> None:
        self.folder = folder
        self.count = count
        self.gate = threading.Event()
        self.open_for = 10**6
        (folder / "parts.py").write_text(PARTS)

    def answer(self, body: dict[str, Any]) -> str:
        self.open_for -= 1
        if self.open_for < 0:
            self.gate.wait(30)
        return adds(body)

    def begin(self, base_url: str, **changes: Any) -> None:
        rollout = {"concurrency": 2, "workers": 2, **changes.pop("rollout", {})}
        backend = {"openai": {"base_url": base_url, "timeout": 60, "retries": 0}}
        recipe = {"agent": "./parts.py:agent", "backend": backend, "rollout": rollout, **changes}
        write_recipe(self.folder, base_url, additions(self.count), **recipe)
        self.process = start(self.folder, "rollout", "recipe.yaml", GUERDON_TEST=str(self.folder))

    def resume(self) -> str:
        self.gate.set()
        return finish(start(self.folder, "run", "--resume", GUERDON_TEST=str(self.folder))).out

    def processes(self) -> list[int]:
        return processes_with("GUERDON_TEST", str(self.folder))

    def workers(self) -> list[int]:
        return [pid for pid in processes_with("GUERDON_WORKER", "worker-") if pid in self.processes()]

    def stored(self) -> int:
        runs = list_runs(self.folder / "runs")
        return len(trajectories(self.folder)) if runs and (runs[-1] / "store.db").exists() else 0

    def assert_whole(self) -> Counter[int]:
        """Everything rolled out, once, and nothing left; how many took how many tries."""
        wait_until(lambda: not self.processes())
        found = trajectories(self.folder)
        assert [(t.task_id, t.reward, t.failure) for t in found] == [(str(i), 1.0, None) for i in range(self.count)]
        with last_run(self.folder) as run:
            assert run.stage("finished") is not None
        return Counter(t.tries for t in found)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_two_workers_share_the_rollouts(run: Run) -> None:
    with chat_server.serve(run.answer) as server:
        run.open_for = 0
        run.begin(server.base_url, backend={"openai": {"base_url": server.base_url, "api_key_env": "A_KEY"}})
        server.wait_for(4)
        run.gate.set()
        ran = finish(run.process)
        assert ran.err == "", "and a key is not needed"
    assert run.assert_whole() == {1: 8}
    words = [t.completion or "" for t in trajectories(run.folder)]
    assert {w.rpartition(" ")[2] for w in words} == {"worker-1", "worker-2"}
    folder = list_runs(run.folder / "runs")[-1]
    assert {p.name for p in (folder / "logs").iterdir()} == {"worker-1.log", "worker-2.log"}
    (only,) = {t.model for t in trajectories(run.folder)}
    assert only == "fake"


def test_the_engine_listens_where_its_workers_reach_it_and_their_names_are_the_runs_own(run: Run) -> None:
    with chat_server.serve(run.answer) as server:
        run.begin(server.base_url, rollout={"executor": "./parts.py:elsewhere", "workers": 1})
        finish(run.process)
    run.assert_whole()
    folder = list_runs(run.folder / "runs")[-1]
    said = (folder / "logs" / "worker-1.log").read_text()
    assert re.search(
        rf"worker {folder.name}@[\d.]+/worker-1: up to 2 rollouts at a time for http://127\.0\.0\.2:", said
    )


def test_garbage_is_looked_for_rarely_and_only_meanwhile() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with contextlib.suppress(KeyError), rarely_collecting():
        assert gc.get_threshold()[0] >= 10_000 and gc.get_freeze_count() > frozen
        raise KeyError
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_a_killed_worker_is_replaced_and_what_it_had_is_done_again(run: Run) -> None:
    with chat_server.serve(run.answer) as server:
        run.open_for = 2
        run.begin(server.base_url)
        wait_until(lambda: run.stored() == 2 and len(server.requests) == 2 + 4)
        os.kill(run.workers()[0], signal.SIGKILL)
        server.wait_for(2 + 4 + 1)  # of the two one after the other: which of them killed it is not known
        run.gate.set()
        ran = finish(run.process)
        assert len(server.requests) == 8 + 2
    assert "ended by signal 9: started again, and what it was doing is queued" in ran.out
    assert run.assert_whole() == {1: 6, 2: 2}


def test_a_task_that_kills_its_worker_ends_alone(run: Run) -> None:
    run.count = 16
    run.begin(
        "http://127.0.0.1:9/v1",
        agent="./parts.py:dies",
        backend={"demonstrations": {}},
        rollout={"concurrency": 4, "tries": 2},
    )
    finish(run.process)
    found = trajectories(run.folder)
    assert [t.failure and t.failure.kind for t in found] == ["worker_died", *[None] * 15]
    assert found[0].failure and found[0].failure.message == "the worker that ran it died, 3 times"


def test_a_killed_engine_takes_its_workers_along_and_loses_nothing(run: Run) -> None:
    with chat_server.serve(run.answer) as server:
        run.open_for = 3
        run.begin(server.base_url)
        wait_until(lambda: run.stored() == 3 and len(server.requests) == 3 + 4)
        run.process.kill()
        run.process.communicate(timeout=60)
        wait_until(lambda: not run.processes())
        run.open_for = 10**6
        run.resume()
        assert len(server.requests) == 8 + 4
    assert run.assert_whole() == {1: 8}, "that the engine died is no try"


def test_ctrl_c_ends_the_workers_and_loses_nothing(run: Run) -> None:
    with chat_server.serve(run.answer) as server:
        run.open_for = 3
        run.begin(server.base_url)
        wait_until(lambda: run.stored() == 3 and len(server.requests) == 3 + 4)
        run.process.send_signal(signal.SIGINT)
        ran = finish(run.process, 130)
        assert ran.err.strip() == "" and "go on with: guerdon run --resume" in ran.out
        assert run.processes() == []
        run.open_for = 10**6
        run.resume()
        assert len(server.requests) == 8 + 4
    assert run.assert_whole() == {1: 8}


def test_what_workers_finished_while_the_engine_was_away_is_taken(run: Run) -> None:
    """Handed over and acknowledged, but not yet in the store."""
    with chat_server.serve(run.answer) as server:
        run.open_for = 0
        run.begin(server.base_url, rollout={"workers": 1})
        server.wait_for(2)
        run.process.kill()
        run.process.communicate(timeout=60)
        wait_until(lambda: not run.processes())
        folder = list_runs(run.folder / "runs")[-1]
        queue = Queue(folder / "queue.db")
        queue.release_all()
        lease = queue.lease("another", 1, 60)[0]
        done: dict[str, Any] = {"id": lease.id, "completion": "### 2 ###"}
        done |= {"task_id": "0", "phase": "train", "iteration": 1, "attempt": 0, "agent": "a", "model": "m"}
        queue.finish("another", [Outcome(lease.key, "", json.dumps(done))])
        queue.close()
        run.open_for = 10**6
        run.resume()
        assert len(server.requests) == 2 + 7
    run.assert_whole()
    assert trajectories(run.folder)[0].agent == "a"


def test_agents_over_http_and_demonstrations_work_in_workers(run: Run) -> None:
    """The worker's own gateway records; what the backend is told of the task is there too."""
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1), "steps": [f"{i} + 1"]} for i in range(4)]
    write_recipe(
        run.folder,
        "",
        rows,
        backend="demonstrations",
        agent="tool",
        rollout={"workers": 1},
        loop={"group_size": 2},
    )
    finish(start(run.folder, "rollout", "recipe.yaml"))
    found = trajectories(run.folder)
    assert [(t.reward, t.tool_calls, len(t.turns)) for t in found] == [(1.0, 1, 2)] * 8
    with chat_server.serve() as server:
        write_recipe(run.folder, server.base_url, agent="./parts.py:over_http", rollout={"workers": 1})
        finish(start(run.folder, "rollout", "recipe.yaml"))
    assert [(t.reward, len(t.turns)) for t in trajectories(run.folder)] == [(1.0, 1)] * 4


def test_an_agent_that_does_not_start_in_the_workers(run: Run) -> None:
    run.begin("http://127.0.0.1:9/v1", agent="./parts.py:broken", backend={"demonstrations": {}})
    ran = finish(run.process, 1)
    assert "no worker can run the agent" in ran.err and "'broken' did not start: RuntimeError: no tools here" in ran.err


def test_an_agents_tools_find_no_token_in_the_processes(run: Run) -> None:
    run.begin("http://127.0.0.1:9/v1", agent="./parts.py:looks_around", backend={"demonstrations": {}})
    finish(run.process)
    assert {t.completion for t in trajectories(run.folder)} == {"[False, False]"}


def test_workers_that_do_not_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os\nif 'GUERDON_WORKER' in os.environ: os.write(2, b'no room on this machine'); os._exit(3)\n"
    (run.folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{run.folder}:{os.environ.get('PYTHONPATH', '')}")
    run.begin("http://127.0.0.1:9/v1", backend={"demonstrations": {}})
    ran = finish(run.process, 1)
    assert re.search("do not start: worker-. ended with exit code 3. The end of .*:\nno room on this mach", ran.err)


def test_an_agent_that_blocks_its_worker_is_interrupted(run: Run) -> None:
    run.begin(
        "http://127.0.0.1:9/v1",
        agent="./parts.py:blocks",
        backend={"demonstrations": {}},
        rollout={"workers": 1, "timeout": 1.0, "concurrency": 1},
    )
    finish(run.process)
    kinds = [t.failure and t.failure.kind for t in trajectories(run.folder)]
    assert kinds == ["blocked", *[None] * 7]


# -- without workers: the same rules ----------------------------------------------------------------------------------


def flaky(failing: int, status: int) -> Any:
    """A server that refuses each question so often."""
    asked: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> Any:
        question = body["messages"][-1]["content"]
        asked[question] += 1
        return Reply(status=status) if asked[question] <= failing else adds(body)

    return answer


def test_a_server_in_trouble_is_tried_again(tmp_path: Path) -> None:
    with chat_server.serve(flaky(1, 503)) as server:
        write_recipe(tmp_path, server.base_url)
        guerdon(tmp_path, "rollout", "recipe.yaml")
        assert len(server.requests) == 8
    assert [(t.reward, t.tries, t.failure) for t in trajectories(tmp_path)] == [(1.0, 2, None)] * 4


def test_a_refused_request_and_a_last_try_are_not_tried_again(tmp_path: Path) -> None:
    for status, tries in ((404, 3), (503, 1)):
        with chat_server.serve(flaky(1, status)) as server:
            write_recipe(tmp_path, server.base_url, rollout={"tries": tries})
            assert "all of the 4 rollouts failed" in guerdon(tmp_path, "rollout", "recipe.yaml", code=1).err
            assert len(server.requests) == 4
        found = trajectories(tmp_path)
        assert [(t.tries, t.failure and t.failure.kind) for t in found] == [(1, f"http_{status}")] * 4

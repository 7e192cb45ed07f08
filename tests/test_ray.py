"""Workers on a Ray of this machine's: real Ray, real workers."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, completion, serve
from command import command_of, finish, processes_with, start, trajectories, wait_until, write_recipe

from guerdon.errors import AgentError
from guerdon.executors import WorkerStart
from guerdon_executors.ray_executor import QUIET, ray, reached_at

library = pytest.importorskip("ray")


def test_a_recipe_rolls_out_on_ray_and_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    def first_two_hang(body: dict[str, Any]) -> Reply:
        return Reply(body=json.dumps(completion("### 2 ###")), hang=60 if len(server.requests) <= 2 else 0.1)

    def workers() -> list[int]:
        return [p for p in processes_with("TOY_RAY", str(tmp_path)) if "rollout_worker" in command_of(p)]

    with serve(first_two_hang) as server:
        rollout = {"workers": 2, "concurrency": 2, "executor": {"ray": {"address": "local"}}}
        backend = {"openai": {"base_url": server.base_url, "timeout": 60}}
        write_recipe(tmp_path, server.base_url, loop={"group_size": 2}, rollout=rollout, backend=backend)
        run = start(tmp_path, "rollout", "recipe.yaml", TOY_RAY=str(tmp_path))
        server.wait_for(2, 60)
        for worker in workers():
            os.kill(worker, signal.SIGKILL)
        ran = finish(run)
    done = trajectories(tmp_path)
    assert len({t.id for t in done}) == len(done) == 8 and not any(t.failure for t in done), ran.out + ran.err
    assert max(t.tries for t in done) == 2
    assert "ended by signal 9: started again" in ran.err
    wait_until(lambda: not processes_with("TOY_RAY", str(tmp_path)))  # of Ray neither


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray that is not the executor's own."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    library.init("local", include_dashboard=False, num_cpus=1, log_to_driver=False, logging_level=logging.ERROR)
    yield
    library.shutdown()


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_runs_is_used_and_left_and_workers_that_do_not_start_say_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ray(WorkerStart("http://nowhere", "", 2, {"GUERDON_TOKEN": ""}, tmp_path)):
            await asyncio.sleep(60)

    with pytest.raises(AgentError, match=r"rollout workers do not start(.|\n)*KeyError: 'GUERDON_QUEUE'"):
        asyncio.run(main())
    assert "The Ray cluster has 1 CPUs: 1 of the 2 workers start now, the others as it grows" in caplog.messages
    assert library.is_initialized()


def test_a_cluster_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(address: str) -> None:
        async with ray(WorkerStart("", "", 1), address=address):
            raise AssertionError("opened")

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    for address in ("auto", "ray://127.0.0.1:1"):
        with pytest.raises(AgentError, match=rf"The Ray cluster '{address}' cannot be joined(.|\n)*ray start --head"):
            asyncio.run(main(address))


def test_the_engine_listens_to_other_machines_only_where_workers_are_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert reached_at({"address": "local"}) == ""
    assert reached_at({"address": "ray://127.0.0.1:10001"}) == reached_at({"address": "127.0.0.1"}) == "127.0.0.1"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert reached_at({"address": "auto"}) == "127.0.0.1"

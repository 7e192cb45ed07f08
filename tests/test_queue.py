"""The queue: what is finished is kept and never done twice, whoever dies; over HTTP as in the process that has it."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guerdon.errors import GuerdonError
from guerdon.gateway import serve_gateway
from guerdon.local_queue import LocalQueue
from guerdon.queue import Item, Outcome, Queue
from guerdon.queue_client import RemoteQueue
from guerdon.queue_server import queue_app
from guerdon.retries import worth_another_try

SPEC = {"rollout": {"tries": 3, "timeout": 60}}


def items(*names: str) -> list[Item]:
    return [Item(name, '{"id": "t", "prompt": "?"}', "train", 1, 0, 60.0) for name in names]


class Clock:
    """The time, as the queue sees it."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    return clock


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.db")


def lost(queue: Queue, worker: str) -> None:
    """A worker dies, and one of its name is started."""
    queue.beat(worker, [], 0)


def test_items_are_leased_in_order_and_to_one_worker_each(queue: Queue) -> None:
    queue.put("s", SPEC, items(*"abcde"))
    first, second = queue.lease("w1", 3, 60), queue.lease("w2", 3, 60)
    assert [[lease.id for lease in leases] for leases in (first, second)] == [["a", "b", "c"], ["d", "e"]]
    assert first[0].spec == SPEC and first[0].tries == 1 and first[0].task == '{"id": "t", "prompt": "?"}'
    assert queue.lease("w3", 3, 60) == []
    counts = queue.counts("s")
    assert (counts["queued"], counts["running"], counts["workers"]) == (0, 5, 3)


def test_an_outcome_is_a_result_once(queue: Queue) -> None:
    queue.put("s", SPEC, items("a", "b"))
    a, b = queue.lease("w", 2, 60)
    queue.finish("w", [Outcome(b.key, "", '"B"')])
    queue.finish("w", [Outcome(b.key, "agent", '"again"'), Outcome(a.key, "agent", '"A"'), Outcome(999, "", "")])
    assert [(r.id, r.kind, r.body) for r in queue.results("s", 0)] == [("b", "", '"B"'), ("a", "agent", '"A"')]
    assert queue.counts("s") | {"succeeded": 1, "failed": 1} == queue.counts("s")
    last = queue.results("s", 0)[-1].number
    assert queue.results("s", last) == [] and queue.counts("s")["succeeded"] == 0, "taken: it is dropped"


def test_what_a_dead_worker_had_is_done_again_and_counted(queue: Queue) -> None:
    queue.put("s", SPEC, items("a"))
    for tries in (1, 2, 3):
        (lease,) = queue.lease("w", 1, 60)
        assert lease.tries == tries
        lost(queue, "w")
    assert queue.lease("w", 1, 60) == []
    (result,) = queue.results("s", 0)
    assert (result.id, result.kind, result.tries) == ("a", "worker_died", 3)


def test_a_lease_runs_out_unless_the_worker_says_that_it_lives(queue: Queue, clock: Clock) -> None:
    queue.put("s", SPEC, items("a", "b"))
    a, b = queue.lease("w", 2, 10)
    clock.now += 8
    assert queue.beat("w", [a.key, b.key], 10) == []
    clock.now += 8
    assert queue.lease("v", 2, 60) == []
    assert queue.beat("w", [a.key], 60) == [], "b is not what it has: the answer to its lease was lost, say"
    clock.now += 8
    (again,) = queue.lease("v", 2, 60)
    assert (again.id, again.tries) == ("b", 2)
    assert queue.beat("w", [a.key, b.key], 60) == [b.key], "it hears that b is another's"
    for _ in range(8):
        clock.now += 25
        queue.results("s", 0)
        queue.beat("w", [a.key], 60)
    assert [lease.id for lease in queue.lease("v", 2, 60)] == ["a", "b"], "it lives, and never comes to an end"


def test_what_a_worker_finished_though_it_was_given_up_is_welcome(queue: Queue) -> None:
    queue.put("s", SPEC, items("a"))
    (old,) = queue.lease("w", 1, 60)
    lost(queue, "w")
    (new,) = queue.lease("v", 1, 60)
    queue.finish("w", [Outcome(old.key, "dropped", '"no"')])
    assert queue.counts("s")["running"] == 1, "a failure of one who has it no more says nothing"
    queue.finish("w", [Outcome(old.key, "", '"yes"')])
    assert queue.beat("v", [new.key], 60) == [new.key]
    queue.finish("v", [Outcome(new.key, "", '"late"')])
    assert [r.body for r in queue.results("s", 0)] == ['"yes"']


def work(queue: Queue, concurrency: int, *poison: str) -> list[int]:
    """A worker that finishes all it is given, but dies when one of the poison is among it: how many it had, each time.

    It is started again, until nothing is left."""
    deaths = list[int]()
    while leases := queue.lease("w", concurrency, 60):
        if any(lease.id in poison for lease in leases):
            deaths.append(len(leases))
            assert len(deaths) < 200
            lost(queue, "w")
        else:
            queue.finish("w", [Outcome(lease.key, "", '"done"') for lease in leases])
    return deaths


@pytest.mark.parametrize(("concurrency", "deaths"), [(1, [1, 1, 1]), (2, [2, 1, 1, 1]), (16, [16, 4, 1, 1, 1])])
def test_what_kills_its_worker_takes_no_other_along(queue: Queue, concurrency: int, deaths: list[int]) -> None:
    names = [f"{i:02}" for i in range(40)]
    queue.put("s", SPEC, items(*names))
    assert work(queue, concurrency, "05") == deaths
    ended = {r.id: (r.kind, r.tries) for r in queue.results("s", 0)}
    assert ended.pop("05") == ("worker_died", len(deaths)), "each time that it was begun"
    assert set(ended) == {*names} - {"05"} and {kind for kind, _ in ended.values()} == {""}


def test_much_that_kills_its_worker_takes_no_other_along(queue: Queue) -> None:
    names = [f"{i:02}" for i in range(40)]
    queue.put("s", SPEC, items(*names))
    work(queue, 16, *names[::4])
    assert [r.id for r in queue.results("s", 0) if not r.kind] == sorted({*names} - {*names[::4]})


def test_a_worker_that_always_dies_comes_to_an_end(queue: Queue) -> None:
    names = [f"{i:02}" for i in range(40)]
    queue.put("s", SPEC, items(*names))
    assert len(work(queue, 16, *names)) < 200
    assert {r.kind for r in queue.results("s", 0)} == {"worker_died"}


def test_what_was_lost_with_others_is_in_less_company(queue: Queue, clock: Clock) -> None:
    """Workers that have none of it go on as before."""
    queue.put("s", SPEC, items(*"abcdefgh"))
    (first,) = queue.lease("v", 1, 600)
    suspects = queue.lease("w", 5, 600)
    lost(queue, "w")  # b to f: each alone from now on
    assert [(lease.id, lease.tries) for lease in queue.lease("w", 5, 600)] == [("b", 2)]
    assert queue.lease("w", 5, 600) == [], "nothing beside it"
    (second,) = queue.lease("v", 1, 600)
    assert second.id == "g", "v has something: those before it are not for v"
    queue.finish("w", [Outcome(suspects[0].key, "", "1")])
    assert [lease.id for lease in queue.lease("w", 5, 600)] == ["c"]
    clock.now += 61
    queue.results("s", 0)
    assert queue.lease("v", 1, 600) == [], "h is left, but d has waited for a minute: let v have room for it"
    queue.finish("v", [Outcome(first.key, "", "1"), Outcome(second.key, "", "1")])
    assert [lease.id for lease in queue.lease("v", 2, 600)] == ["d"]


def test_a_silent_workers_leases_are_lost_together(queue: Queue, clock: Clock) -> None:
    """Also when it had the last of them since its last sign of life."""
    queue.put("s", SPEC, items("a", "b"))
    queue.lease("w", 1, 15)
    clock.now += 3
    queue.lease("w", 1, 15)
    clock.now += 12.5
    assert [lease.id for lease in queue.lease("v", 1, 60)] == ["a"]
    assert queue.counts("s")["queued"] == 1 and queue.lease("v", 1, 60) == [], "b too, and not beside a"


def test_a_queue_of_an_older_version_is_opened(tmp_path: Path, queue: Queue) -> None:
    queue.put("s", SPEC, items("a"))
    queue.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as older:
        for column in ("free", "company"):
            older.execute(f"alter table items drop column {column}")
    assert [lease.id for lease in Queue(tmp_path / "queue.db").lease("w", 1, 60)] == ["a"]


def test_failures_that_are_worth_it_are_tried_again_later(queue: Queue, clock: Clock) -> None:
    queue.put("s", SPEC, items("a", "b"))
    a, b = queue.lease("w", 2, 60)
    queue.finish("w", [Outcome(a.key, "http_503", "1"), Outcome(b.key, "timeout", "2")])
    assert queue.lease("w", 2, 60) == [], "not at once"
    assert [r.id for r in queue.results("s", 0)] == ["b"]
    for wait in (0.5, 1.0):
        clock.now += wait
        (again,) = queue.lease("w", 2, 60)
        queue.finish("w", [Outcome(again.key, "refused", "3")])
        assert queue.lease("w", 2, 60) == []
    assert [(r.id, r.kind, r.tries) for r in queue.results("s", 0)][-1] == ("a", "refused", 3)


@pytest.mark.parametrize("kind", ["http_429", "http_500", "dropped", "refused", "server_died", "tool_server"])
def test_trouble_of_others_is_worth_another_try(kind: str) -> None:
    assert worth_another_try(kind)


@pytest.mark.parametrize("kind", ["", "timeout", "agent", "blocked", "http_400", "http_404", "max_turns", "cancelled"])
def test_what_is_over_is_over(kind: str) -> None:
    assert not worth_another_try(kind)


def test_a_worker_that_lacks_something_leaves_the_work_to_others(queue: Queue, clock: Clock) -> None:
    queue.put("s", SPEC, items("a", "b"))
    queue.lease("good", 0, 60)
    for _ in range(9):  # it is the fastest
        queue.finish("bad", [Outcome(lease.key, "agent_start", '"no"') for lease in queue.lease("bad", 2, 60)])
    assert queue.counts("s")["queued"] == 2
    assert [(lease.id, lease.tries) for lease in queue.lease("good", 1, 300)] == [("a", 1)]
    clock.now += 61
    queue.beat("good", [], 60)
    queue.results("s", 0)  # its engine is there
    assert [lease.id for lease in queue.lease("bad", 1, 60)] == ["b"], "it may have been mended"


def test_an_agent_that_starts_in_no_worker(queue: Queue, clock: Clock) -> None:
    def try_it(worker: str) -> list[str]:
        leases = queue.lease(worker, 1, 60)
        queue.finish(worker, [Outcome(lease.key, "agent_start", '"no"') for lease in leases])
        return [lease.id for lease in leases]

    queue.put("s", SPEC, items("a", "b"))
    assert try_it("one") == ["a"] and try_it("one") == [], "another may be about to come"
    clock.now += 4
    queue.lease("two", 0, 60)
    assert try_it("one") == [] and try_it("two") == ["a"] and try_it("two") == []
    clock.now += 4
    assert queue.results("s", 0) == []
    assert try_it("one") == ["a"]
    assert [(r.id, r.kind, r.body) for r in queue.results("s", 0)] == [("a", "agent_nowhere", '"no"')]


def test_given_back_does_not_count(queue: Queue) -> None:
    queue.put("s", SPEC, items("a", "b"))
    leases = queue.lease("w", 2, 60)
    queue.release("v", None)
    assert queue.counts("s")["running"] == 2, "not its own"
    queue.release("w", [leases[0].key])
    queue.release("w", None)
    assert [lease.tries for lease in queue.lease("v", 2, 60)] == [1, 1]


def test_put_again_keeps_what_succeeded_and_does_the_rest(queue: Queue) -> None:
    queue.put("s", SPEC, items(*"abcd"))
    a, b, c = queue.lease("w", 3, 60)
    queue.finish("w", [Outcome(a.key, "", '"A"'), Outcome(b.key, "agent", '"B"')])
    queue.cancel("s")
    assert queue.beat("w", [c.key], 60) == [c.key] and queue.lease("w", 9, 60) == []
    queue.put("s", SPEC, items(*"abcde"))
    assert [r.id for r in queue.results("s", 0)] == ["a"]
    assert [(lease.id, lease.tries) for lease in queue.lease("w", 9, 60)] == [(n, 1) for n in "bcde"]


def test_what_was_cancelled_and_finished_all_the_same_is_kept(queue: Queue) -> None:
    queue.put("s", SPEC, items("a"))
    (a,) = queue.lease("w", 1, 60)
    queue.cancel("s")
    queue.finish("w", [Outcome(a.key, "", '"A"')])
    queue.put("s", SPEC, items("a"))
    assert queue.counts("s")["succeeded"] == 1


def test_a_stage_whose_engine_is_away_rests(queue: Queue, clock: Clock) -> None:
    queue.put("gone", SPEC, items("a"))
    clock.now += 40
    queue.put("here", SPEC, items("b"))
    assert [lease.id for lease in queue.lease("w", 9, 60)] == ["b"]
    queue.results("gone", 0)
    assert [lease.id for lease in queue.lease("w", 9, 60)] == ["a"]


def test_stages_are_apart_and_forgotten_alone(queue: Queue) -> None:
    queue.put("s", SPEC, items("a"))
    queue.put("t", SPEC, items("a"))
    old, _ = queue.lease("w", 2, 60)
    queue.forget("s")
    queue.put("s", SPEC, items("a"))
    queue.finish("w", [Outcome(old.key, "", '"of another life"')])
    assert queue.results("s", 0) == [] and queue.counts("t")["running"] == 1


WRITER = """
import sys, itertools
from pathlib import Path
from guerdon.queue import Item, Outcome, Queue
queue = Queue(Path(sys.argv[1]))
for n in itertools.count():
    queue.put("s", {}, [Item(str(n), "{}", "train", 1, 0, 9.0)])
    (lease,) = queue.lease("w", 1, 60)
    queue.finish("w", [Outcome(lease.key, "", '"done"')])
    print(n, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for _ in range(20):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = 20 + len(process.stdout.read().split())
    queue = Queue(path)
    kept = queue.results("s", 0)
    assert acknowledged <= len(kept) <= acknowledged + 1
    assert kept[-1].number < _next_number(queue, kept[-1].number), "numbers go on, though all was taken"


def _next_number(queue: Queue, taken: int) -> int:
    queue.results("s", taken)
    queue.put("s", SPEC, items("fresh"))
    lease = queue.lease("w", 9, 60)[-1]
    queue.finish("w", [Outcome(lease.key, "", "1")])
    return queue.results("s", taken)[-1].number


def test_leases_outlast_a_restart_of_the_queue(tmp_path: Path, queue: Queue, clock: Clock) -> None:
    """Its workers live, and could not say so."""
    queue.put("s", SPEC, items("a"))
    queue.lease("w", 1, 10)
    queue.close()
    clock.now += 20
    assert Queue(tmp_path / "queue.db").lease("v", 1, 60) == []


# -- over HTTP --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(path: Path, port: int = 0) -> AsyncIterator[str]:
    queue = LocalQueue(Queue(path))
    async with serve_gateway("127.0.0.1", port, more={"/queue": queue_app(queue, "the-token")}) as gateway:
        yield gateway.base_url.removesuffix("/v1")
        queue.hurry()
    await queue.aclose()


def on_a_server(path: Path, test: Callable[[RemoteQueue], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with served(path) as url:
            remote = RemoteQueue(url, "the-token")
            await test(remote)
            await remote.aclose()

    asyncio.run(run())


def test_the_same_over_http(tmp_path: Path) -> None:
    async def test(queue: RemoteQueue) -> None:
        await queue.put("s", SPEC, items(*map(str, range(2500))))
        leases = await queue.lease("w", 4, 60)
        assert [lease.id for lease in leases] == list("0123") and leases[0].spec == SPEC
        text = '"ünï 😀 \\n"'
        await queue.finish("w", [Outcome(leases[0].key, "", text), Outcome(leases[1].key, "agent", "{}")])
        await queue.release("w", [leases[2].key])
        results = await queue.results("s", 0)
        assert [(r.id, r.kind, r.tries, r.body) for r in results] == [("0", "", 1, text), ("1", "agent", 1, "{}")]
        assert await queue.beat("w", [lease.key for lease in leases], 60) == [lease.key for lease in leases[:3]]
        counts = await queue.counts("s")
        assert (counts["queued"], counts["running"], counts["succeeded"]) == (2497, 1, 1)
        await queue.cancel("s")
        assert (await queue.counts("s"))["cancelled"] == 2498
        await queue.forget("s")
        assert sum((await queue.counts("s")).values()) == 1  # the worker

    on_a_server(tmp_path / "queue.db", test)


def test_calls_wait_until_there_is_something(tmp_path: Path) -> None:
    async def test(queue: RemoteQueue) -> None:
        begun = time.monotonic()
        assert await queue.lease("w", 1, 60) == []
        lease, results = (
            asyncio.create_task(queue.lease("w", 1, 60, wait=20)),
            asyncio.create_task(queue.results("s", 0, wait=20)),
        )
        await asyncio.sleep(0.1)
        await queue.put("s", SPEC, items("a"))
        (leased,) = await lease
        await queue.finish("w", [Outcome(leased.key, "", "1")])
        assert len(await results) == 1
        assert time.monotonic() - begun < 15

    on_a_server(tmp_path / "queue.db", test)


def test_a_caller_who_goes_away_takes_no_work_along(tmp_path: Path) -> None:
    async def test(queue: RemoteQueue) -> None:
        waiting = asyncio.create_task(queue.lease("w", 1, 60, wait=20))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.sleep(0.1)
        await queue.put("s", SPEC, items("a"))
        assert [(lease.id, lease.tries) for lease in await queue.lease("v", 1, 60, wait=5)] == [("a", 1)]

    on_a_server(tmp_path / "queue.db", test)


def test_the_token_is_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "queue.db") as url:
            for token in ("", "another", "the-token "):
                remote = RemoteQueue(url, token)
                with pytest.raises(GuerdonError, match="this token does not open the queue"):
                    await remote.check()
                with pytest.raises(GuerdonError, match="this token does not open the queue"):
                    await remote.lease("w", 1, 60)
                await remote.aclose()
        remote = RemoteQueue(url, "the-token")
        with pytest.raises(GuerdonError, match=r"there is no queue at .* start `guerdon serve` there"):
            await remote.check()
        await remote.aclose()

    asyncio.run(run())


def test_a_server_that_restarts_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "queue.db"
        async with served(path) as url:
            remote = RemoteQueue(url, "the-token")
            await remote.put("s", SPEC, items("a"))
            (lease,) = await remote.lease("w", 1, 60)
            results = asyncio.create_task(remote.results("s", 0, wait=20))
        finishing = asyncio.create_task(remote.finish("w", [Outcome(lease.key, "", "1")]))
        await asyncio.sleep(0.2)
        await asyncio.wait_for(results, 15)
        assert not finishing.done()  # one was answered as the server went
        async with served(path, int(url.rpartition(":")[2])):
            await finishing
            assert [r.id for r in await remote.results("s", 0)] == ["a"]
        await remote.aclose()

    asyncio.run(run())

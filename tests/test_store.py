"""A run's store: what was acknowledged is there, whoever writes beside, and nobody waits for longer than needed."""

import asyncio
import fcntl
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guerdon.errors import StoreError
from guerdon.fastjson import dumps, loads
from guerdon.store import Run
from guerdon.task import Task
from guerdon.trajectory import Score, Trajectory, Turn


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run.create(tmp_path / "runs", "test", "", {})
    yield run
    run.close()


def trajectory(name: str, **what: Any) -> Trajectory:
    turn = Turn(0, ({"role": "user", "content": "1 + 1?"},), {"role": "assistant", "content": "2"}, logprobs=(-0.5,))
    return Trajectory(name, "0", "train", 1, 0, "chat", "model", **{"turns": (turn,), **what})


def stored(run: Run) -> set[str]:
    """As another process sees it."""
    other = Run(run.folder)
    names = {row["id"] for row in other.index()}
    other.close()
    return names


def test_what_is_added_comes_back_as_it_was(run: Run) -> None:
    odd = "é \ud800 \u2028 \x00 end"
    infinite = Turn(0, (), {"role": "assistant", "content": odd}, logprobs=(-math.inf, -1e22))
    one = trajectory("one", turns=(infinite,), completion=odd).scored({"r": Score(0.1 + 0.2, reason=odd)})
    run.add([one, trajectory("two")])
    run.add([trajectory("two", completion="later")])
    assert run.trajectory("one") == one
    assert run.trajectory("two").completion == "later"
    assert len(run.index()) == 2


def test_many_callers_at_once_and_the_loop_goes_on(run: Run) -> None:
    async def add_all() -> int:
        ticks = 0
        with (run.folder / ".store.db.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # another process writes
            adding = [asyncio.create_task(run.add_soon([trajectory(f"{i}")])) for i in range(100)]
            while ticks < 10:
                await asyncio.sleep(0.005)
                ticks += 1
            assert not any(task.done() for task in adding) and stored(run) == set()
        await asyncio.gather(*adding)
        return ticks

    assert asyncio.run(add_all()) == 10
    assert stored(run) == {f"{i}" for i in range(100)}


def test_a_caller_that_goes_away_takes_nothing_back(run: Run) -> None:
    async def leave() -> None:
        with (run.folder / ".store.db.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            adding = asyncio.create_task(run.add_soon([trajectory("left")]))
            await asyncio.sleep(0.02)
            adding.cancel()
            await asyncio.wait([adding])
            assert adding.cancelled()

    asyncio.run(leave())
    run.add([trajectory("next")])
    assert stored(run) == {"left", "next"}


def test_one_that_cannot_be_written_is_no_others_affair(run: Run) -> None:
    async def add_all() -> list[Any]:
        with (run.folder / ".store.db.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # so that they share a commit
            names = [["first"], ["second"], ["half", "\ud800"], ["last"]]
            adding = [asyncio.create_task(run.add_soon(list(map(trajectory, group)))) for group in names]
            await asyncio.sleep(0.02)
        return await asyncio.gather(*adding, return_exceptions=True)

    first, second, half, last = asyncio.run(add_all())
    assert (first, second, last) == (None, None, None)
    assert isinstance(half, UnicodeEncodeError)
    assert stored(run) == {"first", "second", "last"}, "of a write that failed there is nothing"


def test_what_cannot_be_written_is_said(run: Run) -> None:
    run._db.execute("drop table trajectories")
    with pytest.raises(StoreError, match=r"cannot write to .*: no such table: trajectories\. Make room, "):
        run.add([trajectory("one")])


@pytest.mark.parametrize("damage", [b"no database", None], ids=["other", "malformed"])
def test_a_damaged_store_is_said_to_be(run: Run, damage: bytes | None) -> None:
    run.add([trajectory(f"{i}", completion="x" * 5000) for i in range(20)])
    run.close()
    store = run.folder / "store.db"
    whole = store.read_bytes()
    store.write_bytes(damage * 100 if damage else whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(StoreError, match=r"the store in .* is damaged: .*store\.db") as raised:
        damaged = Run(run.folder)
        assert not damage, "the other is found out when it is read"
        try:
            list(damaged.each())
        finally:
            damaged.close()
    assert "Make room" not in str(raised.value)


def test_a_run_is_where_it_was_opened_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run.create(Path("runs"), "test", "", {})
    assert run.folder == Path("runs", run.id), "as it was given"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    run.add([trajectory("one")])
    with run.executing():
        assert run.folder == tmp_path / "runs" / run.id
    assert stored(run) == {"one"}
    run.close()


def test_tasks_that_a_run_began_with_may_not_be_missing(run: Run) -> None:
    tasks = [Task(f"{i}", f"{i}?") for i in range(6)]
    for phase in ("train", "eval"):
        run.add_tasks(phase, tasks[:4])
        run.add_tasks(phase, tasks[:5])
        with pytest.raises(StoreError, match=r"2 tasks of run .*, e\.g\. '3', are no longer there: .* Put "):
            run.add_tasks(phase, tasks[:3])
    run.finish_stage("rollout-1", {})
    run.add_tasks("train", tasks[5:])  # each iteration may have others
    assert len(run.tasks()) == 6 + 5


def test_processes_write_side_by_side(run: Run) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from guerdon.store import Run; from guerdon.trajectory import Trajectory\n"
        "run = Run(Path(sys.argv[1]))\n"
        "for i in range(40):\n"
        "    run.add([Trajectory(f'{sys.argv[2]}-{i}', '0', 'train', 1, 0, 'chat', 'm')])\n"
        "    run.log(sys.argv[2], i, {'loss': 0.5})\n"
        "run.close()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, run.folder, name]) for name in "abc"]
    while any(process.poll() is None for process in processes):
        run.index()
        time.sleep(0.01)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert stored(run) == {f"{name}-{i}" for name in "abc" for i in range(40)}
    assert [m["step"] for m in run.metrics() if m["stage"] == "b"] == list(range(40)), "in the order of the calls"


@pytest.mark.parametrize(
    "value",
    [None, "é \ud800", [1, (2.5, -0.0)], {"a": {"1": 2**70}}, 1e22, math.inf, "\u2028\x00", [[]] * 3],
    ids=repr,
)
def test_json_is_what_python_would_write(value: Any) -> None:
    text = dumps(value)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert loads(json.dumps(value)) == json.loads(json.dumps(value))
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    assert loads(dumps(deep)) == deep


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})
    with pytest.raises(ValueError, match="Expecting value"):
        loads("{nothing}"[1:])

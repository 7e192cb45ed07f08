"""Worker processes: deadlines, deaths and what they cost the others; no process is ever left behind."""

import asyncio
import math
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jobs
import pytest

from guerdon.errors import RewardError
from guerdon.plugins import Component
from guerdon.processes import WorkerProcess
from guerdon.recipe import Scoring
from guerdon.resolve import BoundReward
from guerdon.scoring import Scorer
from guerdon.task import Task
from guerdon.trajectory import Failure, Score, Trajectory
from guerdon.workers import Job, Workers, in_worker, isolated

SIMPLE, OTHER = Job("jobs:simple"), Job("jobs:other")
MARK = "GUERDON_TEST_MARK"


def marked(mark: str) -> list[int]:
    """The processes that have this mark in their environment: those that a pool started, and their descendants."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes() and state != "Z":
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def gone(mark: str, *, but: int = 0) -> bool:
    until = time.monotonic() + 60
    while set(marked(mark)) - {but} and time.monotonic() < until:
        time.sleep(0.01)
    return not set(marked(mark)) - {but}


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    value = f"{os.getpid()}-{random.random()}"
    monkeypatch.setenv(MARK, value)
    return value


@pytest.fixture
def one(mark: str) -> Iterator[Workers]:
    """A pool of one worker, of which nothing may be left."""
    with Workers(1, 512) as workers:
        yield workers
    assert not marked(mark)


def kinds(results: list[Any]) -> list[Any]:
    return [r.kind if isinstance(r, Failure) else r for r in results]


# -- one item, and the others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile", ["hang", "c hang", "power", "int", "stop", ("sleep", 1000), "sympy"], ids=lambda h: str(h)
)
def test_a_missed_deadline_costs_one_item(one: Workers, hostile: Any) -> None:
    assert one.run(SIMPLE, [0], 5.0) == [0]
    started = time.monotonic()
    results = one.run(SIMPLE, [1, 2, hostile, 3], 0.5)
    assert time.monotonic() - started < 0.5 + 15, "0.05 s on a quiet machine"
    assert kinds(results) == [2, 4, "timeout", 6]
    assert results[2].message == "no score within 0.5 s; its worker was killed"


@pytest.mark.parametrize(
    ("hostile", "kind", "message"),
    [
        (("exit", 3), "died", "the reward ended its worker process (exit code 3)"),
        (("exit", 0), "died", "(exit code 0)"),
        (("kill", 9), "died", "(signal 9)"),
        (("kill", 15), "died", "(signal 15)"),
        ("segfault", "died", "(signal 11)"),
        ("abort", "died", "(signal 6)"),
        ("fork", "died", "(exit code 5)"),
        ("close", "died", "the reward ended its worker process"),
        ("grow", "memory", "it asked for more memory than 512 MB"),
        ("memory", "memory", "it asked for more memory than 512 MB"),
        (("sys.exit", 3), "raised", "SystemExit: 3"),
        ("interrupt", "raised", "KeyboardInterrupt"),
        ("recursion", "raised", "RecursionError: maximum recursion depth"),
        ("raise", "raised", "ZeroDivisionError: division by zero ("),
        ("unsendable", "not_sendable", "its result cannot be sent from a worker process: "),
        (("odd", "unpicklable"), "not_sendable", "its result cannot be sent from a worker process: ValueError: not me"),
        (("odd", "raises"), "not_sendable", "its result cannot be read from a worker process: ValueError: no way back"),
        (jobs.Odd("unpicklable"), "not_sendable", "its task cannot be sent to a worker process: ValueError: not me"),
        (jobs.Odd("raises"), "raised", "ValueError: no way back"),
        (jobs.Odd("kills"), "died", "(exit code 9)"),
    ],
    ids=lambda h: h.how if isinstance(h, jobs.Odd) else str(h),
)
def test_whatever_else_goes_wrong_costs_one_item(one: Workers, hostile: Any, kind: str, message: str) -> None:
    results = one.run(SIMPLE, [1, 2, hostile, 3, 4], 20.0)
    assert kinds(results) == [2, 4, kind, 6, 8]
    assert message in results[2].message


def test_several_hostile_items_in_a_row(one: Workers) -> None:
    given = [
        "hang",
        ("exit", 1),
        "hang",
        1,
        "memory",
        "memory",
        jobs.Odd("kills"),
        lambda: 0,
        ("nap", 0.15),
        ("exit", 2),
    ]
    results = one.run(SIMPLE, given, 0.2)
    assert kinds(results) == [
        *("timeout", "died", "timeout", 2, "memory", "memory", "died", "not_sendable", "rested", "died"),
    ]


def test_an_item_is_not_blamed_for_the_one_before(one: Workers) -> None:
    """One leaves a thread that ends the process a moment later, one uses up nearly all the memory."""
    first = one.run(SIMPLE, ["later", ("nap", 0.1), 1], 5.0)
    assert first == ["innocent", "rested", 2]
    assert one.run(SIMPLE, [1], 5.0) == [2]


def test_a_worker_that_died_while_idle_is_replaced(one: Workers) -> None:
    (pid,) = one.run(SIMPLE, ["pid"], 5.0)
    os.kill(pid, signal.SIGKILL)
    assert one.run(SIMPLE, [1, 2], 5.0) == [2, 4]
    assert one.run(SIMPLE, ["later"], 5.0) == ["innocent"]
    time.sleep(0.1)
    assert one.run(SIMPLE, [1, 2], 5.0) == [2, 4]


def test_the_limit_is_each_items_own(one: Workers) -> None:
    assert one.run(SIMPLE, [("nap", 0.15)] * 6, 0.4) == ["rested"] * 6
    assert one.run(SIMPLE, [("nap", 0.01)], math.inf) == ["rested"]
    assert one.run(SIMPLE, [], 1.0) == []


def test_large_and_many_items_and_results(one: Workers) -> None:
    (big,) = one.run(SIMPLE, [("big", 20_000_000)], 5.0)
    assert len(big) == 20_000_000
    assert one.run(SIMPLE, [("sum", [1] * 1_000_000)], 5.0) == [1_000_000]
    assert one.run(SIMPLE, range(50_000), 5.0) == list(range(0, 100_000, 2))


def test_what_is_printed_goes_to_stderr(one: Workers, capfd: pytest.CaptureFixture[str]) -> None:
    assert one.run(SIMPLE, [("print", "hello\n"), 1], 5.0) == ["", 2], "and there is nothing to read"
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == "hello\n" * 2


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_a_worker_is_warm_and_serves_all_jobs(one: Workers) -> None:
    (first,) = one.run(SIMPLE, ["pid"], 5.0)
    assert one.run(SIMPLE, ["pid", "pid"], 5.0) == [first, first]
    (other,) = one.run(OTHER, ["pid"], 5.0)
    assert one.run(SIMPLE, ["pid"], 5.0) == one.run(OTHER, ["pid"], 5.0) == [other]
    assert one.run(SIMPLE, ["warm", "threads"], 5.0) == [1, 1]


def test_a_job_that_cannot_be_prepared(one: Workers) -> None:
    for job, message in (
        (Job("jobs:no_such"), "module 'jobs' has no attribute 'no_such'"),
        (Job("no_such_module:f"), "No module named 'no_such_module'"),
        (Job("jobs:broken", ("not today",)), "LookupError: not today"),
    ):
        results = one.run(job, [1, 2], 5.0)
        assert kinds(results) == ["import"] * 2 and message in results[0].message
    assert kinds(one.run(Job("jobs:broken", (lambda: 0,)), [1], 5.0)) == ["not_sendable"]
    assert one.run(SIMPLE, [1], 5.0) == [2]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os._exit(7)", "importing it ended the process"),
        ("import time; time.sleep(1000)", "it was not imported within 1 s"),
        ("while True: pass", "it was not imported within 1 s"),
    ],
)
def test_an_import_that_hangs_or_dies_harms_no_other_job(
    one: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    (tmp_path / "bad_import.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    (pid,) = one.run(SIMPLE, ["pid"], 5.0)
    monkeypatch.setattr("guerdon.processes.START_SECONDS", 1.0)
    results = one.run(Job("bad_import:f"), [1, 2], 5.0)
    assert [r.message for r in results] == [message] * 2
    assert one.run(SIMPLE, ["pid"], 5.0) == [pid]


def test_what_starts_threads_is_not_forked_from(one: Workers) -> None:
    threaded = Job("jobs:threaded")
    assert one.run(threaded, ["threads", ("exit", 1), 1], 5.0)[::2] == [2, 2]
    assert one.run(SIMPLE, ["threads"], 5.0)[0] in (1, 2)
    assert one.run(threaded, [1], 5.0) == [2]


def test_more_jobs_than_are_kept_warm(one: Workers) -> None:
    scaled = [Job("jobs:scaled", (n,)) for n in range(12)]
    for _ in range(2):
        assert [one.run(job, [10], 5.0) for job in scaled] == [[10 * n] for n in range(12)]


def test_forked_workers_do_not_share_random_numbers(mark: str) -> None:
    with Workers(2) as two, ThreadPoolExecutor(2) as threads:
        seen = list(threads.map(lambda _: two.run(SIMPLE, [("nap", 0.3), "pid", "random"], 5.0), range(2)))
    assert len({pid for _, pid, _ in seen}) == len({number for _, _, number in seen}) == 2


# -- who calls ---------------------------------------------------------------------------------------------------------


def test_many_threads_share_a_pool(mark: str) -> None:
    hostile = ["hang", ("exit", 1), "raise", "memory"]
    with Workers(2, 512) as two, ThreadPoolExecutor(8) as threads:
        batches = [[n, hostile[n % 4], n + 1] for n in range(24)]
        results = list(threads.map(lambda batch: kinds(two.run(SIMPLE, batch, 0.3)), batches))
    kind = ["timeout", "died", "raised", "memory"]
    assert results == [[2 * n, kind[n % 4], 2 * n + 2] for n in range(24)]
    assert not marked(mark)


def test_from_asyncio_the_event_loop_goes_on(one: Workers) -> None:
    async def main() -> tuple[list[Any], int]:
        call = asyncio.create_task(asyncio.to_thread(one.run, SIMPLE, [1, "c hang", 2], 0.5))
        beats = 0
        while not call.done():
            await asyncio.sleep(0.01)
            beats += 1
        return await call, beats

    results, beats = asyncio.run(main())
    assert kinds(results) == [2, "timeout", 4] and beats > 20


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_from_another_process(method: str, mark: str) -> None:
    """A trainer, or a task of Ray: a process that something else has started."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=jobs.call_in_process, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == ([2, 4], "timeout", 3)
    process.join()


def test_a_fork_of_the_caller_has_workers_of_its_own(tmp_path: Path) -> None:
    said = script(
        """
        import os, sys
        from guerdon.workers import Job, Workers, isolated
        job = Job("jobs:simple")
        with Workers(1) as workers:
            (mine,) = workers.run(job, ["pid"], 5.0)
            shared = isolated("jobs:pid")
            child = os.fork()
            (pid,) = workers.run(job, ["pid"], 5.0)
            print("own" if (pid == mine) == bool(child) else "shared")
            print("own" if (isolated("jobs:pid") == shared) == bool(child) else "shared")
            if child:
                os.waitpid(child, 0)
                print("alive" if workers.run(job, ["pid"], 5.0) == [mine] else "dead")
        """
    )
    assert sorted(said.split()) == ["alive", *["own"] * 4]


# -- isolated calls ----------------------------------------------------------------------------------------------------


def test_an_isolated_call() -> None:
    assert isolated("jobs:add", 1, 2) == 3
    assert not in_worker()
    with pytest.raises(RewardError, match=r"no score within 0\.2 s") as late:
        isolated("jobs:stuck", None, timeout=0.2)
    assert late.value.kind == "timeout"
    with pytest.raises(RewardError, match="TypeError") as raised:
        isolated("jobs:add", 1, None)
    assert raised.value.kind == "raised"
    with pytest.raises(RewardError, match="'jobs' has no attribute 'nothing'") as missing:
        isolated("jobs:nothing")
    assert missing.value.kind == "import"


def test_in_a_worker_an_isolated_call_is_a_call(one: Workers) -> None:
    (result,) = one.run(Job("guerdon.worker:caller", ("jobs:nested",)), [(1, 2)], 5.0)
    assert result[0] == result[1] != os.getpid()


def test_what_is_made_ready_in_a_worker_is_not_on_the_items_clock(
    one: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with sympy, which a reward calls for once in a thousand items."""
    (tmp_path / "slow_start.py").write_text(
        "import time\ntime.sleep(0.3)\ndef warm_up(): time.sleep(0.3)\nnap = time.sleep"
    )
    monkeypatch.syspath_prepend(tmp_path)
    job = Job("guerdon.worker:caller", ("jobs:nested_nap",))
    assert one.run(job, [("slow_start", 0.0)], 0.4) == ["rested"]
    assert kinds(one.run(job, [("slow_start", 0.3), ("slow_start", 0.5), ("slow_start", 0.1)], 0.4)) == [
        *("rested", "timeout", "rested"),
    ]


# -- the end -----------------------------------------------------------------------------------------------------------


def script(code: str, **options: Any) -> str:
    lines = code.strip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    paths = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[indent:] for line in lines)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BUSY = """
import threading, time
from guerdon.workers import Job, Workers
workers = Workers(2)
job = Job("jobs:simple")
print(workers.run(job, [("child", False), ("child", True), 1], 5.0)[2], flush=True)
thread = threading.Thread(target=workers.run, args=(job, ["c hang"], 1000))
thread.start()
workers.run(job, [("child", True)], 5.0)
time.sleep(0.2)
print("busy", flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "sign"),
    [
        ("time.sleep(1000)", signal.SIGKILL),
        ("time.sleep(1000)", signal.SIGTERM),
        ("time.sleep(1000)", signal.SIGINT),
        ("import os; os._exit(0)", None),
        ("import os\nif os.fork() == 0: print(os.getpid(), flush=True); time.sleep(30)\nos._exit(0)", None),
        ("workers.close(); thread.join()", None),
        ("workers.close(); workers.close(); thread.join()", None),
    ],
    ids=["killed", "terminated", "interrupted", "exit", "a fork lives on", "closed", "closed twice"],
)
def test_nothing_is_left_however_the_caller_ends(mark: str, then: str, sign: signal.Signals | None) -> None:
    paths = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(then=then)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout and [process.stdout.readline() for _ in range(2)] == ["2\n", "busy\n"]
        if sign:
            assert len(marked(mark)) >= 7, "itself, two spawners, two workers and three children"
            os.killpg(process.pid, sign)
            if sign == signal.SIGINT:
                time.sleep(0.2)  # it still waits for its thread
                process.kill()
        forked = int(process.stdout.readline()) if "fork" in then else 0
    assert gone(mark, but=forked)
    if forked:
        os.kill(forked, signal.SIGKILL)


def test_children_of_a_reward_end_with_its_worker(one: Workers, mark: str) -> None:
    before = len(marked(mark))
    one.run(SIMPLE, [("child", False), ("child", True), "fork", 1], 5.0)
    one.run(SIMPLE, [("exit", 1)], 5.0)
    until = time.monotonic() + 60
    while len(marked(mark)) > before + 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(marked(mark)) <= before + 2, "the spawners"


def test_no_file_descriptor_is_left_open() -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    for _ in range(2):
        with Workers(2) as workers, ThreadPoolExecutor(2) as threads:
            batch = [1, ("exit", 1), "hang", 2]
            list(threads.map(lambda _: workers.run(SIMPLE, batch, 0.1), range(2)))  # noqa: B023
            workers.run(Job("jobs:broken", ("no",)), [1], 5.0)
    assert opened() == before


def test_a_caller_that_ignores_the_end_of_children(mark: str) -> None:
    said = script(
        """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        from guerdon.workers import Job, Workers
        with Workers(1) as workers:
            print(workers.run(Job("jobs:simple"), [1, ("exit", 3), 2], 5.0))
        """
    )
    assert "exit code 3" in said and gone(mark)


def test_where_no_process_can_be_started_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with Workers(1) as workers:
        assert workers.run(SIMPLE, [1], 5.0) == [2]
        workers.run(SIMPLE, [("exit", 1)], 5.0)
        monkeypatch.setattr(workers._spawners[-1], "_answer", lambda: -11)
        with pytest.raises(RewardError, match="no worker process can be started: Resource temporarily unavailable"):
            workers.run(SIMPLE, [1], 5.0)


def test_a_pool_that_is_closed_while_a_call_ends_keeps_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, run = Workers(1), WorkerProcess.work
    monkeypatch.setattr(WorkerProcess, "work", lambda self, call: (run(self, call), workers.close()))
    assert workers.run(SIMPLE, [1], 5.0) == [2]
    assert workers._idle.get_nowait() is None and not workers._alive


def test_a_closed_pool_says_so_to_all_who_wait() -> None:
    workers = Workers(1)
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(workers.run, SIMPLE, ["hang"], 1000) for _ in range(3)]
        time.sleep(0.5)
        workers.close()
        for call in calls:
            with pytest.raises(RuntimeError, match="these workers were closed"):
                call.result(timeout=60)
    with pytest.raises(RuntimeError, match="these workers were closed"):
        workers.run(SIMPLE, [1], 1.0)


def test_a_caller_that_is_interrupted_leaves_no_worker_at_work(one: Workers) -> None:
    (pid,) = one.run(SIMPLE, ["pid"], 5.0)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    # a shell that starts tests in the background has SIGINT ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            one.run(SIMPLE, [("sleep", 1000)], 1000)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert one.run(SIMPLE, ["pid"], 5.0) != [pid]


@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_spawner_is_replaced(one: Workers, which: int) -> None:
    assert one.run(SIMPLE, [1], 5.0) == [2]
    pids = [one._spawners[0].process.pid, one.run(SIMPLE, ["pid"], 5.0)[0]]  # type: ignore[union-attr]
    if which:
        pids[1] = int(Path(f"/proc/{pids[1]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(pids[which], signal.SIGKILL)
    time.sleep(0.1)
    assert one.run(SIMPLE, [1, ("exit", 1), 2], 5.0)[::2] == [2, 4]
    assert one.run(SIMPLE, [3], 5.0) == [6]


# -- at random ---------------------------------------------------------------------------------------------------------

HOSTILE: list[Callable[[random.Random], Any]] = [
    lambda r: "hang",
    lambda r: "c hang",
    lambda r: ("exit", r.randrange(256)),
    lambda r: ("kill", r.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])),
    lambda r: "segfault",
    lambda r: "memory",
    lambda r: "raise",
    lambda r: "fork",
    lambda r: "close",
    lambda r: "unsendable",
    lambda r: ("child", r.random() < 0.5),
    lambda r: ("odd", "raises"),
    lambda r: jobs.Odd(r.choice(["raises", "kills", "unpicklable"])),
    lambda r: ("print", ""),
    lambda r: ("sys.exit", 1),
    lambda r: lambda: None,
]


def test_random_batches_with_hostile_items(mark: str) -> None:
    """All others have the results that they always have, and nothing is left."""
    r = random.Random(0)
    with Workers(2, 512) as two, ThreadPoolExecutor(2) as threads:

        def run(seed: int) -> None:
            r = random.Random(seed)
            batch: list[Any] = [r.randrange(10**6) for _ in range(r.randint(1, 12))]
            for _ in range(r.choice([0, 0, 1, 2])):
                batch.insert(r.randint(0, len(batch)), r.choice(HOSTILE)(r))
            results = two.run(SIMPLE, batch, 0.1)
            assert len(results) == len(batch)
            assert [b for i, b in zip(batch, results, strict=True) if isinstance(i, int)] == [
                2 * i for i in batch if isinstance(i, int)
            ], seed

        list(threads.map(run, [r.randrange(10**9) for _ in range(500)]))
    assert not marked(mark)


# -- rewards -----------------------------------------------------------------------------------------------------------


def item(completion: str, answer: Any = "4") -> tuple[Task, Trajectory]:
    return Task("t", "2 + 2?", answer), Trajectory(
        "train-1-t-0", "t", "train", 1, 0, "chat", "m", completion=completion
    )


def score(path: Path, reward: str, *completions: Any, inline: bool = False, **scoring: Any) -> list[Any]:
    from guerdon.registry import load

    component = Component("rewards", reward, f"{path}:{reward}", inline=inline)
    bound = BoundReward(component, load(component), {}, reward, 1.0, 0.5)
    with Scorer([bound], Scoring(**{"workers": 1, "max_errors": 1.0, **scoring})) as scorer:
        scored = asyncio.run(scorer.score([c if isinstance(c, tuple) else item(c) for c in completions]))
    return [t.scores[reward] for t in scored]


REWARDS = """
import os, time
READY = []
def warm_up(): READY.append(os.getpid())
def one(completion, answer):
    if completion == "hang": time.sleep(100)
    if completion == "grow": return len(bytearray(1 << 40))
    if completion == "exit": os._exit(1)
    return float(completion)
def group(completions):
    if "hang" in completions: time.sleep(100)
    return [float(c) for c in completions]
def ready(completion): return len(READY)
def pid(completion): return os.getpid()
"""


def test_each_item_of_a_group_has_its_own_deadline(tmp_path: Path, mark: str) -> None:
    (tmp_path / "r.py").write_text(REWARDS)
    scores = score(tmp_path / "r.py", "one", "1", "hang", "2", "grow", "exit", "3", item("4", lambda: 0), "x")
    assert [s.value for s in scores] == [1.0, None, 2.0, None, None, 3.0, None, None]
    found = [s.error.kind if s.error else "" for s in scores]
    assert found == ["", "timeout", "", "memory", "died", "", "not_sendable", "raised"]
    assert scores[1].seconds == 0.5 and 0 < scores[0].seconds < 0.1
    assert not marked(mark)


def test_a_group_reward_has_one_deadline(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(REWARDS)
    scores = score(tmp_path / "r.py", "group", "1", "hang")
    assert [(s.error.kind, s.seconds) for s in scores] == [("timeout", 0.5)] * 2, "a second for both is shared"
    assert [s.value for s in score(tmp_path / "r.py", "group", "1", "2")] == [1.0, 2.0]


def test_a_rewards_module_is_warmed_up_once(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(REWARDS)
    assert [s.value for s in score(tmp_path / "r.py", "ready", "1", "2")] == [1.0, 1.0]


def test_all_rewards_share_the_workers(tmp_path: Path) -> None:
    from guerdon.registry import load

    (tmp_path / "r.py").write_text(REWARDS)
    components = [Component("rewards", n, f"{tmp_path}/r.py:{n}") for n in ("one", "pid")]
    bound = [BoundReward(c, load(c), {}, c.name, 1.0, 5.0) for c in components]
    bound.append(BoundReward(components[1], load(components[1]), {}, "again", 1.0, 5.0))

    async def main() -> tuple[Any, Any]:
        with Scorer(bound, Scoring(workers=1)) as scorer:
            await scorer.score([item("1")])
            first = await scorer.score([item("1"), item("2")])
            return first, await scorer.score([item("3")])

    first, then = asyncio.run(main())
    assert len({t.scores[name].value for t in (*first, *then) for name in ("pid", "again")}) == 1


def test_inline_rewards_let_the_event_loop_breathe(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text("import time\ndef slow(completion): time.sleep(0.02); return 1.0\n")
    from guerdon.registry import load

    component = Component("rewards", "slow", f"{tmp_path}/r.py:slow", inline=True)
    bound = BoundReward(component, load(component), {}, "slow", 1.0, 0.5)

    async def main() -> int:
        beats = 0
        with Scorer([bound], Scoring(workers=1)) as scorer:
            scoring = asyncio.create_task(scorer.score([item("1")] * 10))
            while not scoring.done():
                await asyncio.sleep(0)
                beats += 1
        return beats

    assert asyncio.run(main()) >= 10


def test_jobs_and_failures_can_be_sent() -> None:
    for thing in (SIMPLE, Failure("timeout", "late"), Score(0.5, 2.0, "half", Failure("raised", "no"), 0.1)):
        assert pickle.loads(pickle.dumps(thing)) == thing

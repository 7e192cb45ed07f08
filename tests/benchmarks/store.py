"""How fast a run's store takes trajectories, and what it loses when its writers are killed.

    python tests/benchmarks/store.py [FOLDER] [--seconds N] [--kills N] [--callers N] [--agent-lightning PYTHON]

FOLDER, on the disk that is to be measured (a temporary one here by default), holds the store. Rows are 7 KB, as a math
rollout of two model calls with token ids and logprobs leaves them. A row counts when the call that wrote it has
returned, which it does when the row is on disk; `--callers` such calls are under way at once in each process.
`--agent-lightning` is the interpreter of an environment with agentlightning 0.3: its store takes the same rows, from
one process over HTTP, into its memory.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from table import table

from guerdon.store import Run
from guerdon.trajectory import Score, Trajectory, Turn

KILLED_AFTER = (0.3, 1.5)
"""Seconds between which a writer is killed."""


def trajectory(writer: int, number: int) -> Trajectory:
    """Unlike any other, and always the same."""
    draw = random.Random(number)
    first, called, said = (tuple(draw.randrange(151_000) for _ in range(n)) for n in (300, 48, 96))
    system = "Use the calculator tool to answer any question. Output only the numeric answer."
    question = f"A farm has {number} hens and each lays 2.5 eggs a day. How many eggs are laid in 16 days?"
    call = {"id": "c1", "type": "function", "function": {"name": "calculate", "arguments": '{"expression": "40 + 2"}'}}
    asks = ({"role": "system", "content": system}, {"role": "user", "content": question})
    given = ({"role": "tool", "tool_call_id": "c1", "content": "42"},)
    calls = {"role": "assistant", "tool_calls": [call]}
    answers = {"role": "assistant", "content": "Using the calculator I get 42. ### 42 ###"}
    turns = (
        Turn(0, asks, calls, "tool_calls", first, called, _logprobs(48), 300, 48, 0.05),
        Turn(3, given, answers, "stop", first + called + first[:12], said, _logprobs(96), 360, 96, 0.05),
    )
    name = f"train-1-{writer}.{number}-0"
    done = Trajectory(name, f"{writer}.{number}", "train", 1, 0, "math", "model", turns, (), "42", None, 0.1)
    return done.scored({"numeric": Score(1.0), "format": Score(0.5)})


def _logprobs(count: int) -> tuple[float, ...]:
    return tuple(round(-random.random(), 6) for _ in range(count))


# -- a writer, in a process of its own --------------------------------------------------------------------------------


def write(folder: Path, writer: int, callers: int, seconds: float) -> None:
    """Add trajectories for some seconds (0: until killed); each that is acknowledged is named on stdout."""
    run, number, waits = Run(folder), 0, list[float]()
    ready = [trajectory(writer, i) for i in range(64)]  # made beforehand: the store is what is measured
    print("ready", flush=True)
    sys.stdin.readline()
    cpu, started = time.process_time(), time.perf_counter()

    async def caller() -> None:
        nonlocal number
        while not seconds or time.perf_counter() - started < seconds:
            number += 1
            one = ready[number % len(ready)]
            named = _renamed(one, f"{writer}.{number}")
            began = time.perf_counter()
            await run.add_soon([named])
            waits.append(time.perf_counter() - began)
            if not seconds:
                os.write(1, f"{named.id}\n".encode())

    async def all_callers() -> None:
        await asyncio.gather(*(caller() for _ in range(callers)))

    asyncio.run(all_callers())
    spent, took = time.process_time() - cpu, time.perf_counter() - started
    waits.sort()
    facts = {"rows": number, "cpu": spent, "seconds": took, "half": waits[number // 2], "last": waits[-1]}
    print(json.dumps(facts), flush=True)
    run.close()


def _renamed(one: Trajectory, task: str) -> Trajectory:
    values = {name: getattr(one, name) for name in Trajectory.__slots__}
    return Trajectory(**{**values, "id": f"train-1-{task}-0", "task_id": task})


class Writing:
    """Writers at work on one store."""

    def __init__(self, folder: Path, count: int, callers: int, seconds: float = 0.0) -> None:
        self.folder = Run.create(folder, "store", "", {}).folder
        self.processes = []
        for writer in range(count):
            command = [sys.executable, __file__, "--writer", str(writer), "--callers", str(callers)]
            command += ["--seconds", str(seconds), str(self.folder)]
            out = (self.folder / f"writer-{writer}").open("wb+")
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out)
            self.processes.append((process, out))
        for _, out in self.processes:
            while not Path(out.name).stat().st_size:
                time.sleep(0.01)
        for process, _ in self.processes:
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.close()

    def said(self) -> list[list[str]]:
        """What each printed, once all have ended; a last line that a kill has cut is left out."""
        lines = []
        for process, out in self.processes:
            process.wait()
            out.close()
            lines.append(Path(out.name).read_text().split("\n")[1:-1])
        return lines


AGENT_LIGHTNING = """
import asyncio, json, os, resource, subprocess, sys, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from agentlightning.store import LightningStoreClient
from agentlightning.types import Span

rows, port, callers = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])

def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

async def main(server):
    store = LightningStoreClient(f"http://127.0.0.1:{port}")
    for _ in range(600):
        try:
            rollouts = [await store.start_rollout(input={"n": n}) for n in range(20)]
            break
        except Exception:
            await asyncio.sleep(0.2)
    ids = [(r.rollout_id, r.attempt.attempt_id) for r in rollouts]
    facts = [dict(rollout_id=ids[n % 20][0], attempt_id=ids[n % 20][1], sequence_id=n + 1) for n in range(len(rows))]
    spans = iter([Span.from_attributes(attributes=a, name="llm", **b) for a, b in zip(rows, facts)])
    waits = []
    async def caller():
        for span in spans:
            began = time.perf_counter()
            await store.add_span(span)
            waits.append(time.perf_counter() - began)
    spent, started = time.process_time() + cpu(server), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    took, spent = time.perf_counter() - started, time.process_time() + cpu(server) - spent
    waits.sort()
    found = {"rows": len(rows), "seconds": took, "cpu": spent}
    print(json.dumps({**found, "half": waits[len(waits) // 2], "last": waits[-1]}))
    await store.close()

agl = os.path.join(os.path.dirname(sys.executable), "agl")
server = subprocess.Popen([agl, "store", "--host", "127.0.0.1", "--port", port, "--log-level", "ERROR"], stdout=2)
try:
    asyncio.run(main(server.pid))
finally:
    server.kill()
"""


def beside(python: str, folder: Path, count: int = 500) -> list[object]:
    """Agent Lightning's line of the first table."""
    rows = []
    for number in range(count):
        one = trajectory(0, number)
        row: dict[str, Any] = {"reward": one.reward or 0.0, "task": one.turns[0].prompt[1]["content"]}
        for at, turn in enumerate(one.turns):
            row |= {f"prompt_token_ids.{at}": turn.prompt_ids, f"response_token_ids.{at}": turn.reply_ids}
            row |= {f"logprobs.{at}": turn.logprobs, f"response.{at}": json.dumps(turn.reply)}
        rows.append(row)
    (folder / "rows.json").write_text(json.dumps(rows))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    command = [python, "-c", AGENT_LIGHTNING, str(folder / "rows.json"), port, "16"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return _line("Agent Lightning, in memory", 1, 16, [json.loads(done.stdout.splitlines()[-1])])


# -- what is measured -------------------------------------------------------------------------------------------------


def rate(folder: Path, writers: int, callers: int, seconds: float) -> list[object]:
    """One line of the first table."""
    writing = Writing(folder, writers, callers, seconds)
    facts = [json.loads(lines[-1]) for lines in writing.said()]
    rows = sum(f["rows"] for f in facts)
    assert rows == len(list(_ids(writing.folder))), "a row was lost"
    return _line("guerdon", writers, callers, facts)


def _line(who: str, writers: int, callers: int, facts: list[Any]) -> list[object]:
    rows, taken = sum(f["rows"] for f in facts), max(f["seconds"] for f in facts)
    cpu = sum(f["cpu"] for f in facts) / rows * 1e3
    half, last = statistics.median(f["half"] for f in facts) * 1e3, max(f["last"] for f in facts) * 1e3
    fewest = min(f["rows"] for f in facts) / max(f["rows"] for f in facts)
    rate = f"{rows / taken:,.0f}"
    return [who, writers, callers, rate, f"{cpu:.2f}", f"{half:.0f}", f"{last:.0f}", f"{fewest:.2f}"]


def lost(folder: Path, kills: int, callers: int) -> list[list[object]]:
    """Four writers on one store, all killed at random moments: is what was acknowledged there?"""
    acknowledged = missing = unnamed = damaged = unreadable = 0
    for _ in range(kills):
        writing = Writing(folder, 4, callers)
        moments = sorted((random.uniform(*KILLED_AFTER), process) for process, _ in writing.processes)
        started = time.perf_counter()
        for moment, process in moments:
            time.sleep(max(0.0, moment - (time.perf_counter() - started)))
            process.send_signal(signal.SIGKILL)
        named = [name for lines in writing.said() for name in lines]
        with sqlite3.connect(writing.folder / "store.db") as db:
            damaged += db.execute("pragma integrity_check").fetchone()[0] != "ok"
            bodies = dict(db.execute("select id, body from trajectories"))
        db.close()
        acknowledged += len(named)
        missing += len(set(named) - bodies.keys())
        unnamed += len(bodies.keys() - set(named))
        unreadable += sum(Trajectory.from_json(json.loads(body)).id != name for name, body in bodies.items())
    return [[kills * 4, f"{acknowledged:,}", missing, unnamed, unreadable, damaged]]


def reads(folder: Path) -> list[list[object]]:
    """From a store with 20,000 rows."""
    run = Run.create(folder, "reads", "", {})
    for start in range(0, 20_000, 500):
        run.add([trajectory(0, i) for i in range(start, start + 500)])
    run.close()
    name = run.folder

    def ms(ask: Any, times: int = 50) -> str:
        taken = []
        for _ in range(times):
            started = time.perf_counter()
            ask()
            taken.append(time.perf_counter() - started)
        return f"{statistics.median(taken) * 1e3:.2f}"

    def opened() -> None:
        Run(name).close()

    run = Run(name)
    one = ms(lambda: run.trajectory(f"train-1-0.{random.randrange(20_000)}-0"))
    lines: list[list[object]] = [["open and close", ms(opened)], ["one trajectory by its id", one]]
    lines += [["id, reward and failure of all", ms(run.index, 5)], ["all trajectories", ms(run.trajectories, 1)]]
    run.close()
    return lines


def _ids(folder: Path) -> list[str]:
    db = sqlite3.connect(folder / "store.db")
    found = [name for (name,) in db.execute("select id from trajectories")]
    db.close()
    return found


def machine(folder: Path) -> str:
    """What the figures depend on."""
    with (folder / "sync").open("wb") as file:
        waits = []
        for _ in range(100):
            file.write(b"x" * 8192)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            waits.append((time.perf_counter() - started) * 1e3)
    waits.sort()
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    disk = f"fdatasync {waits[50]:.2f} ms (95 of 100 below {waits[95]:.2f})"
    return f"{len(cpus)} x {cpus[0] if cpus else '?'}, load {loads}; {versions}; {disk}"


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("folder", nargs="?", type=Path)
    args.add_argument("--seconds", type=float, default=5.0)
    args.add_argument("--kills", type=int, default=10, help="rounds in which four writers are killed")
    args.add_argument("--callers", type=int, default=64)
    args.add_argument("--agent-lightning", metavar="PYTHON")
    args.add_argument("--writer", type=int, help=argparse.SUPPRESS)
    given = args.parse_args()
    if given.writer is not None:
        return write(given.folder, given.writer, given.callers, given.seconds)
    with tempfile.TemporaryDirectory(dir=given.folder or Path.cwd()) as name:
        folder = Path(name)
        size = len(json.dumps(trajectory(0, 1).to_json(), separators=(",", ":")))
        print(f"{machine(folder)}; rows of {size:,} bytes\n")
        heads = ["", "processes", "callers each", "rows/s", "CPU ms/row", "ms to answer", "longest", "fewest/most"]
        many = given.callers
        lines = [rate(folder, *who, given.seconds) for who in ((1, 1), (1, many), (4, 1), (4, many))]
        if given.agent_lightning:
            lines.append(beside(given.agent_lightning, folder))
        print(table(heads, lines) + "\n")
        heads = ["writers killed", "acknowledged", "lost", "there, not yet told", "unreadable", "damaged files"]
        print(table(heads, lost(folder, given.kills, many)) + "\n")
        print(table(["of 20,000 rows", "ms"], reads(folder)))


if __name__ == "__main__":
    main()

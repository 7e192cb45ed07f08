"""Kill parts of a run at random moments, go on with it, and count what was lost, done again or damaged.

    python tests/benchmarks/kills.py MINUTES [--seed N] [--modes inside workers terminals]
    python tests/benchmarks/kills.py --rounds 3 --seed 1

A round is one run from its start to its end through the command line: an evaluation and two iterations of rollouts,
each of two model calls, with three rewards. Rounds take turns in the three ways to run it: rollouts inside the engine,
two workers that the engine starts, and `guerdon serve`, two `guerdon worker` and `guerdon run --server` beside each
other. SIGKILL hits the engine, a worker, the server, the backend or all of them; the harness then does what a user
would: it starts again what it had started, and resumes the run.

Each rollout signs its answer with a name of its own. Just before a kill the harness notes what the run's store, or its
queue, has by then: that was acknowledged, and has to be there at the end, by the same name, with its scores.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from table import table

MODES = ("inside", "workers", "terminals")
PARTS = """
import asyncio, os, secrets, time
from pathlib import Path

LOG = Path(__file__).with_name("rollouts.log")

def note(*what):
    file = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, (" ".join(what) + "\\n").encode())
    os.close(file)

async def agent(task, policy):
    "Asks twice, and signs its answer with a name that no other rollout has."
    name = secrets.token_hex(8).translate(str.maketrans("0123456789", "ghijklmnop"))
    note("begun", name, task.id)
    messages = list(task.messages)
    for _ in range(2):
        reply = (await policy.complete(messages))["choices"][0]["message"]
        messages += [{"role": "assistant", "content": reply["content"]}, messages[0]]
    note("ended", name, task.id)
    return f"{reply['content']} {name}"

def slow(answer):
    time.sleep(0.005)
    return 1.0

async def later(answer):
    await asyncio.sleep(0.005)
    return 1.0
"""


# -- the backend, in a process of its own -----------------------------------------------------------------------------


def answer_forever(port: int) -> None:
    """An OpenAI-compatible server that can add, after a while as random as a model's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", head)
                data = await reader.readexactly(int(length[1]) if length else 0)
                text = b'{"object":"list","data":[]}'
                if head.startswith(b"post"):
                    await asyncio.sleep(random.uniform(0.02, 0.2))
                    text = _completion(json.loads(data))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n%s" % (len(text), text))
                await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=512)
        await server.serve_forever()

    asyncio.run(main())


def _completion(body: dict[str, Any]) -> bytes:
    a, b = map(int, re.findall(r"\d+", body["messages"][0]["content"])[:2])
    message = {"role": "assistant", "content": f"### {a + b} ###"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    reply = {"id": "r", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice], "usage": usage}
    return json.dumps(reply).encode()


# -- a round ----------------------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What a round came to. All of `FAULTS` have to be 0."""

    kills: Counter[str] = field(default_factory=Counter)
    rollouts: int = 0
    acknowledged: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    redone: int = 0
    stopped: int = 0
    seconds: float = 0.0

    def add(self, other: "Counts") -> None:
        self.kills += other.kills
        self.faults += other.faults
        self.rollouts += other.rollouts
        self.acknowledged += other.acknowledged
        self.redone += other.redone
        self.stopped += other.stopped
        self.seconds += other.seconds


FAULTS = ("lost", "run again", "doubled", "missing", "failed", "unscored", "damaged", "left behind", "stuck")


@dataclass(frozen=True)
class Size:
    """How large a round is, and how often something is killed in it."""

    held: int = 24
    tasks: int = 30
    group: int = 3
    kills: int = 8

    @property
    def concurrency(self) -> int:
        return max(3, self.tasks * 2 // 5)

    @property
    def rollouts(self) -> int:
        return self.held + 2 * self.tasks * self.group


@dataclass(frozen=True)
class Kill:
    """`early`: while the engine starts; else after the next rollout has begun. Then `delay` seconds, and when it is
    done `pause` seconds until what was killed is started again. `which` of several workers it hits, from 0 to 1."""

    kind: str
    early: bool
    delay: float
    pause: float
    which: float


def plan(mode: str, seed: int, count: int) -> list[Kill]:
    """What is killed in a round, each kind as often as the others."""
    draw = random.Random(f"{mode} {seed}")
    kinds = ["engine", "backend", "all", *(() if mode == "inside" else ("worker",))]
    kinds += ["server"] if mode == "terminals" else []
    order = [kind for _ in range(count) for kind in draw.sample(kinds, len(kinds))][:count]
    return [Kill(k, draw.random() < 0.15, draw.uniform(0, 1.2), draw.uniform(0, 0.6), draw.random()) for k in order]


class Round:
    """One run, its processes, and what was seen of it."""

    def __init__(self, folder: Path, mode: str, seed: int, size: Size, say: Callable[[str], None]) -> None:
        self.folder, self.mode, self.size, self.say = folder, mode, size, say
        self.plan = plan(mode, seed, size.kills)
        self.counts = Counts()
        self.seen: dict[str, str] = {}
        self.whole: dict[str, int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port, self.server_port = _free_port(), _free_port()
        self.log = folder / "rollouts.log"
        self.log.touch()
        (folder / "parts.py").write_text(PARTS)
        lines = ({"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(size.held + 2 * size.tasks))
        (folder / "tasks.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        recipe = {
            "model": "fake",
            "backend": {"openai": {"base_url": f"http://127.0.0.1:{self.port}/v1", "timeout": 20}},
            "agent": "./parts.py:agent",
            "tasks": {"path": "tasks.jsonl"},
            "rewards": ["numeric", "./parts.py:slow", "./parts.py:later"],
            "rollout": {"concurrency": size.concurrency, "tries": 6, "workers": 2 if mode == "workers" else 0},
            "eval": {"holdout": size.held},
            "loop": {"iterations": 2, "tasks": size.tasks, "group_size": size.group},
        }
        (folder / "recipe.yaml").write_text(json.dumps(recipe))

    # what runs

    def start(self, part: str) -> None:
        guerdon = [sys.executable, "-m", "guerdon"]
        server = ["--server", f"http://127.0.0.1:{self.server_port}"] if self.mode == "terminals" else []
        begun = bool(self.runs())
        command = {
            "backend": [sys.executable, __file__, "--backend", str(self.port)],
            "engine": [*guerdon, "run", *(["--resume"] if begun else ["recipe.yaml"]), *server],
            "server": [*guerdon, "serve", "--port", str(self.server_port)],
            "worker": [*guerdon, "worker", *server[1:]],
        }[part.split()[0]]
        tags = {"GUERDON_KILLS": str(self.folder), "GUERDON_TOKEN": "the-token-of-this-test", "PYTHONUNBUFFERED": "1"}
        with (self.folder / f"{part}.out").open("ab") as out:
            self.processes[part] = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | tags, stdout=out, stderr=out, start_new_session=True
            )
        port, until = {"backend": self.port, "server": self.server_port}.get(part), time.monotonic() + 20
        while port and not _listens(port) and time.monotonic() < until:
            time.sleep(0.01)

    def parts(self) -> list[str]:
        """What the harness starts, in this order."""
        return ["backend", *(["server", "worker 1", "worker 2"] if self.mode == "terminals" else []), "engine"]

    def kill(self, kill: Kill) -> None:
        """SIGKILL, and start it again after a moment."""
        ours = [part for part in self.parts() if kill.kind in (part.split()[0], "all")]
        if kill.kind == "worker":  # those of `guerdon worker` here, or one that the engine has started
            ours = _one(ours, kill.which)
            pids = _one(sorted(pid for pid in self.tagged() if b"guerdon.rollout_worker" in _command(pid)), kill.which)
        else:
            pids = []
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for part in ours:
            self.processes[part].kill()
        for part in ours:
            self.processes[part].wait()
        self.counts.kills[kill.kind] += bool(ours or pids)
        what = ", ".join(ours) or f"{len(pids)} of the engine's workers"
        self.say(f"  {time.strftime('%H:%M:%S')}  {len(self.seen)} acknowledged; killed: {what}")
        time.sleep(kill.pause)
        for part in ours:
            self.start(part)

    def runs(self) -> list[Path]:
        return sorted(p.parent for p in self.folder.glob("runs/*/run.json"))

    def tagged(self) -> list[int]:
        found = []
        for name in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                state = (name / "stat").read_text().rpartition(")")[2].split()[0]
                tags = (name / "environ").read_bytes() + b"\0"
                if state != "Z" and f"GUERDON_KILLS={self.folder}\0".encode() in tags:
                    found.append(int(name.name))
        return found

    # what is seen

    def look(self) -> None:
        """Note what is acknowledged by now, and whether what was is still there and was not begun again."""
        now = self.finished()
        begun = self.begun()  # later: what has begun by then may have done so before it was finished
        for name, signed in self.seen.items():
            if now.get(name, signed) != signed:
                self.fault("lost", f"{name} was {signed}, and is {now[name]}")
        self.seen |= now
        of_task = Counter(name.rsplit("-", 1)[0].split("-", 2)[2] for name in self.seen)
        for task, count in of_task.items():
            size = 1 if self.is_held(task) else self.size.group
            if count == size and begun[task] > self.whole.setdefault(task, begun[task]):
                self.fault("run again", f"task {task} was finished, and begun again")
                self.whole[task] = begun[task]

    def is_held(self, task: str) -> bool:
        return any(name.startswith("eval-") and name.split("-", 2)[2].rsplit("-", 1)[0] == task for name in self.seen)

    def begun(self) -> Counter[str]:
        return Counter(line.split()[2] for line in self.log.read_text().splitlines() if line.startswith("begun "))

    def finished(self) -> dict[str, str]:
        """Id and signature of what is in the store, or in a queue, without a failure."""
        found: dict[str, str] = {}
        for path in self.folder.rglob("*.db"):
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path, timeout=20)) as db:
                if _has(db, "trajectories"):
                    rows = db.execute("select id, body from trajectories where failure is null")
                else:
                    rows = db.execute("select items.id, body from results join items using (key) where kind = ''")
                found |= {name: _signed(body) for name, body in rows}
        return found

    def fault(self, kind: str, what: str) -> None:
        self.counts.faults[kind] += 1
        self.say(f"  {kind}: {what}")

    def done(self) -> bool:
        for folder in self.runs()[-1:]:
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(folder / "store.db", timeout=20)) as db:
                return bool(db.execute("select 1 from stages where name = 'finished'").fetchone())
        return False

    # how it goes

    def play(self, seconds: float) -> Counts:
        started = time.monotonic()
        try:
            for part in self.parts():
                self.start(part)
            while not self.over() and time.monotonic() < started + seconds:
                if self.plan and self.wait(self.plan[0]):
                    self.look()
                    self.kill(self.plan.pop(0))
                else:
                    time.sleep(0.05)
            if not self.done():
                self.fault("stuck", f"not finished after {seconds:g} s")
            self.judge()
        finally:
            self.stop()
        self.counts.seconds = time.monotonic() - started
        return self.counts

    def wait(self, kill: Kill) -> bool:
        """Until the moment has come; false when the engine has ended by then."""
        engine, lines = self.processes["engine"], self.log.stat().st_size
        while not kill.early and engine.poll() is None and self.log.stat().st_size == lines:
            time.sleep(0.01)
        until = time.monotonic() + kill.delay
        while engine.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        return engine.poll() is None

    def over(self) -> bool:
        """Has the engine ended with the run finished? When it has ended otherwise it is started again."""
        code = self.processes["engine"].poll()
        if code is None or self.done():
            return code is not None
        self.say(f"  the engine ended with {code}: {self.tail('engine')}")
        self.counts.stopped += 1
        self.start("engine")
        return self.counts.stopped > 10

    def tail(self, part: str) -> str:
        return (self.folder / f"{part}.out").read_text()[-600:].strip().replace("\n", "\n    ")

    def judge(self) -> None:
        """What is there at the end?"""
        self.counts.acknowledged = len(self.seen)
        self.look()
        if len(self.runs()) != 1:
            self.fault("doubled", f"there are {len(self.runs())} runs")
        with closing(sqlite3.connect(self.runs()[-1] / "store.db")) as db:
            rows = {name: json.loads(body) for name, body in db.execute("select id, body from trajectories")}
        signed = {name: _signed(json.dumps(row)) for name, row in rows.items() if not row["failure"]}
        for name in self.seen.keys() - signed.keys():
            self.fault("lost", f"{name} was acknowledged")
        if len(rows) != self.size.rollouts:
            self.fault("missing", f"{len(rows)} of {self.size.rollouts} are there")
        for name, count in Counter(signed.values()).items():
            if count > 1:
                self.fault("doubled", f"{name} is there {count} times")
        for name, row in rows.items():
            if row["failure"]:
                self.fault("failed", f"{name}: {row['failure']}")
            elif len(row["scores"]) != 3 or any(score["value"] is None for score in row["scores"].values()):
                self.fault("unscored", f"{name}: {row['scores']}")
        for path in self.folder.rglob("*.db"):
            with closing(sqlite3.connect(path)) as db:
                if (said := db.execute("pragma integrity_check").fetchone()[0]) != "ok":
                    self.fault("damaged", f"{path.name}: {said}")
        ended = {line.split()[1] for line in self.log.read_text().splitlines() if line.startswith("ended ")}
        self.counts.redone = len(ended - set(signed.values()))
        self.counts.rollouts = len(rows)

    def stop(self) -> None:
        """End what the harness has started; what the engine has started should be gone with it."""
        ours = {process.pid for process in self.processes.values()}
        until = time.monotonic() + 10
        while (rest := set(self.tagged()) - ours) and time.monotonic() < until:
            time.sleep(0.05)
        for pid in rest:
            with suppress(OSError):
                self.fault("left behind", _command(pid).replace(b"\0", b" ").decode()[:200])
                os.kill(pid, signal.SIGKILL)
        for process in self.processes.values():
            process.kill()
            process.wait()


def _one(some: list[Any], which: float) -> list[Any]:
    return [some[int(which * len(some))]] if some else []


def _has(db: sqlite3.Connection, name: str) -> bool:
    return bool(db.execute("select 1 from sqlite_master where name = ?", (name,)).fetchone())


def _signed(body: str) -> str:
    return str((json.loads(body)["completion"] or " ").split()[-1])


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _listens(port: int) -> bool:
    with closing(socket.socket()) as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# -- many rounds ------------------------------------------------------------------------------------------------------


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("minutes", nargs="?", type=float, default=0.0)
    args.add_argument("--rounds", type=int, default=0, help="so many at least")
    args.add_argument("--seed", type=int, default=0, help="the first round's; each later one has the next")
    args.add_argument("--modes", nargs="*", choices=MODES, default=MODES)
    args.add_argument("--kills", type=int, default=Size.kills, help="in one round, at most")
    args.add_argument("--tasks", type=int, default=Size.tasks, help="of one iteration")
    args.add_argument("--backend", type=int, help=argparse.SUPPRESS)
    given = args.parse_args()
    if given.backend:
        return answer_forever(given.backend)
    size = Size(tasks=given.tasks, held=min(Size.held, given.tasks), kills=given.kills)
    totals = {mode: Counts() for mode in given.modes}
    rounds = Counter[str]()
    started = time.monotonic()
    while rounds.total() < given.rounds or time.monotonic() < started + 60 * given.minutes:
        mode, seed = given.modes[rounds.total() % len(given.modes)], given.seed + rounds.total()
        print(f"round {rounds.total() + 1}, {mode}, seed {seed}", flush=True)
        name = Path(tempfile.mkdtemp(prefix="kills-"))
        counts = Round(name, mode, seed, size, lambda text: print(text, flush=True)).play(240)
        keep = counts.faults.total() > 0
        print(f"  {counts.seconds:.0f} s; kept in {name}" if keep else f"  {counts.seconds:.0f} s", flush=True)
        if not keep:
            shutil.rmtree(name)
        totals[mode].add(counts)
        rounds[mode] += 1
    totals["all"] = Counts()
    for mode in given.modes:
        totals["all"].add(totals[mode])
    rounds["all"] = rounds.total()
    kinds = ("engine", "worker", "server", "backend", "all")
    heads = ["", "rounds", "kills", *(f"  {kind}" for kind in kinds), "rollouts", "acknowledged before a kill"]
    heads += ["finished unseen, done again", "stopped for failures", *FAULTS, "seconds"]
    columns = [
        [
            mode,
            rounds[mode],
            counts.kills.total(),
            *(counts.kills[kind] for kind in kinds),
            counts.rollouts,
            counts.acknowledged,
            counts.redone,
            counts.stopped,
            *(counts.faults[kind] for kind in FAULTS),
            round(counts.seconds),
        ]
        for mode, counts in totals.items()
    ]
    print(
        "\n"
        + table([str(c[0]) for c in [heads, *columns]], list(zip(*(c[1:] for c in [heads, *columns]), strict=True)))
    )
    sys.exit(totals["all"].faults.total() > 0)


if __name__ == "__main__":
    main()

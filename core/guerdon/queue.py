"""The queue: rollouts to do, who does them, and how they ended, in one SQLite file.

A worker leases items, says every few seconds that it is alive, and hands over what is finished. An item whose worker
goes silent is queued again; whatever was finished is never run again. What is acknowledged is on disk.

Which of the items that a worker had has killed it, nobody knows. So it costs an item a try only when it was the only
one; of several each is to be in a quarter of the company from then on, which soon comes to being alone.
"""

import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from guerdon.errors import StoreError
from guerdon.retries import wait_before, worth_another_try
from guerdon.trajectory import Trajectory

LEASE_SECONDS = 15.0
"""After which a worker that says nothing is taken for dead."""

UNATTENDED_SECONDS = 30.0
"""Nobody has asked for a stage's results for so long: its engine is away, and its items rest."""

KEPT_SECONDS = 7 * 86400.0
"""What an engine left behind and never came back for."""

NOWHERE = "agent_nowhere"
"""The kind of an item's failure when its agent starts in none of the workers that are alive."""

ALONE_SECONDS = 3.0
"""Then a worker in which an agent does not start tries again, for the last time: others may have come."""

REST_SECONDS = 60.0
"""The same beside others, which have the work: it may have been mended."""

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")

_TABLES = """
create table if not exists stages (id text primary key, spec text not null, tries integer not null, attended real);
create table if not exists items (
    key integer primary key autoincrement, stage text not null, id text not null, task text not null,
    phase text, iteration integer, attempt integer, deadline real,
    status text not null default 'queued', tries integer not null default 0, due real not null default 0,
    worker text, began real, until real, unique (stage, id));
create index if not exists by_status on items (status);
create index if not exists running on items (until) where status = 'running';
create index if not exists had on items (worker) where status = 'running';
create index if not exists again on items (stage) where tries > 1;
create table if not exists results (
    number integer primary key autoincrement, stage text not null, key integer not null, kind text not null,
    body text not null);
create index if not exists by_stage on results (stage);
create table if not exists workers (name text primary key, seen real not null);
"""

_ADDED = {"free": "integer not null default 0", "company": "integer"}
"""Columns of items that files of older versions lack: the tries that do not count, and how many its worker may have."""


@dataclass(frozen=True, slots=True)
class Item:
    """One rollout to do. `id` is unique in its stage; `task` is JSON; `deadline` is the seconds it may take."""

    id: str
    task: str
    phase: str
    iteration: int
    attempt: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Lease:
    """An item that a worker has; `tries` counts this one. `key` is the item's number, never used twice."""

    spec: dict[str, Any]
    key: int
    stage: str
    id: str
    task: str
    phase: str
    iteration: int
    attempt: int
    tries: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a lease ended. `kind` is its failure's, or empty; the trajectory may be given as JSON text."""

    key: int
    kind: str
    body: Trajectory | str


@dataclass(frozen=True, slots=True)
class Result:
    """A finished item. One that its worker died of, each time, has an empty `body`, and kind `worker_died`."""

    number: int
    key: int
    id: str
    kind: str
    tries: int
    body: Trajectory | str


class WorkQueue(Protocol):
    """What workers and collectors use: `LocalQueue` in the queue's own process, `RemoteQueue` over HTTP."""

    async def put(self, stage: str, spec: dict[str, Any], items: Sequence[Item]) -> None:
        """Queue items; one that succeeded before keeps its result, one that failed is tried anew."""
        ...

    async def lease(self, worker: str, count: int, seconds: float, wait: float = 0.0) -> list[Lease]:
        """At most so many items, for so long; each try is counted. Waits up to `wait` seconds for the first."""
        ...

    async def beat(self, worker: str, held: Sequence[int], seconds: float) -> list[int]:
        """Keep these leases; those that the worker has no longer, or that were cancelled, come back.

        With 0 seconds all that the worker has ran out: it died, and was started again under its name.
        """
        ...

    async def finish(self, worker: str, outcomes: Sequence[Outcome]) -> None:
        """Hand over; what is acknowledged is on disk. A failure that is worth it is queued again, for later."""
        ...

    async def release(self, worker: str, keys: Sequence[int] | None) -> None:
        """Give these leases back, or all; the try does not count."""
        ...

    async def results(self, stage: str, after: int, wait: float = 0.0) -> list[Result]:
        """What finished after this number; up to it the caller has all in its own store, and it is dropped."""
        ...

    async def cancel(self, stage: str) -> None:
        """Nothing more of this stage is to be begun; workers hear of it by `beat`. `put` takes it back."""
        ...

    async def forget(self, stage: str) -> None:
        """Drop a stage, with all of its items and results."""
        ...

    async def counts(self, stage: str) -> dict[str, int]:
        """Items of a stage by status, those `retried`, and the `workers` that are alive."""
        ...


@contextlib.contextmanager
def clear_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"cannot write the queue {path}: {error}. Make room, or fix the permissions") from error


class Queue:
    """The queue itself, on one connection. Not for several threads at a time."""

    def __init__(self, path: Path | None = None) -> None:
        """In a file; without one, in memory.

        Raises:
            StoreError: the file cannot be written.
        """
        self.path = path
        self._expired = 0.0
        self._lacking: dict[tuple[str, str], float] = {}  # stage and worker, in which its agent does not start: since
        with clear_errors(path):
            self._open(path)

    def _open(self, path: Path | None) -> None:
        self._db = sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_TABLES)
        now = time.time()
        with self.transaction():
            there = {name for _, name, *_ in self._db.execute("pragma table_info(items)")}
            for name in _ADDED.keys() - there:
                self._db.execute(f"alter table items add column {name} {_ADDED[name]}")
            # while it was closed no worker could say that it is alive
            self._db.execute("update items set until = max(until, ?) where status = 'running'", (now + LEASE_SECONDS,))
            self._db.execute("delete from workers where seen < ?", (now - KEPT_SECONDS,))
            old = [s for (s,) in self._db.execute("select id from stages where attended < ?", (now - KEPT_SECONDS,))]
            for stage in old:
                self.forget(stage)

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done inside is on disk at its end, or nothing is."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("begin immediate")
        try:
            yield
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise

    def put(self, stage: str, spec: dict[str, Any], items: Sequence[Item]) -> None:
        tries = int(spec.get("rollout", {}).get("tries", 3))
        self._try_all(stage)
        with self.transaction():
            self._db.execute(
                "insert or replace into stages values (?,?,?,?)", (stage, json.dumps(spec), tries, time.time())
            )
            self._db.executemany(
                "insert into items (stage, id, task, phase, iteration, attempt, deadline) values (?,?,?,?,?,?,?) "
                "on conflict (stage, id) do update set status = 'queued', tries = 0, free = 0, company = null, "
                "due = 0, task = excluded.task where status in ('failed', 'cancelled')",
                [(stage, i.id, i.task, i.phase, i.iteration, i.attempt, i.deadline) for i in items],
            )
            self._db.execute(
                "delete from results where stage = ? and key in (select key from items where stage = ? "
                "and status != 'succeeded')",
                (stage, stage),
            )

    def lease(self, worker: str, count: int, seconds: float) -> list[Lease]:
        now = time.time()
        with self.transaction():
            self._seen(worker, now)
            self._expire(now)
            for_others = json.dumps([s for s, w in self._lacking if w == worker and self._rests(s, w, now)])
            queued = self._db.execute(
                "select due, company, key, stage, id, task, phase, iteration, attempt, tries + 1 from items "
                "where status = 'queued' and due <= ? and +stage in (select id from stages where attended > ? "
                "and id not in (select value from json_each(?))) order by key",
                (now, now - UNATTENDED_SECONDS, for_others),
            )
            rows = self._fitting(worker, queued, count, now)
            self._db.executemany(
                "update items set status = 'running', worker = ?, began = ?, until = ?, tries = tries + 1 "
                "where key = ?",
                [(worker, now, now + seconds, row[0]) for row in rows],
            )
            stages = {row[1] for row in rows}
            specs = {
                s: json.loads(self._db.execute("select spec from stages where id = ?", (s,)).fetchone()[0])
                for s in stages
            }
        return [Lease(specs[row[1]], *row) for row in rows]

    def _fitting(self, worker: str, queued: Iterable[tuple[Any, ...]], count: int, now: float) -> list[Any]:
        """The first of these items that may be together in a worker, and with what it has."""
        had, least = self._db.execute(
            "select count(*), min(company) from items where status = 'running' and worker = ?", (worker,)
        ).fetchone()
        room, found = least or math.inf, list[Any]()
        for due, company, *row in queued:
            if len(found) >= min(count, room - had):
                break
            if had + len(found) < (company or math.inf):
                room = min(room, company or math.inf)
                found.append(row)
            elif now - due > REST_SECONDS:  # it has waited for a worker that has room: let there be one
                break
        return found

    def beat(self, worker: str, held: Sequence[int], seconds: float) -> list[int]:
        now = time.time()
        with self.transaction():
            if seconds <= 0:
                self._db.execute("update items set until = 0 where worker = ? and status = 'running'", (worker,))
                self._expired = 0.0
            self._seen(worker, now)
            self._expire(now)
            mine = self._held(worker)
            # one that lives but never ends its rollout has twice the time, and no more
            self._db.executemany(
                "update items set until = min(?, began + 2 * deadline + 60) where key = ?",
                [(now + seconds, key) for key in held if key in mine],
            )
        return [key for key in held if key not in mine]

    def finish(self, worker: str, outcomes: Sequence[Outcome]) -> None:
        with self.transaction():
            for outcome in outcomes:
                row = self._db.execute(
                    "select stage, status, worker, tries - free, (select tries from stages where stages.id = stage) "
                    "from items where key = ?",
                    (outcome.key,),
                ).fetchone()
                if row is None or row[1] in ("succeeded", "failed"):
                    continue
                stage, status, owner, tries, most = row
                if outcome.kind == "agent_start" or worth_another_try(outcome.kind):
                    if status != "running" or owner != worker:
                        continue  # another has it by now
                    if outcome.kind == "agent_start":
                        self._not_begun(outcome, stage, worker)
                        continue
                    if tries < most:
                        self._again(outcome.key, time.time() + wait_before(tries))
                        continue
                self._lacking.pop((stage, worker), None)
                self._end(outcome.key, stage, outcome.kind, str(outcome.body))

    def _not_begun(self, outcome: Outcome, stage: str, worker: str) -> None:
        """A worker lacks what an item's agent needs: it is for others, if there are any; the try does not count."""
        now = time.time()
        if not self._rests(stage, worker, now):
            if (stage, worker) in self._lacking and not self._others(stage, now):
                return self._end(outcome.key, stage, NOWHERE, str(outcome.body))
            self._lacking[stage, worker] = now
        self._db.execute(
            "update items set status = 'queued', worker = null, tries = tries - 1 where key = ?", (outcome.key,)
        )

    def _rests(self, stage: str, worker: str, now: float) -> bool:
        """Whether a worker that lacks something leaves a stage to others, or waits for them, as yet."""
        seconds = REST_SECONDS if self._others(stage, now) else ALONE_SECONDS
        return now - self._lacking.get((stage, worker), 0.0) < seconds

    def _others(self, stage: str, now: float) -> bool:
        """Whether there are workers alive in which the stage's agent starts, as far as is known."""
        alive = self._db.execute("select name from workers where seen > ?", (now - LEASE_SECONDS,))
        return any((stage, name) not in self._lacking for (name,) in alive)

    def _try_all(self, stage: str) -> None:
        self._lacking = {key: since for key, since in self._lacking.items() if key[0] != stage}

    def release(self, worker: str, keys: Collection[int] | None) -> None:
        with self.transaction():
            keys = self._held(worker) if keys is None else keys
            self._db.executemany(
                "update items set status = 'queued', worker = null, tries = tries - 1 "
                "where key = ? and status = 'running' and worker = ?",
                [(key, worker) for key in keys],
            )

    def release_all(self) -> None:
        """Give everything back: no worker of this queue can be alive."""
        with self.transaction():
            self._db.execute(
                "update items set status = 'queued', worker = null, tries = tries - 1 where status = 'running'"
            )

    def results(self, stage: str, after: int) -> list[Result]:
        now = time.time()
        with self.transaction():
            self._db.execute("update stages set attended = ? where id = ? and attended < ?", (now, stage, now - 3))
            self._expire(now)
            if after:
                self._db.execute(
                    "delete from items where key in (select key from results where stage = ? and number <= ?)",
                    (stage, after),
                )
                self._db.execute("delete from results where stage = ? and number <= ?", (stage, after))
            rows = self._db.execute(
                "select number, key, items.id, kind, tries, body from results join items using (key) "
                "where results.stage = ? and number > ? order by number limit 200",
                (stage, after),
            ).fetchall()
        return [Result(*row) for row in rows]

    def cancel(self, stage: str) -> None:
        with self.transaction():
            self._db.execute(
                "update items set status = 'cancelled', worker = null where stage = ? "
                "and status in ('queued', 'running')",
                (stage,),
            )

    def forget(self, stage: str) -> None:
        self._try_all(stage)
        with self.transaction():
            self._db.execute("delete from results where stage = ?", (stage,))
            self._db.execute("delete from items where stage = ?", (stage,))
            self._db.execute("delete from stages where id = ?", (stage,))

    def counts(self, stage: str) -> dict[str, int]:
        since = time.time() - LEASE_SECONDS
        counts = dict.fromkeys(STATUSES, 0)
        counts |= dict(
            self._db.execute("select status, count(*) from items where stage = ? group by status", (stage,)).fetchall()
        )
        for name, query, value in (
            ("retried", "select count(*) from items where tries > 1 and stage = ?", stage),
            ("workers", "select count(*) from workers where seen > ?", since),
        ):
            counts[name] = self._db.execute(query, (value,)).fetchone()[0]
        return counts

    def _held(self, worker: str) -> set[int]:
        held = self._db.execute("select key from items where status = 'running' and worker = ?", (worker,))
        return {key for (key,) in held}

    def _seen(self, worker: str, now: float) -> None:
        self._db.execute(
            "insert into workers values (?, ?) on conflict (name) do update set seen = excluded.seen "
            "where excluded.seen > seen + 2",  # not each time: it is a write to disk
            (worker, now),
        )

    def _expire(self, now: float) -> None:
        """Take back what workers had that went silent."""
        if now - self._expired < 0.2:
            return
        self._expired = now
        # what a worker had is lost together, also what it had leased after it said for the last time that it lives
        lost = self._db.execute(
            "select worker, key, stage, items.tries - free, stages.tries from items join stages on stages.id = stage "
            "where status = 'running' and until <= ? and worker in "
            "(select worker from items where status = 'running' and until <= ?) order by worker",
            (now + LEASE_SECONDS / 3, now),
        ).fetchall()
        for _, group in groupby(lost, lambda row: row[0]):
            had = list(group)
            for _, key, stage, tries, most in had:
                if len(had) > 1:
                    less = max(1, len(had) // 4)
                    self._db.execute("update items set free = free + 1, company = ? where key = ?", (less, key))
                if len(had) > 1 or tries < most:
                    self._again(key, now)
                else:
                    self._end(key, stage, "worker_died", "")

    def _again(self, key: int, due: float) -> None:
        self._db.execute("update items set status = 'queued', worker = null, due = ? where key = ?", (due, key))

    def _end(self, key: int, stage: str, kind: str, body: str) -> None:
        status = "failed" if kind else "succeeded"
        self._db.execute("update items set status = ?, worker = null where key = ?", (status, key))
        self._db.execute("insert into results (stage, key, kind, body) values (?,?,?,?)", (stage, key, kind, body))

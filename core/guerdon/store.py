"""A run's folder: the frozen recipe, what ran, the trajectories with their scores, figures and checkpoints.

    runs/20261122-093000-quickstart/
        recipe.yaml     as it was run, overrides included, `${VAR}` not replaced
        run.json        id, versions, seed, where the recipe came from
        store.db        trajectories, finished stages, figures (SQLite, write-ahead log)
        checkpoints/    one adapter for each finished training
        logs/           what the training processes printed

What a method has written when it returns is on disk: it survives a kill at any moment, and a power cut. Any number of
processes may write to a run and read from it.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from guerdon.errors import StoreError, counted, near_miss
from guerdon.fastjson import dumps, loads
from guerdon.task import Task
from guerdon.trajectory import Trajectory
from guerdon.writer import BUSY_SECONDS, Writer

_TABLES = """
create table if not exists trajectories (
    id text primary key, phase text, iteration integer, task_id text, attempt integer,
    reward real, failure text, body text not null);
create index if not exists by_stage on trajectories (phase, iteration);
create table if not exists tasks (phase text, id text, body text not null, primary key (phase, id));
create table if not exists stages (name text primary key, data text not null, at real not null);
create table if not exists metrics (
    id integer primary key, at real not null, stage text not null, step integer not null, data text not null);
"""

_ADD = "insert or replace into trajectories values (?,?,?,?,?,?,?,?)"


class Run:
    """An open run."""

    def __init__(self, folder: Path) -> None:
        self._given, self._place = folder, folder.absolute()
        try:
            self.info: dict[str, Any] = json.loads((folder / "run.json").read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder} is no readable run: run.json: {error}") from None
        with _clear_errors(folder):
            self._db = sqlite3.connect(self._place / "store.db", timeout=BUSY_SECONDS, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.executescript(_TABLES)
        self._writer = Writer(self._place / "store.db")

    @classmethod
    def create(cls, runs: Path, name: str, recipe: str, info: Mapping[str, Any]) -> "Run":
        """Make the folder of a new run.

        Raises:
            StoreError: it cannot be written.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        with _clear_errors(runs):
            runs.mkdir(parents=True, exist_ok=True)
            folder = _fresh(runs, f"{stamp}-{name}")
            (folder / "checkpoints").mkdir()
            (folder / "logs").mkdir()
            (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
            write_json(folder / "run.json", {"id": folder.name, "created": time.time(), **info})
        return cls(folder)

    @property
    def folder(self) -> Path:
        """As it was given, as long as that leads there: an agent may change the working folder."""
        with contextlib.suppress(OSError):
            if self._given.samefile(self._place):
                return self._given
        return self._place

    @property
    def id(self) -> str:
        return self._given.name

    def close(self) -> None:
        self._writer.close()
        self._db.close()

    @contextlib.contextmanager
    def executing(self) -> Iterator[None]:
        """Keep other processes from executing this run; ends with the process, however it ends.

        Raises:
            StoreError: one does already.
        """
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"run {self.id} is being executed by another process") from None
            yield

    def add(self, trajectories: Sequence[Trajectory]) -> None:
        """Write finished trajectories."""
        self._write(_ADD, map(_row, trajectories))

    async def add_soon(self, trajectories: Sequence[Trajectory]) -> None:
        """The same without holding up the event loop, and in one commit with what others add meanwhile."""
        with _clear_errors(self._given):
            await self._writer.write_soon(_ADD, map(_row, trajectories))

    def trajectories(self, phase: str | None = None, iteration: int | None = None) -> list[Trajectory]:
        """By iteration, task and attempt; the tasks in the order in which they were added last."""
        return list(self.each(phase, iteration))

    def each(self, phase: str | None = None, iteration: int | None = None) -> Iterator[Trajectory]:
        """The same one by one: of a long run they do not fit into memory."""
        where = " and ".join(
            clause for clause, on in (("trajectories.phase = ?", phase), ("iteration = ?", iteration)) if on is not None
        )
        values = [v for v in (phase, iteration) if v is not None]
        ids = self._read(
            "select trajectories.id from trajectories left join tasks on tasks.phase = trajectories.phase "
            f"and tasks.id = task_id {'where ' + where if where else ''} order by iteration, tasks.rowid, attempt",
            values,
        )
        for name in ids:  # sorted without their bodies
            for (body,) in self._read("select body from trajectories where id = ?", name):
                yield Trajectory.from_json(loads(body))

    def index(self) -> list[dict[str, Any]]:
        """Id, reward and failure of every trajectory."""
        found = self._read("select id, reward, failure from trajectories order by rowid")
        return [{"id": name, "reward": reward, "failure": failure} for name, reward, failure in found]

    def trajectory(self, name: str) -> Trajectory:
        """One by its id.

        Raises:
            StoreError: there is none; says which is near.
        """
        found = self._read("select body from trajectories where id = ?", (name,))
        if not found:
            known = [row[0] for row in self._read("select id from trajectories")]
            raise StoreError(f"run {self.id} has no trajectory {name!r}.{near_miss(name, known[:2000])}")
        return Trajectory.from_json(loads(found[0][0]))

    def add_tasks(self, phase: str, tasks: Sequence[Task]) -> None:
        """Keep the tasks that trajectories are of, so that they can be scored again without their source.

        Raises:
            StoreError: a task of this id is here already and is another one, or one that was here is not among these.
        """
        rows = {t.id: json.dumps([t.prompt, t.answer, dict(t.fields)], default=str) for t in tasks}
        known = dict(self._read("select id, body from tasks where phase = ?", (phase,)))
        for name, body in rows.items():
            if known.get(name, body) != body:
                raise StoreError(
                    f"task {name!r} is no longer what it was when run {self.id} began: its source has changed. "
                    "Put it back, or start a new run"
                )
        first = phase != "train" or self.stage("rollout-1") is None  # later iterations may take others
        if first and (gone := [name for name in known if name not in rows]):
            raise StoreError(
                f"{counted(gone, 'task')} of run {self.id}, e.g. {gone[0]!r}, {'is' if len(gone) == 1 else 'are'} no "
                "longer there: the source has changed since it began. Put it back, or start a new run"
            )
        self._write("insert or ignore into tasks values (?,?,?)", [(phase, name, body) for name, body in rows.items()])

    def tasks(self) -> dict[tuple[str, str], Task]:
        """By phase and id."""
        found = self._read("select phase, id, body from tasks")
        return {(phase, name): Task(name, *json.loads(body)) for phase, name, body in found}

    def finish_stage(self, name: str, data: Mapping[str, Any]) -> None:
        """Mark a stage as done: a resumed run will not do it again."""
        self._write("insert or replace into stages values (?,?,?)", [(name, json.dumps(data), time.time())])

    def stage(self, name: str) -> dict[str, Any] | None:
        """What a finished stage left, `None` when it has not finished."""
        found = self._read("select data from stages where name = ?", (name,))
        return json.loads(found[0][0]) if found else None

    def stages(self) -> dict[str, dict[str, Any]]:
        return {n: json.loads(d) for n, d in self._read("select name, data from stages order by at")}

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self._write(
            "insert into metrics (at, stage, step, data) values (?,?,?,?)",
            [(time.time(), stage, step, json.dumps(dict(metrics)))],
        )

    def forget_metrics(self, stage: str, step: int) -> None:
        """Drop a stage's figures from after this step; for 0, all of them."""
        self._write("delete from metrics where stage = ? and (step > ? or ? = 0)", [(stage, step, step)])

    def forget_trajectories(self, phase: str, iteration: int) -> None:
        """Drop a phase's trajectories from this iteration on."""
        self._write("delete from trajectories where phase = ? and iteration >= ?", [(phase, iteration)])

    def metrics(self) -> list[dict[str, Any]]:
        found = self._read("select at, stage, step, data from metrics order by id")
        return [{"at": at, "stage": stage, "step": step, **json.loads(data)} for at, stage, step, data in found]

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with _clear_errors(self._given):
            return self._db.execute(query, values).fetchall()

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with _clear_errors(self._given):
            self._writer.write(statement, rows)


def find_run(runs: Path, name: str) -> Path:
    """The folder of a run by path, id, or a unique part of its id; 'last' is the newest.

    Raises:
        StoreError: there is none, or there are several.
    """
    for folder in (Path(name), runs / name) if name else ():
        if (folder / "run.json").is_file():
            return folder
    known = [p.name for p in list_runs(runs)]
    if not known:
        hint = elsewhere(runs)
        raise StoreError(
            f"there are no runs in {runs}/ yet; start one, e.g. guerdon run quickstart{hint and '.' + hint}"
        )
    matches = known[-1:] if name == "last" else [k for k in known if name and name in k]
    if len(matches) == 1:
        return runs / matches[0]
    if matches:
        raise StoreError(f"{name!r} fits several runs: {', '.join(matches)}")
    raise StoreError(
        f"there is no run {name!r} in {runs}/ (another folder: --runs).{near_miss(name, known)}{elsewhere(runs)}"
    )


def elsewhere(runs: Path) -> str:
    """' gsm.yaml keeps its runs in out: --runs out', of the recipes in this folder that name another folder."""
    import yaml

    found: dict[str, str] = {}
    for path in sorted(Path().glob("*.y*ml")):
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
            recipe = yaml.safe_load(path.read_text("utf-8"))
            folder = recipe.get("runs") if isinstance(recipe, dict) else None
            if isinstance(folder, str) and Path(folder) != runs and list_runs(Path(folder)):
                found.setdefault(folder, path.name)
    said = "; ".join(f"{name} keeps its runs in {folder}: --runs {folder}" for folder, name in found.items())
    return said and f" {said}"


def list_runs(runs: Path) -> list[Path]:
    """The runs in this folder, oldest first."""
    return sorted(p.parent for p in runs.glob("*/run.json")) if runs.is_dir() else []


def write_json(path: Path, data: Any) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(data, indent=2) + "\n")
    fresh.replace(path)


def _fresh(runs: Path, name: str) -> Path:
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        with contextlib.suppress(FileExistsError):
            folder = runs / (name + suffix)
            folder.mkdir()
            return folder
    raise StoreError(f"{runs} has too many runs called {name}")


def _row(t: Trajectory) -> tuple[Any, ...]:
    failure = t.failure.kind if t.failure else None
    return t.id, t.phase, t.iteration, t.task_id, t.attempt, t.reward, failure, dumps(t.to_json())


@contextlib.contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise StoreError(
                f"the store in {folder} is damaged: store.db: {error}. Put back a copy of it, or start a new run"
            ) from error
        raise StoreError(
            f"cannot write to {folder}: {error}. Make room, fix the permissions, or choose another folder with --runs"
        ) from error

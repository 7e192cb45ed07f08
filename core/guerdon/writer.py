"""A thread that writes to a SQLite file: all that waits is committed at once, and each caller hears when it is on disk.

A commit waits for the disk as long with many rows as with one, so callers that come while one is under way share the
next. Processes that write to one file wait for each other at a lock (`flock`), which wakes one as soon as another is
done; with SQLite alone each would sleep and try again, for as long as others are luckier.
"""

import asyncio
import contextlib
import fcntl
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUSY_SECONDS = 60
"""For another program that holds the file, such as a SQLite shell, to let go of it."""


@dataclass
class _Write:
    statement: str
    rows: list[Sequence[Any]]
    done: "Future[None] | asyncio.Future[None]"
    error: Exception | None = None

    def tell(self) -> None:
        if self.done.done():  # who asked has gone away
            return
        if self.error:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(None)


class Writer:
    """Writes to `path`, a database in WAL mode, in the order of the calls; nothing is opened before the first.

    A write runs one statement with each of some rows, and has ended when they are on disk. It raises OSError or
    sqlite3.Error where it cannot be done: then none of its rows is written, and others are not held up by it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._db: sqlite3.Connection | None = None

    def write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Write, and wait for it."""
        done: Future[None] = Future()
        self._put(_Write(statement, list(rows), done))
        done.result()

    async def write_soon(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Write while the event loop goes on; what is cancelled is written all the same."""
        done = asyncio.get_running_loop().create_future()
        self._put(_Write(statement, list(rows), done))
        await done

    def close(self) -> None:
        """When all is written."""
        self._thread.shutdown()
        if self._db:
            self._db.close()

    def _put(self, write: _Write) -> None:
        with self._lock:
            self._waiting.append(write)
            if len(self._waiting) == 1:
                self._thread.submit(self._commit)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting, []
        try:
            self._transaction(group)
        except Exception:
            for write in group:  # one that cannot be written is no other's affair
                try:
                    self._transaction([write])
                except Exception as error:
                    write.error = error
        _tell(group)

    def _transaction(self, group: Sequence[_Write]) -> None:
        self._db = self._db or _open(self.path)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            try:
                with self._db:
                    self._db.execute("begin immediate")
                    for write in group:
                        self._db.executemany(write.statement, write.rows)
            finally:
                fcntl.flock(turn, fcntl.LOCK_UN)  # closing it is not enough: a process forked meanwhile has it too


def _tell_all(writes: Sequence[_Write]) -> None:
    for write in writes:
        write.tell()


def _tell(group: Sequence[_Write]) -> None:
    """Say how it went: to each event loop once, for waking one costs as much as a row."""
    loops = defaultdict[asyncio.AbstractEventLoop, list[_Write]](list)
    for write in group:
        if isinstance(write.done, asyncio.Future):
            loops[write.done.get_loop()].append(write)
        else:
            write.tell()
    for loop, writes in loops.items():
        with contextlib.suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(_tell_all, writes)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("pragma synchronous = full")
    db.execute("pragma wal_autocheckpoint = 4000")  # pages: 16 MB
    return db

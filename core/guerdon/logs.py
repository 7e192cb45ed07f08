"""Where a server that a backend starts writes its log: into the run's folder, while one is executed."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

_FOLDER: ContextVar[Path | None] = ContextVar("logs", default=None)


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Logs that are begun in here go to this folder, and stay."""
    before = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(before)


@contextmanager
def server_log(kind: str) -> Iterator[Path]:
    """A new file, `<kind>-<number>.log`, in the run's folder for logs; outside of runs a temporary one."""
    if folder := _FOLDER.get():
        yield _new(folder, kind)
        return
    with tempfile.TemporaryDirectory(prefix=f"guerdon-{kind}-") as scratch:
        yield Path(scratch) / f"{kind}.log"


def _new(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        with suppress(FileExistsError):
            file = folder / f"{kind}-{number}.log"
            file.touch(exist_ok=False)
            return file
    raise AssertionError("unreachable")

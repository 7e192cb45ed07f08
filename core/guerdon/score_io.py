"""The files of `guerdon score FILE`: rows in as a stream, lines out that are whole at any moment."""

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from guerdon.errors import StoreError, TaskError, near_miss
from guerdon.score_row import Row
from guerdon.sources import file_rows

STREAMED = (".jsonl", ".ndjson")

BUFFER = 1 << 16


def is_file(name: str) -> bool:
    """Whether rows can be in it: a file, a pipe, or `-`; or a name that could only be a file's."""
    path = Path(name).expanduser()
    return name == "-" or path.is_file() or path.is_fifo() or _suffix(path) in {*STREAMED, ".json", ".csv", ".parquet"}


def _suffix(path: Path) -> str:
    """
    >>> _suffix(Path("a.b/Pairs.JSONL.gz"))
    '.jsonl'
    """
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


@contextmanager
def open_rows(name: str) -> Iterator[tuple[Iterator[Row], Callable[[], float | None]]]:
    """The rows of a file, and a function that says how much of it is read, where that is known.

    JSONL is streamed, gzipped too, and from a pipe; other files are read by the readers of tasks.

    Raises:
        TaskError: there is no such file, it is of another kind, or it cannot be read to its end.
    """
    path = Path(name).expanduser()
    if name == "-":
        yield _lines(sys.stdin.buffer, name), lambda: None
    elif path.is_fifo():
        with path.open("rb") as pipe:
            yield _lines(pipe, name), lambda: None
    elif not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TaskError(f"there is no file {name}.{near_miss(path.name, beside, listing=False)}")
    elif _suffix(path) in STREAMED:
        size = path.stat().st_size
        with path.open("rb") as file:
            yield _lines(_unpacked(file, path), name), lambda: file.tell() / size if size else None
    elif path.name.lower().endswith(".gz"):
        raise TaskError(f"{name}: of compressed files only JSONL is read (.jsonl.gz)")
    else:
        path = path.resolve()
        yield ((place.removeprefix(f"{path}, "), row) for place, row in file_rows(path)), lambda: None


def _unpacked(file: BufferedReader, path: Path) -> IO[bytes]:
    if path.suffix.lower() != ".gz":
        return file
    return BufferedReader(gzip.GzipFile(fileobj=file), BUFFER)


def _lines(file: Iterable[bytes], name: str) -> Iterator[Row]:
    """The lines with their numbers; blank ones are no rows."""
    try:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line and not line.isspace():
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{name}: it cannot be read to its end: {error}") from None


class Output:
    """Where output lines go: a file, `-` for stdout, or nowhere. A context manager.

    A file ends with a whole line whatever happens: what was written in part is taken back, and an empty one is removed.
    """

    def __init__(self, name: str | None, *, resume: bool = False, overwrite: bool = False) -> None:
        """
        Raises:
            StoreError: the file cannot be written, or exists and neither `resume` nor `overwrite` is given.
        """
        self.name = name
        self._size = 0
        self._file: Any = None
        self._whole = False
        if name == "-":
            self._file = sys.stdout.buffer
        elif name is not None:
            if name.lower().endswith(".gz"):
                raise StoreError(f"{name}: the output is JSONL as it is, uncompressed: name it .jsonl")
            path = Path(name).expanduser()
            self._whole = path.is_file() or not path.exists()  # and not a pipe, or /dev/null
            resume = resume and path.is_file()
            self._size = path.stat().st_size if resume else 0
            mode = "r+b" if resume else "wb" if overwrite or not self._whole else "xb"
            try:
                # unbuffered: what is written is written
                self._file = path.open(mode, buffering=0)
            except FileExistsError:
                ways = "go on after its last row with --resume, or replace it with --overwrite"
                raise StoreError(f"{name} exists: {ways}") from None
            except OSError as error:
                raise StoreError(f"cannot write {name}: {error.strerror}") from None

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is None or self.name == "-":
            return
        if self._whole:
            self._file.truncate(self._size)
        self._file.close()
        if self._whole and not self._size:  # nothing came of it
            Path(self._file.name).unlink()

    def rows(self) -> Iterator[dict[str, Any]]:
        """What it holds when it is resumed: its whole lines, to be read to the end before any is written.

        Raises:
            StoreError: a line is not one of ours.
        """
        if self._file is None or not self._size:
            return
        size = 0
        with Path(self._file.name).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                    row["scores"].items()
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    raise StoreError(f"{self.name}, line {number}: not a row with scores; it is not resumed") from None
                size += len(line)
                yield row
        self._size = self._file.seek(size)

    def write(self, block: bytes) -> None:
        """Write whole lines."""
        if self._file is None:
            return
        try:
            left = memoryview(block)
            while left:
                left = left[self._file.write(left) :]
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoreError(f"cannot write {self.name}: {error.strerror}") from None
        self._size += len(block)

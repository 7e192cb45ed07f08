"""Rows from files and from data sets on the hub, each with the place where it stands."""

import csv
import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guerdon.errors import TaskError, near_miss

HUB_SECONDS = 3.0
"""For the hub to answer at all."""

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row]]  # where the row stands, for messages; and the row


def found_files(patterns: str | Iterable[str], folder: Path) -> list[Path]:
    """The files that paths and patterns (rows/*.jsonl) name, starting from `folder`; each once.

    Raises:
        TaskError: a pattern fits no file, or a file is named twice.
    """
    found: dict[Path, None] = {}
    named: set[Path] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = folder / Path(pattern).expanduser()
        if path.exists() or not glob.has_magic(pattern):
            if path.resolve() in named:
                raise TaskError(f"the file {pattern!r} is named twice, and its rows are read once: name it once")
            named.add(path.resolve())
            found[path.resolve()] = None
            continue
        fits = sorted(Path(name).resolve() for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 (may be absolute)
        if not fits:
            raise TaskError(f"no file fits {pattern!r} in {folder}")
        found.update(dict.fromkeys(fits))
    return list(found)


def file_rows(path: Path, of: str = "tasks") -> Rows:
    """The rows of a JSONL, JSON, CSV or parquet file; `of` is what messages call them.

    Raises:
        TaskError: there is no such file, or it is broken; says the line.
    """
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TaskError(f"{path}: {of} are read from {', '.join(readers)}, not from {path.suffix or 'such'} files")
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TaskError(f"there is no file {path}.{near_miss(path.name, beside, listing=False)}")
    if path.stat().st_size == 0:
        raise TaskError(f"{path}: the file is empty")
    return reader(path, of)


def hub_rows(name: str, subset: str | None, split: str, revision: str | None = None, *, stream: bool = False) -> Rows:
    """The rows of a data set on the hub; `stream` fetches only those that are asked for.

    Raises:
        TaskError: it cannot be loaded; of the kind "unreachable" where the hub did not answer.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise TaskError(f"data set {name!r}: needs datasets: pip install 'guerdon[data]'") from None
    try:
        with _no_vain_retries():
            data = load_dataset(name, subset, split=split, revision=revision, streaming=stream)
            yield from ((f"{name}, row {i}", row) for i, row in enumerate(data))
    except Exception as error:  # network, names, splits, scripts: each with a class of its own
        kind = "unreachable" if isinstance(error, ConnectionError) else ""
        raise TaskError(f"data set {name!r} cannot be loaded: {type(error).__name__}: {error}", kind=kind) from None


@contextmanager
def _no_vain_retries() -> Iterator[None]:
    """Ask the hub once, briefly: where it does not answer, its client would try for half a minute, and say so."""
    import datasets
    import httpx
    from huggingface_hub import constants

    flags = ((constants, "HF_HUB_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE"))
    before = [getattr(module, flag) for module, flag in flags]
    if not any(before):
        try:
            httpx.head(os.environ.get("HF_ENDPOINT") or constants.ENDPOINT, timeout=HUB_SECONDS)
        except httpx.HTTPError:
            for module, flag in flags:
                setattr(module, flag, True)
    try:
        yield
    finally:
        for (module, flag), value in zip(flags, before, strict=True):
            setattr(module, flag, value)


def kind(value: Any) -> str:
    """What a value is, for messages: 'null', 'a str'."""
    return "null" if value is None else f"a {type(value).__name__}"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TaskError(
                    f"{path}, line {number}: not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x}); "
                    f"convert it, e.g. iconv -f latin1 -t utf-8"
                ) from None


def _jsonl(path: Path, of: str) -> Rows:
    for number, line in _lines(path):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise TaskError(f"{path}, line {number}, column {error.colno}: not valid JSON: {error.msg}") from None
            except RecursionError:
                raise TaskError(f"{path}, line {number}: not readable JSON: it is nested too deeply") from None


def _json(path: Path, of: str) -> Rows:
    text = "".join(line for _, line in _lines(path))
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        hint = ""
        if error.msg == "Extra data":
            hint = f": more follows where the JSON ends; if it has one object a line, name it {path.stem}.jsonl"
        raise TaskError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}{hint}"
        ) from None
    except RecursionError:
        raise TaskError(f"{path}: not readable JSON: it is nested too deeply") from None
    if isinstance(data, dict):  # exports put the list beside a version, a name ...
        lists = [v for v in data.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        data = lists[0] if len(lists) == 1 else data
    if not isinstance(data, list):
        raise TaskError(f"{path}: a JSON file of {of} holds a list of objects, not {kind(data)}")
    return ((f"{path}, item {i}", row) for i, row in enumerate(data))


def _csv(path: Path, of: str) -> Rows:
    csv.field_size_limit(2**31 - 1)  # a cell may be a book; more does not fit a C long everywhere
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    try:
        header = next(reader)
        if twice := [name for name in dict.fromkeys(header) if header.count(name) > 1]:
            raise TaskError(f"{path}, line 1: the header has the column {twice[0]!r} twice; name one of them otherwise")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise TaskError(
                    f"{path}, line {reader.line_num}: {len(row)} columns where the header has {len(header)}"
                )
            yield f"{path}, line {reader.line_num}", dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise TaskError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None


def _parquet(path: Path, of: str) -> Rows:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise TaskError(f"{path}: reading parquet needs pyarrow: pip install 'guerdon[data]'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    yield f"{path}, row {number}", row
                    number += 1
    except Exception as error:  # pyarrow has a dozen kinds
        raise TaskError(f"{path}: not a readable parquet file: {error}") from None

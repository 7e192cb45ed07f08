"""A JSONL file of rows as a `datasets.Dataset` of token rows: memory-mapped, and made by several processes if large.

The file is cut into ranges of bytes; each is tokenised into an Arrow file of its own. A set that was made before from
the same rows, tokenizer and settings is opened again, by a resumed training and by the other processes of a launch: so
one of them should come first (`TrainingArguments.main_process_first`).
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from guerdon.errors import TrainingError
from guerdon_trainers.tokens import Counts, Learn, short_rows

RANGE = 16 << 20
"""Bytes of rows that are worth a process of their own: it takes seconds to start."""
BATCH = 512
"""Rows in one record batch of an Arrow file."""
BLOCK = 1 << 20
COUNTS = "counts.json"


@dataclass(frozen=True)
class TokenSet:
    """`dataset` has the columns `input_ids` and `labels`."""

    dataset: Any
    counts: Counts


def token_set(
    tokenizer: Any,
    file: Path,
    max_length: int,
    *,
    folder: Path,
    learn: Learn = "assistant",
    template: str | None = None,
    processes: int | None = None,
) -> TokenSet:
    """The rows of `file` as tokens, at most `max_length` of them each, kept in `folder`.

    `template` replaces the tokenizer's own. By default large files get a process for every 16 MiB, up to one a CPU.

    Raises:
        TrainingError: the file cannot be read, a row is malformed (its line is named), or nothing is left to learn.
    """
    settings = {"max_length": max_length, "learn": learn, "template": template}
    if not file.is_file():
        raise TrainingError(f"The training rows {file} cannot be read: there is no such file.")
    made = folder / f"tokens-{file.stem}-{_key(tokenizer, file, settings)}"
    if not (made / COUNTS).exists():
        _make(tokenizer, file, settings, made, processes)
    counts = Counts(**json.loads((made / COUNTS).read_text()))
    counts.check(max_length)
    return TokenSet(_opened(made), counts)


@dataclass(frozen=True)
class Range:
    """The lines that begin at the bytes from `start` to `end`; the first has this `number`."""

    start: int
    end: int
    number: int


def read_rows(file: Path, part: Range) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a part of a JSONL file, each with its place (rows.jsonl:7)."""
    with file.open("rb") as lines:
        lines.seek(at := part.start)
        for number, line in enumerate(lines, part.number):
            if at >= part.end:
                return
            at += len(line)
            if not line.isspace():
                yield f"{file}:{number}", _parsed(line, f"{file}:{number}")


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise TrainingError(f"{place}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise TrainingError(f"{place}: a row is an object, this is a {type(row).__name__}")
    return row


def ranges(file: Path, count: int) -> list[Range]:
    """The file in so many parts of about the same size, cut between lines."""
    size, starts, numbers = file.stat().st_size, [0], [1]
    with file.open("rb") as lines:
        for i in range(1, count):
            lines.seek(size * i // count)
            lines.readline()
            starts.append(lines.tell())
        for start, end in pairwise(starts):
            lines.seek(start)
            blocks = (lines.read(min(BLOCK, end - at)) for at in range(start, end, BLOCK))
            numbers.append(numbers[-1] + sum(block.count(b"\n") for block in blocks))
    return [Range(*one) for one in zip(starts, [*starts[1:], size], numbers, strict=True)]


def _make(tokenizer: Any, file: Path, settings: Mapping[str, Any], made: Path, processes: int | None) -> None:
    """Tokenise the parts beside `made`, then move them there at once."""
    processes = processes or max(1, min(os.cpu_count() or 1, file.stat().st_size // RANGE))
    parts = ranges(file, processes)
    making = made.with_name(f"{made.name}.{platform.node()}-{os.getpid()}")
    making.mkdir(parents=True, exist_ok=True)
    try:
        orders = [(tokenizer, file, part, dict(settings), making / f"{i:03}.arrow") for i, part in enumerate(parts)]
        counts = Counts()
        for one in map(_tokenise, orders) if processes == 1 else _in_processes(orders):
            counts.add(one)
        (making / COUNTS).write_text(json.dumps(asdict(counts)))
        if not made.exists():  # another machine may have been quicker
            making.rename(made)
    finally:
        shutil.rmtree(making, ignore_errors=True)


Order = tuple[Any, Path, Range, dict[str, Any], Path]


def _in_processes(orders: list[Order]) -> Iterator[Counts]:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    try:
        # spawned: a process with threads, or a GPU, is not to be forked
        with ProcessPoolExecutor(len(orders), mp_context=get_context("spawn")) as pool:
            yield from pool.map(_tokenise, orders)
    except BrokenProcessPool as error:
        raise TrainingError(f"A process that tokenised rows was killed; is the memory full? {error}") from error


def _tokenise(order: Order) -> Counts:
    """Tokenise one part of the file into an Arrow file."""
    import pyarrow as pa

    tokenizer, file, part, settings, target = order
    counts = Counts()
    rows = short_rows(tokenizer, read_rows(file, part), counts=counts, **settings)
    schema = pa.schema({name: pa.list_(pa.int32()) for name in ("input_ids", "labels")})
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(islice(rows, BATCH)):
            columns = {name: [row[name] for row in batch] for name in schema.names}
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return counts


def _opened(made: Path) -> Any:
    from datasets import Dataset, concatenate_datasets

    parts = [Dataset.from_file(str(file)) for file in sorted(made.glob("*.arrow"))]
    return concatenate_datasets([part for part in parts if len(part)])


def _key(tokenizer: Any, file: Path, settings: Mapping[str, Any]) -> str:
    stat = file.stat()
    tokens = (tokenizer.name_or_path, len(tokenizer), tokenizer.eos_token, tokenizer.chat_template)
    text = json.dumps([stat.st_size, stat.st_mtime_ns, tokens, sorted(settings.items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""`guerdon score FILE`: the rows of a file through rewards, as a stream.

Chunks of rows go to worker processes, which read them, score them and make their output lines (`guerdon.score_row`);
here the chunks are cut, kept in order, counted and written. So memory is bounded by what is read ahead, and a reward
that hangs or dies costs one row its score.
"""

import json
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from guerdon.errors import ComponentError, RewardError, StoreError, TaskError, near_miss
from guerdon.invoke import MANY, shape
from guerdon.report import Report
from guerdon.resolve import BoundReward
from guerdon.score_io import Output, open_rows
from guerdon.score_row import ADDED, Columns, Fields, Named, Row, Scored, finished, read
from guerdon.score_totals import Totals
from guerdon.trajectory import Failure, Score
from guerdon.workers import MEMORY_MB, Job, Workers

AHEAD = 4
"""Chunks for each worker that are read before they are scored."""

CHUNK_BYTES = 1 << 20
CHUNK_ROWS = 4096
CHUNK_SECONDS = 0.2
"""What a chunk should take: long enough to be worth sending, short enough to be shared out evenly."""


def score_file(
    source: str,
    rewards: Sequence[BoundReward],
    *,
    columns: Mapping[str, str],
    output: str | None = None,
    workers: int = 2,
    memory_mb: int | None = MEMORY_MB,
    resume: bool = False,
    overwrite: bool = False,
    report: Report,
) -> dict[str, Any]:
    """Score every row of a file; the summary.

    `columns` maps what rewards ask for to the file's columns. With `resume` it goes on after the last whole row of the
    output, which then is part of the summary.

    Raises:
        GuerdonError: the input cannot be read, the output cannot be written, or `columns` names what nobody asks for.
    """
    _check_columns(columns, rewards)
    _check_output(source, output)
    named = tuple(_named(reward) for reward in rewards)
    crew = Crew(named, [r.timeout for r in rewards], Columns(source, tuple(columns.items())), output is not None)
    totals = Totals([r.name for r in rewards])
    started = time.perf_counter()
    with (
        open_rows(source) as (rows, fraction),
        Output(output, resume=resume, overwrite=overwrite) as out,
        ThreadPoolExecutor(workers, thread_name_prefix="score") as threads,  # is left when its workers are closed
        Workers(workers, memory_mb) as crew.workers,
        report.stage("scored", 0) as meter,
    ):
        before = _go_on(rows, crew.columns, out, totals)
        pace = Pace()
        with closing(_in_order(pace.chunks(rows), crew.score, threads, AHEAD * workers)) as chunks:
            for chunk, (scored, seconds) in chunks:
                out.write(b"".join(line for line, *_ in scored))
                totals.add(chunk, scored)
                pace.took(len(chunk), seconds)
                read_so_far = fraction()
                total = int(totals.rows / read_so_far) if read_so_far else totals.rows
                meter.step(totals.text(), done=totals.rows, total=max(total, totals.rows))
    if not totals.rows:
        raise TaskError(f"{source}: there are no rows in it")
    seconds = time.perf_counter() - started
    return totals.to_json() | {
        "file": source,
        "output": output,
        "workers": workers,
        "resumed_after": before,
        "seconds": round(seconds, 3),
        "rows_per_second": round((totals.rows - before) / seconds, 1),
    }


def _named(reward: BoundReward) -> Named:
    try:
        return Named(reward.component, pickle.dumps(dict(reward.settings)), reward.name, reward.weight)
    except Exception as error:  # pickle has many
        raise ComponentError(f"the settings of reward {reward.name!r} cannot be sent to a worker: {error}") from None


def _check_columns(columns: Mapping[str, str], rewards: Sequence[BoundReward]) -> None:
    how = [shape(r.function) for r in rewards]
    asked = {MANY.get(name, name) for one in how for name in one.wants}
    if asked & {"task", "trajectory"} or any(one.kind not in ("one", "batch") for one in how):
        return  # they can take any column
    known = asked | {"completion", "answer", "prompt", "messages"}
    for name, column in columns.items():
        if name not in known:
            raise ComponentError(f"--map {name}={column}: no reward asks for {name!r}.{near_miss(name, known)}")


def _check_output(source: str, output: str | None) -> None:
    files = [Path(name).expanduser() for name in (source, output) if name not in (None, "-")]
    if len(files) == 2 and all(f.exists() for f in files) and files[0].samefile(files[1]):
        raise StoreError(f"{output} is the input: write to another file")


def _go_on(rows: Iterator[Row], columns: Columns, out: Output, totals: Totals) -> int:
    """Take the rows that the output has into account, and pass over them in the input; how many there were."""
    last: dict[str, Any] = {}
    for last in out.rows():
        if missing := [name for name in totals.columns if name not in last["scores"]]:
            raise StoreError(f"{out.name}, line {totals.rows + 1}: no score of {missing[0]!r}; it is not resumed")
        totals.add_written(last)
    if not totals.rows:
        return 0
    same = next(islice(rows, totals.rows - 1, None), None)
    if same is None:
        raise StoreError(f"{out.name} has {totals.rows} rows, {columns.file} has fewer; it is not resumed")
    try:
        fields: Fields = read(same, columns)
    except RewardError:
        fields = {}
    if any(_text(last.get(name)) != _text(value) for name, value in fields.items() if name not in ADDED):
        raise StoreError(f"{out.name}: its last row is not that of {columns.place(same[0])}; it is not resumed")
    return totals.rows


def _text(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)


class Pace:
    """How many rows a chunk has: more while chunks are quick, fewer while they are slow."""

    def __init__(self) -> None:
        self.rows = 16

    def chunks(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        chunk: list[Row] = []
        size = 0
        try:
            for row in rows:
                chunk.append(row)
                size += len(row[1])
                if len(chunk) >= self.rows or size >= CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
        except TaskError:
            if chunk:
                yield chunk
            raise
        if chunk:
            yield chunk

    def took(self, rows: int, seconds: float) -> None:
        if seconds < CHUNK_SECONDS / 2 and rows >= self.rows:
            self.rows = min(2 * self.rows, CHUNK_ROWS)
        elif seconds > 2 * CHUNK_SECONDS:
            self.rows = max(1, rows // 2)


class Crew:
    """Scores chunks of rows in worker processes; to be called from several threads."""

    def __init__(self, rewards: tuple[Named, ...], timeouts: Sequence[float], columns: Columns, written: bool) -> None:
        self.workers: Workers
        self.rewards = rewards
        self.timeouts = timeouts
        self.deadline = min(timeouts)
        """Seconds for a row; what takes longer is asked of each reward alone, with its own deadline."""
        self.columns = columns
        self.written = written
        self.job = Job("guerdon.score_row:scorer", (rewards, columns, written))

    def score(self, chunk: Sequence[Row]) -> tuple[list[Scored], float]:
        """The rows' scores, and the seconds that it took."""
        started = time.perf_counter()
        results = self.workers.run(self.job, chunk, self.deadline)
        scored = [self._apart(row, r) if isinstance(r, Failure) else r for row, r in zip(chunk, results, strict=True)]
        return scored, time.perf_counter() - started

    def _apart(self, row: Row, failure: Failure) -> Scored:
        """A row that all rewards together were lost on: each reward alone, so that one costs no other its score."""
        try:
            fields = read(row, self.columns)
        except RewardError:
            fields = {}
        given: list[Score | Failure] = [failure]
        if len(self.rewards) > 1:
            given = [
                self.workers.run(Job("guerdon.score_row:single", (reward, self.columns)), [row], timeout)[0]
                for reward, timeout in zip(self.rewards, self.timeouts, strict=True)
            ]
            if not any(isinstance(one, Failure) for one in given):  # they are slow, all of them together
                self.deadline = min(2 * self.deadline, sum(self.timeouts))
        scores = [Score(None, error=one) if isinstance(one, Failure) else one for one in given]
        return finished(row, fields, self.rewards, scores, self.written)


Done = tuple[list[Scored], float]


def _in_order(
    chunks: Iterable[list[Row]], score: Callable[[list[Row]], Done], threads: ThreadPoolExecutor, ahead: int
) -> Generator[tuple[list[Row], Done]]:
    """Each chunk with what came of it, in order; `ahead` chunks are read ahead, and no more."""
    waiting: deque[tuple[list[Row], Future[Done]]] = deque()
    broken: TaskError | None = None
    try:
        try:
            for chunk in chunks:
                waiting.append((chunk, threads.submit(score, chunk)))
                while waiting and (len(waiting) > ahead or waiting[0][1].done()):
                    first, result = waiting.popleft()
                    yield first, result.result()
        except TaskError as error:  # of the input: what was read before is scored
            broken = error
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
        if broken:
            raise broken
    finally:
        for _, result in waiting:
            result.cancel()

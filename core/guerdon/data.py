"""The rows that a recipe's `data` describes: read, recognised, mixed, shuffled and split.

Rows are kept as lines of JSON in a temporary file, so a set may be larger than memory; what is shuffled is their order.
Mixtures have exact shares: weights 0.75 and 0.25 give 75 rows of the one for 25 of the other, as many as the scarcest
source allows. (The Unsloth Qwen3-8B tutorial's own snippet takes a quarter of the number of reasoning rows for its
ratio of 0.75, which gives 80 to 20.)
"""

import filecmp
import json
import math
import random
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, overload

from guerdon.errors import TaskError, counted
from guerdon.formats import Found, Reader
from guerdon.recipe import Data
from guerdon.sources import Row, file_rows, found_files, hub_rows

SPOOLED = 32 << 20
"""Bytes that are kept in memory before a file is used."""


@dataclass(frozen=True)
class DataSet:
    """Canonical rows (`guerdon.formats`), what was recognised as lines for the user, and rows used by source."""

    rows: "Lines"
    validation: "Lines | None"
    notes: list[str]
    counts: dict[str, int]


class Lines(Sequence[dict[str, Any]]):
    """Rows as lines in a file, in an order of their own."""

    def __init__(self, spool: "_Spool", order: Sequence[int]) -> None:
        self.spool, self.order = spool, order

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> "Lines": ...
    def __getitem__(self, at: int | slice) -> "dict[str, Any] | Lines":
        if isinstance(at, slice):
            return Lines(self.spool, self.order[at])
        row: dict[str, Any] = json.loads(self.spool.line(self.order[at]))
        return row

    def lines(self) -> Iterator[bytes]:
        """As they stand in the file."""
        return map(self.spool.line, self.order)

    def shuffled(self, key: str) -> "Lines":
        return Lines(self.spool, array("Q", random.Random(key).sample(self.order, len(self.order))))


class _Spool:
    """Lines in a temporary file, and where each begins."""

    def __init__(self) -> None:
        self.file = SpooledTemporaryFile(max_size=SPOOLED)  # noqa: SIM115 (closed with the last of its rows)
        weakref.finalize(self, self.file.close)
        self.starts = array("Q", [0])

    def add(self, row: Row) -> None:
        line = json.dumps(row).encode() + b"\n"  # escaped: texts may hold half a surrogate pair
        self.file.seek(self.starts[-1])
        self.file.write(line)
        self.starts.append(self.starts[-1] + len(line))

    def line(self, number: int) -> bytes:
        start, end = self.starts[number : number + 2]
        self.file.seek(start)
        return self.file.read(end - start)

    def __len__(self) -> int:
        return len(self.starts) - 1


def read_data(spec: Data, *, folder: Path, seed: int, first: int | None = None) -> DataSet:
    """The rows that a recipe's `data` describes.

    The parts of a mixture, and a validation set of its own, take the whole's `fields` and `system` where they give
    none. `first` reads only so many rows of each source, and streams those of a hub data set, which may then be out of
    reach: a note says so. What had more is left as it stands, neither shuffled nor mixed nor split.

    Raises:
        TaskError: a file or a row is wrong; says which, and what to do.
    """
    spool = _Spool()
    notes: list[str] = []
    sources = [spec] if spec.mix is None else [_inherit(part, spec) for part in spec.mix]
    parts = [_read(source, spool, folder, seed, first, notes) for source in sources]
    partial = first is not None and not all(0 < len(part) < first for part in parts)
    if spec.mix is None:
        rows, counts = parts[0], {name_of(spec): len(parts[0])}
    else:
        rows, counts = _mixed(spec, parts, seed, partial, notes)
    validation = None
    if isinstance(spec.validation, Data):
        notes.append("validation:")
        validation = _read(_inherit(spec.validation, spec), spool, folder, seed, first, notes)
    elif spec.validation and not partial:
        rows, validation = _held_back(rows, spec.validation, seed)
        notes.append(f"validation: {counted(validation, 'row')} held back, {len(rows)} left to train on")
    if validation is not None:
        notes.extend(_shared(rows, validation))
    return DataSet(rows, validation, notes, counts)


def write_data(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write rows as JSONL; how many there are."""
    lines = rows.lines() if isinstance(rows, Lines) else (json.dumps(row).encode() + b"\n" for row in rows)
    count = 0
    with path.open("wb") as file:
        for count, line in enumerate(lines, start=1):  # noqa: B007
            file.write(line)
    return count


def keep_data(rows: Iterable[Mapping[str, Any]], path: Path, begun: bool) -> int:
    """Write the rows of a training; how many there are. One that has begun goes on with the rows that it had.

    Raises:
        TaskError: they are others now.
    """
    new = path.with_suffix(".new")
    count = write_data(rows, new)
    if begun and path.exists() and not filecmp.cmp(path, new, shallow=False):
        new.unlink()
        raise TaskError(
            f"the rows of `data` are not those that the training began with ({path.name}): their source has changed. "
            "Put it back, or start a new run"
        )
    new.replace(path)
    return count


def name_of(spec: Data) -> str:
    """What a source is called in notes: as the recipe has it."""
    if spec.dataset is not None:
        return "/".join(filter(None, (spec.dataset, spec.subset)))
    return spec.path if isinstance(spec.path, str) else ", ".join(spec.path or ["mixture"])


def _inherit(part: Data, whole: Data) -> Data:
    return part.model_copy(
        update={n: getattr(whole, n) for n in ("fields", "system") if n not in part.model_fields_set}
    )


# -- one source -------------------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What was recognised in a source."""

    formats: Counter[str] = field(default_factory=Counter)
    columns: dict[str, dict[str, None]] = field(default_factory=dict)
    seen: dict[str, None] = field(default_factory=dict)
    unused: Counter[str] = field(default_factory=Counter)
    empty: int = 0

    def add(self, found: Found, row: Row) -> None:
        self.formats[found.name] += 1
        columns = self.columns.setdefault(found.name, {})
        columns.update(dict.fromkeys(found.columns))
        self.seen.update(dict.fromkeys(map(str, row)))
        self.unused.update(found.unused)
        self.empty += _is_empty(found.row)

    def __str__(self) -> str:
        parts = [
            f"{f'{n} ' if len(self.formats) > 1 else ''}{name}{self._shown(name)}"
            for name, n in self.formats.most_common()
        ]
        used = {c for columns in self.columns.values() for c in columns}
        unused = [f"{c} in {counted(n, 'row')}" if c in used else c for c, n in self.unused.items()]
        unused += [c for c in self.seen if c not in used and c not in self.unused]
        text = " and ".join(parts)
        if unused:
            text += f"; not used: {', '.join(unused[:6])}{' ...' if len(unused) > 6 else ''}"
        if self.empty:
            text += f"; {counted(self.empty, 'row')} with an empty answer"
        return text

    def _shown(self, name: str) -> str:
        columns = [c for c in self.seen if c in self.columns[name]]
        return "" if columns == [name] else f" ({', '.join(columns)})"


def _is_empty(row: Mapping[str, Any]) -> bool:
    if "messages" in row:
        last = row["messages"][-1]
        return last["role"] == "assistant" and not (last.get("tool_calls") or (last["content"] or "").strip())
    return not str(row.get("completion", row.get("text", "x"))).strip()


def _read(spec: Data, spool: _Spool, folder: Path, seed: int, first: int | None, notes: list[str]) -> Lines:
    name, start, tally = name_of(spec), len(spool), _Tally()
    reader = Reader(spec.fields, spec.system)
    in_order = spec.shuffle is False
    enough = min(filter(None, (first, spec.limit if in_order else None)), default=None)
    try:
        for place, row in islice(_source(spec, folder, stream=first is not None), enough):
            found = reader(row, place)
            spool.add(found.row)
            tally.add(found, row)
    except TaskError as error:
        if first is None or error.kind != "unreachable":
            raise
        notes.append(f"{name}: not looked at, for the hub cannot be reached")
        return Lines(spool, ())
    if len(spool) == start:
        raise TaskError(f"{name}: there are no rows in it")
    rows = Lines(spool, range(start, len(spool)))
    whole = not first or len(rows) < first
    rows = (_in_order(rows, spec, seed) if whole else rows)[: spec.limit]
    all_ = f"the first {len(spool) - start}" if first == len(spool) - start else str(len(spool) - start)
    limited = f", {len(rows)} taken" if len(rows) < len(spool) - start else ""
    notes.append(f"{name}: {all_} row{'' if all_ == '1' else 's'}{limited}: {tally}")
    if spec.limit and not whole and not in_order:
        notes.append(f"{name}: a run takes its {counted(spec.limit, 'row')} from all there are, shuffled")
    return rows


def _source(spec: Data, folder: Path, *, stream: bool) -> Iterator[tuple[str, Any]]:
    if spec.dataset is not None:
        rows = hub_rows(spec.dataset, spec.subset, spec.split, spec.revision, stream=stream)
        yield from ((place, _without_fillers(row)) for place, row in rows)
        return
    for path in found_files(spec.path or [], folder):
        arrow = path.suffix.lower() == ".parquet"
        for place, row in file_rows(path, "rows"):
            yield place, _without_fillers(row) if arrow else row


def _without_fillers(value: Any) -> Any:
    """Without the nulls below the columns: Arrow gives all objects of a column the same keys."""

    def clean(inner: Any) -> Any:
        if isinstance(inner, Mapping):
            return {k: clean(v) for k, v in inner.items() if v is not None}
        return [clean(v) for v in inner] if isinstance(inner, (list, tuple)) else inner

    return {k: clean(v) for k, v in value.items()} if isinstance(value, Mapping) else value


# -- order, shares, split ---------------------------------------------------------------------------------------------


def _in_order(rows: Lines, spec: Data, seed: int) -> Lines:
    if spec.shuffle is False:
        return rows
    return rows.shuffled(f"shuffle-{seed if spec.shuffle is True else spec.shuffle}")


def _mixed(
    spec: Data, parts: Sequence[Lines], seed: int, partial: bool, notes: list[str]
) -> tuple[Lines, dict[str, int]]:
    """As many rows as the shares allow, drawn with the seed and shuffled; of `partial` sources, all."""
    mix = spec.mix or []
    weights = [Fraction(repr(part.weight)) for part in mix]
    shares = [w / sum(weights) for w in weights]
    counts = [len(part) for part in parts]
    names = [name_of(part) for part in mix]
    drawn = list(parts)
    if partial:
        notes.append("mixture: " + ", ".join(f"{float(s):.1%} {n}" for s, n in zip(shares, names, strict=True)))
    else:
        total = int(min(n / share for n, share in zip(counts, shares, strict=True)))
        counts = _apportioned(_whole(min(total, spec.limit or total), shares), shares)
        drawn = [p.shuffled(f"mix-{seed}-{i}")[:n] for i, (p, n) in enumerate(zip(parts, counts, strict=True))]
    rows = Lines(parts[0].spool, array("Q", [i for part in drawn for i in part.order]))
    if not partial:
        if not rows:
            raise TaskError("the mixture is empty: with these weights the smallest source does not give a single row")
        rows = rows.shuffled(f"shuffle-{seed if isinstance(spec.shuffle, bool) else spec.shuffle}")
        parts_of = [f"{n} of {name} ({n / len(rows):.1%})" for n, name in zip(counts, names, strict=True)]
        notes.append(f"mixture: {counted(rows, 'row')}: {', '.join(parts_of)}")
    return rows, dict(zip(names, counts, strict=True))


def _whole(total: int, shares: Sequence[Fraction]) -> int:
    """A total of which the shares are whole numbers, where that costs at most a twentieth of it.

    >>> _whole(53, [Fraction(3, 4), Fraction(1, 4)])
    52
    """
    exact = total - total % math.lcm(*(share.denominator for share in shares))
    return exact if exact >= 0.95 * total else total


def _apportioned(total: int, shares: Sequence[Fraction]) -> list[int]:
    """`total` in whole numbers by these shares, each less than one off; the largest remainders are rounded up.

    >>> _apportioned(1333, [Fraction(3, 4), Fraction(1, 4)])
    [1000, 333]
    """
    counts = [int(total * share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - total * shares[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _held_back(rows: Lines, wanted: float, seed: int) -> tuple[Lines, Lines]:
    """Rows to train on, and rows for validation: a number of them, or a fraction below 1; both keep their order."""
    if wanted > 1 and wanted != int(wanted):
        raise TaskError(f"validation: give a number of rows, or a fraction below 1, not {wanted:g}")
    count = int(wanted) if wanted >= 1 else max(1, round(wanted * len(rows)))
    if count >= len(rows):
        raise TaskError(f"validation: keeps back {count} of {counted(rows, 'row')}: none is left to train on")
    held = set(random.Random(f"validation-{seed}").sample(range(len(rows)), count))
    train, kept = (array("Q", [i for n, i in enumerate(rows.order) if (n in held) == side]) for side in (False, True))
    return Lines(rows.spool, train), Lines(rows.spool, kept)


def _shared(rows: Lines, validation: Lines) -> Iterator[str]:
    """A note where rows to validate on are trained on, or at least their prompts."""
    known, asked = set(), set()
    for row in rows:
        known.add(_digest(row))
        asked.add(_digest(_prompt(row)))
    same = sum(_digest(row) in known for row in validation)
    alike = sum(_digest(_prompt(row)) in asked for row in validation)
    if same or alike:
        only = f", and of {alike - same} more the prompt" if alike > same else ""
        yield f"{same} of the {counted(validation, 'validation row')} {'is' if same == 1 else 'are'} trained on{only}"


def _prompt(row: Mapping[str, Any]) -> Any:
    """What comes before the first answer."""
    if "messages" in row:
        users = [m["content"] for m in row["messages"] if m["role"] == "user"]
        return users[:1] if len(users) == 1 else row["messages"][:-1]
    return row.get("prompt", row)


def _digest(value: Any) -> int:
    return hash(json.dumps(value, sort_keys=True))

"""The labelled pairs and hostile inputs that the benchmarks read: `pairs.jsonl`, `hostile.jsonl.gz` in a folder."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pair:
    """A reference answer, a completion, and whether the source of the pair takes the completion as right.

    `split` is core (labelled by tests, people or an answer key) or silver (by another grader); `doubtful` says why the
    label may be wrong. `form` says how the completion marks its answer: bare, boxed, hash, tag or free.
    """

    id: str
    source: str
    gold: str
    pred: str
    expected: bool
    kind: str = ""
    form: str = "bare"
    split: str = "core"
    doubtful: str | None = None
    gold_bare: str | None = None
    pred_bare: str | None = None

    @property
    def clean(self) -> bool:
        return self.split == "core" and not self.doubtful


@dataclass(frozen=True)
class Hostile:
    """An input made to hang, crash or fool a grader; `want` is the right verdict, `None` where either is fair."""

    id: str
    group: str
    gold: str
    pred: str
    want: bool | None


def read_pairs(folder: Path) -> list[Pair]:
    known = {f.name for f in fields(Pair)}
    rows = _lines((folder / "pairs.jsonl").read_text(encoding="utf-8"))
    return [Pair(**{k: v for k, v in row.items() if k in known}) for row in rows]


def read_hostile(folder: Path) -> list[Hostile]:
    with gzip.open(folder / "hostile.jsonl.gz", "rt", encoding="utf-8") as file:
        return [Hostile(**row) for row in _lines(file.read())]


def _lines(text: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in text.split("\n") if line.strip())

"""What scoring a file came to: statistics of each reward, and an example of each kind of error."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guerdon.errors import counted
from guerdon.report import Report, number
from guerdon.score_row import Row, Scored
from guerdon.tally import Tally
from guerdon.trajectory import Failure, Score

SUM = "(weighted sum)"


class Totals:
    """Counts rows as they are scored; `columns` are the rewards by name."""

    def __init__(self, names: Sequence[str]) -> None:
        self.rows = 0
        self.columns = {name: Tally() for name in names}
        self.sum = Tally() if len(names) > 1 else None
        self.examples: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in names}
        """By reward and kind of error, where it was first seen, and its message."""
        self.replaced: Counter[str] = Counter()

    def add(self, chunk: Sequence[Row], scored: Sequence[Scored]) -> None:
        self.rows += len(scored)
        for (at, _), (_, figures, reward, replaced) in zip(chunk, scored, strict=True):
            for name, (given, seconds) in zip(self.columns, figures, strict=True):
                self._add(name, at, given, seconds)
            if self.sum:
                self.sum.add(Score(reward))
            if replaced:
                self.replaced.update(replaced)

    def add_written(self, row: Mapping[str, Any]) -> None:
        """A row of an output that is gone on with."""
        self.rows += 1
        for name in self.columns:
            given = row["scores"][name]
            if isinstance(given, Mapping):
                given = Failure(str(given.get("kind", "error")), str(given.get("error", "")))
            self._add(name, f"row {self.rows} of the output", given, 0.0)
        if self.sum:
            self.sum.add(Score(row.get("reward")))

    def _add(self, name: str, at: int | str, given: float | Failure | None, seconds: float) -> None:
        if isinstance(given, Failure):
            self.columns[name].add(Score(None, error=given, seconds=seconds))
            place = f"line {at}" if isinstance(at, int) else at
            self.examples[name].setdefault(given.kind, (place, given.message))
        else:
            self.columns[name].add(Score(given, seconds=seconds))

    def text(self) -> str:
        """A few words for a line of progress."""
        return "  ".join(f"{name} {number(t.mean, 2)}" for name, t in self.columns.items())

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "reward": self.sum.mean if self.sum else None,
            "rewards": {
                name: {**t.to_json(), "failed": t.errors.total(), "errors": self._errors(name)}
                for name, t in self.columns.items()
            },
            "replaced": dict(self.replaced),
        }

    def _errors(self, name: str) -> dict[str, dict[str, Any]]:
        return {
            kind: {"count": count, "first": self.examples[name][kind][0], "message": self.examples[name][kind][1]}
            for kind, count in self.columns[name].errors.most_common()
        }


def show_summary(summary: Mapping[str, Any], report: Report) -> None:
    """The summary as a table, with what went wrong below."""
    rows = []
    for name, figures in summary["rewards"].items():
        errors = figures["failed"]
        values = figures["count"] - figures["not_applicable"] - errors
        mean, std = number(figures["mean"]), number(figures["std"])
        rows.append([name, mean, std, values, figures["not_applicable"], errors])
    if summary["reward"] is not None:
        rows.append([SUM, number(summary["reward"]), "", "", "", ""])
    report.table("", ["reward", "mean", "std", "scored", "not applicable", "errors"], rows)
    seconds, rate = summary["seconds"], summary["rows_per_second"]
    report.say(f"{counted(summary['rows'], 'row')} in {seconds:.1f} s, {rate:,.0f} a second")
    for line in _complaints(summary):
        report.warn(line)
    for column, count in summary["replaced"].items():
        report.warn(f"{counted(count, 'row')} had a column {column!r}; the output has guerdon's in its place")
    if summary["output"] not in (None, "-"):
        report.say(f"The scores are in {summary['output']}")


def _complaints(summary: Mapping[str, Any]) -> Iterable[str]:
    """Each kind of error once, for all rewards that it befell at the same row."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for name, figures in summary["rewards"].items():
        for kind, e in figures["errors"].items():
            found.setdefault((kind, e["count"], e["first"], e["message"]), []).append(name)
    for (kind, count, first, message), names in found.items():
        message = message.removeprefix(f"{summary['file']}, {first}").lstrip(":, ")
        yield f"{', '.join(names)}: {counted(count, 'error')} ({kind}), the first at {first}: {message}"

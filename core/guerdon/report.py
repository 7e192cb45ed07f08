"""What a run shows: lines, live progress with reward means, and tables.

On a terminal the progress is live; elsewhere (a log, CI) it is a line now and then.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from guerdon.errors import counted

LINE_SECONDS = 15.0


class Meter:
    """Progress of one stage."""

    def __init__(self, advance: Any) -> None:
        self._advance = advance
        self.done = 0

    def step(self, text: str = "", *, done: int | None = None, total: int | None = None) -> None:
        self.done = done if done is not None else self.done + 1
        self._advance(self.done, text, total)


class Report:
    """Where a run tells what it does. `quiet` says nothing at all."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        # a pipe has no width of its own
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
        self.console = console or Console(highlight=False, quiet=quiet, width=width)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def head(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]", soft_wrap=True)

    def warn(self, text: str) -> None:
        self.console.print(f"[yellow]warning:[/yellow] {_escaped(text)}", soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Meter]:
        """Progress towards `total`."""
        if self.console.is_terminal:
            with self._bar(title, total) as meter:
                yield meter
        else:
            yield self._lines(title, total)

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Meter]:
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
        )
        with progress:
            bar = progress.add_task(title, total=total, text="")
            yield Meter(lambda done, text, new: progress.update(bar, completed=done, text=text, total=new or total))

    def _lines(self, title: str, total: int) -> Meter:
        last = time.monotonic()

        def advance(done: int, text: str, new: int | None) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                self.say(f"  {title} {done}/{new or total}  {text}")

        return Meter(advance)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for i, column in enumerate(columns):
            figures = all(isinstance(row[i], (int, float)) or is_figure(row[i]) for row in rows)
            table.add_column(column, justify="right" if i and figures else "left", no_wrap=i == 0)
        for row in rows:
            table.add_row(*[_escaped(str(cell)) for cell in row])
        self.console.print(f"[bold]{_escaped(title)}[/bold]", soft_wrap=True)  # a Table's title is cut to its width
        self.console.print(table)


def is_figure(cell: Any) -> bool:
    """Whether a cell begins as a number does, or is empty."""
    return not str(cell) or str(cell)[0] in "+-0123456789"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def compare(report: Report, evaluations: Mapping[str, Mapping[str, Any]]) -> None:
    """The table of a run's evaluations by name, on the same tasks side by side: the first and the newest."""
    names = list(evaluations)
    shown = [(name, evaluations[name]) for name in dict.fromkeys((names[0], names[-1]))]
    newest = shown[-1][1]
    failed = any(f["failed"] for _, f in shown)
    rows = [["reward (failed left out)" if failed else "reward", *(_mean(f["reward"], f) for _, f in shown)]]
    for name in newest["rewards"]:
        rows.append([f"  {name}", *(_reward_cell(f["rewards"].get(name), f["rollouts"]) for _, f in shown)])
    rows.append(["tool calls per task", *(number(f["tool_calls"]) for _, f in shown)])
    rows.append(["tokens per task", *(number(f["tokens"], 0) for _, f in shown)])
    rows.append(["failed rollouts", *(f"{f['failed']} of {f['rollouts']}" for _, f in shown)])
    title = counted(newest["tasks"], "held-out task" if newest.get("held_out", True) else "task")
    title += f", {shown[0][0]} and {shown[1][0]}" if len(shown) == 2 else ""
    title += " (95 % intervals in brackets)" if any(f.get("interval") for _, f in shown) else ""
    report.table(title, ["", *(name if len(shown) == 2 else "" for name, _ in shown)], rows)
    if change := newest.get("difference"):
        _show_difference(report, change, names[-1])


def _show_difference(report: Report, change: Mapping[str, Any], newest: str) -> None:
    parts = {"reward": change, **{f"  {name}": c for name, c in change["rewards"].items()}}
    if len(parts) == 2 and len({c["mean"] for c in parts.values()}) == 1:  # one reward, of weight 1
        del parts[next(reversed(parts))]
    report.say("")
    report.table(
        f"difference, over the {counted(change['tasks'], 'task')} that both have",
        ["", f"{newest} - {change['from']}"],
        [[name, _mean(c["mean"], c, "+")] for name, c in parts.items()],
    )


def _mean(value: float | None, figures: Mapping[str, Any], sign: str = "") -> str:
    """'0.412 [0.386, 0.439]', or without an interval."""
    ends = figures.get("interval")
    return number(value, sign=sign) + (f" [{number(ends[0], sign=sign)}, {number(ends[1], sign=sign)}]" if ends else "")


def _reward_cell(figures: Mapping[str, Any] | None, rollouts: int) -> str:
    """The mean, and how many rollouts earned something: of all, those that failed too."""
    if not figures:
        return "-"
    errors = sum(figures["errors"].values())
    note = f", {errors} errors" if errors else ""
    return f"{number(figures['mean'])} ({figures['positive']} of {rollouts}{note})"


def number(value: float | None, digits: int = 3, *, sign: str = "") -> str:
    """
    >>> number(0.5), number(0.5, 1, sign="+"), number(None)
    ('0.500', '+0.5', '-')
    """
    return "-" if value is None else f"{value:{sign}.{digits}f}"

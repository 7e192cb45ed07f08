"""What a run shows: lines, live progress with reward means, and tables.

On a terminal the progress is live; elsewhere (a log, CI) it is a line now and then.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from guerdon.errors import counted

if TYPE_CHECKING:
    from guerdon.alarms import Alarm

LINE_SECONDS = 15.0
LOOK_SECONDS = 1.0


class Meter:
    """Progress of one stage: how many are done of all, the time left, and a text, asked for only when it is shown.

    `counts` gives, where it is set, how many are running and queued, and how many workers there are.
    """

    def __init__(self, title: str, total: int, stepped: Callable[[], None] = lambda: None) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.text: object = ""
        self.counts: Callable[[], Mapping[str, int]] | None = None
        self._stepped = stepped
        self._started = time.monotonic()
        self._first: int | None = None

    def step(self, text: object = "", *, done: int | None = None, total: int | None = None) -> None:
        if self._first is None:  # what was done before this stage began tells nothing of the time left
            self._first = self.done
        self.done = done if done is not None else self.done + 1
        self.total, self.text = total or self.total, text
        self._stepped()

    @property
    def left(self) -> float | None:
        """Seconds, by the pace so far."""
        fresh = 0 if self._first is None else self.done - self._first
        return (time.monotonic() - self._started) / fresh * (self.total - self.done) if fresh > 0 else None

    def times(self) -> str:
        elapsed, left = time.monotonic() - self._started, self.left
        return _clock(elapsed) + (f", {_clock(left)} left" if left else "")

    def others(self) -> str:
        """'12 running, 40 queued, 4 workers': what the text does not count."""
        counts = self.counts() if self.counts else {}
        shown = {name: counts.get(name, 0) for name in ("running", "queued")}
        if counts.get("workers", 0) > 1:
            shown["workers"] = counts["workers"]
        return ", ".join(f"{n} {name}" for name, n in shown.items() if n)

    def __str__(self) -> str:
        parts = [f"{self.title} {self.done}/{self.total}", self.times(), self.others(), str(self.text)]
        return "  ".join(filter(None, parts))


def _clock(seconds: float) -> str:
    """
    >>> _clock(8.4), _clock(192), _clock(8000)
    ('0:08', '3:12', '2:13:20')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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

    def alarm(self, alarm: "Alarm") -> None:
        if alarm.severity == "warning":
            self.warn(str(alarm))
        else:
            self.say(f"note: {alarm}")

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Meter]:
        """Progress towards `total`."""
        if self.console.is_terminal:
            with self._bar(title, total) as meter:
                yield meter
        else:
            with self._lines(title, total) as meter:
                yield meter

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Meter]:
        """A few lines that change in place."""
        meter, spinner = Meter(title, total), Spinner("dots")

        def drawn() -> Group:
            head = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=meter.total, completed=meter.done, width=24)
            head.add_row(spinner, meter.title, bar, f"{meter.done}/{meter.total}", meter.times())
            lines = filter(None, (meter.others(), str(meter.text)))
            return Group(head, *(Text(f"  {line}", "dim", no_wrap=True, overflow="ellipsis") for line in lines))

        with Live(get_renderable=drawn, console=self.console, refresh_per_second=4, transient=True):
            yield meter

    @contextmanager
    def _lines(self, title: str, total: int) -> Iterator[Meter]:
        """A line now and then, also when nothing comes."""
        last, over = time.monotonic(), threading.Event()

        def stepped() -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                self.say(f"  {meter}")

        def look() -> None:
            while not over.wait(LOOK_SECONDS):
                stepped()

        meter, looking = Meter(title, total, stepped), threading.Thread(target=look, name="progress", daemon=True)
        looking.start()
        try:
            yield meter
        finally:
            over.set()
            looking.join()

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
    """The table of a run's evaluations by name, on the same tasks: two side by side, or more in rows."""
    own = {name: f for name, f in evaluations.items() if not f.get("same_as")}
    several = len(own) > 2
    shown = list(own.items()) if several else list(evaluations.items())
    shown = shown if several else [*shown[:1], *shown[1:][-1:]]
    name, newest = list(evaluations.items())[-1]  # what the run ends with
    title = counted(newest["tasks"], "held-out task" if newest.get("held_out", True) else "task")
    title += f", {shown[0][0]} and {shown[1][0]}" if len(shown) == 2 else ""
    title += " (95 % intervals in brackets)" if any(f.get("interval") for _, f in shown) else ""
    if several:
        _show_rows(report, title, shown)
    else:
        _show_columns(report, title, shown)
    if change := newest.get("difference"):
        _show_difference(report, change, newest.get("same_as") or name)


def _show_columns(report: Report, title: str, shown: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    failed = any(f["failed"] for _, f in shown)
    rows = [["reward (failed left out)" if failed else "reward", *(_mean(f["reward"], f) for _, f in shown)]]
    for name in shown[-1][1]["rewards"]:
        rows.append([f"  {name}", *(_reward_cell(f["rewards"].get(name), f["rollouts"]) for _, f in shown)])
    rows.append(["tool calls per task", *(number(f["tool_calls"]) for _, f in shown)])
    rows.append(["tokens per task", *(number(f["tokens"], 0) for _, f in shown)])
    rows.append(["failed rollouts", *(f"{f['failed']} of {f['rollouts']}" for _, f in shown)])
    report.table(title, ["", *(name if len(shown) == 2 else "" for name, _ in shown)], rows)


def _show_rows(report: Report, title: str, shown: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    names = list(dict.fromkeys(name for _, f in shown for name in f["rewards"]))
    names = names if len(names) > 1 else []
    rows = [
        [
            name,
            _mean(f["reward"], f),
            *(number(f["rewards"].get(n, {}).get("mean")) for n in names),
            number(f["tool_calls"], 2),
            number(f["tokens"], 0),
            f["failed"],
            "best" if f.get("best") else "",
        ]
        for name, f in shown
    ]
    report.table(title, ["", "reward", *names, "tool calls", "tokens", "failed", ""], rows)


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
    if left_out := change.get("left_out"):
        report.say(left_out)


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

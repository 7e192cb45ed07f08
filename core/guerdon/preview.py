"""Rows as a model will see them: which tokens are learnt, how long the rows are, what is cut off."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from guerdon.errors import counted

LONGEST = 1500
"""Characters of one piece that are shown; of a longer one, its beginning and its end."""
TRAINED = "bold green"
OPEN, CLOSE = "»", "«"
BAR = 40


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row as the trainer's function for the trait `preview` gives it.

    `pieces` are texts in order, each learnt or not; `tokens` how many are left of the row, `trained` how many of these
    are learnt, `cut` how many more it had.
    """

    pieces: Sequence[tuple[str, bool]]
    tokens: int
    trained: int
    cut: int = 0

    def to_json(self) -> dict[str, Any]:
        pieces = [{"text": text, "trained": trained} for text, trained in self.pieces]
        return {"pieces": pieces, "tokens": self.tokens, "trained": self.trained, "cut": self.cut}


def figures(rows: Sequence[PreviewRow]) -> dict[str, Any]:
    """The lengths of these rows in tokens, as a histogram by powers of two, and what is cut of them."""
    whole = sorted(row.tokens + row.cut for row in rows)
    histogram: dict[int, int] = {}
    for length in whole:
        above = 1 << length.bit_length()
        histogram[above] = histogram.get(above, 0) + 1
    return {
        "rows": len(rows),
        "tokens": {"median": whole[len(whole) // 2], "longest": whole[-1], "all": sum(whole)},
        "trained": sum(row.trained for row in rows),
        "histogram": [{"below": above, "rows": histogram[above]} for above in sorted(histogram)],
        "rows_cut": sum(row.cut > 0 for row in rows),
        "tokens_cut": sum(row.cut for row in rows),
        "rows_without_a_trained_token": sum(not row.trained for row in rows),
    }


def show(console: Console, rows: Sequence[PreviewRow], seen: Sequence[PreviewRow], max_length: int | None) -> None:
    """Print these rows, then figures of all seen. Without colours the learnt text stands between » and «."""
    coloured = bool(console.color_system)
    how = f"in [{TRAINED}]green[/]" if coloured else f"between {OPEN} and {CLOSE}"
    console.print(f"What is learnt is {how}.", highlight=False)
    for number, row in enumerate(rows, start=1):
        cut = f", {row.cut} more cut off" if row.cut else ""
        console.print(f"\n[bold]row {number}[/bold]: {counted(row.tokens, 'token')}, {row.trained} learnt{cut}")
        text = "".join(_marked(_shortened(text), trained, coloured) for text, trained in row.pieces)
        console.print(text, highlight=False, soft_wrap=True)
    _show_figures(console, figures(seen), max_length)


def _marked(text: str, trained: bool, coloured: bool) -> str:
    if not trained:
        return escape(text)
    return f"[{TRAINED}]{escape(text)}[/]" if coloured else f"{OPEN}{escape(text)}{CLOSE}"


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"


def _show_figures(console: Console, found: dict[str, Any], max_length: int | None) -> None:
    tokens = found["tokens"]
    console.print(
        f"\n[bold]{counted(found['rows'], 'row')} looked at[/bold]: {counted(tokens['all'], 'token')}, "
        f"{found['trained']} learnt; the median row has {tokens['median']}, the longest {tokens['longest']}",
        highlight=False,
        soft_wrap=True,
    )
    most = max(one["rows"] for one in found["histogram"])
    for one in found["histogram"]:
        bar = "█" * max(1, round(BAR * one["rows"] / most))
        console.print(f"  {one['below'] // 2:>7} - {one['below'] - 1:<7} {bar} {one['rows']}", highlight=False)
    at = f" at max_length={max_length}" if max_length else ""
    if found["rows_cut"]:
        share = found["tokens_cut"] / tokens["all"]
        console.print(
            f"[yellow]cut{at}: {counted(found['rows_cut'], 'row')}, {found['tokens_cut']} tokens ({share:.1%})[/]",
            highlight=False,
        )
    else:
        console.print(f"cut{at}: nothing", highlight=False)
    if lost := found["rows_without_a_trained_token"]:
        console.print(f"[yellow]{counted(lost, 'row')} with nothing left to learn: left out of the training[/]")

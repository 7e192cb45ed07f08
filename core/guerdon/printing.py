"""What commands print: JSON for scripts, or a list as aligned columns."""

from typing import Any

import click


def print_json(data: Any) -> None:
    import json

    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def print_or_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    """A list of alike mappings as JSON, or as aligned columns."""
    if as_json or not rows:
        return print_json(rows) if as_json else None
    columns = list(rows[0])
    cells = [columns, *([_cell(row[c]) for c in columns] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for n, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if n == 0 else line)


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else f"{value:.3f}" if isinstance(value, float) else str(value)

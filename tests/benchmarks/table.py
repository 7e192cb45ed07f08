"""Plain text tables."""

from collections.abc import Sequence


def table(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Aligned columns with two blanks between them: the first to the left, the others to the right.

    >>> print(table(["", "rows"], [["core", 1200], ["all", 7]]))
          rows
    core  1200
    all      7
    """
    cells = [[str(c) for c in line] for line in [heads, *lines]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    return "\n".join(
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in cells
    )

r"""Sets of integers by where they begin and end: `\mathbb{Z}^+`, `\{x \in \mathbb{Z} | x > 0\}`."""

from math import ceil, floor

from guerdon_rewards.mathematics.facts import facts
from guerdon_rewards.mathematics.regions import (
    BELOW,
    INFINITY,
    LINE,
    NoRegion,
    Piece,
    intersection,
    region,
    subjects_of,
    tidy,
)
from guerdon_rewards.mathematics.tree import Node, number

_INTEGERS = {
    "Z": LINE, "Z+": (number(1), True, INFINITY, False), "N0": (number(0), True, INFINITY, False),
    "Z-": (BELOW, False, number(-1), True),
}  # fmt: skip


def same_integers(a: Node, b: Node) -> bool:
    r"""`\{x \in \mathbb{Z} | x > 0\}` and `\mathbb{Z}^+`."""
    try:
        first, second = _integers(a), _integers(b)
    except NoRegion:
        return False
    return first is not None and first == second


def _integers(node: Node) -> list[tuple[int | None, int | None]] | None:
    """The integers of a set by where they begin and end."""
    if node[0] == "numberset":
        return [_whole_ends(_INTEGERS[node[1]])] if node[1] in _INTEGERS else None
    if node[1][0] != "rel" or node[1][1] != ("in",) or node[1][2][1][0] != "numberset":
        return None
    outer = _INTEGERS.get(node[1][2][1][1])
    if outer is None or any(s != node[1][2][0] for s in subjects_of(node[2])):
        return None
    return [_whole_ends(p) for p in tidy(intersection([outer], region(node[2])))]


def _whole_ends(piece: Piece) -> tuple[int | None, int | None]:
    low, low_closed, high, high_closed = piece
    first, last = facts(low).value, facts(high).value
    if (first is None and low != BELOW) or (last is None and high != INFINITY):
        raise NoRegion
    begin = None if first is None else floor(first) + 1 if first.denominator == 1 and not low_closed else ceil(first)
    end = None if last is None else ceil(last) - 1 if last.denominator == 1 and not high_closed else floor(last)
    return begin, end

"""Sets of real numbers: intervals, unions, inequalities, and what they have in common.

A region is a list of pieces `(low, low closed, high, high closed)` whose ends are syntax trees.
"""

from collections.abc import Callable
from fractions import Fraction

from guerdon_rewards.evaluate import constant_equal, free_symbols, less
from guerdon_rewards.syntax import Node, number

Piece = tuple[Node, bool, Node, bool]
Region = list[Piece]

INFINITY: Node = ("const", "oo")
BELOW: Node = ("neg", INFINITY)
LINE: Piece = (BELOW, False, INFINITY, False)
MOST = 64
"""Pieces."""
INEQUALITIES = frozenset(("<", ">", "<=", ">=", "!="))
TAGS = frozenset(("interval", "union", "inter", "minus", "builder", "numberset"))
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


class NoRegion(Exception):
    """The tree is no set of real numbers that we can name."""


def is_region(node: Node) -> bool:
    """Whether it can only be meant as a set of reals: an interval, a union, an inequality."""
    if node[0] in TAGS:
        return True
    if node[0] == "rel":
        return bool(INEQUALITIES.intersection(node[1])) and node[1].count("=") == 0
    if node[0] in ("or", "list"):
        return any(is_region(n) for n in node[1:])
    return node == ("empty",)


def region(node: Node) -> Region:
    """The region that a tree describes.

    Raises:
        NoRegion: it describes none.
    """
    tag = node[0]
    if tag == "interval":
        return [(node[1], node[3] and not _infinite(node[1]), node[2], node[4] and not _infinite(node[2]))]
    if tag == "tuple" and len(node) == 3:
        return [(node[1], False, node[2], False)]
    if tag == "empty":
        return []
    if tag == "numberset" and node[1] == "R":
        return [LINE]
    if tag == "union":
        return region(node[1]) + region(node[2])
    if tag == "inter":
        return intersection(region(node[1]), region(node[2]))
    if tag == "minus":
        return intersection(region(node[1]), complement(region(node[2])))
    if tag == "builder":
        return region(node[2])
    if tag == "rel":
        return _relation(node)
    if tag == "or":
        return [p for n in node[1:] for p in region(n)]
    if tag == "list" and any(is_region(n) for n in node[1:]):
        return _conditions([region(n) for n in node[1:]])
    if tag in ("set", "list"):
        return [p for n in node[1:] for p in region(n)]
    if tag in ("num", "neg", "add", "mul", "div", "pow", "call", "const", "sym", "deg"):
        return [(node, True, node, True)]
    raise NoRegion


def same_region(a: Node, b: Node, same: Callable[[Node, Node], bool | None]) -> bool | None:
    """Whether two trees describe the same region, as far as can be told; `same` compares ends."""
    try:
        first, second = region(a), region(b)
    except NoRegion:
        return None
    if len(first) > MOST or len(second) > MOST:
        return None
    try:
        first, second = tidy(first), tidy(second)
    except NoRegion:  # ends with letters, which have no order: piece by piece then
        return _matched(first, second, same)
    if len(first) != len(second):
        return False
    return _all(_same_piece(p, q, same) for p, q in zip(first, second, strict=True))


def tidy(pieces: Region) -> Region:
    """In order, without overlaps or empty pieces.

    Raises:
        NoRegion: the ends cannot be put in order.
    """
    kept = [p for p in pieces if not _empty(p)]
    out: Region = []
    for piece in kept:
        at = 0
        while at < len(out) and _starts_before(out[at], piece):
            at += 1
        out.insert(at, piece)
    merged: Region = []
    for piece in out:
        if merged and _touch(merged[-1], piece):
            merged[-1] = _joined(merged[-1], piece)
        else:
            merged.append(piece)
    return merged


def intersection(a: Region, b: Region) -> Region:
    if len(a) * len(b) > MOST:
        raise NoRegion
    pieces = [_common(p, q) for p in a for q in b]
    return [p for p in pieces if not _empty(p)]


def complement(a: Region) -> Region:
    rest: Region = [LINE]
    for low, low_closed, high, high_closed in tidy(a):
        outside: Region = []
        if not _infinite(low):
            outside.append((BELOW, False, low, not low_closed))
        if not _infinite(high):
            outside.append((high, not high_closed, INFINITY, False))
        rest = intersection(rest, outside)
    return rest


def _conditions(regions: list[Region]) -> Region:
    """Conditions beside each other hold together; where they cannot, each on its own."""
    together: Region = [LINE]
    for one in regions:
        together = intersection(together, one)
    return tidy(together) or [p for one in regions for p in one]


def _relation(node: Node) -> Region:
    ops, operands = node[1], node[2]
    if ops[-1] == "in":
        return region(operands[-1])
    if ops == ("=",) and operands[0][0] == "sym":
        return region(operands[1])
    if not INEQUALITIES.issuperset(ops):
        raise NoRegion
    together: Region = [LINE]
    for op, left, right in zip(ops, operands, operands[1:], strict=False):
        together = intersection(together, _inequality(op, left, right))
    return together


def _inequality(op: str, left: Node, right: Node) -> Region:
    """The solutions of a linear inequality in one letter."""
    if left[0] == "sym" and not free_symbols(right) - {left[1]} and left[1] not in free_symbols(right):
        bound = right
    elif right[0] == "sym" and not free_symbols(left):
        bound, op = left, _FLIPPED.get(op, op)
    elif left[0] == "apply" and not free_symbols(right):
        bound = right
    elif right[0] == "apply" and not free_symbols(left):
        bound, op = left, _FLIPPED.get(op, op)
    elif left[0] == "sym" and right[0] != "sym" and left[1] not in free_symbols(right):
        bound = right
    elif right[0] == "sym" and left[0] != "sym" and right[1] not in free_symbols(left):
        bound, op = left, _FLIPPED.get(op, op)
    else:
        bound, op = _solved(op, left, right)
    if op == "!=":
        return [(BELOW, False, bound, False), (bound, False, INFINITY, False)]
    if op in ("<", "<="):
        return [(BELOW, False, bound, op == "<=" and not _infinite(bound))]
    return [(bound, op == ">=" and not _infinite(bound), INFINITY, False)]


def _solved(op: str, left: Node, right: Node) -> tuple[Node, str]:
    difference: Node = ("add", left, ("neg", right))
    letters = free_symbols(difference)
    if len(letters) != 1:
        raise NoRegion
    (letter,) = letters
    zero, one, two = (substituted(difference, letter, number(v)) for v in (0, 1, 2))
    bend: Node = ("add", two, ("neg", ("mul", number(2), one)), zero)
    slope: Node = ("add", one, ("neg", zero))
    rising = less(number(0), slope)
    if not constant_equal(bend, number(0)) or rising is None or constant_equal(slope, number(0)):
        raise NoRegion
    bound: Node = ("div", ("neg", zero), slope)
    return bound, op if rising else _FLIPPED.get(op, op)


def substituted(node: Node, letter: str, value: Node) -> Node:
    if node == ("sym", letter):
        return value
    return tuple(substituted(n, letter, value) if isinstance(n, tuple) else n for n in node)


def _infinite(node: Node) -> bool:
    return node in (INFINITY, BELOW) or (node[0] == "neg" and node[1] == BELOW)


def _less(a: Node, b: Node) -> bool:
    if a == b or a == INFINITY or b == BELOW:
        return False
    if a == BELOW or b == INFINITY:
        return True
    answer = less(a, b)
    if answer is None:
        raise NoRegion
    return answer


def _equal(a: Node, b: Node) -> bool:
    return a == b or not (_infinite(a) or _infinite(b)) and bool(constant_equal(a, b))


def _empty(piece: Piece) -> bool:
    low, low_closed, high, high_closed = piece
    if low == BELOW or high == INFINITY:
        return False
    if free_symbols(low) or free_symbols(high):
        return False
    return _less(high, low) or (_equal(low, high) and not (low_closed and high_closed))


def _starts_before(a: Piece, b: Piece) -> bool:
    if _less(a[0], b[0]):
        return True
    return _equal(a[0], b[0]) and a[1] and not b[1]


def _touch(a: Piece, b: Piece) -> bool:
    return _less(b[0], a[2]) or (_equal(a[2], b[0]) and (a[3] or b[1])) or a[2] == INFINITY


def _joined(a: Piece, b: Piece) -> Piece:
    if _less(a[2], b[2]):
        return a[0], a[1], b[2], b[3]
    return a[0], a[1], a[2], a[3] or (_equal(a[2], b[2]) and b[3])


def _common(a: Piece, b: Piece) -> Piece:
    low, low_closed = a[0], a[1]
    if _less(low, b[0]):
        low, low_closed = b[0], b[1]
    elif _equal(low, b[0]):
        low_closed = low_closed and b[1]
    high, high_closed = a[2], a[3]
    if _less(b[2], high):
        high, high_closed = b[2], b[3]
    elif _equal(high, b[2]):
        high_closed = high_closed and b[3]
    return low, low_closed, high, high_closed


def _same_piece(a: Piece, b: Piece, same: Callable[[Node, Node], bool | None]) -> bool | None:
    if (a[1], a[3]) != (b[1], b[3]):
        return False
    return _all((same(a[0], b[0]), same(a[2], b[2])))


def _matched(a: Region, b: Region, same: Callable[[Node, Node], bool | None]) -> bool | None:
    if len(a) != len(b):
        return None
    left = list(b)
    for piece in a:
        for i, other in enumerate(left):
            if _same_piece(piece, other, same):
                del left[i]
                break
        else:
            return False
    return True


def _all(answers: "object") -> bool | None:
    result: bool | None = True
    for answer in answers:  # type: ignore[attr-defined]
        if answer is False:
            return False
        if answer is None:
            result = None
    return result


ZERO = Fraction(0)

"""Sets of real numbers: intervals, unions, inequalities, and what they have in common.

A region is a list of pieces `(low, low closed, high, high closed)` whose ends are syntax trees.
"""

from collections.abc import Callable, Iterable

from guerdon_rewards.mathematics.evaluate import constant_equal, less
from guerdon_rewards.mathematics.facts import facts
from guerdon_rewards.mathematics.statements import is_name
from guerdon_rewards.mathematics.tree import Node, number

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
    tag = node[0]
    if tag in TAGS:
        return True
    if tag == "rel":
        return (not INEQUALITIES.isdisjoint(node[1]) and "=" not in node[1]) or node[1] == ("notin",)
    if tag == "or" or tag == "list":
        return any(is_region(n) for n in node[1:])
    return False


def region(node: Node) -> Region:
    """The region that a tree describes.

    Raises:
        NoRegion: it describes none.
    """
    tag = node[0]
    if tag == "interval":
        return [(node[1], node[3] and not _infinite(node[1]), node[2], node[4] and not _infinite(node[2]))]
    if tag == "tuple" and len(node) == 3:
        return [_open(node[1], node[2])]
    if tag == "empty":
        return []
    if tag == "numberset" and node[1] == "R":
        return [LINE]
    if tag == "union":
        return [p for n in node[1:] for p in region(n)]
    if tag == "inter":
        return intersection(region(node[1]), region(node[2]))
    if tag == "minus":
        return intersection(region(node[1]), complement(region(node[2])))
    if tag == "builder":
        return _built(node)
    if tag == "rel":
        return _relation(node)
    if tag == "or":
        return [p for n in node[1:] for p in region(n)]
    if tag == "list":
        return _list(node)
    if tag == "set":
        return [(n, True, n, True) for n in node[1:] if _is_value(n)]
    if tag == "def":
        return region(node[2])
    if _is_value(node):
        return [(node, True, node, True)]
    raise NoRegion


_VALUES = frozenset(
    ("num", "pm", "neg", "add", "mul", "div", "pow", "call", "const", "sym", "deg", "percent", "repeat")
)


def _is_value(node: Node) -> bool:
    if node[0] in _VALUES and not facts(node).structured:
        return True
    raise NoRegion


def _open(low: Node, high: Node) -> Piece:
    """`(a, b)`, which is a point where a is not below b."""
    if not (facts(low).letters or facts(high).letters) and not _less(low, high):
        raise NoRegion
    return low, False, high, False


def _built(node: Node) -> Region:
    """`{x | x > 1}`, `{x in R | x > 1}`."""
    variable = node[1]
    if variable[0] == "rel":
        if variable[1] != ("in",):
            raise NoRegion
        return intersection(region(variable[2][1]), region(node[2]))
    if variable[0] != "sym":
        raise NoRegion
    subjects = subjects_of(node[2])
    if any(s != variable for s in subjects):
        raise NoRegion
    return region(node[2])


def _list(node: Node) -> Region:
    """Conditions on one letter hold together; where they cannot, and intervals always, each on its own."""
    parts = [region(n) for n in node[1:]]
    if all(n[0] == "rel" for n in node[1:]):
        return _conditions(parts)
    pieces = [p for part in parts for p in part]
    if len(tidy(pieces)) < len(pieces):
        raise NoRegion
    return pieces


def subjects_of(node: Node) -> list[Node]:
    """What statements are about: `x` in `1 < x`, `x in (1, 2)` or `x = 3`; nothing for intervals."""
    if node[0] in ("or", "list"):
        return [subject for n in node[1:] for subject in subjects_of(n)]
    if node[0] == "def":
        return [node[1]]
    if node[0] == "rel":
        at = _subject(node)
        if at is not None:
            return [node[2][at]]
        letters = facts(node).letters
        return [("sym", *letters)] if len(letters) == 1 else []
    return []


def same_subject(a: Node, b: Node) -> bool:
    """Whether all that two statements are about is one thing."""
    subjects = [*subjects_of(a), *subjects_of(b)]
    return all(s == subjects[0] for s in subjects[1:])


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


def _subject(node: Node) -> int | None:
    """Where the letter or function stands that a relation is about."""
    ops, operands = node[1], node[2]
    if ops[0] in ("in", "notin", "=") and is_name(operands[0]):
        return 0
    names = [i for i, n in enumerate(operands) if n[0] in ("sym", "apply")]
    if len(names) == 1:
        return names[0]
    if len(operands) == 3:
        return 1 if 1 in names else None
    known = [i for i in names if operands[i] in _UNKNOWNS]
    return known[0] if len(known) == 1 else None


_UNKNOWNS = frozenset(("sym", letter) for letter in "xyzt")


def _relation(node: Node) -> Region:
    ops, operands = node[1], node[2]
    if ops[-1] == "in":
        return region(operands[-1])
    if ops == ("notin",):
        return complement(region(operands[1]))
    if ops == ("=",) and operands[0][0] == "sym" and _is_value(operands[1]):
        return [(operands[1], True, operands[1], True)]
    if not INEQUALITIES.issuperset(ops):
        raise NoRegion
    at = _subject(node)
    if at is None or not _stands_alone(operands, at):
        return _solved(node)
    if len(ops) == 1:
        return [*_half(ops[0] if at == 0 else _FLIPPED.get(ops[0], ops[0]), operands[1 - at])]
    if len(ops) != 2 or at != 1 or "!=" in ops:
        raise NoRegion
    return _between(ops, operands)


def _stands_alone(operands: tuple[Node, ...], at: int) -> bool:
    own = facts(operands[at]).letters
    return all(i == at or (facts(n).letters.isdisjoint(own) and _is_value(n)) for i, n in enumerate(operands))


def _between(ops: tuple[str, ...], operands: tuple[Node, ...]) -> Region:
    """`1 < x <= 2`, either way round; `1 < x > 2` is the part that both hold in."""
    first, second = ops
    if first[0] == second[0]:
        low, high = (operands[0], first == "<="), (operands[2], second == "<=")
        if first[0] == ">":
            low, high = (operands[2], second == ">="), (operands[0], first == ">=")
        return [(low[0], low[1] and not _infinite(low[0]), high[0], high[1] and not _infinite(high[0]))]
    return intersection(_half(_FLIPPED[first], operands[0]), _half(second, operands[2]))


def _half(op: str, bound: Node) -> Region:
    if op == "!=":
        if "pm" in facts(bound).tags:  # neither the one nor the other
            return complement([(_with_sign(bound, upper), True) * 2 for upper in (True, False)])
        return [(BELOW, False, bound, False), (bound, False, INFINITY, False)]
    if op in ("<", "<="):
        return [(BELOW, False, bound, op == "<=" and not _infinite(bound))]
    return [(bound, op == ">=" and not _infinite(bound), INFINITY, False)]


def _with_sign(node: Node, upper: bool) -> Node:
    if node[0] == "pm":
        term: Node = node[2] if upper else ("neg", node[2])
        return ("add", node[1], term) if node[1] else term
    return tuple(_with_sign(n, upper) if isinstance(n, tuple) and n else n for n in node)


def _solved(node: Node) -> Region:
    """The solutions of linear inequalities in one letter."""
    together: Region = [LINE]
    for op, left, right in zip(node[1], node[2], node[2][1:], strict=False):
        together = intersection(together, _one_sided(op, left, right))
    return together


def _one_sided(op: str, left: Node, right: Node) -> Region:
    """`3x < 2`, `|x - 1| < 2`."""
    if right[:2] == ("call", "abs"):
        left, op, right = right, _FLIPPED.get(op, op), left
    if left[:2] == ("call", "abs") and op != "!=" and not facts(right).letters and _less(number(0), right):
        within, without = _linear(op, left[2], right), _linear(_FLIPPED[op], left[2], ("neg", right))
        first, second = _half(within[1], within[0]), _half(without[1], without[0])
        return intersection(first, second) if op[0] == "<" else [*first, *second]
    bound, turned = _linear(op, left, right)
    return _half(turned, bound)


def _linear(op: str, left: Node, right: Node) -> tuple[Node, str]:
    """The bound that a linear inequality sets its letter, and the sign with the letter on its left."""
    difference: Node = ("add", left, ("neg", right))
    letters = facts(difference).letters
    if len(letters) != 1 or _degree(difference, *letters) != 1:
        raise NoRegion
    (letter,) = letters
    zero, one = (substituted(difference, letter, number(v)) for v in (0, 1))
    slope: Node = ("add", one, ("neg", zero))
    if _equal(slope, number(0)):
        raise NoRegion
    value, base = facts(slope).value, facts(zero).value
    if value is not None and base is not None:
        return number(-base / value), op if value > 0 else _FLIPPED.get(op, op)
    return ("div", ("neg", zero), slope), op if _less(number(0), slope) else _FLIPPED.get(op, op)


def _degree(node: Node, letter: str) -> int:
    """The degree of a polynomial in a letter, at most; 2 for all else that holds the letter."""
    tag = node[0]
    if letter not in facts(node).letters:
        return 0
    if tag == "sym":
        return 1
    if tag in ("neg", "add"):
        return max(_degree(n, letter) for n in node[1:])
    if tag == "mul":
        return sum(_degree(n, letter) for n in node[1:])
    if tag == "div" and letter not in facts(node[2]).letters:
        return _degree(node[1], letter)
    return 2


def substituted(node: Node, letter: str, value: Node) -> Node:
    """The tree with a value in a letter's place."""
    if node[0] == "sym":
        return value if node[1] == letter else node
    if node[0] == "num":
        return node
    return tuple([substituted(n, letter, value) if n.__class__ is tuple and n else n for n in node])


def _infinite(node: Node) -> bool:
    return node in (INFINITY, BELOW) or (node[0] == "neg" and node[1] == BELOW)


def _less(a: Node, b: Node) -> bool:
    if a in (b, INFINITY) or b == BELOW:
        return False
    if a == BELOW or b == INFINITY:
        return True
    first, second = facts(a).value, facts(b).value
    answer = first < second if first is not None and second is not None else less(a, b)
    if answer is None:
        raise NoRegion
    return answer


def _equal(a: Node, b: Node) -> bool:
    first, second = facts(a).key, facts(b).key
    if first is not None and second is not None:
        return first == second
    return a == b or (not (_infinite(a) or _infinite(b)) and bool(constant_equal(a, b)))


def _empty(piece: Piece) -> bool:
    low, low_closed, high, high_closed = piece
    if low == BELOW or high == INFINITY:
        return False
    if facts(low).letters or facts(high).letters:
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
        return False
    left = list(b)
    for piece in a:
        for i, other in enumerate(left):
            if _same_piece(piece, other, same):
                del left[i]
                break
        else:
            return False
    return True


def _all(answers: Iterable[bool | None]) -> bool | None:
    result: bool | None = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            result = None
    return result

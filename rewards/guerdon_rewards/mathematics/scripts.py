r"""Signs with indices around them: combinations (`C_n^k`, `{}_nC_k`, `C(n, k)`), number sets (`\mathbb{Z}^+`)."""

import re
from typing import TYPE_CHECKING

from guerdon_rewards.mathematics import operands
from guerdon_rewards.mathematics.lexer import Unread
from guerdon_rewards.mathematics.tree import Node, number

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.syntax import Parser

COUNTS = {"C": "binom", "P": "perm"}
"""Letters of combinations and permutations."""
_LETTERS = re.compile(r"([nmN])([CP])([krm])")


def raised(parser: "Parser", _: str) -> Node:
    """`_nC_k` or `^nC_k`, the first sign read."""
    token = parser.tokens[parser.at]
    if token.kind == "word" and len(token.raw) == 2 and token.raw[1] in COUNTS:
        parser.at += 1
        above: Node = ("sym", token.raw[0])
        name = token.raw[1]
    else:
        above = operands.argument(parser)
        name = parser.take().raw
    if name not in COUNTS or not parser.accept("_"):
        raise Unread("an index of nothing")
    return "call", COUNTS[name], above, operands.argument(parser)


def counted(word: str) -> Node | None:
    """`nCr` as one word."""
    found = _LETTERS.fullmatch(word)
    return ("call", COUNTS[found[2]], ("sym", found[1]), ("sym", found[3])) if found else None


_SIMPLE = frozenset("+-*,()")


def is_simple(parser: "Parser", at: int, closer: str) -> bool:
    """Whether only numbers, letters and signs stand up to a closing sign: what is read twice must be short."""
    for token in parser.tokens[at : at + _LONGEST]:
        if token.value == closer and token.kind == "op":
            return True
        if token.kind not in ("num", "sym") and token.value not in _SIMPLE:
            return False
        if token.raw in COUNTS:
            return False
    return False


_LONGEST = 16


def _is_simple_index(parser: "Parser", at: int) -> bool:
    token = parser.tokens[at]
    return token.kind in ("num", "sym") if token.value != "{" else is_simple(parser, at + 1, "}")


def below_first(parser: "Parser", symbol: Node, start: int) -> Node | None:
    """`C_n^k`, its lower index just read from `start`."""
    end = parser.at
    if not (_is_simple_index(parser, start) and _is_simple_index(parser, end + 1)):
        return None
    parser.at = start
    below = operands.argument(parser)
    parser.at = end + 1
    counted = indexed(symbol[1], below, operands.argument(parser))
    if counted is None:
        parser.at = end
    return counted


def above_first(parser: "Parser", power: Node) -> Node | None:
    """`C^k_n`, at the lower index."""
    mark = parser.at
    if not _is_simple_index(parser, mark + 1):
        return None
    parser.at += 1
    counted = indexed(power[1][1], operands.argument(parser), power[2])
    if counted is None:
        parser.at = mark
    return counted


def called(parser: "Parser", name: str) -> Node | None:
    """`C(n, k)`; but `C(5, 2)` by itself is a point."""
    mark = parser.at
    if not parser.sees("(") or not is_simple(parser, mark + 1, ")"):
        return None
    alone = mark == 1 or parser.tokens[mark - 2].value in (",", ";", "and", "or")
    items = operands.arguments(parser)
    letters = _has_letter(items[0])
    if len(items) == 2 and _countable(*items):
        after = parser.tokens[parser.at]
        if letters or not alone or (after.kind not in ("end", "text") and after.value not in (",", ";")):
            return "call", COUNTS[name], *items
    parser.at = mark
    return None


def _has_letter(node: Node) -> bool:
    return node[0] == "sym" or any(_has_letter(n) for n in node[1:] if isinstance(n, tuple) and n)


def _countable(above: Node, below: Node) -> bool:
    if above[0] == "num" and below[0] == "num":
        return bool(above[1].denominator == below[1].denominator == 1 and 0 <= below[1] <= above[1])
    return _whole(above) and _whole(below)


def _whole(node: Node) -> bool:
    """Whether it is made of the letters that count: n, k, 2n, m + 1."""
    if node[0] == "sym":
        return node[1] in _COUNTING
    if node[0] == "num":
        return bool(node[1].denominator == 1)
    return node[0] in ("add", "mul", "neg") and all(_whole(n) for n in node[1:])


_COUNTING = frozenset("nkmrNKM")


def indexed(name: str, below: Node, above: Node) -> Node | None:
    """`C_n^k` or `C^k_n`, the n below; but `C_1^2` is a square."""
    if name not in ("C", "A") or (name == "A" and (below[0] != "num" or below[1] < 3)):
        return None
    if not _countable(below, above):
        return None
    return "call", "binom" if name == "C" else "perm", below, above


def numberset(parser: "Parser", name: str) -> Node:
    r"""`\mathbb{R}` with what stands above and below it."""
    marks = ""
    start = parser.at
    while parser.sees("^", "_") and parser.at < start + 10:
        marks += str(parser.take().value) + _mark(parser)
    if not marks:
        return "numberset", name
    known = _SETS.get(name + marks)
    if known is None:
        if parser.tokens[start].value != "^" or marks.count("_"):
            raise Unread("a set of numbers with marks")
        parser.at = start
        return "numberset", name
    return known


def _mark(parser: "Parser") -> str:
    token = parser.take()
    if token.raw != "{":
        return token.raw
    text = ""
    while not parser.accept("}"):
        token = parser.take()
        if token.kind == "end":
            raise Unread("a brace is not closed")
        text += "*" if token.raw == "\\ast" else str(token.value) if token.kind == "rel" else token.raw
    return text


_ZERO, _INFINITY = number(0), ("const", "oo")
_POSITIVE: Node = ("interval", _ZERO, _INFINITY, False, False)
_NOT_NEGATIVE: Node = ("interval", _ZERO, _INFINITY, True, False)
_NEGATIVE: Node = ("interval", ("neg", _INFINITY), _ZERO, False, False)
_SETS: dict[str, Node] = dict.fromkeys(("R^+", "R_+", "R_>0", "R^>0"), _POSITIVE)
_SETS |= dict.fromkeys(("R_>=0", "R^>=0", "R_0^+", "R^+_0", "R_+^0"), _NOT_NEGATIVE)
_SETS |= dict.fromkeys(("R^-", "R_-", "R_<0"), _NEGATIVE)
_SETS |= {"R_<=0": ("interval", ("neg", _INFINITY), _ZERO, False, True)}
_SETS |= {f"{name}{mark}": ("minus", ("numberset", name), ("set", _ZERO))
          for name in "RZQC" for mark in ("^*", "_*", "^\\times", "_!=0")}  # fmt: skip
_SETS |= dict.fromkeys("Z^+ Z_+ Z_>0 Z^>0 Z_>=1 N^* N^+ N_+ N_>0 N_1 N_>=1".split(), ("numberset", "Z+"))
_SETS |= dict.fromkeys(("Z_>=0", "N_0", "N^0", "Z^>=0", "N_>=0"), ("numberset", "N0"))
_SETS |= dict.fromkeys(("Z^-", "Z_-", "Z_<0"), ("numberset", "Z-"))
_SETS |= dict.fromkeys(("Q^+", "Q_+", "Q_>0"), ("numberset", "Q+"))

"""What sympy prints: `Rational(1, 2)`, `Interval(0, 1)`, `Eq(x, 2)`, `Matrix([[1, 2], [3, 4]])`, and the like."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from guerdon_rewards.mathematics.lexer import Unread
from guerdon_rewards.mathematics.tree import EMPTY, Node, add, product_of

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.syntax import Parser

Reader = Callable[[list[Node]], Node]
_MOST = 64


def printed(parser: "Parser", word: str) -> Node | None:
    """The node of a constructor that stands here with its arguments, None where the word is none."""
    if word in _NAMES and not parser.sees("(", "."):
        return _NAMES[word]
    read = _READERS.get(word)
    if word == "Interval" and parser.sees("."):
        ends = _ENDS.get(parser.tokens[parser.at + 1].raw)
        if ends is None:
            raise Unread("an interval of no kind")
        parser.at += 2
        return "interval", *_arguments(parser)[:2], *ends
    if read is None or not parser.sees("("):
        return None
    try:
        return read(_arguments(parser))
    except (TypeError, IndexError, ValueError, KeyError):
        raise Unread(f"{word} of something else") from None


def _arguments(parser: "Parser") -> list[Node]:
    parser.expect("(")
    items: list[Node] = []
    while not parser.accept(")"):
        items.append(parser.nested(parser.statement))
        if len(items) > _MOST:
            raise Unread("too many arguments")
        if not parser.sees(")"):
            parser.expect(",")
    return items


def _interval(items: list[Node]) -> Node:
    low, high, *opened = items
    marks = [_TRUTH[n] for n in opened] + [False, False]
    return "interval", low, high, not marks[0], not marks[1]


_TRUTH: dict[Node, bool] = {("text", str(value)): value for value in (True, False)}
_ENDS = {"open": (False, False), "Lopen": (False, True), "Ropen": (True, False)}


def _relation(op: str) -> Reader:
    def read(items: list[Node]) -> Node:
        left, right = items
        return "rel", (op,), (left, right)

    return read


def _matrix(items: list[Node]) -> Node:
    (inner,) = items
    if inner[0] == "matrix":
        return inner
    if inner[0] in ("tuple", "list"):
        return "matrix", tuple((n,) for n in inner[1:])
    if inner[0] == "interval":
        return "matrix", ((inner[1],), (inner[2],))
    raise ValueError


def _together(tag: str) -> Reader:
    def read(items: list[Node]) -> Node:
        node, *rest = items
        for item in rest:
            node = (tag, node, item)
        return node

    return read


def _function(name: str, count: int) -> Reader:
    def read(items: list[Node]) -> Node:
        if len(items) != count:
            raise ValueError
        return "call", name, *items

    return read


def _pair(tag: str) -> Reader:
    def read(items: list[Node]) -> Node:
        first, second = items
        return tag, first, second

    return read


def _set(items: list[Node]) -> Node:
    if not items:
        return EMPTY
    (inner,) = items
    return "set", *(inner[1:3] if inner[0] == "interval" else inner[1:])


def _pieces(items: list[Node]) -> Node:
    """As `cases` are read: pairs of a value and its condition."""
    pieces = [(value, ("text", "otherwise") if on == ("text", "True") else on) for _, value, on in items]
    return "list", *(("tuple", *piece) for piece in pieces)


def _only(items: list[Node]) -> Node:
    (item,) = items
    return item


_READERS: dict[str, Reader] = {
    "Rational": _pair("div"), "Pow": _pair("pow"), "Integer": _only, "Float": _only, "Symbol": _only,
    "array": _matrix, "Piecewise": _pieces, "EmptySet": lambda items: EMPTY, "Add": add, "Mul": product_of,
    "Interval": _interval, "FiniteSet": lambda items: ("set", *items) if items else EMPTY, "set": _set,
    "Tuple": lambda items: ("tuple", *items), "Union": _together("union"), "Intersection": _together("inter"),
    "Complement": _pair("minus"), "Matrix": _matrix, "ImmutableMatrix": _matrix, "ImmutableDenseMatrix": _matrix,
    "MutableDenseMatrix": _matrix, "Eq": _relation("="), "Ne": _relation("!="), "Lt": _relation("<"),
    "Le": _relation("<="), "Gt": _relation(">"), "Ge": _relation(">="), "Contains": _relation("in"),
    "Mod": _function("mod", 2), "Max": lambda items: ("call", "max", *items),
    "Min": lambda items: ("call", "min", *items), "root": _function("root", 2), "And": lambda items: ("list", *items),
    "Or": lambda items: ("or", *items), "factorial": _function("fact", 1), "fractions": _only,
    "Fraction": _pair("div"), "perm": _function("perm", 2), "comb": _function("binom", 2), "pow": _pair("pow"),
}  # fmt: skip
_NAMES: dict[str, Node] = {"EmptySet": EMPTY, "Reals": ("numberset", "R"), "Integers": ("numberset", "Z")}

"""Fractions, derivatives, integrals, sums and limits, as they are written."""

from typing import TYPE_CHECKING

from guerdon_rewards.mathematics.lexer import Unread
from guerdon_rewards.mathematics.operands import argument, exponent, group
from guerdon_rewards.mathematics.tree import Node, multiply, number

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.syntax import Parser


def fraction(parser: "Parser", _: str) -> Node:
    above, below = argument(parser), argument(parser)
    if _holds_d(above):
        return _derivative(parser, above, below) or ("div", above, below)
    return "div", above, below


_D = (("sym", "d"), ("sym", "partial"))


def _holds_d(node: Node) -> bool:
    first = node[1] if node[0] == "mul" else node
    return (first[1] if first[0] == "pow" else first) in _D


def _derivative(parser: "Parser", above: Node, below: Node) -> Node | None:
    """`d/dx`, before what it is taken of, or `dy/dx`, which is a name."""
    over = _differentials(below)
    first, *of = above[1:] if above[0] == "mul" else (above,)
    order = first[2] if first[0] == "pow" else number(1)
    if over is None or order != number(sum(o for _, o in over)):
        return None
    if len(of) > 1:
        return None
    if of:
        if of[0][0] != "sym":
            return _taken(of[0], over)
        if over == [(("sym", "x"), over[0][1])] and over[0][1] < 4:
            return "sym", of[0][1] + "'" * over[0][1]
        return "sym", f"d{of[0][1]}/d" + "d".join(f"{v[1]}{n}" for v, n in over)
    return _taken(parser.nested(parser.product), over)


def _taken(body: Node, over: list[tuple[Node, int]]) -> Node:
    for variable, order in reversed(over):
        body = ("diff", variable, order, body)
    return body


def _differentials(node: Node) -> list[tuple[Node, int]] | None:
    """The letters under a derivative, with their orders: `dx^2 dy`."""
    parts = list(node[1:]) if node[0] == "mul" else [node]
    if parts and parts[0][0] == "pow" and parts[0][1] == ("mul", *_D[:1]):
        return None
    found: list[tuple[Node, int]] = []
    while len(parts) >= 2:
        mark, letter, *parts = parts
        order = 1
        if letter[0] == "pow" and letter[2][0] == "num" and letter[2][1].denominator == 1 and 1 <= letter[2][1] <= 9:
            letter, order = letter[1], int(letter[2][1])
        if mark not in _D or letter[0] != "sym":
            return None
        found.append((letter, order))
    return found if found and not parts else None


def sum_or_product(parser: "Parser", command: str) -> Node:
    low, high = _bounds(parser)
    body = parser.nested(parser.product)
    if low is None or low[0] != "rel" or low[1] != ("=",) or high is None:
        raise Unread("a sum without bounds")
    if low[2][0][0] not in ("sym", "const"):
        raise Unread("a sum over an expression")
    return ("sum" if command == "\\sum" else "prod"), low[2][0], low[2][1], high, body


def _bounds(parser: "Parser") -> tuple[Node | None, Node | None]:
    low = high = None
    for _ in range(2):
        if parser.accept("_"):
            low = group(parser) if parser.sees("{") else exponent(parser)
        elif parser.accept("^"):
            high = exponent(parser)
    return low, high


def integral(parser: "Parser", _: str) -> Node:
    low, high = _bounds(parser)
    wrapped = parser.next.value if parser.sees("(", "[") and _differential_inside(parser) else None
    if wrapped:
        parser.at += 1
    body = number(1) if parser.sees("\\differential") else parser.nested(parser.sum)
    parser.expect("\\differential")
    variable = parser.take()
    if wrapped:
        parser.expect(")" if wrapped == "(" else "]")
    return "int", ("sym", str(variable.value)), low, high, body


def _differential_inside(parser: "Parser") -> bool:
    r"""Whether brackets hold the differential too: `\int (x dx)`."""
    level = 0
    for token in parser.tokens[parser.at :]:
        if token.value in ("(", "["):
            level += 1
        elif token.value in (")", "]"):
            level -= 1
            if not level:
                return False
        elif token.value == "\\differential":
            return True
    return False


def _limit_point(parser: "Parser") -> Node:
    if parser.accept("-"):
        return "neg", _limit_point(parser)
    parser.accept("+")
    node = parser.nested(parser.atom)
    while not parser.sees("+", "-", "^", "}"):
        node = multiply(node, parser.nested(parser.atom))
    return node


def limit(parser: "Parser", _: str) -> Node:
    if not parser.accept("_"):
        raise Unread("a limit of nothing")
    parser.expect("{")
    variable = parser.nested(parser.sum)
    if variable[0] not in ("sym", "const") or not (parser.next.kind == "rel" and parser.take().value == "to"):
        raise Unread("a limit of nothing")
    to = _limit_point(parser)
    side = ""
    if parser.accept("^"):
        side = str(parser.take().value)
        if side == "{":
            side = str(parser.take().value)
            parser.expect("}")
    elif parser.sees("+", "-"):
        side = str(parser.take().value)
    parser.expect("}")
    return "lim", variable, to, side, parser.nested(parser.product)

"""Atoms: what stands for one value, from a number to an integral or a matrix."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from guerdon_rewards import lexicon
from guerdon_rewards.lexer import Unread
from guerdon_rewards.operands import argument, exponent, function, group, group_any, letters, phrase, root, symbol
from guerdon_rewards.tree import DEEPEST, EMPTY, Node, flat, multiply, number

if TYPE_CHECKING:
    from guerdon_rewards.syntax import Parser

_CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "\\lbrack": "\\rbrack"}
_MATRICES = frozenset("matrix pmatrix bmatrix vmatrix Vmatrix Bmatrix smallmatrix array".split())


def atom(parser: "Parser") -> Node:
    token = parser.take()
    kind, value = token.kind, token.value
    if kind == "num":
        return value  # type: ignore[return-value]
    if kind == "sym":
        return symbol(parser, str(value)) if parser.tokens[parser.at].value == "(" else ("sym", value)
    if kind == "repeat":
        return "repeat", *value  # type: ignore[misc]
    if kind == "const":
        return "const", value
    if kind == "func":
        return function(parser, str(value), token)
    if kind == "numberset":
        return "numberset", value
    if kind == "word":
        return letters(parser, str(value))
    if kind == "text":
        parser.at -= 1
        return phrase(parser)
    if kind == "op":
        read = READERS.get(str(value))
        if read:
            parser.depth += 1
            if parser.depth > DEEPEST:
                raise Unread("nested too deep")
            node = read(parser, str(value))
            parser.depth -= 1
            return node
    raise Unread(f"unexpected {token.raw or 'end'}")


def _bracket(parser: "Parser", opener: str) -> Node:
    """Round or square brackets: grouping, a tuple, an interval."""
    bars, parser.bars = parser.bars, 0
    if parser.accept(")", "]"):
        parser.bars = bars
        return "tuple",
    node = parser.listing()
    parser.bars = bars
    if parser.accept("\\choose"):
        node = ("call", "binom", node, parser.listing())
    closer = parser.take().value
    if closer not in (")", "]", "\\rbrack"):
        raise Unread("a bracket is not closed")
    items = flat(node)
    left, right = opener != "(", closer != ")"
    if len(items) == 2 and (left or right):
        return "interval", items[0], items[1], left, right
    if left != right:
        raise Unread("brackets that do not match")
    if len(items) == 1:
        return node
    return "tuple", *items


def _braces(parser: "Parser", _: str) -> Node:
    r"""`\{ ... \}`: a set, or a set of all that fulfil a condition."""
    if parser.accept("\\}"):
        return EMPTY
    bars, parser.bars = parser.bars, 1
    parser.ratios = False
    node = parser.listing()
    parser.bars, parser.ratios = bars, True
    if node[0] == "matrix" and not parser.sees("\\}"):  # a system of equations, open to the right
        return _system(node[1])
    if parser.accept("|", ":", "\\vert") or (node[0] == "rel" and "mid" in node[1]):
        return _builder(parser, node)
    parser.expect("\\}")
    return "set", *flat(node)


def _builder(parser: "Parser", node: Node) -> Node:
    if node[0] == "rel" and "mid" in node[1]:
        at = node[1].index("mid")
        variable = node[2][0] if at == 0 else ("rel", node[1][:at], node[2][: at + 1])
        rest = node[1][at + 1 :]
        condition = ("rel", rest, node[2][at + 1 :]) if rest else node[2][at + 1]
        while parser.accept(","):
            condition = ("list", *flat(condition), *flat(parser.listing()))
    else:
        variable, condition = node, parser.listing()
    parser.expect("\\}")
    return "builder", variable, condition


def _plain_group(parser: "Parser", _: str) -> Node:
    parser.at -= 1
    start = parser.at
    node = group(parser)
    if node[0] == "list" and "set" in (parser.next.kind, parser.tokens[start - 1].kind if start else ""):
        return "set", *node[1:]  # {1,2} written for \{1,2\}
    return node


def _fence(parser: "Parser", opener: str) -> Node:
    closer, name = lexicon.FENCES[opener]
    bars, parser.bars = parser.bars, parser.bars + 1
    node = parser.nested(parser.sum)
    parser.bars = bars
    parser.expect(closer)
    return ("apply", "norm", node) if name == "norm" else ("call", name, node)


def _fraction(parser: "Parser", _: str) -> Node:
    above, below = argument(parser), argument(parser)
    if above == ("sym", "d") and below[0] == "mul" and below[1] == ("sym", "d") and len(below) == 3:
        return "diff", below[2], 1, parser.nested(parser.product)
    return "div", above, below


def _binomial(parser: "Parser", _: str) -> Node:
    return "call", "binom", argument(parser), argument(parser)


def _root(parser: "Parser", _: str) -> Node:
    return root(parser)


def _marked(parser: "Parser", command: str) -> Node:
    r"""`\overline{x}`, `\vec{AB}`: a name; `0.\overline{3}` is dealt with where numbers are."""
    inner = argument(parser)
    name = "".join(str(n[1]) for n in _letters_of(inner))
    arrow = "arrow" in command or command == "\\vec"
    kind = "vec" if arrow else "bar" if command == "\\overline" else command[1:]
    return "sym", f"{kind}_{name}"


def _letters_of(node: Node) -> list[Node]:
    if node[0] in ("sym", "const", "text"):
        return [node]
    if node[0] == "num":
        return [("sym", str(node[1]))]
    if node[0] == "mul":
        return [leaf for n in node[1:] for leaf in _letters_of(n)]
    raise Unread("a mark over an expression")


def _sum_or_product(parser: "Parser", command: str) -> Node:
    low, high = _bounds(parser)
    body = parser.nested(parser.product)
    if low is None or low[0] != "rel" or low[1] != ("=",) or high is None:
        raise Unread("a sum without bounds")
    return ("sum" if command == "\\sum" else "prod"), low[2][0], low[2][1], high, body


def _bounds(parser: "Parser") -> tuple[Node | None, Node | None]:
    low = high = None
    for _ in range(2):
        if parser.accept("_"):
            low = group(parser) if parser.sees("{") else exponent(parser)
        elif parser.accept("^"):
            high = exponent(parser)
    return low, high


def _integral(parser: "Parser", _: str) -> Node:
    low, high = _bounds(parser)
    wrapped = parser.next.value if parser.sees("(", "[") and _differential_inside(parser) else None
    if wrapped:
        parser.at += 1
    body = number(1) if parser.sees("\\differential") else parser.nested(parser.sum)
    parser.expect("\\differential")
    variable = parser.take()
    if wrapped:
        parser.expect(_CLOSING[str(wrapped)])
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


def _limit(parser: "Parser", _: str) -> Node:
    if not parser.accept("_"):
        raise Unread("a limit of nothing")
    parser.expect("{")
    variable = parser.nested(parser.sum)
    if not (parser.next.kind == "rel" and parser.take().value == "to"):
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


def _environment(parser: "Parser", _: str) -> Node:
    name = _name_in_braces(parser)
    if name not in _MATRICES and name not in ("cases", "aligned", "align", "align*", "gathered"):
        raise Unread(f"environment {name}")
    if name == "array" and parser.sees("{"):
        group_any(parser)
    rows: list[Node] = []
    row: list[Node] = []
    while not parser.accept("\\end"):
        if parser.accept("&"):
            continue
        if parser.accept("\\\\", "\\cr", "\\hline"):
            if row:
                rows.append(tuple(row))
            row = []
            continue
        cell = parser.statement()
        row.append(cell)
        parser.accept(",")
        if len(rows) * len(row) > 256 or len(rows) > 64:
            raise Unread("a large matrix")
    if row:
        rows.append(tuple(row))
    _name_in_braces(parser)
    if name not in _MATRICES:
        return _system(tuple(rows))
    if len({len(r) for r in rows}) != 1:
        raise Unread("a ragged matrix")
    matrix = ("matrix", tuple(rows))
    return ("call", "det", matrix) if name in ("vmatrix",) else matrix


def _system(rows: tuple[Node, ...]) -> Node:
    return "list", *(("tuple", *row) if len(row) > 1 else row[0] for row in rows)


def _name_in_braces(parser: "Parser") -> str:
    parser.expect("{")
    name = ""
    while not parser.accept("}"):
        token = parser.take()
        if token.kind == "end":
            raise Unread("an environment without end")
        name += str(token.raw)
    return name


def _skip(parser: "Parser", _: str) -> Node:
    return parser.nested(parser.factor)


def _not(parser: "Parser", _: str) -> Node:
    return "apply", "not", parser.nested(parser.factor)


def _nothing(parser: "Parser", _: str) -> Node:
    return EMPTY


READERS: dict[str, Callable[["Parser", str], Node]] = {
    "(": _bracket, "[": _bracket, "\\lbrack": _bracket, "\\{": _braces, "{": _plain_group, "\\sqrt": _root,
    "\\surd": _root, "\\begin": _environment, "\\int": _integral, "\\lim": _limit, "\\sum": _sum_or_product,
    "\\prod": _sum_or_product, "\\emptyset": _nothing, "\\varnothing": _nothing, "\\angle": _skip,
    "\\triangle": _skip, "\\neg": _not, "\\lnot": _not, "\\lbrace": _braces,
}  # fmt: skip
READERS |= dict.fromkeys(lexicon.FRACTIONS, _fraction) | dict.fromkeys(lexicon.BINOMIALS, _binomial)
READERS |= dict.fromkeys(lexicon.MARKS, _marked) | dict.fromkeys(lexicon.FENCES, _fence)

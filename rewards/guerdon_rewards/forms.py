"""Atoms: what stands for one value, from a number to an integral or a matrix."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from guerdon_rewards import lexicon, scripts
from guerdon_rewards.lexer import END, Unread
from guerdon_rewards.operands import argument, exponent, function, group, group_any, letters, phrase, root, symbol
from guerdon_rewards.printed import printed
from guerdon_rewards.tree import DEEPEST, EMPTY, Node, flat, is_clause, multiply, number

if TYPE_CHECKING:
    from guerdon_rewards.syntax import Parser

_CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "\\lbrack": "\\rbrack"}
_MATRICES = frozenset("matrix pmatrix bmatrix vmatrix Vmatrix Bmatrix smallmatrix array".split())


_CASES = frozenset(("cases", "dcases", "rcases"))
_ALIGNED = frozenset("aligned align align* gathered split gather gather* equation equation*".split())


def atom(parser: "Parser") -> Node:
    token = parser.take()
    kind, value = token.kind, token.value
    if kind == "num":
        return value  # type: ignore[return-value]
    if kind == "sym":
        if value == "m" and parser.sees("\\angle"):  # the measure of an angle
            return atom(parser)
        return symbol(parser, str(value)) if parser.tokens[parser.at].value in ("(", "{") else ("sym", value)
    if kind == "repeat":
        return "repeat", *value  # type: ignore[misc]
    if kind == "const":
        return "const", value
    if kind == "func":
        return function(parser, str(value), token)
    if kind == "numberset":
        return scripts.numberset(parser, str(value))
    if kind == "word":
        return printed(parser, str(value)) or letters(parser, str(value))
    if kind == "unknown" and not parser.sees("{"):
        return "sym", value
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
    start = parser.at
    bars, parser.bars = parser.bars, 0
    if parser.accept(")", "]"):
        parser.bars = bars
        return "tuple",
    node = parser.listing()
    parser.bars = bars
    if parser.accept("\\choose"):
        node = ("call", "binom", node, parser.listing())
    closer = parser.take().value
    if closer not in (")", "]", "\\rbrack", "["):
        raise Unread("a bracket is not closed")
    items = flat(node)
    left, right = opener in _SQUARE, closer in ("]", "\\rbrack")
    outward = opener == "]" or closer == "["
    if opener in _SQUARE and right and all(n[0] in ("tuple", "interval", "matrix") for n in items):
        return _rows(items, parser.tokens[start].value in _SQUARE)
    if len(items) == 2 and (left or right or outward or any(_infinite(n) for n in items)):
        return "interval", items[0], items[1], left, right
    if left != right or outward:
        raise Unread("brackets that do not match")
    if len(items) == 1:
        return node
    return "tuple", *items


_SQUARE = frozenset(("[", "\\lbrack"))


def _infinite(node: Node) -> bool:
    return (node[1] if node[0] == "neg" else node) == ("const", "oo")


def _rows(items: list[Node], square: bool) -> Node:
    """`[[1, 2], [3, 4]]` is a matrix, `[(1, 2), (3, 4)]` a list of points."""
    if len(items) == 1 and items[0][0] == "matrix":
        return items[0]
    if not square or any(n[0] == "matrix" for n in items):
        return "list", *items
    rows = tuple(n[1:] if n[0] == "tuple" else n[1:3] for n in items)
    if len({len(r) for r in rows}) > 1 or not rows[0]:
        return "tuple", *items
    return "matrix", rows


def _angled(parser: "Parser", _: str) -> Node:
    bars, parser.bars = parser.bars, 0
    node = parser.listing()
    parser.bars = bars
    parser.expect("\\rangle")
    return "tuple", *flat(node)


def _braces(parser: "Parser", opener: str) -> Node:
    r"""`\{ ... \}`: a set, or a set of all that fulfil a condition."""
    closer = "}" if opener == "{" else "\\}"
    if parser.accept("\\}"):
        return EMPTY
    bars, parser.bars = parser.bars, 1
    parser.ratios = False
    node = parser.listing()
    parser.bars, parser.ratios = bars, True
    if node[0] == "list" and node[1][0] == "rel" and "mid" in node[1][1]:
        first, *conditions = node[1:]
        variable, condition = _parted(first)
        if not parser.accept("\\rbrace"):
            parser.expect(closer)
        return "builder", variable, ("list", condition, *conditions)
    if node[0] == "matrix" and not parser.sees("\\}"):  # a system of equations, open to the right
        return _system(node[1])
    if parser.accept("|", ":", "\\vert") or (node[0] == "rel" and "mid" in node[1]):
        return _builder(parser, node, closer)
    if not parser.accept("\\rbrace"):
        parser.expect(closer)
    first, *rest = flat(node)
    if rest and first[0] == "rel" and first[1] == ("in",) and rest[0][0] == "rel":
        return "builder", first, (rest[0] if len(rest) == 1 else ("list", *rest))
    return "set", first, *rest


def _builder(parser: "Parser", node: Node, closer: str) -> Node:
    if node[0] == "rel" and "mid" in node[1]:
        variable, condition = _parted(node)
        while parser.accept(","):
            condition = ("list", *flat(condition), *flat(parser.listing()))
    else:
        variable, condition = node, parser.listing()
    if not parser.accept("\\rbrace"):
        parser.expect(closer)
    return "builder", variable, condition


def _parted(node: Node) -> tuple[Node, Node]:
    """A chain of relations at its bar."""
    at = node[1].index("mid")
    rest = node[1][at + 1 :]
    variable = node[2][0] if at == 0 else ("rel", node[1][:at], node[2][: at + 1])
    return variable, ("rel", rest, node[2][at + 1 :]) if rest else node[2][at + 1]


def _plain_group(parser: "Parser", _: str) -> Node:
    first, second = parser.tokens[parser.at], parser.tokens[parser.at + 1]
    if first.value == "}" and first.kind == "op":
        parser.at += 1
        if parser.accept("_", "^"):
            return scripts.raised(parser, "")
        if parser.tokens[parser.at].kind in ("end", "set"):
            return EMPTY
        raise Unread("an empty group")
    if first.kind == "sym" and (second.value in ("|", ":", "\\vert") or second.value in ("mid", "in")):
        return _braces(parser, "{")
    parser.at -= 1
    start = parser.at
    node = group(parser)
    before = parser.tokens[start - 1] if start else None
    after = parser.tokens[parser.at]
    member_wanted = (before is not None and (before.kind == "set" or before.value in _MEMBERS)) or (
        after.value in ("subset", "supset") and after.kind == "rel"
    )
    if node[0] == "list" or (member_wanted and node[0] not in _SETS_THEMSELVES):
        return "set", *flat(node)  # {1,2} written for \{1,2\}
    return node


_MEMBERS = frozenset(("in", "subset", "supset"))
_SETS_THEMSELVES = frozenset("set interval union inter minus builder numberset sym empty tuple".split())


def _fence(parser: "Parser", opener: str) -> Node:
    closer, name = lexicon.FENCES[opener]
    bars, parser.bars = parser.bars, parser.bars + 1
    node = parser.nested(parser.sum)
    parser.bars = bars
    parser.expect(closer)
    return ("apply", "norm", node) if name == "norm" else ("call", name, node)


def _fraction(parser: "Parser", _: str) -> Node:
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
    if name not in _MATRICES and name not in _CASES and name not in _ALIGNED:
        raise Unread(f"environment {name}")
    if name == "array" and parser.sees("{"):
        group_any(parser)
    if name in _ALIGNED:
        _without_marks(parser)
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
        row.append(_cell(parser) if name in _CASES else parser.statement())
        parser.accept(",", ";", ".")
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


def _without_marks(parser: "Parser") -> None:
    """Take out the signs that columns are lined up by."""
    end = next((i for i in range(parser.at, len(parser.tokens)) if parser.tokens[i].value == "\\end"), parser.at)
    parser.tokens[parser.at : end] = [t for t in parser.tokens[parser.at : end] if t.value != "&"]


def _cell(parser: "Parser") -> Node:
    """A value, or the condition beside it: mathematics, or words such as `n is even`."""
    while parser.next.kind == "text" and is_clause(parser.next) and " " not in parser.next.raw:
        parser.at += 1
    start, level = parser.at, 0
    while parser.next.kind != "end":
        value = parser.next.value if parser.next.kind == "op" else None
        level += (value in _OPENING) - (value in _CLOSE)
        if level <= 0 and value in ("&", "\\\\", "\\cr", "\\end"):
            break
        parser.at += 1
    end, parser.at = parser.at, start
    if all(t.kind not in ("text", "word") for t in parser.tokens[start:end]):
        cut, parser.tokens[end] = parser.tokens[end], END
        node = parser.listing()
        parser.tokens[end] = cut
        parser.accept(".", ",", ";")
        if parser.at != end:
            raise Unread("a condition that goes on")
        return node
    words = " ".join(t.raw for t in parser.tokens[start:end]).strip(" ,.;")
    parser.at = end
    return "text", words


_OPENING, _CLOSE = frozenset(("(", "[", "{", "\\{")), frozenset((")", "]", "}", "\\}"))


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


_FIGURES = {"\\angle": "∠", "\\triangle": "△"}


def _figure(parser: "Parser", command: str) -> Node:
    r"""`\angle ABC`, a name; an angle read backwards is the same one."""
    if parser.next.kind == "num":
        return "sym", _FIGURES[command] + parser.take().raw
    inner = argument(parser)
    while inner[0] in ("sym", "const", "mul") and parser.next.kind in ("sym", "const") and not parser.next.spaced:
        inner = multiply(inner, parser.atom())
    points = [str(n[1]) for n in _letters_of(inner)]
    if command == "\\angle" and points[-1] < points[0]:
        points.reverse()
    return "sym", _FIGURES[command] + "".join(points)


def _not(parser: "Parser", _: str) -> Node:
    return "apply", "not", parser.nested(parser.factor)


def _dots(parser: "Parser", _: str) -> Node:
    return "text", "..."


def _nothing(parser: "Parser", _: str) -> Node:
    return EMPTY


READERS: dict[str, Callable[["Parser", str], Node]] = {
    "(": _bracket, "[": _bracket, "\\lbrack": _bracket, "\\{": _braces, "{": _plain_group, "\\sqrt": _root,
    "\\surd": _root, "\\begin": _environment, "\\int": _integral, "\\lim": _limit, "\\sum": _sum_or_product,
    "\\prod": _sum_or_product, "\\emptyset": _nothing, "\\varnothing": _nothing, "\\angle": _figure,
    "\\triangle": _figure, "\\neg": _not, "\\lnot": _not, "\\lbrace": _braces, "]": _bracket, "\\langle": _angled,
    "_": scripts.raised, "^": scripts.raised, "...": _dots,
}  # fmt: skip
READERS |= dict.fromkeys(lexicon.FRACTIONS, _fraction) | dict.fromkeys(lexicon.BINOMIALS, _binomial)
READERS |= dict.fromkeys(lexicon.MARKS, _marked) | dict.fromkeys(lexicon.FENCES, _fence)

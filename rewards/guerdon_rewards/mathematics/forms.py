"""Atoms: what stands for one value, from a number to an integral or a matrix."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from guerdon_rewards.mathematics import lexicon, scripts
from guerdon_rewards.mathematics.calculus import fraction, integral, limit, sum_or_product
from guerdon_rewards.mathematics.lexer import END, Unread
from guerdon_rewards.mathematics.operands import argument, function, group, group_any, letters, phrase, root, symbol
from guerdon_rewards.mathematics.printed import printed
from guerdon_rewards.mathematics.tree import DEEPEST, EMPTY, Node, flat, is_clause, multiply

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.syntax import Parser

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
        return ("tuple",)
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
    "\\surd": _root, "\\begin": _environment, "\\int": integral, "\\lim": limit, "\\sum": sum_or_product,
    "\\prod": sum_or_product, "\\emptyset": _nothing, "\\varnothing": _nothing, "\\angle": _figure,
    "\\triangle": _figure, "\\neg": _not, "\\lnot": _not, "\\lbrace": _braces, "]": _bracket, "\\langle": _angled,
    "_": scripts.raised, "^": scripts.raised, "...": _dots,
}  # fmt: skip
READERS |= dict.fromkeys(lexicon.FRACTIONS, fraction) | dict.fromkeys(lexicon.BINOMIALS, _binomial)
READERS |= dict.fromkeys(lexicon.MARKS, _marked) | dict.fromkeys(lexicon.FENCES, _fence)

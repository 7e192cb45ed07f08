"""What follows an atom and belongs to it: powers, primes, indices, factorials, percent and degree signs."""

from typing import TYPE_CHECKING

from guerdon_rewards.mathematics import lexicon, operands, scripts
from guerdon_rewards.mathematics.tree import LEAVES, Node, number

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.syntax import Parser

_POSTFIXES = frozenset(("^", "_", "!", "%", "\\%", "'", "\\prime", "\u00b0", "\\degree", "\\degrees"))
_MARKS_ABOVE = frozenset(("c", "T"))


_INVERSE = ("neg", number(1))


_PERCENT = frozenset(("percent", "pct", "percentage"))


def postfix(parser: "Parser", node: Node) -> Node:
    while True:
        token = parser.tokens[parser.at]
        if token.ends:
            return node
        value = token.value
        if token.kind != "op":
            if token.kind in ("text", "word") and str(value).lower() in _PERCENT:
                parser.at += 1
                node = ("percent", node)
                continue
            return node
        if value not in _POSTFIXES:
            return node
        if value == "_":
            if node[0] == "pow" and node[1][0] == "sym":
                counted = node[1][1] in ("C", "A") and scripts.above_first(parser, node)
                node = counted or ("pow", operands.subscript(parser, node[1]), node[2])
            elif node[0] in ("sym", "num", "apply", "const", "text"):
                node = operands.subscript(parser, node)
            else:
                return node
            continue
        parser.at += 1
        if value == "^":
            node = power(parser, node)
        elif value == "!":
            node = ("call", "fact", node)
        elif value in ("%", "\\%"):
            node = ("percent", node)
        elif value in ("'", "\\prime"):
            node = primed(parser, node)
        else:
            node = minutes(parser, node)


def primed(parser: "Parser", node: Node, mark: str = "'") -> Node:
    if node[0] != "sym":
        return "apply", mark, node
    name = node[1] + mark
    return ("apply", name, *operands.arguments(parser)) if parser.sees("(") else ("sym", name)


def power(parser: "Parser", base: Node) -> Node:
    first = parser.tokens[parser.at]
    if first.kind == "num" or (first.kind in LEAVES and first.value not in _MARKS_ABOVE):
        return "pow", base, operands.exponent(parser)
    if first.kind == "op" and first.value == "{" and parser.tokens[parser.at + 2].value == "}":
        inner = parser.tokens[parser.at + 1]
        if inner.kind == "num" or (inner.kind in LEAVES and inner.value not in _MARKS_ABOVE):
            return "pow", base, operands.group(parser)
    if parser.sees("\\circ", "\u00b0", "\\degree"):
        parser.at += 1
        return minutes(parser, base)
    if parser.sees("\\prime", "'"):
        return base
    if parser.sees("{"):
        mark = parser.at
        parser.at += 1
        if parser.accept("\\circ", "\u00b0", "\\degree"):
            parser.expect("}")
            return minutes(parser, base)
        if parser.accept("*") and parser.accept("}"):
            return _conjugate(base)
        parser.at = mark + 1
        if parser.accept("\\prime") and parser.sees("}", "\\prime"):
            while parser.accept("\\prime"):
                pass
            signs = "'" * (parser.at - mark - 1)
            parser.expect("}")
            return primed(parser, base, signs)
        if base[0] == "sym" and base[1] in lexicon.HEADS and parser.tokens[mark + 1].value == "(":
            parser.at = mark
            return primed(parser, base, f"^({operands.group(parser)})")
        if parser.next.kind in ("text", "word") and str(parser.next.value).lower() in ("th", "st", "nd", "rd", "o"):
            parser.at += 1
            parser.expect("}")
            return base
        parser.at = mark
    if parser.next.kind in ("text", "word") and str(parser.next.value).lower() in ("th", "st", "nd", "rd"):
        parser.at += 1
        return base
    if parser.accept("*"):
        return _conjugate(base)
    if parser.next.kind == "sym" and parser.next.value == "T" and base[0] == "matrix":
        parser.at += 1
        return "apply", "^T", base
    exponent = operands.exponent(parser)
    if exponent == _INVERSE and base[0] == "sym" and base[1] in lexicon.HEADS and parser.sees("("):
        return "apply", f"{base[1]}^-1", *operands.arguments(parser)
    if exponent == ("sym", "c") and base[0] in ("sym",) and parser.next.kind == "end":
        return "apply", "^c", base
    return "pow", base, exponent


def _conjugate(node: Node) -> Node:
    """A letter's is another letter, for what is real at the points compared at."""
    return ("sym", f"bar_{node[1]}") if node[0] == "sym" else ("call", "conj", node)


def minutes(parser: "Parser", degrees: Node) -> Node:
    """Degrees, with minutes and seconds of arc that may follow: `30° 15' 20''`."""
    parts, size = [degrees], 60
    while degrees[0] == "num" and parser.next.kind == "num" and size <= 3600:
        mark = parser.at
        value = parser.take().value
        signs = 0
        raised = parser.sees("^")
        if raised:
            parser.at += 1
        braced = raised and parser.accept("{")
        while parser.accept("'", "\\prime"):
            signs += 1
        if signs != (1 if size == 60 else 2) or (braced and not parser.accept("}")):
            parser.at = mark
            break
        parts.append(("div", value, number(size)))
        size *= 60
    return "deg", parts[0] if len(parts) == 1 else ("add", *parts)

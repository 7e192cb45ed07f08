"""What stands around an atom: exponents, subscripts, arguments of functions, words and units after a number."""

from typing import TYPE_CHECKING

from guerdon_rewards.mathematics import lexicon, scripts
from guerdon_rewards.mathematics.lexer import Token, Unread
from guerdon_rewards.mathematics.tree import (
    LEAVES,
    Node,
    call,
    is_clause,
    leaf,
    multiply,
    number,
    product_of,
    unit_like,
)
from guerdon_rewards.mathematics.units import is_unit

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.syntax import Parser

_ENGLISH = frozenset(
    "no yes not any all one two six ten odd can you the but day age are red sum max min avg tax men".split()
)
_BARE_COMMANDS = {
    "frac": "\\frac", "rac": "\\frac", "dfrac": "\\frac", "tfrac": "\\frac", "bar": "\\bar", "hat": "\\hat",
    "vec": "\\vec", "overline": "\\overline", "tilde": "\\tilde",
}  # fmt: skip


def exponent(parser: "Parser") -> Node:
    if parser.accept("-"):
        return "neg", exponent(parser)
    if parser.accept("+"):
        return exponent(parser)
    if parser.sees("{"):
        return group(parser)
    node = parser.nested(parser.atom)
    return node if parser.latex or parser.sees("_") else parser.nested(lambda: parser.postfix(node))


def subscript(parser: "Parser", node: Node) -> Node:
    parser.at += 1
    start = parser.at
    if parser.sees("{"):
        group_any(parser)
        name = "".join(str(t.raw) for t in parser.tokens[start + 1 : parser.at - 1]).strip()
    else:
        name = str(parser.take().raw)
    if node in (("sym", "C"), ("sym", "A")) and parser.sees("^"):
        counted = scripts.below_first(parser, node, start)
        if counted:
            return counted
    if node[0] == "num":
        if name.isascii() and name.isdigit() and node[1].denominator == 1 and 2 <= int(name[:3]) <= 36:
            return "base", str(node[1].numerator), int(name)
        if name in ("two", "eight", "ten", "sixteen"):
            return "base", str(node[1].numerator), {"two": 2, "eight": 8, "ten": 10, "sixteen": 16}[name]
        raise Unread("a subscript of a number")
    if node[0] == "apply":
        return ("apply", f"{node[1]}_{name}", *node[2:])
    symbol = ("sym", f"{node[1]}_{name}")
    if parser.sees("(") and node[1] in lexicon.HEADS:
        return "apply", symbol[1], *arguments(parser)
    return symbol


def group_any(parser: "Parser") -> None:
    """Skip over a group in braces."""
    level = 0
    while True:
        token = parser.take()
        if token.kind == "end":
            raise Unread("a brace is not closed")
        if token.kind == "op" and token.value == "{":
            level += 1
        elif token.kind == "op" and token.value == "}":
            level -= 1
            if not level:
                return


def group(parser: "Parser") -> Node:
    parser.expect("{")
    first = parser.tokens[parser.at]
    if first.kind in LEAVES and parser.tokens[parser.at + 1].value == "}":
        parser.at += 2
        return leaf(first)
    bars, parser.bars = parser.bars, 0
    node = parser.nested(parser.listing)
    parser.bars = bars
    if parser.accept("\\choose"):
        node = ("call", "binom", node, parser.nested(parser.listing))
    elif parser.accept("\\over"):
        node = ("div", node, parser.nested(parser.listing))
    parser.expect("}")
    return node


def argument(parser: "Parser") -> Node:
    """An argument of a LaTeX command: a group, or one sign."""
    if parser.sees("{"):
        return group(parser)
    token = parser.next
    if token.kind == "num" and len(token.raw) > 1 and token.raw.isdigit():  # \frac12
        parser.tokens[parser.at] = Token("num", number(int(token.raw[1:])), token.raw[1:], False)
        return number(int(token.raw[0]))
    if parser.accept("-"):
        return "neg", argument(parser)
    return parser.nested(parser.atom)


def symbol(parser: "Parser", name: str) -> Node:
    if name in scripts.COUNTS:
        counted = scripts.called(parser, name)
        if counted:
            return counted
        if name == "P" and parser.sees("(") and is_event(parser):
            return probability(parser)
    if name in ("Gamma", "zeta") and parser.sees("("):
        items = arguments(parser)
        return ("call", name.lower(), *items) if len(items) == 1 else ("apply", name, *items)
    if parser.sees("(") and (name in lexicon.HEADS or is_head(parser)):
        return "apply", name, *arguments(parser)
    if parser.sees("{") and parser.tokens[parser.at + 1].value == "(":  # as sympy prints f(x)
        parser.at += 1
        items = arguments(parser)
        parser.expect("}")
        return "apply", name, *items
    return "sym", name


def is_head(parser: "Parser") -> bool:
    """Whether `p(x)` or `x(t)`, a function of one letter or number, stands here: what brackets hold and `=`."""
    if parser.at == 1 and is_called_again(parser):
        parser.heads.add(str(parser.tokens[0].value))
    if parser.tokens[parser.at - 1].value in parser.heads:
        return True
    inner, close = parser.tokens[parser.at + 1 : parser.at + 3] if parser.at + 2 < len(parser.tokens) else (None, None)
    if inner is None or close is None or inner.kind not in ("sym", "num") or close.value != ")":
        return False
    after = parser.tokens[parser.at + 3]
    return (after.kind == "rel" and after.value == "=") or (after.kind == "end" and parser.at == 1)


def is_called_again(parser: "Parser") -> bool:
    """`w(2n) = w(n)`: whether the first sign begins the other side too, so that it is no factor."""
    first, *rest = parser.tokens
    return any(
        a.kind == "rel" and a.value == "=" and b.value == first.value and c.value == "("
        for a, b, c in zip(rest, rest[1:], rest[2:], strict=False)
    )


def is_event(parser: "Parser") -> bool:
    """Whether brackets hold an event: `P(A)`, `P(X = 1)`, `P(A | B)`."""
    level = 0
    if parser.tokens[parser.at + 1].raw.isupper() and parser.tokens[parser.at + 2].value == ")":
        return True
    for token in parser.tokens[parser.at :]:
        level += (token.value == "(") - (token.value == ")")
        if not level:
            return False
        if token.kind in ("rel", "set") or token.value in ("|", "\\vert"):
            return True
    return False


def probability(parser: "Parser") -> Node:
    parser.expect("(")
    bars, parser.bars = parser.bars, 1
    event = parser.nested(parser.listing)
    given = parser.nested(parser.listing) if parser.accept("|", "\\vert") else None
    parser.bars = bars
    parser.expect(")")
    if event[0] == "rel" and event[1] == ("mid",):
        event, given = event[2]
    return ("apply", "P", event) if given is None else ("apply", "P", event, given)


def arguments(parser: "Parser") -> list[Node]:
    parser.expect("(")
    bars, parser.bars = parser.bars, 0
    items = [parser.nested(parser.sum)]
    while parser.accept(",", ";"):
        items.append(parser.nested(parser.sum))
    parser.bars = bars
    parser.expect(")")
    return items


def letters(parser: "Parser", word: str) -> Node:
    """A word in plain mathematics: a product of letters when it is short and no word that we know."""
    if parser.sees("{") and word in _BARE_COMMANDS:  # a backslash was lost
        command = _BARE_COMMANDS[word]
        return parser.nested(lambda: parser.form(command))
    counted = scripts.counted(word)
    if counted:
        return counted
    if len(word) == 3 and word.istitle() and parser.next.value == "=":  # Ben = 7
        return "text", word
    if len(word) <= 3 and not is_unit(word) and word.lower() not in _ENGLISH:
        *before, last = [("const", c) if c in "ei" else ("sym", c) for c in word]
        return product_of([*before, parser.postfix(last)])  # xy^2
    parser.at -= 1
    return phrase(parser)


def phrase(parser: "Parser") -> Node:
    words: list[str] = []
    while parser.next.kind in ("text", "word") and not is_clause(parser.next):
        if words and str(parser.next.value).lower() in ("and", "or"):
            break
        words.append(str(parser.take().value))
    text = " ".join(words)
    if not text:
        raise Unread("a remark in the answer's place")
    return "text", text


def modulus(parser: "Parser") -> Node | None:
    r"""What a congruence is taken by: `\pmod 7`, `(mod 7)`."""
    mark = parser.at
    if parser.accept("\\pmod"):
        return argument(parser)
    if parser.accept("("):
        if parser.take().value in ("\\bmod", "\\mod", "mod", "\\pmod"):
            node = parser.nested(parser.sum)
            parser.expect(")")
            return node
        parser.at = mark
    return None


def words(parser: "Parser", before: Node) -> bool:
    """Whether words here belong to the number before them, as a unit, or are letters to be multiplied."""
    if str(parser.next.value).lower() in ("and", "or") or is_clause(parser.next):
        return False
    if parser.next.kind == "text":
        if not unit_like(before):
            raise Unread("words after an expression")
        return True
    return True


def is_unit_ahead(parser: "Parser") -> bool:
    return is_unit_word(str(parser.next.value))


def is_unit_word(word: str) -> bool:
    return is_unit(word) or len(word) > 3 or word.lower() in _ENGLISH


_GREEK = {"mu": "μ", "Omega": "Ω"}


def unit(parser: "Parser", node: Node) -> Node:
    if not unit_like(node):
        raise Unread("words after an expression")
    parts: list[str] = []
    while True:
        if parser.next.kind in ("text", "word", "sym") and not (
            parts and (str(parser.next.value).lower() in ("and", "or") or is_clause(parser.next))
        ):
            part = str(parser.take().value)
            part = _GREEK.get(part, part)
            if parts and (parts[-1] == "μ" or (part == "Ω" and len(parts[-1]) == 1)):
                parts[-1] += part  # \mu\text{m}
            else:
                parts.append(part)
        elif parts and parser.sees("^"):
            parser.at += 1
            power = exponent(parser)
            if power[0] != "num":
                raise Unread("a unit's power")
            parts[-1] += f"^{power[1]}"
        elif parser.sees("/", "\\cdot", "*") and parser.tokens[parser.at + 1].kind in ("text", "word", "sym"):
            parts.append("/" if parser.take().value == "/" else "*")
        elif parts and parser.accept("."):
            continue
        else:
            return "unit", node, " ".join(parts)


def function(parser: "Parser", name: str, token: Token) -> Node:
    """`sin`, with its power before its argument, with brackets or without."""
    inside = parser.tokens[parser.at + 1].value == "(" and parser.sees("{")
    if token.raw in lexicon.PLAIN_ONLY and not inside and not parser.sees("(") and token.raw[:1] != "\\":
        return "sym", token.raw
    base: Node | None = None
    power: Node | None = None
    if parser.accept("_"):
        base = group(parser) if parser.sees("{") else parser.nested(parser.atom)
    if parser.accept("^"):
        power = exponent(parser)
    if parser.accept("_"):
        base = group(parser) if parser.sees("{") else parser.nested(parser.atom)
    if name == "sqrt" and token.raw == "\\sqrt":
        return root(parser)
    arguments = function_arguments(parser)
    if power == ("neg", number(1)) and f"arc{name}" in lexicon.FUNCTIONS.values():
        name, power = f"arc{name}", None
    node = call(name, arguments, base)
    return ("pow", node, power) if power else node


def function_arguments(parser: "Parser") -> list[Node]:
    if parser.sees("("):
        return arguments(parser)
    if parser.sees("{"):
        inner = group(parser)
        return list(inner[1:]) if inner[0] in ("list", "tuple") else [inner]
    if parser.sees("["):
        parser.at += 1
        node = parser.nested(parser.listing)
        parser.expect("]")
        return list(node[1:]) if node[0] == "list" else [node]
    return [parser.nested(lambda: bare_argument(parser))]


def bare_argument(parser: "Parser") -> Node:
    """`2x` in `sin 2x`: up to a sign, a function, or what is in brackets."""
    if parser.accept("-"):
        return "neg", bare_argument(parser)
    node = parser.factor()
    while (parser.next.kind in ("num", "sym", "const") or parser.sees(*lexicon.FRACTIONS, "\\sqrt")) and (
        node[0] in ("num", "sym", "const", "mul", "div", "pow")
    ):
        node = multiply(node, parser.factor())
    while node[0] in ("num", "const", "sym", "mul", "div") and parser.sees("/"):
        mark = parser.at
        parser.at += 1
        if parser.next.kind not in ("num", "sym"):
            parser.at = mark
            break
        node = ("div", node, parser.factor())
    return node


def root(parser: "Parser") -> Node:
    if parser.accept("["):
        degree = parser.nested(parser.sum)
        parser.expect("]")
        return "call", "root", argument(parser), degree
    return "call", "sqrt", argument(parser)

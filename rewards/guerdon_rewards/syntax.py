r"""From text to a syntax tree: one recursive-descent parser for LaTeX and plain mathematics.

A tree is nested tuples whose first element is a tag:

    scalars     ("num", value, place) ("sym", "x") ("const", "pi" | "e" | "i" | "oo") ("neg", a) ("add", a, b, ...)
                ("mul", a, b, ...) ("div", a, b) ("pow", a, b) ("call", name, a, ...) ("apply", "f", a, ...) ("deg", a)
                ("percent", a) ("unit", a, "cm^2") ("pm", a, b) ("base", "1011", 2) ("repeat", "0.1", "6")
    calculus    ("sum" | "prod", var, lo, hi, body) ("int", var, lo, hi, body) ("lim", var, to, side, body)
                ("diff", var, order, body)
    structures  ("tuple", ...) ("list", ...) ("set", ...) ("interval", lo, hi, lo_closed, hi_closed) ("union", ...)
                ("inter", ...) ("minus", a, b) ("builder", var, condition) ("rel", ops, operands) ("or", ...)
                ("matrix", rows) ("ratio", ...) ("text", words) ("numberset", "R") ("empty",)

`place` is what one unit of a number's last written decimal is worth, 0 where it is exact. What is not understood
whole is not read at all: there is no falling back on a number found inside.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from guerdon_rewards import lexicon
from guerdon_rewards.lexer import Token, Unread, tokens
from guerdon_rewards.units import is_unit

Node = tuple[Any, ...]

DEEPEST = 60
"""Nested brackets, fractions and the like."""

ZERO, ONE = Fraction(0), Fraction(1)
EMPTY: Node = ("empty",)
_CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "\\lbrack": "\\rbrack"}
_FENCES = {
    "\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil"), "\\llcorner": ("\\lrcorner", "floor"),
    "\\ulcorner": ("\\urcorner", "ceil"), "\\lvert": ("\\rvert", "abs"), "\\vert": ("\\vert", "abs"),
    "|": ("|", "abs"), "\\|": ("\\|", "norm"), "\\lVert": ("\\rVert", "norm"),
}  # fmt: skip
_FRACTIONS = frozenset(("\\frac", "\\dfrac", "\\tfrac", "\\cfrac"))
_BINOMIALS = frozenset(("\\binom", "\\dbinom", "\\tbinom"))
_LOGIC = {"\\wedge": "\\and", "\\land": "\\and", "\\vee": "\\or", "\\lor": "\\or"}
_ADVERBS = frozenset(("only", "so", "thus", "hence", "therefore", "then"))
_ORDINALS = frozenset(("st", "nd", "rd", "th"))
_TIMES = frozenset(("*", "\\cdot", "\\times", "\\ast", "\\bullet"))
_OVER = frozenset(("/", "\\div"))
_MARKS = frozenset(("\\overline", "\\bar", "\\vec", "\\hat", "\\tilde", "\\overrightarrow", "\\widehat", "\\dot", "\\ddot"))
_MATRICES = frozenset("matrix pmatrix bmatrix vmatrix Vmatrix Bmatrix smallmatrix array".split())
_HEADS = frozenset(("f", "g", "h", "F", "G", "H", "phi", "psi"))
"""Letters that name a function wherever a bracket follows."""
_STARTS = frozenset(("num", "repeat", "sym", "func", "const", "word", "numberset"))
_OPENERS = frozenset((
    "(", "[", "{", "\\{", "\\sqrt", "\\begin", "\\sum", "\\prod", "\\int", "\\lim", "\\angle", "\\emptyset",
    "\\varnothing", "\\lbrack", "\\triangle", "\\infty", "\\surd", "\\substack", "\\stackrel",
)) | _FRACTIONS | _BINOMIALS | _MARKS | (_FENCES.keys() - {"|", "\\vert", "\\|"})  # fmt: skip


def parse(text: str, grouped: bool = True) -> Node:
    r"""The tree of an answer. With `grouped`, `1,234` is one number, else a list of two.

    Raises:
        Unread: it is not understood whole.

    >>> parse(r"\frac12 x")
    ('mul', ('div', ('num', Fraction(1, 1), Fraction(0, 1)), ('num', Fraction(2, 1), Fraction(0, 1))), ('sym', 'x'))
    """
    return _Parser(tokens(text, grouped)).whole()


def number(value: int | Fraction) -> Node:
    return "num", Fraction(value), ZERO


class _Parser:
    """`at` is the next token; every method reads what its name says and leaves `at` behind it."""

    def __init__(self, stream: list[Token]) -> None:
        self.tokens = stream
        self.at = 0
        self.depth = 0
        self.bars = 0  # open |...|
        self.ratios = True  # a colon is one of a ratio, not of a set
        self.latex = any(t.raw[0:1] == "\\" for t in stream)

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def sees(self, *values: object) -> bool:
        token = self.tokens[self.at]
        return token.kind in ("op", "rel", "set") and token.value in values

    def accept(self, *values: object) -> bool:
        if self.sees(*values):
            self.at += 1
            return True
        return False

    def expect(self, value: object) -> None:
        if not self.accept(value):
            raise Unread(f"{value} is missing")

    def nested(self, read: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unread("nested too deep")
        node = read()
        self.depth -= 1
        return node

    # an answer ------------------------------------------------------------------------------------------------------

    def whole(self) -> Node:
        self.label()
        node = self.listing()
        while self.accept(".", ",", ";", "!", "\\\\", "?", "\\blacksquare", "\\square", "\\Box", "\\qed"):
            pass
        if self.next.kind == "text" and _is_clause(self.next):
            return "given", node, " ".join(t.raw for t in self.tokens[self.at : -1])
        if self.next.kind != "end":
            raise Unread(f"unexpected {self.next.raw}")
        return node

    def listing(self) -> Node:
        """Statements between commas, `and`, `or`."""
        items, words = [self.statement()], set()
        groups: list[int] = []  # where semicolons stand
        commas = 0
        while True:
            self.remark()
            mark = self.at
            separated = self.accept(",", ";", "\\\\", "&", "\\&", *_LOGIC)
            if separated and self.tokens[mark].value in _LOGIC:
                words.add(_LOGIC[str(self.tokens[mark].value)])
            if separated and self.tokens[mark].value == ";":
                groups.append(len(items))
            elif separated:
                commas += 1
            while self.next.kind == "text" and self.next.value in ("and", "or"):
                words.add(str(self.take().value))
                separated = True
            if not separated or self.next.kind == "end" or (self.sees(".") and self.tokens[self.at + 1].kind == "end"):
                self.at = mark if not separated else self.at
                break
            if self.sees(")", "]", "\\}", "\\rbrack", "}"):
                self.at = mark
                break
            if self.next.kind == "text" and _is_clause(self.next):
                break
            if self.accept("..."):
                items.append(("text", "..."))
                continue
            items.append(self.statement())
        if len(items) == 1:
            return items[0]
        if groups and commas and not words:  # a = 5, b = 2; a = 7, b = 2
            edges = [0, *groups, len(items)]
            rows = [items[i:j] for i, j in zip(edges, edges[1:], strict=False) if j > i]
            return "list", *(("tuple", *row) if len(row) > 1 else row[0] for row in rows)
        if "or" in words and all(_is_condition(i) for i in items):
            return "or", *items
        if {"\\and", "\\or"} & words:
            if all(_is_condition(i) for i in items):
                return ("or" if "\\or" in words else "list"), *items
            if len(words) > 1:
                raise Unread("logic without brackets")
            return "apply", words.pop(), *items
        return "list", *items

    def statement(self) -> Node:
        """A chain of relations; a label before it (`Minimum: 1`) is dropped."""
        self.label()
        first = self.sets()
        ops: list[str] = []
        operands = [first]
        while self.next.kind == "rel":
            op = str(self.take().value)
            if op == "=" and self.next.kind == "end" and not ops:
                return first
            ops.append(op)
            operands.append(self.sets())
        if self.accept("\\pmod"):
            modulus = self.argument()
            return "rel", (*ops, "mod"), (*operands, modulus)
        if not ops:
            return first
        return "rel", tuple(ops), tuple(operands)

    def remark(self) -> None:
        """Skip `for all x` where more statements follow it."""
        if not (self.next.kind == "text" and _is_clause(self.next)):
            return
        level = 0
        for place in range(self.at, len(self.tokens)):
            token = self.tokens[place]
            level += (token.value in ("(", "[", "{", "\\{")) - (token.value in (")", "]", "}", "\\}"))
            if level < 0:
                return
            if token.kind == "text" and token.value in ("and", "or") and self.tokens[place + 1].kind != "end":
                self.at = place
                return

    def label(self) -> None:
        while self.next.kind in ("text", "word") and str(self.next.value).lower() in _ADVERBS:
            self.at += 1
        mark = self.at
        while self.next.kind in ("text", "word") or self.sees("\\angle"):
            last = self.take()
            if str(last.raw).rstrip().endswith((":", "=")):
                return
        if self.at > mark and self.sees(":", "="):
            self.at += 1
            return
        self.at = mark

    def sets(self) -> Node:
        """Unions, intersections and differences of sets; ratios."""
        node = self.ratio()
        while self.next.kind == "set":
            op = str(self.take().value)
            node = (op, node, self.ratio())
        return node

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.ratios and self.sees(":") and self.tokens[self.at + 1].kind != "end":
            self.at += 1
            parts.append(("text", "...") if self.accept("...") else self.sum())
        return parts[0] if len(parts) == 1 else ("ratio", *parts)

    # arithmetic -----------------------------------------------------------------------------------------------------

    def sum(self) -> Node:
        return self.nested(self._sum)

    def _sum(self) -> Node:
        terms: list[Node] = []
        node: Node | None = None
        while True:
            if self.accept("+"):
                terms.append(self.signed())
            elif self.accept("-"):
                terms.append(("neg", self.signed()))
            elif self.accept("\\pm"):
                node = "pm", _add(terms) if terms else None, self.product()
                terms = [node]
            elif self.accept("\\mp"):
                node = "pm", _add(terms) if terms else None, ("neg", self.product())
                terms = [node]
            elif not terms:
                terms.append(self.product())
            else:
                return _add(terms)

    def signed(self) -> Node:
        """A term after a sign, which may have signs of its own: `14 + -1i`."""
        if self.accept("-"):
            return "neg", self.signed()
        if self.accept("+"):
            return self.signed()
        if self.accept("\\pm"):
            return "pm", None, self.product()
        return self.product()

    def product(self) -> Node:
        node = self.factor()
        while True:
            if self.sees(*_TIMES):
                self.at += 1
                node = _multiply(node, self.sign_factor())
            elif self.sees(*_OVER):
                if self.tokens[self.at + 1].kind in ("text", "word") and _unit_like(node):
                    node = self.unit(node)
                    continue
                self.at += 1
                node = ("div", node, self.sign_factor())
            elif self.accept("\\bmod", "\\mod"):
                node = ("call", "mod", node, self.sign_factor())
            elif self.next.kind == "func" and self.next.value == "mod" and self.next.raw != "\\operatorname":
                self.at += 1
                node = ("call", "mod", node, self.sign_factor())
            elif self.next.kind == "word" and self.next.value == "over":
                self.at += 1
                node = ("div", node, self.sign_factor())
            elif self.next.raw in _ORDINALS and node[0] == "num" and not self.next.spaced:
                self.at += 1
            elif self.next.kind in ("text", "word"):
                if not self.words(node):
                    return node
                node = self.unit(node) if self.is_unit_ahead() or self.next.kind == "text" else _multiply(node, self.factor())
            elif self.starts_factor(node):
                node = self.adjacent(node)
            else:
                return node

    def sign_factor(self) -> Node:
        if self.accept("-"):
            return "neg", self.sign_factor()
        self.accept("+")
        return self.factor()

    def adjacent(self, before: Node) -> Node:
        """What stands beside without a sign is multiplied, except in a mixed number."""
        if before[0] == "text":
            raise Unread("words beside an expression")
        spaced = self.next.spaced
        fraction = self.next.value in _FRACTIONS
        if before[0] == "num" and self.next.raw == "C" and self.tokens[self.at + 1].kind == "num":
            self.at += 1
            return "call", "binom", before, self.factor()
        if before[0] == "unit" and self.next.kind == "num":
            after = self.factor()
            if self.next.kind not in ("text", "word"):
                raise Unread("a number after a unit")
            return "add", before, self.unit(after)
        after = self.factor()
        if before[0] == "num" and before[1].denominator == 1 and not before[2]:
            if fraction and _proper(after):
                return _add([before, after])
            if after[0] == "num":
                if spaced and self.sees("/") and after[1].denominator == 1 and not after[2]:
                    self.at += 1
                    below = self.factor()
                    if below[0] == "num" and below[1] > 0:
                        return _add([before, ("div", after, below)])
                raise Unread("two numbers beside each other")
        elif after[0] == "num" and before[0] in ("num", "div", "add"):
            raise Unread("two numbers beside each other")
        return _multiply(before, after)

    def starts_factor(self, before: Node) -> bool:
        token = self.next
        if token.kind in _STARTS:
            return True
        if token.kind != "op":
            return False
        if token.value in ("|", "\\vert", "\\|"):
            return not self.bars and before[0] in ("num", "sym", "mul", "call")
        return token.value in _OPENERS

    def factor(self) -> Node:
        node = self.postfix(self.atom())
        return node

    def postfix(self, node: Node) -> Node:
        while True:
            if self.accept("^"):
                node = self.power(node)
            elif self.sees("!") and self.tokens[self.at + 1].kind != "rel":
                self.at += 1
                node = ("call", "fact", node)
            elif self.accept("\u00b0", "\\degree", "\\degrees"):
                node = ("deg", node)
            elif self.accept("%", "\\%"):
                node = ("percent", node)
            elif self.next.kind in ("text", "word") and str(self.next.value).lower() in ("percent", "pct"):
                self.at += 1
                node = ("percent", node)
            elif self.accept("'", "\\prime"):
                node = ("sym", node[1] + "'") if node[0] == "sym" else ("apply", "'", node)
                if self.sees("("):
                    node = ("apply", node[1], *self.arguments()) if node[0] == "sym" else node
            elif self.sees("_") and node[0] == "pow" and node[1][0] == "sym":
                node = ("pow", self.subscript(node[1]), node[2])
            elif self.sees("_") and node[0] in ("sym", "num", "apply", "const", "text"):
                node = self.subscript(node)
            else:
                return node

    def power(self, base: Node) -> Node:
        if self.sees("\\circ", "\u00b0", "\\degree"):
            self.at += 1
            return "deg", base
        if self.sees("\\prime", "'"):
            return base
        if self.sees("{"):
            mark = self.at
            self.at += 1
            if self.accept("\\circ", "\u00b0", "\\degree"):
                self.expect("}")
                return "deg", base
            if self.next.kind in ("text", "word") and str(self.next.value).lower() in ("th", "st", "nd", "rd", "o"):
                self.at += 1
                self.expect("}")
                return base
            self.at = mark
        if self.next.kind in ("text", "word") and str(self.next.value).lower() in ("th", "st", "nd", "rd"):
            self.at += 1
            return base
        if self.accept("*"):
            return "call", "conj", base
        if self.next.kind == "sym" and self.next.value == "T" and base[0] == "matrix":
            self.at += 1
            return "apply", "^T", base
        exponent = self.exponent()
        if exponent == ("sym", "c") and base[0] in ("sym",) and self.next.kind == "end":
            return "apply", "^c", base
        return "pow", base, exponent

    def exponent(self) -> Node:
        if self.accept("-"):
            return "neg", self.exponent()
        if self.accept("+"):
            return self.exponent()
        if self.sees("{"):
            return self.group()
        node = self.nested(self.atom)
        return self.nested(lambda: self.postfix(node)) if not self.latex else node

    def subscript(self, node: Node) -> Node:
        self.at += 1
        if self.sees("{"):
            start = self.at
            self.group_any()
            name = "".join(str(t.raw) for t in self.tokens[start + 1 : self.at - 1]).strip()
        else:
            name = str(self.take().raw)
        if node[0] == "num":
            if name.isascii() and name.isdigit() and node[1].denominator == 1 and 2 <= int(name[:3]) <= 36:
                return "base", str(node[1].numerator), int(name)
            if name in ("two", "eight", "ten", "sixteen"):
                return "base", str(node[1].numerator), {"two": 2, "eight": 8, "ten": 10, "sixteen": 16}[name]
            raise Unread("a subscript of a number")
        if node[0] == "apply":
            return ("apply", f"{node[1]}_{name}", *node[2:])
        symbol = ("sym", f"{node[1]}_{name}")
        if self.sees("(") and node[1] in _HEADS:
            return "apply", symbol[1], *self.arguments()
        return symbol

    # atoms ----------------------------------------------------------------------------------------------------------

    def group_any(self) -> None:
        """Skip over a group in braces."""
        level = 0
        while True:
            token = self.take()
            if token.kind == "end":
                raise Unread("a brace is not closed")
            if token.kind == "op" and token.value == "{":
                level += 1
            elif token.kind == "op" and token.value == "}":
                level -= 1
                if not level:
                    return

    def group(self) -> Node:
        self.expect("{")
        bars, self.bars = self.bars, 0
        node = self.nested(self.listing)
        self.bars = bars
        if self.accept("\\choose"):
            node = ("call", "binom", node, self.nested(self.listing))
        elif self.accept("\\over"):
            node = ("div", node, self.nested(self.listing))
        self.expect("}")
        return node

    def argument(self) -> Node:
        """An argument of a LaTeX command: a group, or one sign."""
        if self.sees("{"):
            return self.group()
        token = self.next
        if token.kind == "num" and len(token.raw) > 1 and token.raw.isdigit():  # \frac12
            self.tokens[self.at] = Token("num", (Fraction(int(token.raw[1:])), ZERO), token.raw[1:], False)
            return number(int(token.raw[0]))
        if self.accept("-"):
            return "neg", self.argument()
        return self.nested(self.atom)

    def atom(self) -> Node:
        token = self.take()
        kind, value = token.kind, token.value
        if kind == "num":
            return "num", *value  # type: ignore[misc]
        if kind == "sym":
            return self.symbol(str(value))
        if kind == "repeat":
            return "repeat", *value  # type: ignore[misc]
        if kind == "const":
            return "const", value
        if kind == "func":
            return self.function(str(value), token)
        if kind == "numberset":
            return "numberset", value
        if kind == "word":
            return self.letters(str(value))
        if kind == "text":
            self.at -= 1
            return self.phrase()
        if kind == "op":
            read = _ATOMS.get(str(value))
            if read:
                return self.nested(lambda: read(self, str(value)))
        raise Unread(f"unexpected {token.raw or 'end'}")

    def symbol(self, name: str) -> Node:
        if self.sees("(") and (name in _HEADS or self.is_head()):
            return "apply", name, *self.arguments()
        return "sym", name

    def is_head(self) -> bool:
        """Whether `p(x)` or `x(t)`, a function of one letter or number, stands here: what brackets hold and `=`."""
        inner, close = self.tokens[self.at + 1 : self.at + 3] if self.at + 2 < len(self.tokens) else (None, None)
        if inner is None or close is None or inner.kind not in ("sym", "num") or close.value != ")":
            return False
        after = self.tokens[self.at + 3]
        return (after.kind == "rel" and after.value == "=") or (after.kind == "end" and self.at == 1)

    def arguments(self) -> list[Node]:
        self.expect("(")
        bars, self.bars = self.bars, 0
        items = [self.nested(self.sum)]
        while self.accept(",", ";"):
            items.append(self.nested(self.sum))
        self.bars = bars
        self.expect(")")
        return items

    def letters(self, word: str) -> Node:
        """A word in plain mathematics: a product of letters when it is short and no word that we know."""
        if self.sees("{") and word in _BARE_COMMANDS:  # a backslash was lost
            command = _BARE_COMMANDS[word]
            return self.nested(lambda: _ATOMS[command](self, command))
        if len(word) <= 3 and not is_unit(word) and word.lower() not in _ENGLISH:
            return _multiply_all([("const", c) if c in "ei" else ("sym", c) for c in word])
        self.at -= 1
        return self.phrase()

    def phrase(self) -> Node:
        words = []
        while self.next.kind in ("text", "word") and not _is_clause(self.next):
            if words and str(self.next.value).lower() in ("and", "or"):
                break
            words.append(str(self.take().value))
        text = " ".join(words)
        if not text:
            raise Unread("a remark in the answer's place")
        return "text", text

    def words(self, before: Node) -> bool:
        """Whether words here belong to the number before them, as a unit, or are letters to be multiplied."""
        if str(self.next.value).lower() in ("and", "or") or _is_clause(self.next):
            return False
        if self.next.kind == "text":
            if not _unit_like(before):
                raise Unread("words after an expression")
            return True
        return True

    def is_unit_ahead(self) -> bool:
        word = str(self.next.value)
        return is_unit(word) or len(word) > 3 or word.lower() in _ENGLISH

    def unit(self, node: Node) -> Node:
        if not _unit_like(node):
            raise Unread("words after an expression")
        parts: list[str] = []
        while True:
            if self.next.kind in ("text", "word", "sym") and not (
                parts and (str(self.next.value).lower() in ("and", "or") or _is_clause(self.next))
            ):
                parts.append(str(self.take().value))
            elif parts and self.sees("^"):
                self.at += 1
                exponent = self.exponent()
                if exponent[0] != "num":
                    raise Unread("a unit's power")
                parts[-1] += f"^{exponent[1]}"
            elif self.sees("/", "\\cdot", "*") and self.tokens[self.at + 1].kind in ("text", "word", "sym"):
                parts.append("/" if self.take().value == "/" else "*")
            elif parts and self.accept("."):
                continue
            else:
                return "unit", node, " ".join(parts)

    def function(self, name: str, token: Token) -> Node:
        """`sin`, with its power before its argument, with brackets or without."""
        if token.raw in lexicon.PLAIN_ONLY and not self.sees("(") and token.raw[:1] != "\\":
            return "sym", token.raw
        base: Node | None = None
        power: Node | None = None
        if self.accept("_"):
            base = self.group() if self.sees("{") else self.nested(self.atom)
        if self.accept("^"):
            power = self.exponent()
        if self.accept("_"):
            base = self.group() if self.sees("{") else self.nested(self.atom)
        if name == "sqrt" and token.raw == "\\sqrt":
            return self.root()
        arguments = self.function_arguments()
        if power == ("neg", number(1)) and f"arc{name}" in lexicon.FUNCTIONS.values():
            name, power = f"arc{name}", None
        node = _call(name, arguments, base)
        return ("pow", node, power) if power else node

    def function_arguments(self) -> list[Node]:
        if self.sees("("):
            return self.arguments()
        if self.sees("{"):
            group = self.group()
            return list(group[1:]) if group[0] in ("list", "tuple") else [group]
        if self.sees("["):
            self.at += 1
            node = self.nested(self.listing)
            self.expect("]")
            return list(node[1:]) if node[0] == "list" else [node]
        return [self.nested(self.bare_argument)]

    def bare_argument(self) -> Node:
        """`2x` in `sin 2x`: up to a sign, a function, or what is in brackets."""
        if self.accept("-"):
            return "neg", self.bare_argument()
        node = self.factor()
        while (self.next.kind in ("num", "sym", "const") or self.sees(*_FRACTIONS, "\\sqrt")) and (
            node[0] in ("num", "sym", "const", "mul", "div", "pow")
        ):
            node = _multiply(node, self.factor())
        while node[0] in ("num", "const", "sym", "mul", "div") and self.sees("/"):
            mark = self.at
            self.at += 1
            if self.next.kind not in ("num", "sym"):
                self.at = mark
                break
            node = ("div", node, self.factor())
        return node

    def root(self) -> Node:
        if self.accept("["):
            degree = self.nested(self.sum)
            self.expect("]")
            return "call", "root", self.argument(), degree
        return "call", "sqrt", self.argument()


_BARE_COMMANDS = {
    "frac": "\\frac", "rac": "\\frac", "dfrac": "\\frac", "tfrac": "\\frac", "bar": "\\bar", "hat": "\\hat",
    "vec": "\\vec", "overline": "\\overline", "tilde": "\\tilde",
}  # fmt: skip


def _is_clause(token: Token) -> bool:
    return str(token.value).split(" ")[0].lower() in lexicon.CLAUSES


def _is_condition(node: Node) -> bool:
    return node[0] in ("rel", "or", "interval")


_ENGLISH = frozenset("no yes not any all one two six ten odd can you the but day age are red".split())


def _unit_like(node: Node) -> bool:
    """Whether a unit may follow: it is a number, or arithmetic of numbers."""
    if node[0] in ("sym", "text", "rel", "set", "list"):
        return False
    return all(_unit_like(n) for n in node[1:] if isinstance(n, tuple))


def _proper(node: Node) -> bool:
    return (
        node[0] == "div"
        and all(n[0] == "num" and n[1].denominator == 1 and not n[2] for n in node[1:])
        and 0 < node[1][1] < node[2][1]
    )


_SET_LIKE = frozenset(("set", "interval", "union", "inter", "minus", "builder", "numberset"))


def _add(terms: list[Node]) -> Node:
    if len(terms) == 1:
        return terms[0]
    if terms[0][0] in _SET_LIKE and len(terms) == 2 and terms[1][0] == "neg" and terms[1][1][0] in _SET_LIKE:
        return "minus", terms[0], terms[1][1]
    return "add", *terms


def _multiply(a: Node, b: Node) -> Node:
    return ("mul", *a[1:], b) if a[0] == "mul" else ("mul", a, b)


def _multiply_all(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else ("mul", *parts)


def _call(name: str, arguments: list[Node], base: Node | None) -> Node:
    if name == "cbrt":
        return "call", "root", arguments[0], number(3)
    if name in ("log2", "log10"):
        return "call", "log", arguments[0], number(2 if name == "log2" else 10)
    if base is not None:
        if name in ("log", "ln"):
            return "call", "log", arguments[0], base
        return "apply", f"{name}_{base}", *arguments
    return "call", name, *arguments


def _flat(node: Node) -> list[Node]:
    return list(node[1:]) if node[0] == "list" else [node]


def _bracket(parser: _Parser, opener: str) -> Node:
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
    items = _flat(node)
    left, right = opener != "(", closer != ")"
    if len(items) == 2 and (left or right):
        return "interval", items[0], items[1], left, right
    if left != right:
        raise Unread("brackets that do not match")
    if len(items) == 1:
        return node
    return "tuple", *items


def _braces(parser: _Parser, _: str) -> Node:
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
    return "set", *_flat(node)


def _builder(parser: _Parser, node: Node) -> Node:
    if node[0] == "rel" and "mid" in node[1]:
        at = node[1].index("mid")
        variable = node[2][0] if at == 0 else ("rel", node[1][:at], node[2][: at + 1])
        rest = node[1][at + 1 :]
        condition = ("rel", rest, node[2][at + 1 :]) if rest else node[2][at + 1]
        while parser.accept(","):
            condition = ("list", *_flat(condition), *_flat(parser.listing()))
    else:
        variable, condition = node, parser.listing()
    parser.expect("\\}")
    return "builder", variable, condition


def _plain_group(parser: _Parser, _: str) -> Node:
    parser.at -= 1
    start = parser.at
    node = parser.group()
    if node[0] == "list" and (start == 0 or parser.next.kind in ("end", "set") or parser.tokens[start - 1].kind == "set"):
        return "set", *node[1:]  # {1,2} written for \{1,2\}
    return node


def _fence(parser: _Parser, opener: str) -> Node:
    closer, name = _FENCES[opener]
    bars, parser.bars = parser.bars, parser.bars + 1
    node = parser.nested(parser.sum)
    parser.bars = bars
    parser.expect(closer)
    return ("apply", "norm", node) if name == "norm" else ("call", name, node)


def _fraction(parser: _Parser, _: str) -> Node:
    above, below = parser.argument(), parser.argument()
    if above == ("sym", "d") and below[0] == "mul" and below[1] == ("sym", "d") and len(below) == 3:
        return "diff", below[2], 1, parser.nested(parser.product)
    return "div", above, below


def _binomial(parser: _Parser, _: str) -> Node:
    return "call", "binom", parser.argument(), parser.argument()


def _root(parser: _Parser, _: str) -> Node:
    return parser.root()


def _marked(parser: _Parser, command: str) -> Node:
    r"""`\overline{x}`, `\vec{AB}`: a name; `0.\overline{3}` is dealt with where numbers are."""
    inner = parser.argument()
    name = "".join(str(n[1]) for n in _letters_of(inner))
    kind = "bar" if command in ("\\overline", "\\bar") else "vec" if "arrow" in command or command == "\\vec" else command[1:]
    return "sym", f"{kind}_{name}"


def _letters_of(node: Node) -> list[Node]:
    if node[0] in ("sym", "const", "text"):
        return [node]
    if node[0] == "num":
        return [("sym", str(node[1]))]
    if node[0] == "mul":
        return [leaf for n in node[1:] for leaf in _letters_of(n)]
    raise Unread("a mark over an expression")


def _sum_or_product(parser: _Parser, command: str) -> Node:
    low, high = _bounds(parser)
    body = parser.nested(parser.product)
    if low is None or low[0] != "rel" or low[1] != ("=",) or high is None:
        raise Unread("a sum without bounds")
    return ("sum" if command == "\\sum" else "prod"), low[2][0], low[2][1], high, body


def _bounds(parser: _Parser) -> tuple[Node | None, Node | None]:
    low = high = None
    for _ in range(2):
        if parser.accept("_"):
            low = parser.group() if parser.sees("{") else parser.exponent()
        elif parser.accept("^"):
            high = parser.exponent()
    return low, high


def _integral(parser: _Parser, _: str) -> Node:
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


def _differential_inside(parser: _Parser) -> bool:
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


def _limit_point(parser: _Parser) -> Node:
    if parser.accept("-"):
        return "neg", _limit_point(parser)
    parser.accept("+")
    node = parser.nested(parser.atom)
    while not parser.sees("+", "-", "^", "}"):
        node = _multiply(node, parser.nested(parser.atom))
    return node


def _limit(parser: _Parser, _: str) -> Node:
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


def _environment(parser: _Parser, _: str) -> Node:
    name = _name_in_braces(parser)
    if name not in _MATRICES and name not in ("cases", "aligned", "align", "align*", "gathered"):
        raise Unread(f"environment {name}")
    if name == "array" and parser.sees("{"):
        parser.group_any()
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


def _name_in_braces(parser: _Parser) -> str:
    parser.expect("{")
    name = ""
    while not parser.accept("}"):
        token = parser.take()
        if token.kind == "end":
            raise Unread("an environment without end")
        name += str(token.raw)
    return name


def _skip(parser: _Parser, _: str) -> Node:
    return parser.nested(parser.factor)


def _not(parser: _Parser, _: str) -> Node:
    return "apply", "not", parser.nested(parser.factor)


def _nothing(parser: _Parser, _: str) -> Node:
    return EMPTY


_ATOMS: dict[str, Callable[[_Parser, str], Node]] = {
    "(": _bracket, "[": _bracket, "\\lbrack": _bracket, "\\{": _braces, "{": _plain_group, "\\sqrt": _root,
    "\\surd": _root, "\\begin": _environment, "\\int": _integral, "\\lim": _limit, "\\sum": _sum_or_product,
    "\\prod": _sum_or_product, "\\emptyset": _nothing, "\\varnothing": _nothing, "\\angle": _skip,
    "\\triangle": _skip, "\\neg": _not, "\\lnot": _not, "\\lbrace": _braces,
} | dict.fromkeys(_FRACTIONS, _fraction) | dict.fromkeys(_BINOMIALS, _binomial) | dict.fromkeys(_MARKS, _marked) | (
    dict.fromkeys(_FENCES, _fence)
)  # fmt: skip

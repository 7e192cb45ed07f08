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

from collections.abc import Callable

from guerdon_rewards.mathematics import forms, lexicon, listing, operands, suffixes
from guerdon_rewards.mathematics.lexer import Token, Unread, tokens
from guerdon_rewards.mathematics.scripts import COUNTS
from guerdon_rewards.mathematics.tree import (
    DEEPEST,
    EMPTY,
    Node,
    add,
    is_clause,
    multiply,
    number,
    proper,
    unit_like,
)

__all__ = ["EMPTY", "Node", "Unread", "number", "parse"]

_CLOSERS = frozenset((")", "]", "\\}", "\\rbrack", "}", "[", "\\rangle"))
_MODULUS = frozenset(("\\pmod", "("))
_SUMS = frozenset(("mul", "add", "neg"))
_SIGN_KINDS = frozenset(("op", "rel", "set"))
_BARS = frozenset(("|", "\\vert", "\\|"))
_BEFORE_BARS = frozenset(("num", "sym", "mul", "call"))
_SIGNS = frozenset(("+", "-", "\\pm", "\\mp"))
_ORDINALS = frozenset(("st", "nd", "rd", "th"))
_TIMES = frozenset(("*", "\\cdot", "\\times", "\\ast", "\\bullet"))
_OVER = frozenset(("/", "\\div"))
_STARTS = frozenset(("unknown", "num", "repeat", "sym", "func", "const", "numberset"))
_OPENERS = frozenset((
    "(", "[", "{", "\\{", "\\sqrt", "\\begin", "\\sum", "\\prod", "\\int", "\\lim", "\\angle", "\\emptyset",
    "\\varnothing", "\\lbrack", "\\triangle", "\\infty", "\\surd", "\\langle", "\\substack", "\\stackrel",
)).union(lexicon.FRACTIONS, lexicon.BINOMIALS, lexicon.MARKS, lexicon.FENCES.keys() - _BARS)  # fmt: skip


def parse(text: str, grouped: bool = True) -> Node:
    r"""The tree of an answer. With `grouped`, `1,234` is one number, else a list of two.

    Raises:
        Unread: it is not understood whole.

    >>> parse(r"\frac12 x")
    ('mul', ('div', ('num', Fraction(1, 1), Fraction(0, 1)), ('num', Fraction(2, 1), Fraction(0, 1))), ('sym', 'x'))
    """
    return Parser(tokens(text, grouped), "\\" in text).whole()


class Parser:
    """`at` is the next token; every method reads what its name says and leaves `at` behind it."""

    def __init__(self, stream: list[Token], latex: bool = False) -> None:
        self.tokens = stream
        self.at = 0
        self.depth = 0
        self.bars = 0  # open |...|
        self.ratios = True  # a colon is one of a ratio, not of a set
        self.latex = latex
        self.heads: set[str] = set()  # letters that are functions
        self.label = ""  # of the statement just read

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
        return token.value in values and token.kind in _SIGN_KINDS

    def accept(self, *values: object) -> bool:
        token = self.tokens[self.at]
        if token.value in values and token.kind in _SIGN_KINDS:
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
        node = self.listing()
        if node[0] == "rel" and node[1] == ("says",):
            raise Unread("words beside an expression")
        if self.tokens[self.at].kind == "end":
            return node
        while self.accept(".", ",", ";", "!", "\\\\", "?", "\\blacksquare", "\\square", "\\Box", "\\qed"):
            pass
        if self.next.kind == "text" and is_clause(self.next):
            return "given", node, " ".join(t.raw for t in self.tokens[self.at :]).rstrip()
        if self.next.kind != "end":
            raise Unread(f"unexpected {self.next.raw}")
        return node

    def listing(self) -> Node:
        """Statements between commas, `and`, `or`."""
        first = self.statement()
        token = self.tokens[self.at]
        if token.kind == "end" or (token.value in _CLOSERS and token.kind == "op"):
            return first
        return listing.several(self, first)

    def statement(self) -> Node:
        """A chain of relations. A label before it (`Minimum: 1`) is kept aside; it tells items of a list apart."""
        token = self.tokens[self.at]
        label = ""
        if token.kind in ("text", "word"):
            label = listing.label(self)
        elif token.kind == "sym" and self.tokens[self.at + 2].kind == "word" and self.tokens[self.at + 1].value == "-":
            listing.hyphened(self)
        node = self.relation()
        if node[0] == "text" and self.next.kind == "num":  # maximum 5
            node = listing.said(node[1], self.relation())
        if (node[2][-1] if node[0] == "rel" else node)[0] in _SUMS:
            node = listing.without_domain(node)
        if label[-1:] == "=":
            node = ("rel", ("=",), (("text", label[:-1].strip()), node))
        self.label = label
        return node

    def relation(self) -> Node:
        first = self.sets()
        token = self.tokens[self.at]
        if token.kind != "rel" and token.value not in _MODULUS:
            return first
        ops: list[str] = []
        sides = [first]
        while self.tokens[self.at].kind == "rel":
            op = str(self.take().value)
            ops.append(op)
            side = self.sets()
            if op in ("in", "notin") and side[0] == "sym" and side[1] in "RNZQ":
                side = ("numberset", side[1])
            sides.append(side)
        modulus = operands.modulus(self)
        if modulus:
            return "rel", (*ops, "mod"), (*sides, modulus)
        return ("rel", tuple(ops), tuple(sides)) if ops else first

    def sets(self) -> Node:
        """Unions, intersections and differences of sets; ratios."""
        node = self.ratio()
        while self.tokens[self.at].kind == "set":
            op = str(self.take().value)
            node = (op, node, self.ratio())
        return node

    def ratio(self) -> Node:
        first = self.sum()
        if self.tokens[self.at].value == "to" and self.tokens[self.at].kind in ("word", "text"):  # 3 to 4
            self.at += 1
            return "ratio", first, self.sum()
        if self.tokens[self.at].value != ":":
            return first
        parts = [first]
        while self.ratios and self.sees(":") and self.tokens[self.at + 1].kind != "end":
            self.at += 1
            parts.append(("text", "...") if self.accept("...") else self.sum())
        return parts[0] if len(parts) == 1 else ("ratio", *parts)

    # arithmetic -----------------------------------------------------------------------------------------------------

    def sum(self) -> Node:
        token = self.tokens[self.at]
        if token.kind == "op" and token.value in _SIGNS:
            terms: list[Node] = []
        else:
            first = self.product()
            token = self.tokens[self.at]
            if token.kind != "op" or token.value not in _SIGNS:
                return first
            terms = [first]
        while True:
            token = self.tokens[self.at]
            if token.kind != "op" or token.value not in _SIGNS:
                return add(terms)
            self.at += 1
            if token.value == "+":
                terms.append(self.signed())
            elif token.value == "-":
                terms.append(("neg", self.signed()))
            else:
                term = self.product()
                terms = [("pm", add(terms) if terms else None, term if token.value == "\\pm" else ("neg", term))]

    def signed(self) -> Node:
        """A term after a sign, which may have signs of its own: `14 + -1i`."""
        token = self.tokens[self.at]
        if token.kind != "op" or token.value not in _SIGNS:
            return self.product()
        if self.accept("-"):
            return "neg", self.nested(self.signed)
        if self.accept("+"):
            return self.nested(self.signed)
        if self.accept("\\pm"):
            return "pm", None, self.product()
        return self.product()

    def product(self) -> Node:
        node = self.factor()
        while True:
            token = self.tokens[self.at]
            if token.ends:
                return node
            kind = token.kind
            if kind == "op":
                value = token.value
                if value in _TIMES:
                    self.at += 1
                    node = multiply(node, self.sign_factor())
                elif value in _OVER:
                    node = self.over(node)
                elif value == "(" and self.tokens[self.at + 1].value in ("\\bmod", "\\mod", "mod", "\\pmod"):
                    return node
                elif value == "[" and self.tokens[self.at + 1].ends and self.tokens[self.at + 1].value not in _SIGNS:
                    return node  # [0, 1[
                elif value in _OPENERS or (value in _BARS and not self.bars and node[0] in _BEFORE_BARS):
                    node = self.adjacent(node)
                elif value in ("\\bmod", "\\mod"):
                    self.at += 1
                    node = ("call", "mod", node, self.sign_factor())
                else:
                    return node
            elif kind in _STARTS:
                if kind == "num" and node[0] == "text":
                    return node
                if token.raw == "th" and node[0] == "num" and not token.spaced:  # 5th, but th(x) is a tanh
                    self.at += 1
                    continue
                if token.raw == "x" and node[0] == "num" and _is_power_of_ten(*self.tokens[self.at + 1 : self.at + 3]):
                    self.at += 1  # 3.2 x 10^5
                    node = multiply(node, self.sign_factor())
                elif token.value == "mu" and self.tokens[self.at + 1].kind == "text" and unit_like(node):
                    node = operands.unit(self, node)
                elif kind == "func" and token.value == "mod":
                    self.at += 1
                    node = ("call", "mod", node, self.sign_factor())
                else:
                    node = self.adjacent(node)
            elif kind in ("text", "word"):
                after = self.worded(node, token)
                if after is None:
                    return node
                node = after
            else:
                return node

    def over(self, node: Node) -> Node:
        after = self.tokens[self.at + 1]
        word = after.kind == "text" or (after.kind == "word" and operands.is_unit_word(after.raw))
        if word and self.sees("/") and unit_like(node):
            return operands.unit(self, node)  # 60 km / h
        self.at += 1
        return "div", node, self.sign_factor()

    def worded(self, node: Node, token: Token) -> Node | None:
        """Words after a factor: a unit, an ordinal's ending, letters to be multiplied; None where they end it."""
        if token.value == "over":
            self.at += 1
            return "div", node, self.sign_factor()
        if token.value == "to" and self.tokens[self.at + 1].kind == "num":
            return None
        if token.raw in _ORDINALS and node[0] == "num" and not token.spaced:
            self.at += 1
            return node
        if not operands.words(self, node):
            return None
        if token.kind == "text" or operands.is_unit_ahead(self):
            return operands.unit(self, node)
        return multiply(node, self.factor())

    def sign_factor(self) -> Node:
        if self.accept("-"):
            return "neg", self.nested(self.sign_factor)
        self.accept("+")
        return self.factor()

    def adjacent(self, before: Node) -> Node:
        """What stands beside without a sign is multiplied, except in a mixed number."""
        if before[0] == "text":
            raise Unread("words beside an expression")
        spaced = self.next.spaced
        fraction = self.next.value in lexicon.FRACTIONS
        if before[0] == "num" and self.next.raw in COUNTS and self.tokens[self.at + 1].kind == "num":
            return "call", COUNTS[self.take().raw], before, self.factor()
        if before[0] == "unit" and self.next.kind == "num":
            after = self.factor()
            if self.next.kind not in ("text", "word"):
                raise Unread("a number after a unit")
            return "add", before, operands.unit(self, after)
        after = self.factor()
        if before[0] == "num" and before[1].denominator == 1 and not before[2]:
            if fraction and proper(after):
                return add([before, after])
            if fraction and after[0] in ("percent", "deg") and proper(after[1]):
                return after[0], add([before, after[1]])
            if after[0] == "num":
                if spaced and self.sees("/") and after[1].denominator == 1 and not after[2]:
                    self.at += 1
                    below = self.factor()
                    if below[0] == "num" and below[1] > 0:
                        return add([before, ("div", after, below)])
                raise Unread("two numbers beside each other")
        elif after[0] == "num" and before[0] in ("num", "div", "add"):
            raise Unread("two numbers beside each other")
        return multiply(before, after)

    def factor(self) -> Node:
        token = self.tokens[self.at]
        if token.kind == "num":
            self.at += 1
            node: Node = token.value  # type: ignore[assignment]
        else:
            node = forms.atom(self)
        return node if self.tokens[self.at].ends else self.postfix(node)

    def postfix(self, node: Node) -> Node:
        return suffixes.postfix(self, node)

    def atom(self) -> Node:
        return forms.atom(self)

    def form(self, command: str) -> Node:
        return forms.READERS[command](self, command)


def _is_power_of_ten(token: Token, after: Token) -> bool:
    return token.raw == "10" and after.value == "^"

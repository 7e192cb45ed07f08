"""Syntax trees: nested tuples with a tag first, and the few ways to put them together."""

from fractions import Fraction
from typing import Any

from guerdon_rewards.mathematics import lexicon
from guerdon_rewards.mathematics.lexer import Token

Node = tuple[Any, ...]
DEEPEST = 40
"""Nested brackets, fractions and the like."""
ZERO, ONE = Fraction(0), Fraction(1)
EMPTY: Node = ("empty",)


def number(value: int | Fraction) -> Node:
    return "num", Fraction(value), ZERO


LEAVES = frozenset(("num", "sym", "const"))


def leaf(token: Token) -> Node:
    """The node of one token of the kinds in LEAVES."""
    return token.value if token.kind == "num" else (token.kind, token.value)  # type: ignore[return-value]


def is_clause(token: Token) -> bool:
    return str(token.value).split(" ")[0].lower() in lexicon.CLAUSES


def is_condition(node: Node) -> bool:
    return node[0] in ("rel", "or", "interval")


def unit_like(node: Node) -> bool:
    """Whether a unit may follow: it is a number, or arithmetic of numbers."""
    if node[0] in ("sym", "text", "rel", "set", "list"):
        return False
    return all(unit_like(n) for n in node[1:] if isinstance(n, tuple))


def proper(node: Node) -> bool:
    return (
        node[0] == "div"
        and all(n[0] == "num" and n[1].denominator == 1 and not n[2] for n in node[1:])
        and 0 < node[1][1] < node[2][1]
    )


_SET_LIKE = frozenset(("set", "interval", "union", "inter", "minus", "builder", "numberset"))


def add(terms: list[Node]) -> Node:
    if len(terms) == 1:
        return terms[0]
    if terms[0][0] in _SET_LIKE and len(terms) == 2 and terms[1][0] == "neg" and terms[1][1][0] in _SET_LIKE:
        return "minus", terms[0], terms[1][1]
    return "add", *terms


def multiply(a: Node, b: Node) -> Node:
    return ("mul", *a[1:], b) if a[0] == "mul" else ("mul", a, b)


def product_of(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else ("mul", *parts)


def call(name: str, arguments: list[Node], base: Node | None) -> Node:
    if name == "cis":
        return "add", ("call", "cos", arguments[0]), ("mul", ("const", "i"), ("call", "sin", arguments[0]))
    if name == "cbrt":
        return "call", "root", arguments[0], number(3)
    if name in ("log2", "log10"):
        return "call", "log", arguments[0], number(2 if name == "log2" else 10)
    if base is not None:
        if name in ("log", "ln"):
            return "call", "log", arguments[0], base
        return "apply", f"{name}_{base}", *arguments
    return "call", name, *arguments


def flat(node: Node) -> list[Node]:
    return list(node[1:]) if node[0] == "list" else [node]


def spread(items: list[Node]) -> list[Node] | None:
    """`n = 0, 1 (mod 4)`: what the last says is meant by all; None where they are no such list."""
    first, last = items[0], items[-1]
    if first[0] != "rel" or len(first[1]) != 1 or first[1][0] not in ("equiv", "="):
        return None
    name, modulus = first[2][0], last[2][-1]
    values = [first[2][1], *(n[2][0] if n[0] == "rel" and n[1] == ("mod",) else n for n in items[1:])]
    if any(n[0] == "rel" for n in values):
        return None
    return [("rel", (first[1][0], "mod"), (name, value, modulus)) for value in values]

"""Arithmetic with written matrices: sums, products, powers, transposes and determinants, entry by entry."""

from fractions import Fraction
from typing import Any

from guerdon_rewards.mathematics.evaluate import NoValue, evaluate
from guerdon_rewards.mathematics.facts import facts
from guerdon_rewards.mathematics.tree import Node, number

MOST = 36
"""Entries of a matrix that is computed with, and products of letters in one of them."""
LARGEST_POWER = 6
EXPANDED = 3
"""Rows of a determinant that is written out; larger ones have to be of numbers."""

Rows = tuple[tuple[Node, ...], ...]


def computed(node: Node) -> Node:
    """The tree with its arithmetic of matrices carried out, as far as sizes fit."""
    if "matrix" not in facts(node).tags or node[0] == "matrix":
        return node
    parts = [computed(n) if isinstance(n, tuple) and n and isinstance(n[0], str) else n for n in node[1:]]
    done = _combined(node[0], parts)
    if done is not None:
        return done
    if node[0] == "rel":
        return "rel", node[1], tuple(computed(n) for n in node[2])
    return (node[0], *parts)


def _combined(tag: str, parts: list[Any]) -> Node | None:
    if tag == "neg":
        return _scaled(number(-1), parts[0]) if parts[0][0] == "matrix" else None
    if tag == "add":
        return _sum(parts)
    if tag == "mul":
        return _product(parts)
    if tag == "div" and parts[0][0] == "matrix" and not facts(parts[1]).structured:
        return _scaled(("div", number(1), parts[1]), parts[0])
    if tag == "pow" and parts[0][0] == "matrix":
        return _power(parts[0], parts[1])
    if tag == "apply" and parts[0] == "^T" and parts[1][0] == "matrix":
        return "matrix", tuple(zip(*parts[1][1], strict=True))
    if tag == "call" and parts[0] in ("det", "abs") and parts[1][0] == "matrix":
        return _determinant(parts[1])
    return None


def _size(node: Node) -> tuple[int, int]:
    return len(node[1]), len(node[1][0])


def _scaled(factor: Node, matrix: Node) -> Node:
    return "matrix", tuple(tuple(("mul", factor, cell) for cell in row) for row in matrix[1])


def _sum(terms: list[Node]) -> Node | None:
    if any(n[0] != "matrix" or _size(n) != _size(terms[0]) for n in terms) or len(terms) > MOST:
        return None
    rows = zip(*(n[1] for n in terms), strict=True)
    return "matrix", tuple(tuple(("add", *cells) for cells in zip(*row, strict=True)) for row in rows)


def _product(factors: list[Node]) -> Node | None:
    matrices = [n for n in factors if n[0] == "matrix"]
    scalars = [n for n in factors if n[0] != "matrix"]
    if any(facts(n).structured for n in scalars) or len(matrices) > LARGEST_POWER or not matrices:
        return None
    total, terms = matrices[0], 1
    for matrix in matrices[1:]:
        (rows, inner), (height, columns) = _size(total), _size(matrix)
        if inner != height or rows * columns > MOST or inner * inner > MOST:
            return None
        if any(facts(n).value is None for row in (*total[1], *matrix[1]) for n in row):
            terms *= inner
        if terms > MOST:
            return None
        across = tuple(zip(*matrix[1], strict=True))
        total = "matrix", tuple(tuple(_dot(row, column) for column in across) for row in total[1])
    for scalar in scalars:
        total = _scaled(scalar, total)
    return total


def _dot(row: tuple[Node, ...], column: tuple[Node, ...]) -> Node:
    node: Node = ("add", *(("mul", x, y) for x, y in zip(row, column, strict=True)))
    return _number(node) or node


def _number(node: Node) -> Node | None:
    value = facts(node).value
    return None if value is None else number(value)


def _power(matrix: Node, exponent: Node) -> Node | None:
    if exponent == ("sym", "T"):
        return "matrix", tuple(zip(*matrix[1], strict=True))
    value = facts(exponent).value
    if value is None or value.denominator != 1:
        return None
    if 1 <= value <= LARGEST_POWER:
        return _product([matrix] * int(value))
    return _inverse(matrix) if value == -1 else None


def _inverse(matrix: Node) -> Node | None:
    """Of two rows."""
    if _size(matrix) != (2, 2):
        return None
    (a, b), (c, d) = matrix[1]
    determinant = _determinant(matrix)
    if determinant is None or facts(determinant).value == 0:
        return None
    return _scaled(("div", number(1), determinant), ("matrix", ((d, ("neg", b)), (("neg", c), a))))


def _determinant(matrix: Node) -> Node | None:
    rows, columns = _size(matrix)
    if rows != columns or rows * columns > 2 * MOST or any(facts(n).structured for row in matrix[1] for n in row):
        return None
    if rows <= EXPANDED:
        return _expanded(matrix[1])
    try:
        value = evaluate(("call", "det", matrix))
        return number(Fraction(int(value.p), int(value.q)))
    except (NoValue, AttributeError):
        return None


def _expanded(rows: Rows) -> Node:
    if len(rows) == 1:
        return rows[0][0]
    terms = []
    for i, cell in enumerate(rows[0]):
        minor = _expanded(tuple(row[:i] + row[i + 1 :] for row in rows[1:]))
        terms.append(("mul", number(-1 if i % 2 else 1), cell, minor))
    return "add", *terms

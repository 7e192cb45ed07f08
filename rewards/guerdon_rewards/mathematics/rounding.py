"""Decimals that were rounded: when one stands for the exact value that it was rounded from."""

from collections.abc import Mapping
from fractions import Fraction

from flint import acb, fmpq

from guerdon_rewards.mathematics.evaluate import TooBig, Undefined, Unsupported, Value, evaluate
from guerdon_rewards.mathematics.facts import facts
from guerdon_rewards.mathematics.tree import Node

SHOWN = 3
"""Significant digits of a reference that may be rounded."""
PRECISE = 6
"""Significant digits of an answer that may be rounded where the reference is exact."""
FLOAT = Fraction(1, 10**12)
"""What a decimal of fifteen digits, written by a computer, may be off by."""
COEFFICIENTS = 5
"""Significant digits that rounded coefficients beside letters have to show."""
MOST_COEFFICIENTS = 8
HALF = Fraction(52, 100)
"""Of a unit in a rounded coefficient's last place: what it may be off by."""
POINTS = 6
NOISE = Fraction(1, 10**8)
"""What floats of nine digits or more are off by, relative, where the reference is exact."""


def close(reference: Node, answer: Node) -> bool:
    """Whether a decimal on one side rounds the value on the other.

    A reference of three significant digits or more stands for all exact values that round to it (6.67 for 20/3), and
    for decimals that do once it has six. An answer of six digits or more stands for an exact reference.
    """
    want, got = decimal(reference), decimal(answer)
    if want is None and got is None:
        return False
    apart = _apart(reference, answer)
    if apart is None:
        return False
    if want and want[1] >= (PRECISE if got else SHOWN) and apart <= want[0] / 2:
        return True
    if got and got[1] >= PRECISE and apart <= (got[0] / 2 if want else got[0]) and not _is_integer(reference):
        return True
    size = _size(reference)
    if not size or (got and got[0] <= 1 and _is_integer(reference) and _is_integer(answer)):
        return False  # 987654320.0 is no rounded 987654321
    longest = max(d[1] for d in (want, got) if d)
    return bool(got and not want and got[1] >= 9 and apart <= NOISE * size) or (longest >= 15 and apart <= FLOAT * size)


def near(a: Node, b: Node) -> bool:
    """Whether one decimal of any length rounds the other value, or cuts it off: `2/3 = 0.67`, not `5.39 = 5.40`."""
    want, got = decimal(a), decimal(b)
    apart = _apart(a, b) if want or got else None
    if apart is None:
        return False
    return any(d is not None and apart <= d[0] and (apart / d[0]).denominator != 1 for d in (want, got))


def decimal(node: Node) -> tuple[Fraction, int] | None:
    """What one unit of a decimal's last digit is worth, and its significant digits; None for anything else."""
    if node[0] == "num" and node[2]:
        return node[2], len(str(abs(node[1] / node[2]).numerator)) if node[1] else 0
    if node[0] == "neg" or node[0] == "percent":
        inner = decimal(node[1])
        return inner and (inner[0] / (100 if node[0] == "percent" else 1), inner[1])
    if node[0] == "mul" and len(node) == 3 and node[2][0] == "pow" and node[2][1][0] == "num":
        inner = decimal(node[1])
        power = _rational(node[2])
        return (inner[0] * power, inner[1]) if inner and power and node[2][1][1] == 10 else None
    return None


def _is_integer(node: Node) -> bool:
    value = _rational(node)
    return value is not None and value.denominator == 1


def _rational(node: Node) -> Fraction | None:
    try:
        value = evaluate(node)
    except (Undefined, TooBig, Unsupported):
        return None
    return Fraction(int(value.p), int(value.q)) if isinstance(value, fmpq) else None


def _apart(a: Node, b: Node, point: Mapping[str, Value] | None = None) -> Fraction | None:
    """How far apart two real values are, at most; None where they are not."""
    try:
        return _above(evaluate(("add", a, ("neg", b)), point))
    except (Undefined, TooBig, Unsupported):
        return None


def _size(node: Node) -> Fraction | None:
    try:
        return _above(evaluate(node))
    except (Undefined, TooBig, Unsupported):
        return None


def _above(value: fmpq | acb) -> Fraction | None:
    """A bound of a real value's size."""
    if isinstance(value, fmpq):
        return abs(Fraction(int(value.p), int(value.q)))
    if not value.imag.contains(0):
        return None
    number = value.real.abs_upper().fmpq()
    return Fraction(int(number.p), int(number.q))


def roughly(reference: Node, answer: Node) -> bool:
    """Whether expressions with letters agree as well as the reference's rounded coefficients can say."""
    own = set(_decimals(answer))
    shown = {d for d in _decimals(reference) if d not in own}
    if not shown or len(shown) > MOST_COEFFICIENTS or any((decimal(d) or (0, 0))[1] < COEFFICIENTS for d in shown):
        return False
    letters = sorted(facts(reference).letters | facts(answer).letters)
    shifted = [_replaced(reference, d, (d[0], d[1] + d[2] * HALF, d[2])) for d in shown]
    for k in range(POINTS):
        point = {name: fmpq(2 * k + i + 1, 17 + 2 * i) for i, name in enumerate(letters)}
        apart = _apart(reference, answer, point)
        allowed = [_apart(reference, other, point) for other in shifted]
        if apart is None or None in allowed or apart > sum(a for a in allowed if a is not None):
            return False
    return True


def _replaced(node: Node, old: Node, new: Node) -> Node:
    if node == old:
        return new
    return tuple(_replaced(n, old, new) if isinstance(n, tuple) and n else n for n in node)


def _decimals(node: Node) -> list[Node]:
    if node[0] == "num":
        return [node] if node[2] else []
    return [d for child in node[1:] if isinstance(child, tuple) and child for d in _decimals(child)]

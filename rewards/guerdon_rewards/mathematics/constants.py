"""Whether two constants are equal, or one is less: proven by balls that do not overlap."""

from collections.abc import Iterable

from flint import acb, arb, ctx, fmpq

from guerdon_rewards.mathematics.ball import ZERO, NoValue, State, Undefined, Value, is_real
from guerdon_rewards.mathematics.tree import Node, number
from guerdon_rewards.mathematics.values import EFFORT, Evaluation, Precision

MOST_BITS = 20_000
"""Precision beyond which nothing is looked for."""


def constant_equal(a: Node, b: Node) -> bool | None:
    """Whether two trees without variables have the same value; None where that cannot be told.

    >>> constant_equal(("call", "sqrt", number(25)), number(5))
    True
    """
    first, second = _infinite(a), _infinite(b)
    if first or second:
        return first == second if first and second else None if _has_no_value(b if first else a) else False
    difference = _difference(a, b)
    return None if difference is None else difference == 0


def sign(node: Node) -> int | None:
    """-1, 0 or 1 for a real constant; None where that cannot be told."""
    return _infinite(node) or _real_sign(node, number(0))


def less(a: Node, b: Node) -> bool | None:
    """Whether a < b for two real constants or infinities; None where that cannot be told."""
    first, second = _infinite(a), _infinite(b)
    if first or second:
        return first < second if (first and second) or not _has_no_value(b if first else a) else None
    difference = _real_sign(a, b)
    return None if difference is None else difference < 0


def _has_no_value(node: Node) -> bool:
    with Precision(128):
        try:
            return not is_real(Evaluation({}, State(EFFORT)).total(node))
        except NoValue:
            return True


def _infinite(node: Node) -> int:
    """1 for oo, -1 for -oo, else 0."""
    direction = 1
    while node[0] == "neg":
        node, direction = node[1], -direction
    return direction if node == ("const", "oo") else 0


def _real_sign(a: Node, b: Node) -> int | None:
    difference = _difference(a, b)
    if difference is None or not is_real(difference):
        return None
    x = difference if isinstance(difference, fmpq) else difference.real
    return 1 if x > 0 else -1 if x < 0 else 0 if x == 0 else None


def _difference(a: Node, b: Node) -> Value | None:
    """a - b as zero, or as a ball without zero, or None."""
    effort, hidden = EFFORT, 0
    rounded = opaque = coarse = False
    precision, exact_bits = 128, 4000
    for last in (False, True):
        with Precision(precision):
            values = []
            for node in (a, b):
                state = State(effort, exact_bits)
                try:
                    values.append(Evaluation({}, state).total(node))
                except Undefined:
                    if last:
                        return None
                except NoValue:
                    return None
                effort, hidden = state.effort, max(hidden, state.hidden_bits)
                rounded |= state.rounded
                opaque |= state.opaque
                coarse |= state.coarse
            if len(values) == 2:
                difference = values[0] - values[1]
                if isinstance(difference, fmpq) or not difference.contains(0):
                    return None if opaque and difference != 0 else difference
                if last:
                    return ZERO if not rounded and is_tight(values, difference, coarse) else None
        precision = 1000 + 2 * hidden
        if precision > MOST_BITS and not rounded:
            return None
        if rounded:
            precision, exact_bits, rounded = 1000, 100_000, False
    return None


def is_tight(values: Iterable[Value], difference: acb, coarse: bool) -> bool:
    """Whether values that overlap are known to enough bits to be called equal."""
    size, error = max(abs(v) if isinstance(v, acb) else arb(abs(v)) for v in values), difference.abs_upper()
    if coarse and not error < arb(2) ** -40:
        return False
    return bool(error < max(size.abs_lower(), ONE_BALL) * arb(2) ** (-64 if coarse else -ctx.prec // 2))


ONE_BALL = arb(1)

"""Values of syntax trees, and what they tell: whether constants and expressions are equal, proportional, less.

A tree without variables is an exact rational or a ball, a complex number with a proven error (python-flint). Balls that
do not overlap prove a difference; balls that overlap at 1,000 bits or more, where nothing in the trees could hide a
difference that deep, count as equal. Expressions with variables are compared at fixed pseudo-random points, exactly
where they are rational functions. All work is charged to a budget first, so no tree, however built, takes more than
some 20 ms or some MB.

Conventions: `log` is natural; 0^0 = 1; odd roots of negative numbers are real, (-8)^(1/3) = -2, other powers are
principal values; arccot lies between 0 and pi; degrees count inside trigonometric functions only (90° alone is 90); an
empty sum is 0.
"""

from collections.abc import Mapping

from flint import acb, arb, ctx, fmpq

from guerdon_rewards.mathematics.ball import NoValue, State, TooBig, Undefined, Unsupported, Value
from guerdon_rewards.mathematics.constants import MOST_BITS, constant_equal, less, sign
from guerdon_rewards.mathematics.expressions import Expression, identical, proportional
from guerdon_rewards.mathematics.letters import free_symbols
from guerdon_rewards.mathematics.tree import Node
from guerdon_rewards.mathematics.values import EFFORT, Evaluation, Precision

__all__ = [
    "Expression",
    "NoValue",
    "TooBig",
    "Undefined",
    "Unsupported",
    "Value",
    "constant_equal",
    "evaluate",
    "free_symbols",
    "identical",
    "less",
    "proportional",
    "sign",
]


def evaluate(node: Node, point: Mapping[str, Value] | None = None, precision: int = 128) -> Value:
    """The value of a tree at a point: exact where it is rational, else a ball between 2^-100000 and 2^100000.

    Raises:
        Undefined: division by zero and the like.
        TooBig: beyond the bounds.
        Unsupported: structures, units, a variable that the point lacks.
    """
    with Precision(min(max(precision, 32), MOST_BITS)):
        value = Evaluation(point or {}, State(EFFORT)).total(node)
        return value if isinstance(value, fmpq) else _tame(value)


def _tame(value: acb) -> acb:
    """A ball whose parts can be turned into fractions: flint ends the process on a number around 2^-(2^64)."""
    size = value.abs_upper()
    if not (size < _LARGE and (size > _TINY or size == 0)):
        raise TooBig("a number beyond 2^100000")
    error = size * arb(2) ** (-2 * ctx.prec)
    return acb(_tame_part(value.real, error), _tame_part(value.imag, error))


def _tame_part(part: arb, error: arb) -> arb:
    middle, radius = part.mid(), part.rad()
    if middle != 0 and not abs(middle) > _TINY:
        middle, radius = arb(0), radius + _TINY
    return arb(middle, radius + error) if radius != 0 else middle


_LARGE, _TINY = arb(2) ** 100_000, arb(2) ** -100_000

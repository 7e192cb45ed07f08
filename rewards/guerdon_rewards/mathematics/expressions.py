"""Whether two expressions are the same function of their variables, by their values at fixed pseudo-random points."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from zlib import crc32

from flint import acb, arb, ctx, fmpq

from guerdon_rewards.mathematics.ball import State, TooBig, Undefined, Unsupported, Value
from guerdon_rewards.mathematics.constants import constant_equal, is_tight, sign
from guerdon_rewards.mathematics.letters import BINDERS, bound_name, free_symbols
from guerdon_rewards.mathematics.tree import Node
from guerdon_rewards.mathematics.values import EFFORT, Evaluation, Precision

MOST_BITS_AT_POINTS = 3_000
"""Precision beyond which nothing is looked for."""
INTEGER_FUNCTIONS = frozenset(("fact", "binom", "perm", "gcd", "lcm", "mod"))
PIECEWISE = frozenset(("abs", "floor", "ceil", "max", "min", "mod", "sign", "sqrt", "root", "arg", "re", "im", "conj"))
POINTS = 28
"""Points tried."""
ENOUGH, ENOUGH_PIECEWISE = 4, 10
"""Points of agreement that count as proof."""
_RANGES = (
    (0, 1), (1, 4), (-1, 0), (-4, -1), (4, 40), (-40, -4), (-4, 4), (-1, 1), (0, 4), (40, 400), (-400, -40), (-9, 9),
    (0, 1), (1, 9), (-1, 1), (0, 20), (9, 99), (-40, 40), (-2, 2), (0, 2), (1, 2), (-2, -1), (2, 3), (-99, 99), (0, 8),
    (0, 1), (1, 3), (-3, 3),
)  # fmt: skip
_WHOLE = (5, 3, 8, 2, 11, 7, 4, 13, 6, 1, 9, 12, 10, 17)


class Expression:
    """A tree and what is known of it, values at points too: keep one for a tree that is compared many times."""

    __slots__ = ("imaginary", "node", "piecewise", "symbols", "values", "wholes")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.symbols: set[str] = set()
        self.wholes: set[str] = set()
        self.piecewise = self.imaginary = False
        self.values: dict[tuple[int, frozenset[str]], tuple[Value, State] | None] = {}
        self._survey()

    def _survey(self) -> None:
        stack: list[tuple[Any, frozenset[str], bool]] = [(self.node, frozenset(), False)]
        while stack:
            node, bound, whole_only = stack.pop()
            tag = node[0] if node else None
            if tag == "sym":
                if node[1] not in bound:
                    self.symbols.add(node[1])
                    if whole_only:
                        self.wholes.add(node[1])
                continue
            if tag == "num":
                continue
            if tag == "const":
                self.imaginary |= node[1] == "i" and "\\i" not in bound
                continue
            if tag == "call":
                self.piecewise |= node[1] in PIECEWISE
                whole_only |= node[1] in INTEGER_FUNCTIONS
            elif tag == "pow":
                self.piecewise |= node[2][0] == "div" or (node[2][0] == "num" and node[2][1].denominator != 1)
                if _alternates(node):
                    stack.append((node[2], bound, True))
            elif tag in BINDERS:
                inner = bound | {bound_name(node[1])}
                for child in node[2:-1]:
                    if isinstance(child, tuple):
                        stack.append((child, bound, whole_only or tag in ("sum", "prod")))
                stack.append((node[-1], inner, whole_only))
                continue
            stack.extend((child, bound, whole_only) for child in node if isinstance(child, tuple))

    def at(self, index: int, wholes: frozenset[str], effort: float) -> "Sample | None":
        """The value at a point with the state after it, None where there is none; kept at 128 bits.

        Raises:
            TooBig: the effort does not suffice.
            Unsupported: no point has a value.
        """
        if ctx.prec != 128:
            return self._computed(index, wholes, effort)
        key = (index, wholes)
        if key not in self.values:
            if len(self.values) > 2 * POINTS:
                self.values.clear()
            self.values[key] = self._computed(index, wholes, effort)
        return self.values[key]

    def _computed(self, index: int, wholes: frozenset[str], effort: float) -> "Sample | None":
        state = State(effort)
        point = {
            name: _coordinate(crc32(name.encode("utf-8", "surrogatepass")), index, name in wholes)
            for name in self.symbols
        }
        try:
            return Evaluation(point, state).total(self.node), state
        except Undefined:
            return None


def _alternates(node: Node) -> bool:
    """A power of a constant that is not positive, such as (-1)^n: its exponent is meant to be an integer."""
    base, exponent = node[1], node[2]
    if exponent[0] == "num" or base[0] == "sym":
        return False
    if base[0] in ("num", "const"):
        return bool(base[1] < 0) if base[0] == "num" else base[1] == "i"
    if free_symbols(base) or not free_symbols(exponent):
        return False
    return sign(base) != 1


@lru_cache(maxsize=4096)
def _coordinate(seed: int, index: int, is_whole: bool) -> fmpq:
    """A variable's value at a point: k/256 with odd k, so that real roots of negative ones are none; or an integer."""
    random = crc32(f"{seed}/{index}".encode("utf-8", "surrogatepass"))
    if is_whole:
        return fmpq(_WHOLE[(index + seed) % len(_WHOLE)] + (random % 7 if index >= len(_WHOLE) else 0))
    low, high = _RANGES[index]
    return fmpq(256 * low + random % (128 * (high - low)) * 2 + 1, 256)


def identical(a: Node | Expression, b: Node | Expression) -> bool | None:
    """Whether two expressions are the same function of their variables; None where that cannot be told.

    Points where one of them is not real do not count, unless that leaves too few: sqrt(x)^2 is x, sqrt(x^2) is not.
    Variables inside factorials, binomials, gcd, bounds of sums, or in the exponent of (-1)^n stand for positive
    integers.
    """
    first, second = _expression(a), _expression(b)
    if not first.symbols and not second.symbols:
        return constant_equal(first.node, second.node)
    return _agree(first, second, _same_value)


def proportional(a: Node | Expression, b: Node | Expression) -> fmpq | arb | None:
    """The constant c != 0 with a = c b everywhere, exact or as a ball; None where there is none or it cannot be told.

    >>> x, two = ("sym", "x"), ("num", 2, 0)
    >>> proportional(x, ("mul", two, x))
    1/2
    """
    ratios: list[Sample] = []

    def same_ratio(x: Sample, y: Sample) -> bool | None:
        zero, other = _is_zero(x[0]), _is_zero(y[0])
        if zero or other:
            return None if zero and other else False
        ratio = x[0] / y[0], x[1] if x[1].hidden_bits > y[1].hidden_bits else y[1]
        ratios.append(ratio)
        return _same_value(ratios[0], ratio)

    if not _agree(_expression(a), _expression(b), same_ratio):
        return None
    value = ratios[0][0]
    if isinstance(value, fmpq):
        return value
    return value.real if value.imag.contains(0) else None


def _agree(a: Expression, b: Expression, same: Callable[["Sample", "Sample"], bool | None]) -> bool | None:
    """Whether enough points say the same and none says otherwise, at a precision where nothing can hide."""
    needed = ENOUGH_PIECEWISE if a.piecewise or b.piecewise else ENOUGH
    precision = 128
    while precision <= MOST_BITS_AT_POINTS:
        count = hidden = 0
        with Precision(precision):
            for x, y in _pairs(a, b):
                verdict = same(x, y)
                if verdict is False:
                    return False
                count += verdict is True
                hidden = max(hidden, _hidden_bits(x), _hidden_bits(y))
                if count == needed:
                    break
        if count < ENOUGH:
            return None
        if hidden <= precision // 2:
            return True
        precision, needed = 2 * hidden + 128, ENOUGH
    return None


def _hidden_bits(sample: "Sample") -> int:
    return sample[1].hidden_bits if isinstance(sample[0], acb) else 0


def _is_zero(value: Value) -> bool:
    return not value if isinstance(value, fmpq) else bool(value.contains(0))


def _expression(node: Node | Expression) -> Expression:
    return node if isinstance(node, Expression) else Expression(node)


Sample = tuple[Value, State]


def _pairs(a: Expression, b: Expression) -> Iterator[tuple[Sample, Sample]]:
    """Values of both at points where both have one: real ones first, complex ones where too few are real."""
    wholes = frozenset(a.wholes | b.wholes)
    own, other = frozenset(wholes & a.symbols), frozenset(wholes & b.symbols)
    complex_pairs: list[tuple[Sample, Sample]] = []
    imaginary = a.imaginary or b.imaginary
    real = 0
    left = EFFORT
    share = EFFORT / 6 if ctx.prec == 128 else EFFORT / 3
    for index in range(POINTS):
        effort = min(left, share)
        x = y = None
        try:
            x = a.at(index, own, effort)
            y = b.at(index, other, effort) if x is not None else None
        except TooBig:
            left -= effort
        except Unsupported:
            return
        left -= sum(effort - min(effort, sample[1].effort) for sample in (x, y) if sample is not None) + 50
        if left <= 0:
            return
        if x is None or y is None:
            continue
        if not imaginary and (x[1].left_reals or y[1].left_reals):
            complex_pairs.append((x, y))
            continue
        real += 1
        yield x, y
    if real < ENOUGH:
        yield from complex_pairs


def _same_value(x: Sample, y: Sample) -> bool | None:
    difference = x[0] - y[0]
    unsure = x[1].opaque or y[1].opaque
    if isinstance(difference, fmpq):
        return True if not difference else None if unsure else False
    if not difference.contains(0):
        return False if difference.is_finite() and not unsure else None
    if x[1].rounded or y[1].rounded:
        return None
    return True if is_tight((x[0], y[0]), difference, x[1].coarse or y[1].coarse) else None

"""The value of a syntax tree at a point, node by node, within a budget."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from threading import RLock
from typing import Any
from zlib import crc32

from flint import acb, acb_mat, arb, ctx, fmpq, fmpq_mat

from guerdon_rewards.mathematics.ball import (
    IMAGINARY,
    ONE,
    ZERO,
    NoValue,
    State,
    TooBig,
    Undefined,
    Unsupported,
    Value,
    divide,
    exp,
    is_real,
    note_summand,
    power,
    whole,
    whole_power,
)
from guerdon_rewards.mathematics.functions import FUNCTIONS, TRIGONOMETRIC
from guerdon_rewards.mathematics.letters import bound_name, free_symbols
from guerdon_rewards.mathematics.tree import Node

STEPS = frozenset(("floor", "ceil", "mod", "sign", "arg"))
EFFORT = 6_000.0
"""What one question may cost, in units of roughly a microsecond."""
MOST_TERMS = 5_000
"""Terms of a sum or product."""
LARGEST_MATRIX = 8
"""Rows of a matrix whose determinant is taken."""

_lock = RLock()  # flint's precision is one for the whole process


class Precision:
    """Holds flint's precision at some bits, and other threads off."""

    __slots__ = ("before", "bits")

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def __enter__(self) -> None:
        _lock.acquire()
        self.before = ctx.prec
        ctx.prec = self.bits

    def __exit__(self, *_: object) -> None:
        ctx.prec = self.before
        _lock.release()


class Evaluation:
    """One pass over a tree: the variables' values, the budget, and whether we are inside a trigonometric function."""

    __slots__ = ("angle", "env", "state", "step")

    def __init__(self, point: Mapping[str, Value], state: State) -> None:
        self.env = dict(point)
        self.state = state
        self.step = _step(ctx.prec)
        self.angle = False

    def total(self, node: Node) -> Value:
        try:
            value = self.value(node)
        except (RecursionError, OverflowError):
            raise TooBig("too deep or too large") from None
        if isinstance(value, acb) and not value.is_finite():
            raise Undefined("not a finite number")
        return value

    def value(self, node: Node) -> Value:
        state = self.state
        state.effort -= self.step
        if state.effort < 0:
            raise TooBig("too much work")
        handler = _HANDLERS.get(node[0])
        if handler is None:
            raise Unsupported(f"no value: {node[0]!s:.20}")
        return handler(self, node)

    def bound(self, variable: Any, value: Value, body: Node) -> Value:
        """The body's value with the bound variable at a value."""
        name = bound_name(variable)
        outer = self.env.get(name)
        self.env[name] = value
        try:
            return self.value(body)
        finally:
            if outer is None:
                del self.env[name]
            else:
                self.env[name] = outer


def _step(precision: int) -> float:
    """What a node costs."""
    return 1 + precision / 1000


def _num(ev: Evaluation, node: Node) -> Value:
    number = node[1]
    below = number.denominator
    value = fmpq(number.numerator) if below == 1 else fmpq(number.numerator, below)
    if (bits := value.height_bits()) > 1000:
        ev.state.work(bits / 30)
        return ev.state.fit(value)
    return value


def _sym(ev: Evaluation, node: Node) -> Value:
    value = ev.env.get(node[1])
    if value is None:
        raise Unsupported(f"no value for {node[1]!s:.20}")
    return value


def _const(ev: Evaluation, node: Node) -> Value:
    name = node[1]
    if name == "pi":
        return acb.pi()
    if (value := ev.env.get(f"\\{name}")) is not None:
        return value
    if name == "e":
        return acb(arb.const_e())
    if name == "i":
        return IMAGINARY
    raise Unsupported(f"no number: {name!s:.20}")


def _neg(ev: Evaluation, node: Node) -> Value:
    return -ev.value(node[1])


def _add(ev: Evaluation, node: Node) -> Value:
    total, balls, state = ZERO, None, ev.state
    for child in node[1:]:
        value = ev.value(child)
        if isinstance(value, fmpq):
            total += value
            if total.height_bits() > state.exact_bits:
                balls, total = state.fit(total) if balls is None else balls + state.fit(total), ZERO
        else:
            note_summand(state, value)
            balls = value if balls is None else balls + value
    if balls is None:
        return total
    return balls + state.ball(total) if total else balls


def _mul(ev: Evaluation, node: Node) -> Value:
    product, balls, state = ONE, None, ev.state
    for child in node[1:]:
        value = ev.value(child)
        if isinstance(value, fmpq):
            product *= value
            if product.height_bits() > state.exact_bits:
                balls, product = state.fit(product) if balls is None else balls * state.fit(product), ONE
        else:
            balls = value if balls is None else balls * value
    if not isinstance(balls, acb):
        return product
    if not product:
        if balls.is_finite():
            return ZERO
        raise Undefined("zero times what has no value")
    return balls * product


def _div(ev: Evaluation, node: Node) -> Value:
    return divide(ev.state, ev.value(node[1]), ev.value(node[2]))


def _pow(ev: Evaluation, node: Node) -> Value:
    if node[1] == _E and "\\e" not in ev.env:
        return exp(ev.state, ev.value(node[2]))
    if node[2][0] == "num" and node[2][1].denominator == 1:
        return whole_power(ev.state, ev.value(node[1]), node[2][1].numerator)
    return power(ev.state, ev.value(node[1]), ev.value(node[2]))


_E = ("const", "e")


def _call(ev: Evaluation, node: Node) -> Value:
    name = node[1]
    if name in ("det", "tr"):
        return _of_matrix(ev, name, node[2])
    function = FUNCTIONS.get(name)
    if function is None:
        raise Unsupported(f"no value: {name!s:.20}")
    angle, ev.angle = ev.angle, name in TRIGONOMETRIC
    try:
        arguments = [ev.value(child) for child in node[2:]]
    finally:
        ev.angle = angle
    if len(arguments) != 1 and not _takes(name, len(arguments)):
        raise Unsupported(f"{name} of {len(arguments)} arguments")
    try:
        return function(ev.state, *arguments)
    except TypeError:
        raise Unsupported(f"{name} of {len(arguments)} arguments") from None


def _takes(name: str, count: int) -> bool:
    if name in ("max", "min", "gcd", "lcm"):
        return 1 <= count <= 1000
    return count == 2 and name in ("root", "log", "mod", "binom", "perm")


def _of_matrix(ev: Evaluation, name: str, node: Node) -> Value:
    size = len(node[1]) if node[0] == "matrix" else 0
    if not 1 <= size <= LARGEST_MATRIX or any(len(row) != size for row in node[1]):
        raise Unsupported(f"{name} of this")
    if name == "tr":
        return _add(ev, ("add", *(row[i] for i, row in enumerate(node[1]))))
    rows = [[ev.value(child) for child in row] for row in node[1]]
    ev.state.spend(len(rows) ** 3 / 2)
    exact = [[v for v in row if isinstance(v, fmpq) and v.height_bits() <= 500] for row in rows]
    if all(len(row) == size for row in exact):
        return ev.state.fit(fmpq_mat(exact).det())
    balls = [[ev.state.ball(v) for v in row] for row in rows]
    for row in balls:
        for ball in row:
            note_summand(ev.state, ball)
    return acb_mat(balls).det()


def _degrees(ev: Evaluation, node: Node) -> Value:
    value = ev.value(node[1])
    return value * acb.pi() / 180 if ev.angle else value


def _percent(ev: Evaluation, node: Node) -> Value:
    return ev.value(node[1]) / 100


def _based(ev: Evaluation, node: Node) -> Value:
    if not (isinstance(node[2], int) and 2 <= node[2] <= 36 and len(node[1]) <= 1000):
        raise Unsupported("a base")
    try:
        return fmpq(int(node[1], node[2]))
    except ValueError:
        raise Unsupported("digits that the base lacks") from None


def _repeating(ev: Evaluation, node: Node) -> Value:
    """0.1 with 6 repeating is 0.1 + 0.0666..."""
    start, period = node[1], node[2]
    if not (period.isdecimal() and len(start) + len(period) < 200):
        raise Unsupported("a repeating decimal")
    try:
        value = Fraction(start)
    except ValueError:
        raise Unsupported("a repeating decimal") from None
    tail = Fraction(int(period), 10 ** len(start.partition(".")[2]) * (10 ** len(period) - 1))
    value = value - tail if start.startswith("-") else value + tail
    return fmpq(value.numerator, value.denominator)


def _sum(ev: Evaluation, node: Node) -> Value:
    total: Value = ZERO
    for k in _range(ev, node):
        term = ev.bound(node[1], k, node[4])
        if isinstance(term, acb):
            note_summand(ev.state, term)
        total = ev.state.fit(total + term) if isinstance(total, fmpq) and isinstance(term, fmpq) else total + term
    return total


def _prod(ev: Evaluation, node: Node) -> Value:
    total: Value = ONE
    for k in _range(ev, node):
        term = ev.bound(node[1], k, node[4])
        total = ev.state.fit(total * term) if isinstance(total, fmpq) and isinstance(term, fmpq) else total * term
    return total


def _range(ev: Evaluation, node: Node) -> Iterator[fmpq]:
    low, high = whole(ev.value(node[2])), whole(ev.value(node[3]))
    if low is None or high is None:
        raise Undefined("bounds that are not integers")
    if high - low >= MOST_TERMS:
        raise TooBig("terms")
    return (fmpq(k) for k in range(low, high + 1))


def _integral(ev: Evaluation, node: Node) -> Value:
    """A definite integral with a proven error; of an antiderivative, an unknown that is linear in the integrand."""
    variable, low, high, body = node[1:]
    if low is None or high is None:
        return _unknown(ev, variable, body, [fmpq(7, 3), fmpq(-5, 2), fmpq(11, 7)])
    if ev.state.integrand is not None:
        raise Unsupported("an integral in an integral")
    a, b = ev.value(low), ev.value(high)
    if not (is_real(a) and is_real(b)):
        raise Unsupported("complex bounds")
    state, step, scale = ev.state, ev.step, ev.state.scale
    state.coarse = True
    state.work(300)
    reserve = state.effort / 2

    def integrand(x: acb, analytic: bool) -> acb:
        state.integrand = analytic
        state.effort -= 10
        try:
            if state.effort < reserve:
                raise TooBig("the integral")
            return state.ball(ev.bound(variable, x, body))
        except (NoValue, RecursionError):
            return acb("nan")

    ev.step, state.scale = _step(128), 1.0
    try:
        with Precision(128):
            return acb.integral(integrand, state.ball(a), state.ball(b), eval_limit=500, depth_limit=60)
    finally:
        state.integrand, ev.step, state.scale = None, step, scale


def _limit(ev: Evaluation, node: Node) -> Value:
    """The body's value there where it is continuous; else an unknown, linear in the body, of where it goes."""
    _, variable, to, side, body = node
    if bound_name(variable) not in free_symbols(body):
        return ev.value(body)
    if ("const", "oo") not in (to, to[1]) and _is_continuous(body):
        with suppress(NoValue):
            return ev.bound(variable, ev.value(to), body)
    target = {("const", "oo"): fmpq(17, 5), ("neg", ("const", "oo")): fmpq(-23, 7)}.get(to)
    goal = ev.value(to) if target is None else target
    weights = [
        ev.state.ball(goal) + fmpq(crc32(f"{side}{j}".encode("utf-8", "surrogatepass")) % 1009, 64) for j in range(3)
    ]
    return _unknown(ev, variable, body, weights)


def _is_continuous(node: Node) -> bool:
    """Wherever it has a value: no steps in it, and nothing unknown."""
    if node[0] == "apply" or (node[0] == "call" and node[1] in STEPS):
        return False
    return all(_is_continuous(n) for n in node[1:] if isinstance(n, tuple) and n)


def _unknown(ev: Evaluation, variable: Any, body: Node, weights: Sequence[Value]) -> Value:
    ev.state.opaque = True
    total: Value = ZERO
    for x, weight in zip((fmpq(3, 8), fmpq(5, 4), fmpq(29, 16)), weights, strict=True):
        term = ev.bound(variable, x, body) * weight
        if isinstance(term, acb):
            note_summand(ev.state, term)
        total = total + term
    return total


def _derivative(ev: Evaluation, node: Node) -> Value:
    from guerdon_rewards.mathematics.derivative import derivative

    _, variable, order, body = node
    if isinstance(order, tuple):
        order = whole(ev.value(order))
    if not (isinstance(order, int) and 1 <= order <= 4):
        raise Unsupported("a derivative of this order")
    for _ in range(order):
        body = derivative(body, bound_name(variable), ev.state)
    return ev.value(body)


def _apply(ev: Evaluation, node: Node) -> Value:
    """An unknown function: a cubic polynomial that its name determines, so that f(x) + f(x) = 2 f(x), f(x) != g(x)."""
    seed = crc32(str(node[1]).encode("utf-8", "surrogatepass"))
    value: Value = fmpq(seed % 997 + 1, 64)
    for child in node[2:]:
        argument = ev.value(child)
        for _ in range(3):
            seed = crc32(seed.to_bytes(4, "big"))
            value = value * argument
            if isinstance(value, acb):
                note_summand(ev.state, value)
            value = value + fmpq(seed % 1999 - 999, 128)
    return ev.state.fit(value) if isinstance(value, fmpq) else value


_HANDLERS: dict[str, Callable[[Evaluation, Node], Value]] = {
    "num": _num,
    "sym": _sym,
    "const": _const,
    "neg": _neg,
    "add": _add,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "call": _call,
    "apply": _apply,
    "deg": _degrees,
    "percent": _percent,
    "base": _based,
    "repeat": _repeating,
    "sum": _sum,
    "prod": _prod,
    "int": _integral,
    "lim": _limit,
    "diff": _derivative,
}

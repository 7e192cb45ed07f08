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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from threading import RLock
from typing import Any
from zlib import crc32

from flint import acb, acb_mat, arb, ctx, fmpq, fmpq_mat

from guerdon_rewards.functions import (
    FUNCTIONS,
    IMAGINARY,
    ONE,
    TRIGONOMETRIC,
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

Node = tuple[Any, ...]

EFFORT = 6_000.0
"""What one question may cost, in units of roughly a microsecond."""
MOST_TERMS = 5_000
"""Terms of a sum or product."""
LARGEST_MATRIX = 8
"""Rows of a matrix whose determinant is taken."""
MOST_BITS, MOST_BITS_AT_POINTS = 20_000, 3_000
"""Precision beyond which nothing is looked for."""
BINDERS = frozenset(("sum", "prod", "int", "lim"))

_lock = RLock()  # flint's precision is one for the whole process


class _Precision:
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


# Evaluation


def evaluate(node: Node, point: Mapping[str, Value] | None = None, precision: int = 128) -> Value:
    """The value of a tree at a point: exact where it is rational, else a ball between 2^-100000 and 2^100000.

    Raises:
        Undefined: division by zero and the like.
        TooBig: beyond the bounds.
        Unsupported: structures, units, a variable that the point lacks.
    """
    with _Precision(min(max(precision, 32), MOST_BITS)):
        value = _Evaluation(point or {}, State(EFFORT)).total(node)
        return value if isinstance(value, fmpq) else _tame(value)


def _tame(value: acb) -> acb:
    """A ball that can be turned into fractions safely: neither huge nor tiny, nor with an error that is."""
    size = value.abs_upper()
    if not (size < _LARGE and (size > _TINY or size == 0)):
        raise TooBig("a number beyond 2^100000")
    if value.rel_accuracy_bits() > 2 * ctx.prec and not value.is_exact():
        blur = arb(0, (size * arb(2) ** (-2 * ctx.prec)).mid())
        return acb(value.real + blur, value.imag if value.imag.is_zero() else value.imag + blur)
    return value


_LARGE, _TINY = arb(2) ** 100_000, arb(2) ** -100_000


class _Evaluation:
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
        except RecursionError:
            raise TooBig("too deep") from None
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
        name = _name(variable)
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


def _name(variable: Any) -> str:
    """What a bound variable is called in the environment; a sum may bind i, the imaginary unit elsewhere."""
    if isinstance(variable, str):
        return variable
    if variable[0] in ("sym", "const"):
        return variable[1] if variable[0] == "sym" else f"\\{variable[1]}"
    raise Unsupported("a bound variable that is not a letter")


def _num(ev: _Evaluation, node: Node) -> Value:
    number = node[1]
    below = number.denominator
    value = fmpq(number.numerator) if below == 1 else fmpq(number.numerator, below)
    if (bits := value.height_bits()) > 1000:
        ev.state.work(bits / 30)
        return ev.state.fit(value)
    return value


def _sym(ev: _Evaluation, node: Node) -> Value:
    value = ev.env.get(node[1])
    if value is None:
        raise Unsupported(f"no value for {node[1]!s:.20}")
    return value


def _const(ev: _Evaluation, node: Node) -> Value:
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


def _neg(ev: _Evaluation, node: Node) -> Value:
    return -ev.value(node[1])


def _add(ev: _Evaluation, node: Node) -> Value:
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


def _mul(ev: _Evaluation, node: Node) -> Value:
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


def _div(ev: _Evaluation, node: Node) -> Value:
    return divide(ev.state, ev.value(node[1]), ev.value(node[2]))


def _pow(ev: _Evaluation, node: Node) -> Value:
    if node[1] == _E and "\\e" not in ev.env:
        return exp(ev.state, ev.value(node[2]))
    if node[2][0] == "num" and node[2][1].denominator == 1:
        return whole_power(ev.state, ev.value(node[1]), node[2][1].numerator)
    return power(ev.state, ev.value(node[1]), ev.value(node[2]))


_E = ("const", "e")


def _call(ev: _Evaluation, node: Node) -> Value:
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


def _of_matrix(ev: _Evaluation, name: str, node: Node) -> Value:
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
    return acb_mat([[ev.state.ball(v) for v in row] for row in rows]).det()


def _degrees(ev: _Evaluation, node: Node) -> Value:
    value = ev.value(node[1])
    return value * acb.pi() / 180 if ev.angle else value


def _percent(ev: _Evaluation, node: Node) -> Value:
    return ev.value(node[1]) / 100


def _based(ev: _Evaluation, node: Node) -> Value:
    if not (isinstance(node[2], int) and 2 <= node[2] <= 36 and len(node[1]) <= 1000):
        raise Unsupported("a base")
    try:
        return fmpq(int(node[1], node[2]))
    except ValueError:
        raise Unsupported("digits that the base lacks") from None


def _repeating(ev: _Evaluation, node: Node) -> Value:
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


def _sum(ev: _Evaluation, node: Node) -> Value:
    total: Value = ZERO
    for k in _range(ev, node):
        term = ev.bound(node[1], k, node[4])
        if isinstance(term, acb):
            note_summand(ev.state, term)
        total = ev.state.fit(total + term) if isinstance(total, fmpq) and isinstance(term, fmpq) else total + term
    return total


def _prod(ev: _Evaluation, node: Node) -> Value:
    total: Value = ONE
    for k in _range(ev, node):
        term = ev.bound(node[1], k, node[4])
        total = ev.state.fit(total * term) if isinstance(total, fmpq) and isinstance(term, fmpq) else total * term
    return total


def _range(ev: _Evaluation, node: Node) -> Iterator[fmpq]:
    low, high = whole(ev.value(node[2])), whole(ev.value(node[3]))
    if low is None or high is None:
        raise Undefined("bounds that are not integers")
    if high - low >= MOST_TERMS:
        raise TooBig("terms")
    return (fmpq(k) for k in range(low, high + 1))


def _integral(ev: _Evaluation, node: Node) -> Value:
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
        with _Precision(128):
            return acb.integral(integrand, state.ball(a), state.ball(b), eval_limit=500, depth_limit=60)
    finally:
        state.integrand, ev.step, state.scale = None, step, scale


def _limit(ev: _Evaluation, node: Node) -> Value:
    """An unknown that is linear in the body and depends on where the variable goes."""
    _, variable, to, side, body = node
    target = {("const", "oo"): fmpq(17, 5), ("neg", ("const", "oo")): fmpq(-23, 7)}.get(to)
    goal = ev.value(to) if target is None else target
    weights = [ev.state.ball(goal) + fmpq(crc32(f"{side}{j}".encode()) % 1009, 64) for j in range(3)]
    return _unknown(ev, variable, body, weights)


def _unknown(ev: _Evaluation, variable: Any, body: Node, weights: Sequence[Value]) -> Value:
    ev.state.opaque = True
    total: Value = ZERO
    for x, weight in zip((fmpq(3, 8), fmpq(5, 4), fmpq(29, 16)), weights, strict=True):
        total = total + ev.bound(variable, x, body) * weight
    return total


def _derivative(ev: _Evaluation, node: Node) -> Value:
    from guerdon_rewards.derivative import derivative

    _, variable, order, body = node
    if isinstance(order, tuple):
        order = whole(ev.value(order))
    if not (isinstance(order, int) and 1 <= order <= 4):
        raise Unsupported("a derivative of this order")
    for _ in range(order):
        body = derivative(body, _name(variable), ev.state)
    return ev.value(body)


def _apply(ev: _Evaluation, node: Node) -> Value:
    """An unknown function: a cubic polynomial that its name determines, so that f(x) + f(x) = 2 f(x), f(x) != g(x)."""
    seed = crc32(str(node[1]).encode())
    value: Value = fmpq(seed % 997 + 1, 64)
    for child in node[2:]:
        argument = ev.value(child)
        for _ in range(3):
            seed = crc32(seed.to_bytes(4, "big"))
            value = value * argument + fmpq(seed % 1999 - 999, 128)
    return ev.state.fit(value) if isinstance(value, fmpq) else value


_HANDLERS: dict[str, Callable[[_Evaluation, Node], Value]] = {
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


# Constants


def constant_equal(a: Node, b: Node) -> bool | None:
    """Whether two trees without variables have the same value; None where that cannot be told.

    >>> five, root = ("num", Fraction(5), Fraction(0)), ("call", "sqrt", ("num", Fraction(25), Fraction(0)))
    >>> constant_equal(root, five)
    True
    """
    first, second = _infinite(a), _infinite(b)
    if first or second:
        return first == second if first and second else None if _has_no_value(b if first else a) else False
    difference = _difference(a, b)
    return None if difference is None else difference == 0


def sign(node: Node) -> int | None:
    """-1, 0 or 1 for a real constant; None where that cannot be told."""
    return _infinite(node) or _real_sign(node, ("num", Fraction(0), Fraction(0)))


def less(a: Node, b: Node) -> bool | None:
    """Whether a < b for two real constants or infinities; None where that cannot be told."""
    first, second = _infinite(a), _infinite(b)
    if first or second:
        return first < second if first and second or not _has_no_value(b if first else a) else None
    difference = _real_sign(a, b)
    return None if difference is None else difference < 0


def _has_no_value(node: Node) -> bool:
    with _Precision(128):
        try:
            return not is_real(_Evaluation({}, State(EFFORT)).total(node))
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
        with _Precision(precision):
            values = []
            for node in (a, b):
                state = State(effort, exact_bits)
                try:
                    values.append(_Evaluation({}, state).total(node))
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
                    return ZERO if not rounded and _is_tight(values, difference, coarse) else None
        precision = 1000 + 2 * hidden
        if precision > MOST_BITS and not rounded:
            return None
        if rounded:
            precision, exact_bits, rounded = 1000, 100_000, False
    return None


def _is_tight(values: Iterable[Value], difference: acb, coarse: bool) -> bool:
    """Whether values that overlap are known to enough bits to be called equal."""
    size, error = max(abs(v) if isinstance(v, acb) else arb(abs(v)) for v in values), difference.abs_upper()
    if coarse and not error < arb(2) ** -40:
        return False
    return bool(error < max(size.abs_lower(), ONE_BALL) * arb(2) ** (-64 if coarse else -ctx.prec // 2))


ONE_BALL = arb(1)


# Expressions with variables


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
                inner = bound | {_name(node[1])}
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
        point = {name: _coordinate(crc32(name.encode()), index, name in wholes) for name in self.symbols}
        try:
            return _Evaluation(point, state).total(self.node), state
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
    random = crc32(f"{seed}/{index}".encode())
    if is_whole:
        return fmpq(_WHOLE[(index + seed) % len(_WHOLE)] + (random % 7 if index >= len(_WHOLE) else 0))
    low, high = _RANGES[index]
    return fmpq(256 * low + random % (128 * (high - low)) * 2 + 1, 256)


def free_symbols(node: Node) -> frozenset[str]:
    """The variables of a tree, those that sums, integrals and limits bind left out."""
    found: set[str] = set()
    stack: list[tuple[Any, frozenset[str]]] = [(node, frozenset())]
    while stack:
        item, bound = stack.pop()
        tag = item[0] if item else None
        if tag == "sym":
            if item[1] not in bound:
                found.add(item[1])
        elif tag in BINDERS:
            stack.extend((child, bound) for child in item[2:-1] if isinstance(child, tuple))
            stack.append((item[-1], bound | {_name(item[1])}))
        elif tag != "num":
            stack.extend((child, bound) for child in item if isinstance(child, tuple))
    return frozenset(found)


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

    >>> x, two = ("sym", "x"), ("num", Fraction(2), Fraction(0))
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
        with _Precision(precision):
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
    return True if _is_tight((x[0], y[0]), difference, x[1].coarse or y[1].coarse) else None

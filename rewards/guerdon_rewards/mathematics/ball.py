"""Numbers as the evaluator knows them, their budget, and powers, roots and logarithms of them.

Values are `fmpq` (exact) or `acb`, a ball: a complex number with a proven error; a real one has an imaginary part of
exactly zero. Each call is charged to a budget before it is made, and no exact number grows beyond a bound, so that
nothing here can take long or much memory. Odd roots of negative numbers are the real ones, (-8)^(1/3) = -2.
"""

from typing import TypeAlias

from flint import acb, arb, ctx, fmpq

Value: TypeAlias = fmpq | acb

ZERO, ONE = fmpq(0), fmpq(1)
IMAGINARY = acb(0, 1)
HUGE_EXPONENT = arb(2) ** 60  # beyond it, exp and powers over- or underflow


class NoValue(Exception):
    """The tree has no value here."""


class Undefined(NoValue):
    """Division by zero, log 0, a pole, or a ball too wide to tell."""


class TooBig(NoValue):
    """Beyond the bounds on time, digits or depth."""


class Unsupported(NoValue):
    """A node or an argument that the evaluator does not know."""


class State:
    """What an evaluation may still spend, and what it met on its way.

    effort: what is left, in units of roughly a microsecond.
    exact_bits: numerators and denominators beyond it become balls.
    left_reals: a real argument gave a value that is not real (the square root of a negative number).
    rounded: an exact number became a ball for its size, so overlapping balls do not speak for equality.
    coarse: an integral was computed to some 100 bits only.
    opaque: something unknown (a limit, an antiderivative) was replaced by a pseudo-random value.
    hidden_bits: a difference may hide this many bits below the leading one (1 + 10^-400, e^-1000).
    integrand: None outside of integrals, else whether the integrand has to be proven analytic on its argument.
    """

    __slots__ = (
        "coarse", "effort", "exact_bits", "hidden_bits", "integrand", "left_reals", "opaque", "rounded", "scale",
    )  # fmt: skip

    def __init__(self, effort: float, exact_bits: int = 4000) -> None:
        self.effort = effort
        self.exact_bits = exact_bits
        self.hidden_bits = 0
        self.integrand: bool | None = None
        self.left_reals = self.opaque = self.rounded = self.coarse = False
        self.scale = 1.0 if ctx.prec == 128 else (ctx.prec / 128) ** 1.5

    def spend(self, cost: float) -> None:
        """Charge for a function of balls, by its cost at 128 bits."""
        self.work(cost * self.scale)

    def work(self, cost: float) -> None:
        self.effort -= cost
        if self.effort < 0:
            raise TooBig("too much work")

    def fit(self, value: fmpq) -> Value:
        """The exact value, or a ball when it has outgrown its bound."""
        bits = value.height_bits()
        if bits <= self.exact_bits:
            if bits > 4000:
                self.work(bits / 500)
            return value
        self.rounded = True
        return self.ball(value)

    def ball(self, value: Value) -> acb:
        if isinstance(value, acb):
            return value
        if (bits := value.height_bits()) > self.hidden_bits:
            self.hidden_bits = bits
        return acb(value)


def is_real(value: Value) -> bool:
    return isinstance(value, fmpq) or value.imag.is_zero()


def note_summand(state: State, x: acb) -> None:
    """Beside a very large summand, or a very small one beside others, as many bits are hidden as its magnitude has."""
    size = abs(x)
    if not _SMALL < size < _BIG and size > 0:
        hide(state, size.log().abs_upper())


_SMALL, _BIG = arb(2) ** -50, arb(2) ** 50


def whole(value: Value) -> int | None:
    """The integer that the value is exactly, if any."""
    return int(value.p) if isinstance(value, fmpq) and value.q == 1 else None


def divide(state: State, a: Value, b: Value) -> Value:
    if isinstance(b, fmpq):
        if not b:
            raise Undefined("division by zero")
        return state.fit(a / b) if isinstance(a, fmpq) else a / b
    if isinstance(a, fmpq) and not a and not b.contains(0):
        return ZERO
    return state.ball(a) / b


# Powers, roots, logarithms


def power(state: State, a: Value, b: Value) -> Value:
    """a^b: exact where rational, the real root where b has an odd denominator, else the principal value."""
    if not isinstance(b, fmpq):
        return _general_power(state, a, b)
    if b.q == 1:
        return whole_power(state, a, int(b.p))
    if b.q <= 64 and isinstance(a, fmpq):
        return whole_power(state, _root(state, a, int(b.q)), int(b.p))
    if _is_negative(a) and b.q % 2:
        result = _general_power(state, -a, b)
        return -result if b.p % 2 else result
    return _general_power(state, a, b)


def whole_power(state: State, a: Value, n: int) -> Value:
    """a^n; 0^0 is 1."""
    if isinstance(a, fmpq):
        if n < 0 and not a:
            raise Undefined("division by zero")
        if a.height_bits() * abs(n) <= state.exact_bits:
            return a**n
        if a == 1 or a == -1:
            return a if n % 2 else ONE
        state.rounded = True
    elif n == 2:
        return a * a
    return _general_power(state, a, fmpq(n))


def _general_power(state: State, a: Value, b: Value) -> Value:
    state.spend(6)
    if isinstance(a, fmpq) and not a:
        if is_real(b) and (b if isinstance(b, fmpq) else b.real) > 0:
            return ZERO
        raise Undefined("a power of zero")
    x, y = state.ball(a), acb(b)
    _bounded_exponent(y)
    if state.integrand is not None and not (isinstance(b, fmpq) and b.q == 1):
        if not x.real > 0 and isinstance(b, fmpq) and b.q % 2:
            raise Unsupported("an odd root of what may be negative, in an integral")
        return x.pow(y, analytic=state.integrand)
    result = x**y
    if is_real(x) and not is_real(result):
        state.left_reals = True
    if not result.is_finite():
        raise (Undefined if x.contains(0) else TooBig)("a power")
    return result


def _bounded_exponent(x: acb) -> None:
    if not abs(x) < HUGE_EXPONENT:
        raise TooBig("an exponent")


def hide(state: State, size: arb) -> None:
    """A difference may hide below a number around e^-size."""
    state.hidden_bits = max(state.hidden_bits, int(float(size) * 1.45) if size < 1e15 else 1 << 50)


def sqrt(state: State, a: Value) -> Value:
    return _root(state, a, 2)


def root(state: State, a: Value, n: Value) -> Value:
    """The n-th root, a real one where n is odd."""
    k = whole(n)
    if k is None or k == 0:
        return power(state, a, divide(state, ONE, n))
    return _root(state, a, k) if k > 0 else divide(state, ONE, _root(state, a, -k))


def _root(state: State, a: Value, k: int) -> Value:
    if k > 1000:
        return power(state, a, fmpq(1, k))
    if isinstance(a, fmpq):
        if a < 0:
            positive = _positive_root(state, -a, k)
            if k % 2:
                return -positive
            state.left_reals = True
            turn = IMAGINARY if k == 2 else (acb.pi() * IMAGINARY / k).exp()
            return turn * positive
        return _positive_root(state, a, k)
    state.spend(3)
    if state.integrand is not None:
        if k % 2 and not a.real > 0:
            raise Unsupported("an odd root of what may be negative, in an integral")
        return a.sqrt(analytic=state.integrand) if k == 2 else a.pow(acb(1) / k, analytic=state.integrand)
    if _is_negative(a):
        if k % 2:
            return -(-a).root(k)
        state.left_reals = True
    return a.sqrt() if k == 2 else a.root(k)


def _positive_root(state: State, a: fmpq, k: int) -> Value:
    if not a:
        return ZERO
    if k <= 64:
        p, q = a.p, a.q
        rp = p.root(k)
        if rp**k == p:
            rq = q.root(k)
            if rq**k == q:
                return fmpq(rp, rq)
    state.spend(3)
    x = state.ball(a)
    return x.sqrt() if k == 2 else x.root(k)


def _is_negative(a: Value) -> bool:
    """Surely a negative real number."""
    return bool(a < 0) if isinstance(a, fmpq) else a.imag.is_zero() and bool(a.real < 0)


def exp(state: State, a: Value) -> Value:
    if isinstance(a, fmpq) and not a:
        return ONE
    state.spend(3)
    x = state.ball(a)
    _bounded_exponent(x)
    result = x.exp()
    if not result.is_finite():
        raise TooBig("exp")
    return result


def ln(state: State, a: Value) -> Value:
    if isinstance(a, fmpq):
        if not a:
            raise Undefined("the logarithm of zero")
        if a == 1:
            return ZERO
    state.spend(4)
    x = state.ball(a)
    if state.integrand is not None:
        return x.log(analytic=state.integrand)
    if _is_negative(a):
        state.left_reals = True
    return x.log()


def log(state: State, a: Value, base: Value | None = None) -> Value:
    """The logarithm to a base, natural without one; exact where both are powers of one rational (log_4 8 = 3/2)."""
    if base is None:
        return ln(state, a)
    result = divide(state, ln(state, a), ln(state, base))
    if isinstance(a, fmpq) and isinstance(base, fmpq) and isinstance(result, acb) and result.imag.is_zero():
        for m in (1, 2, 3, 4, 6):
            times = result.real * m
            n = times.mid().floor().unique_fmpz() if abs(times) < 4000 else None
            for k in () if n is None else (n, n + 1):
                if times.contains(k) and base.height_bits() * abs(int(k)) < 8000 and a**m == base ** int(k):
                    return fmpq(k, m)
    return result

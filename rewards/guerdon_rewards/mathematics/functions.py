"""The functions of the syntax tree: exact on rationals where the result is rational, else on balls."""

from collections.abc import Callable, Sequence
from math import log2

from flint import acb, arb, ctx, fmpq, fmpz

from guerdon_rewards.mathematics.ball import (
    ONE,
    ZERO,
    State,
    TooBig,
    Undefined,
    Unsupported,
    Value,
    divide,
    exp,
    hide,
    is_real,
    ln,
    log,
    root,
    sqrt,
    whole,
)

# Rounding, integers, order


def absolute(state: State, a: Value) -> Value:
    if state.integrand is not None:
        return state.ball(a).real_abs(analytic=state.integrand)
    return abs(a) if isinstance(a, fmpq) else acb(abs(a))


def floor(state: State, a: Value) -> Value:
    if isinstance(a, fmpq):
        return fmpq(a.floor())
    n = _real(state, a).floor()
    if not abs(n) < arb(2) ** state.exact_bits or (exact := n.unique_fmpz()) is None:
        raise Undefined("the ball is too wide to round")
    return fmpq(exact)


def ceil(state: State, a: Value) -> Value:
    return -floor(state, -a)


def sign(state: State, a: Value) -> Value:
    x = a if isinstance(a, fmpq) else _real(state, a)
    if x > 0:
        return ONE
    if x < 0:
        return -ONE
    if isinstance(a, fmpq):
        return ZERO
    raise Undefined("the ball is too wide for its sign")


def maximum(state: State, *values: Value) -> Value:
    exact = [v for v in values if isinstance(v, fmpq)]
    if len(exact) == len(values):
        return max(exact)
    best = _real(state, values[0])
    for v in values[1:]:
        best = best.max(_real(state, v))
    return acb(best)


def minimum(state: State, *values: Value) -> Value:
    return -maximum(state, *(-v for v in values))


def modulo(state: State, a: Value, b: Value) -> Value:
    quotient = floor(state, divide(state, a, b))
    result = a - quotient * b
    return state.fit(result) if isinstance(result, fmpq) else result


def gcd(state: State, *values: Value) -> Value:
    """Of fractions too: the largest that all are whole multiples of."""
    below = _denominator(state, values)
    result = fmpz(0)
    for v in values:
        result = result.gcd((v * below).p)
    return fmpq(result, below)


def lcm(state: State, *values: Value) -> Value:
    """Of fractions too: the least that is a whole multiple of all."""
    below = _denominator(state, values)
    result: Value = ONE
    for v in values:
        if not isinstance(result, fmpq):
            raise TooBig("lcm")
        result = state.fit(fmpq(result.p.lcm((v * below).p)))
    return result / below


def _denominator(state: State, values: Sequence[Value]) -> fmpz:
    """One that all have, of rational values."""
    below = fmpz(1)
    for v in values:
        if not isinstance(v, fmpq):
            raise Undefined("not a fraction")
        below = below.lcm(v.q)
        state.fit(fmpq(below))
    return below


def _real(state: State, a: Value) -> arb:
    if state.integrand is not None:
        raise Unsupported("a function that is not analytic, in an integral")
    x = state.ball(a)
    if not x.imag.is_zero():
        raise Undefined("not a real number")
    return x.real


def real_part(state: State, a: Value) -> Value:
    return a if isinstance(a, fmpq) else acb(_complex(state, a).real)


def imaginary_part(state: State, a: Value) -> Value:
    return ZERO if isinstance(a, fmpq) else acb(_complex(state, a).imag)


def conjugate(state: State, a: Value) -> Value:
    return a if isinstance(a, fmpq) else _complex(state, a).conjugate()


def argument(state: State, a: Value) -> Value:
    if isinstance(a, fmpq) and a > 0:
        return ZERO
    if isinstance(a, fmpq) and not a:
        raise Undefined("the argument of zero")
    return acb(_complex(state, state.ball(a)).arg())


def _complex(state: State, a: acb) -> acb:
    if state.integrand is not None:
        raise Unsupported("a function that is not analytic, in an integral")
    return a


# Factorials


def gamma(state: State, a: Value) -> Value:
    n = whole(a)
    if n is not None:
        if n <= 0:
            raise Undefined("a pole of gamma")
        if n * n.bit_length() <= state.exact_bits:
            return fmpq(fmpz.fac_ui(fmpz(n - 1)))
        state.rounded = True
    x = state.ball(a)
    state.spend(60 if abs(x.real) > 100 else 15)
    result = x.gamma()
    if n is not None and not result.is_finite():
        raise TooBig("gamma")
    return result


def factorial(state: State, a: Value) -> Value:
    return gamma(state, a + 1)


def permutations(state: State, n: Value, k: Value) -> Value:
    """n (n-1) ... (n-k+1), with gammas where k is no natural number."""
    count = whole(k)
    if count is None or count < 0:
        return divide(state, factorial(state, n), factorial(state, n - k))
    total = whole(n)
    if total is not None and 0 <= total < count:
        return ZERO
    if isinstance(n, fmpq) and count * (n.height_bits() + count.bit_length()) <= state.exact_bits:
        state.work(count)
        result = ONE
        for j in range(count):
            result *= n - j
        return result
    state.rounded |= isinstance(n, fmpq)
    return divide(state, factorial(state, n), factorial(state, n - k))


def binomial(state: State, n: Value, k: Value) -> Value:
    total, count = whole(n), whole(k)
    if count is not None:
        if count < 0:
            return ZERO
        if total is not None and total >= 0:
            if count > total:
                return ZERO
            count = min(count, total - count)
            if total < 1 << 60 and count * (1.45 + log2((total + 1) / (count + 1))) <= state.exact_bits:
                return fmpq(fmpz.bin_uiui(total, count))
        return divide(state, permutations(state, n, fmpq(count)), factorial(state, fmpq(count)))
    below = state.ball(n) - k
    return state.ball(factorial(state, n)) * (state.ball(k) + 1).rgamma() * (below + 1).rgamma()


def zeta(state: State, a: Value) -> Value:
    if isinstance(a, fmpq) and a == 1:
        raise Undefined("the pole of zeta")
    x = state.ball(a)
    if not (abs(x.imag) < 1000 and abs(x.real) < 1e6) or ctx.prec > 4000:
        raise TooBig("zeta")
    state.spend(100 if is_real(x) else 1000)
    return x.zeta()


def erf(state: State, a: Value) -> Value:
    if isinstance(a, fmpq) and not a:
        return ZERO
    state.spend(30)
    x = state.ball(a)
    _note_tail(state, x * x)
    return x.erf()


def _note_tail(state: State, x: acb) -> None:
    """tanh and erf come as close to 1 as exp(-2x) is to 0; sinh and cosh as close to one another."""
    size = abs(x).abs_upper()
    if size > 20:
        hide(state, 2 * size)


# Trigonometric and hyperbolic functions, from ball arithmetic


def _entire(name: str, at_zero: Value | None = None, cost: float = 4) -> Callable[[State, Value], Value]:
    """A function without branch cuts, by acb's name for it."""
    call: Callable[[acb], acb] = getattr(acb, name)

    def function(state: State, a: Value) -> Value:
        if isinstance(a, fmpq) and not a:
            if at_zero is None:
                raise Undefined("a pole")
            return at_zero
        state.spend(cost)
        return call(state.ball(a))

    return function


def _tail(function: Callable[[State, Value], Value]) -> Callable[[State, Value], Value]:
    def with_tail(state: State, a: Value) -> Value:
        _note_tail(state, state.ball(a))
        return function(state, a)

    return with_tail


def _inverse(name: str, cut: str, at_zero: Value | None = None) -> Callable[[State, Value], Value]:
    """An inverse function, real where `cut` says so: "unit" inside [-1, 1], "one" from 1 on, "" everywhere."""
    call: Callable[[acb], acb] = getattr(acb, name)

    def function(state: State, a: Value) -> Value:
        if isinstance(a, fmpq) and not a and at_zero is not None:
            return at_zero
        state.spend(8)
        x = state.ball(a)
        if state.integrand and not _off_the_cut(x, cut):
            return acb("nan")
        result = call(x)
        if cut and not state.left_reals and is_real(x) and not is_real(result):
            state.left_reals = True
        return result

    return function


def _off_the_cut(x: acb, cut: str) -> bool:
    if cut == "unit":
        return bool(abs(x.real) < 1 or abs(x.imag) > 0)
    if cut == "one":
        return bool(x.real > 1 or abs(x.imag) > 0)
    return bool(abs(x.imag) < 1 or abs(x.real) > 0)


def _of_reciprocal(function: Callable[[State, Value], Value]) -> Callable[[State, Value], Value]:
    return lambda state, a: function(state, divide(state, ONE, a))


_asin, _acos = _inverse("asin", "unit", ZERO), _inverse("acos", "unit")
_atan = _inverse("atan", "", ZERO)
_asinh, _acosh, _atanh = _inverse("asinh", "", ZERO), _inverse("acosh", "one"), _inverse("atanh", "unit", ZERO)


def _acot(state: State, a: Value) -> Value:
    """Between 0 and pi, continuous."""
    return acb.pi() / 2 - _atan(state, a)


TRIGONOMETRIC: dict[str, Callable[..., Value]] = {
    "sin": _entire("sin", ZERO),
    "cos": _entire("cos", ONE),
    "tan": _entire("tan", ZERO),
    "cot": _entire("cot"),
    "sec": _entire("sec", ONE),
    "csc": _entire("csc"),
}

FUNCTIONS: dict[str, Callable[..., Value]] = TRIGONOMETRIC | {
    "arcsin": _asin,
    "arccos": _acos,
    "arctan": _atan,
    "arccot": _acot,
    "arcsec": _of_reciprocal(_acos),
    "arccsc": _of_reciprocal(_asin),
    "sinh": _tail(_entire("sinh", ZERO)),
    "cosh": _tail(_entire("cosh", ONE)),
    "tanh": _tail(_entire("tanh", ZERO)),
    "coth": _tail(_entire("coth")),
    "sech": _tail(_entire("sech", ONE)),
    "csch": _tail(_entire("csch")),
    "arsinh": _asinh,
    "arcosh": _acosh,
    "artanh": _atanh,
    "arcoth": _of_reciprocal(_atanh),
    "arsech": _of_reciprocal(_acosh),
    "arcsch": _of_reciprocal(_asinh),
    "sqrt": sqrt,
    "root": root,
    "exp": exp,
    "ln": ln,
    "log": log,
    "abs": absolute,
    "floor": floor,
    "ceil": ceil,
    "sign": sign,
    "max": maximum,
    "min": minimum,
    "mod": modulo,
    "gcd": gcd,
    "lcm": lcm,
    "re": real_part,
    "im": imaginary_part,
    "conj": conjugate,
    "arg": argument,
    "fact": factorial,
    "gamma": gamma,
    "perm": permutations,
    "binom": binomial,
    "zeta": zeta,
    "erf": erf,
}

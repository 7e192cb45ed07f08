"""The last stage: sympy, for what values at points cannot settle (limits, infinite sums, open integrals).

Expressions are built node by node from the syntax tree, never from a string, so that nothing which an answer says is
executed. sympy may take any time and memory: call `equal` through `guerdon.workers.isolated`, or in a worker.
"""

from collections.abc import Callable
from typing import Any

from guerdon_rewards.mathematics.syntax import Node


class NotSymbolic(Exception):
    """A tree that has no counterpart in sympy."""


def warm_up() -> None:
    """Import what the first call needs."""
    import sympy

    sympy.simplify(sympy.Symbol("x") - 1)


def equal(reference: Node, answer: Node) -> bool | None:
    """Whether two expressions are the same function of their letters; None where sympy cannot tell."""
    import sympy

    try:
        first, second = expression(reference), expression(answer)
    except NotSymbolic:
        return None
    difference = sympy.simplify((first - second).doit())
    if difference == 0:
        return True
    if difference.is_number and difference.is_finite:
        return bool(abs(difference.evalf(50)) < sympy.Float("1e-40", 50)) and None
    return False if difference.is_nonzero else None


def expression(node: Node) -> Any:
    """A tree as a sympy expression; letters are real.

    Raises:
        NotSymbolic: it holds something that sympy has no word for.
    """
    import sympy

    tag, rest = node[0], node[1:]
    if tag == "num":
        return sympy.Rational(node[1].numerator, node[1].denominator)
    if tag == "sym":
        return sympy.Symbol(node[1], real=True)
    if tag == "const":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}[node[1]]
    if tag == "call":
        return _called(node[1], [expression(n) for n in node[2:]])
    if tag in _BOUND:
        return _BOUND[tag](*rest)
    if tag == "percent":
        return expression(node[1]) / 100
    if tag not in _ARITHMETIC:
        raise NotSymbolic(tag)
    return _ARITHMETIC[tag](*(expression(n) for n in rest))


def _product(*factors: Any) -> Any:
    import sympy

    return sympy.Mul(*factors)


def _sum(*terms: Any) -> Any:
    import sympy

    return sympy.Add(*terms)


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "neg": lambda a: -a,
    "add": _sum,
    "mul": _product,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
}


def _called(name: str, values: list[Any]) -> Any:
    import sympy

    if name == "root" and len(values) == 2:
        return sympy.real_root(*values)
    if name == "log" and len(values) == 2:
        return sympy.log(*values)
    function = getattr(sympy, _NAMES.get(name, name), None) if name in _KNOWN else None
    if function is None:
        raise NotSymbolic(name)
    return function(*values)


_NAMES = {
    "abs": "Abs", "ceil": "ceiling", "fact": "factorial", "binom": "binomial", "ln": "log", "mod": "Mod",
    "max": "Max", "min": "Min", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot",
    "arcsec": "asec", "arccsc": "acsc", "arsinh": "asinh", "arcosh": "acosh", "artanh": "atanh", "conj": "conjugate",
}  # fmt: skip
_KNOWN = frozenset(
    "sqrt exp log sin cos tan cot sec csc sinh cosh tanh coth sech csch gcd lcm gamma erf zeta re im arg floor"
    " sign".split()
) | set(_NAMES)


def _variable(node: Node) -> Any:
    if node[0] != "sym":
        raise NotSymbolic("a bound variable")
    return expression(node)


def _integral(variable: Node, low: Node | None, high: Node | None, body: Node) -> Any:
    import sympy

    x, inside = _variable(variable), expression(body)
    if low is None or high is None:
        return sympy.integrate(inside, x)
    return sympy.integrate(inside, (x, expression(low), expression(high)))


def _limit(variable: Node, to: Node, side: str, body: Node) -> Any:
    import sympy

    return sympy.limit(expression(body), _variable(variable), expression(to), side or "+-")


def _summed(variable: Node, low: Node, high: Node, body: Node) -> Any:
    import sympy

    return sympy.summation(expression(body), (_variable(variable), expression(low), expression(high)))


def _multiplied(variable: Node, low: Node, high: Node, body: Node) -> Any:
    import sympy

    return sympy.product(expression(body), (_variable(variable), expression(low), expression(high)))


def _derivative(variable: Node, order: int, body: Node) -> Any:
    import sympy

    return sympy.diff(expression(body), _variable(variable), order)


_BOUND: dict[str, Callable[..., Any]] = {
    "int": _integral,
    "lim": _limit,
    "sum": _summed,
    "prod": _multiplied,
    "diff": _derivative,
}

"""Derivatives of syntax trees, by rule."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from guerdon_rewards.mathematics.ball import State, Unsupported
from guerdon_rewards.mathematics.tree import Node


def derivative(node: Node, variable: str, state: State) -> Node:
    """The derivative with respect to a variable, not simplified beyond leaving out zeros.

    Raises:
        Unsupported: a node without a rule.
        TooBig: the state's effort is used up.
    """
    return _Derivation(variable, state).of(node)


class _Derivation:
    def __init__(self, variable: str, state: State) -> None:
        self.variable = variable
        self.state = state

    def of(self, node: Node) -> Node:
        tag = node[0]
        if tag == "sym":
            return ONE if node[1] == self.variable else ZERO
        if not self.depends(node):
            return ZERO
        if tag == "neg":
            return "neg", self.of(node[1])
        if tag == "add":
            return _added([self.of(child) for child in node[1:]])
        if tag == "mul":
            return self.product(node[1:])
        if tag == "div":
            above, below = node[1:]
            if not self.depends(below):
                return "div", self.of(above), below
            return self.product((above, ("pow", below, MINUS_ONE)))
        if tag == "pow":
            return self.power(node[1], node[2])
        if tag == "call":
            return self.call(node)
        if tag == "apply":  # f'0, f'1 ... stand for the unknown partial derivatives
            return _added([("mul", ("apply", f"{node[1]}'{i}", *node[2:]), self.of(a)) for i, a in enumerate(node[2:])])
        if tag == "sum" and not self.depends(node[2:4]):
            return (*node[:4], self.of(node[4]))
        raise Unsupported(f"the derivative of {tag!s:.20}")

    def product(self, factors: tuple[Node, ...]) -> Node:
        derivatives = [self.of(factor) for factor in factors]
        self.state.work(len(factors) ** 2 / 10)
        return _added([
            ZERO if d == ZERO else ("mul", *factors[:i], d, *factors[i + 1 :]) for i, d in enumerate(derivatives)
        ])  # fmt: skip

    def power(self, base: Node, exponent: Node) -> Node:
        by_base = by_exponent = ZERO
        if self.depends(base):
            by_base = ("mul", exponent, ("pow", base, _minus(exponent, ONE)), self.of(base))
        if self.depends(exponent):
            by_exponent = ("mul", ("pow", base, exponent), _call("ln", base), self.of(exponent))
        return _added([by_base, by_exponent])

    def call(self, node: Node) -> Node:
        name, inner, *more = node[1:]
        rule = _RULES.get(name)
        if rule is not None and not more:
            return "mul", rule(inner), self.of(inner)
        if len(more) == 1 and not self.depends(more[0]):
            if name == "root":
                return self.power(inner, _over(more[0]))
            if name == "log":
                return "div", self.of(_call("ln", inner)), _call("ln", more[0])
        raise Unsupported(f"the derivative of {name!s:.20}")

    def depends(self, node: Any) -> bool:
        self.state.work(0.5)
        if not isinstance(node, tuple):
            return False
        if node and node[0] == "sym":
            return bool(node[1] == self.variable)
        return any(self.depends(child) for child in node)


def _added(terms: list[Node]) -> Node:
    kept = [term for term in terms if term != ZERO]
    return ("add", *kept) if kept else ZERO


def _number(value: int) -> Node:
    return "num", Fraction(value), Fraction(0)


ZERO, ONE, TWO, MINUS_ONE = _number(0), _number(1), _number(2), _number(-1)


def _call(name: str, a: Node) -> Node:
    return "call", name, a


def _square(a: Node) -> Node:
    return "pow", a, TWO


def _minus(a: Node, b: Node) -> Node:
    return "add", a, ("neg", b)


def _over(a: Node) -> Node:
    return "div", ONE, a


_RULES: dict[str, Callable[[Node], Node]] = {
    "sin": lambda a: _call("cos", a),
    "cos": lambda a: ("neg", _call("sin", a)),
    "tan": lambda a: _square(_call("sec", a)),
    "cot": lambda a: ("neg", _square(_call("csc", a))),
    "sec": lambda a: ("mul", _call("sec", a), _call("tan", a)),
    "csc": lambda a: ("neg", ("mul", _call("csc", a), _call("cot", a))),
    "arcsin": lambda a: _over(_call("sqrt", _minus(ONE, _square(a)))),
    "arccos": lambda a: ("neg", _over(_call("sqrt", _minus(ONE, _square(a))))),
    "arctan": lambda a: _over(("add", ONE, _square(a))),
    "arccot": lambda a: ("neg", _over(("add", ONE, _square(a)))),
    "sinh": lambda a: _call("cosh", a),
    "cosh": lambda a: _call("sinh", a),
    "tanh": lambda a: _square(_call("sech", a)),
    "arsinh": lambda a: _over(_call("sqrt", ("add", ONE, _square(a)))),
    "arcosh": lambda a: _over(_call("sqrt", _minus(_square(a), ONE))),
    "artanh": lambda a: _over(_minus(ONE, _square(a))),
    "exp": lambda a: _call("exp", a),
    "ln": _over,
    "log": _over,
    "sqrt": lambda a: ("div", ONE, ("mul", TWO, _call("sqrt", a))),
    "abs": lambda a: _call("sign", a),
    "erf": lambda a: ("div", ("mul", TWO, _call("exp", ("neg", _square(a)))), _call("sqrt", ("const", "pi"))),
}

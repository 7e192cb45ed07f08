"""Definitions, equations and inequalities: what may stand for what."""

from typing import TYPE_CHECKING

from guerdon_rewards.mathematics.evaluate import proportional
from guerdon_rewards.mathematics.facts import STRUCTURES, expression, facts
from guerdon_rewards.mathematics.regions import subjects_of, substituted
from guerdon_rewards.mathematics.statements import may_be_one
from guerdon_rewards.mathematics.tree import Node

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.compare import Comparison

Answer = bool | None
WHOLE_LETTERS = frozenset("knmljtpqrs")
"""Letters that stand for any integer where a remark or a period says so."""
_COUNTS: dict[Node, str] = {("sym", "C"): "binom"}
_TURNED = {">": "<", ">=": "<=", "supset": "subset", "ni": "in"}
_UPRIGHT = frozenset(("<", "<=", "subset", "in"))
_COMPARABLE = frozenset(("=", "!=", "<", "<="))


# definitions ----------------------------------------------------------------------------------------------------------


def definitions(rule: "Comparison", a: Node, b: Node) -> Answer:
    """At least one of the two is `name = value`."""
    if a[0] == b[0]:
        return _two_definitions(rule, a, b)
    if rule.strict:
        return _as_relations(rule, a, b) if "rel" in (a[0], b[0]) else False
    if a[0] == "rel" or b[0] == "rel":
        answer = _as_relations(rule, a, b)
        if answer or "=" in (a[1] if a[0] == "rel" else b[1]):
            return answer
    name, value, other = (a[1], a[2], b) if a[0] == "def" else (b[1], b[2], a)
    if name[0] == value[0] == "tuple" and other[0] == "list" and len(name) == len(value):
        apart: Node = ("list", *(("rel", ("=",), pair) for pair in zip(name[1:], value[1:], strict=True)))
        return rule.same(apart, other) if a[0] == "def" else rule.same(other, apart)
    if not _about(name, other):
        return False
    if name in _COUNTS and value[0] == "tuple" and len(value) == 3 and facts(other).value is not None:
        value = ("call", _COUNTS[name], *value[1:])  # C(5, 2), which beside a point is one
    first, second = (value, other) if a[0] == "def" else (other, value)
    answer = rule.same(first, second)
    if answer is not True and renamed(rule, first, second):
        return True
    if answer is not True and a[0] == "def" and value[0] != "def":
        return _as_relations(rule, a, b) if facts(value).letters and _is_equation(b) else answer
    return answer


def _is_equation(node: Node) -> bool:
    return bool(node[0] == "rel" and node[1] == ("=",))


def _about(name: Node, other: Node) -> bool:
    """Whether a statement without a definition may be about the name: no other letter stands on its own in it."""
    subjects = subjects_of(other)
    return not subjects or all(may_be_one(name, subject) for subject in subjects)


def _as_relations(rule: "Comparison", a: Node, b: Node) -> Answer:
    first, second = (("rel", ("=",), n[1:]) if n[0] == "def" else n for n in (a, b))
    return relations(rule, first, second)


def _two_definitions(rule: "Comparison", a: Node, b: Node) -> Answer:
    first, second = a[1], b[1]
    if first[0] == second[0] == "apply" and len(first) == len(second):
        return _two_functions(rule, a, b)
    if rule.strict and first != second:
        return _as_relations(rule, a, b)
    if may_be_one(first, second):
        answer = rule.same(a[2], b[2])
        if answer:
            return True
        if first == second and not rule.strict and renamed(rule, a[2], b[2]):
            return True
        if answer is False and not (facts(a[2]).letters or facts(b[2]).letters):
            return False
        if not facts(a).letters & facts(b[2]).letters and first != second:
            return answer
    return _as_relations(rule, a, b)


def _two_functions(rule: "Comparison", a: Node, b: Node) -> Answer:
    """`f(n) = 2n` and `f(m) = 2m`; `f(1) = 2` and `f(2) = 2` differ."""
    if not may_be_one(a[1], b[1]):
        return False
    value = b[2]
    pairs = list(zip(a[1][2:], b[1][2:], strict=True))
    for new, old in pairs:
        if old[0] == "sym" and new[0] == "sym":
            if old != new:
                if new[1] in facts(value).letters or len(pairs) > 1:
                    return None
                if old[1] not in facts(value).letters and not (old[1].islower() and new[1].islower()):
                    return False  # P(A) is not P(B)
                value = substituted(value, old[1], new)
        elif not rule.same(new, old):
            return False
    return rule.same(a[2], value)


def renamed(rule: "Comparison", a: Node, b: Node, whole: bool = False) -> bool:
    """`k pi` and `n pi`: one free integer, named otherwise. `whole`: something says that it is one."""
    if facts(a).structured and a[0] not in ("tuple", "list", "or", "set"):
        return False
    first, second = facts(a).letters, facts(b).letters
    if len(first) != 1 or len(second) != 1 or first == second:
        return False
    (new,), (old,) = first, second
    if whole:
        fits = old in WHOLE_LETTERS or new in WHOLE_LETTERS
    else:
        periods = ("const", "pi") in _constants(a) and ("const", "pi") in _constants(b)
        fits = periods and old in WHOLE_LETTERS and new in WHOLE_LETTERS
    return fits and bool(rule.same(a, substituted(b, old, ("sym", new))))


def _constants(node: Node) -> set[Node]:
    found, stack = set(), [node]
    while stack:
        item = stack.pop()
        if item and item[0] == "const":
            found.add(item)
        stack.extend(child for child in item if isinstance(child, tuple))
    return found


# relations ------------------------------------------------------------------------------------------------------------


def relations(rule: "Comparison", a: Node, b: Node) -> Answer:
    """Equations and inequalities as they stand: the same, up to a constant factor and the sides' order."""
    if a[0] != "rel" or b[0] != "rel":
        if not rule.strict and (_is_equation(a) or _is_equation(b)):
            return _solved_for(a, b) if a[0] == "rel" else _solved_for(b, a)
        return False
    if len(a[1]) == len(b[1]):
        first_ops, first = _forward(a)
        for ops, operands in (_forward(b), _backward(b)):
            if ops == first_ops and all(rule.same(x, y) for x, y in zip(first, operands, strict=True)):
                return True
    if a[1] == b[1] == ("equiv", "mod"):
        return _congruent(rule, a, b)
    if len(a[1]) != 1 or len(b[1]) != 1:
        return False
    (op, left), (other_op, right) = _difference(a), _difference(b)
    if op != other_op:
        return False
    if op not in _COMPARABLE or facts(left).structured or facts(right).structured:
        return None if op == other_op and op in _COMPARABLE else False
    if facts(left).letters != facts(right).letters or not facts(left).letters:
        return False
    if not rule.spend(8):
        return None
    ratio = proportional(expression(left), expression(right))
    if ratio is None:
        return False
    return op in ("=", "!=") or bool(ratio > 0)


def _congruent(rule: "Comparison", a: Node, b: Node) -> Answer:
    """`x = 10 (mod 7)` and `x = 3 (mod 7)`."""
    (name, value, modulus), (other_name, other, other_modulus) = a[2], b[2]
    first, second = facts(modulus).value, facts(("add", value, ("neg", other))).value
    if first is None or second is None or not rule.same(name, other_name):
        return False
    return bool(first) and first == facts(other_modulus).value and (second / first).denominator == 1


def _forward(node: Node) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    if any(op in _TURNED for op in node[1]) and _UPRIGHT.isdisjoint(node[1]):
        return tuple(_TURNED.get(op, op) for op in reversed(node[1])), tuple(reversed(node[2]))
    return node[1], node[2]


def _backward(node: Node) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    """Where an equation stands the other way round."""
    if {"=", "!=", "parallel", "perp"}.issuperset(node[1]):
        return node[1], tuple(reversed(node[2]))
    return (), ()


def _difference(node: Node) -> tuple[str, Node]:
    """The sign that stands between left side minus right side and 0."""
    ops, operands = _forward(node)
    known = facts(node)
    if known.difference is None:
        known.difference = ("add", operands[0], ("neg", operands[1]))
    return ops[0], known.difference


def _solved_for(equation: Node, other: Node) -> Answer:
    """An equation against an expression: the equation solved for the letter that the expression lacks."""
    if other[0] in STRUCTURES or facts(other).structured or not facts(other).letters:
        return False
    _, difference = _difference(equation)
    if facts(difference).structured:
        return False
    missing = facts(difference).letters - facts(other).letters
    if "y" in missing:
        missing = frozenset("y")
    if len(missing) != 1:
        return False
    (letter,) = missing
    return proportional(difference, ("add", ("sym", letter), ("neg", other))) is not None

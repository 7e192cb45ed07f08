"""What a statement says: a value, the definition of a name, a relation, or something false."""

from fractions import Fraction

from guerdon_rewards.mathematics.evaluate import constant_equal, less
from guerdon_rewards.mathematics.facts import facts
from guerdon_rewards.mathematics.rounding import near
from guerdon_rewards.mathematics.tree import Node, number
from guerdon_rewards.mathematics.words import same_words

FALSE: Node = ("false",)
ANGLE = "∠"
_VALUE_SIGNS = frozenset(("=", "~"))
_NAMES = frozenset(("sym", "text", "apply", "mul", "div", "call", "tuple", "ratio"))
_TURN: Node = ("div", ("const", "pi"), number(180))
_MEASURING = frozenset(
    "sin cos tan cot sec csc re im arg det tr gcd lcm max min binom perm floor ceil sign sinh cosh tanh".split()
)
"""Functions whose value is asked for: who writes `sqrt(x) = 3` has not said what x is."""
_UNKNOWNS = frozenset("xyt")
_COORDINATES = frozenset("xyz")
_DEPENDENT = frozenset("yzw")


def said(node: Node) -> Node:
    """`x = 2 + 3 = 5` defines x as 5, and so does `x in {5}` as a set; `3 = 3.0` says 3; `41 = 42` is false."""
    tag = node[0]
    if tag == "mul":
        return _without_remark(node)
    if tag != "rel":
        return node
    ops, operands = node[1], node[2]
    if ops == ("in",):
        return ("def", operands[0], operands[1])
    if ops == ("to",) and operands[0][0] == "sym":
        return ("def", ("apply", "", operands[0]), operands[1])
    if not _VALUE_SIGNS.issuperset(ops):
        return node
    if "~" in ops:
        shorter = _without_rounding(ops, operands)
        if shorter is None:
            return node
        ops, operands = shorter
    if not ops:
        return said(operands[0])
    return _equation(ops, operands)


def _without_rounding(
    ops: tuple[str, ...], operands: tuple[Node, ...]
) -> tuple[tuple[str, ...], tuple[Node, ...]] | None:
    """`x = 1/3 = about 0.333` says 1/3; `x is about 0.333` says that much; `12 is about 13` says nothing."""
    at = ops.index("~")
    named = is_name(operands[0])
    if at == 0 and named:
        return ("=",), operands[:2]
    if not named and not _about(operands[at], operands[at + 1]):
        return None
    return ops[:at], operands[: at + 1]


def _about(a: Node, b: Node) -> bool:
    if facts(a).letters or facts(b).letters or facts(a).structured or facts(b).structured:
        return True
    first, second = plain(a), plain(b)
    if near(first, second):
        return True
    apart: Node = ("call", "abs", ("add", first, ("neg", second)))
    whole = [n for n in (first, second) if n[0] == "num" and n[1].denominator == 1]
    allowed = number(Fraction(1, 2)) if len(whole) == 1 else ("mul", ("call", "abs", first), number(Fraction(1, 100)))
    return less(apart, allowed) is True


def _equation(ops: tuple[str, ...], operands: tuple[Node, ...]) -> Node:
    last = operands[-1]
    if len(operands) == 2 and is_name(last) and not is_name(operands[0]) and not facts(operands[0]).letters:
        operands = operands[::-1]  # 5 = x
    named = is_name(operands[0])
    names = 1 + sum(is_name(n) for n in operands[1:-1]) if named else 0
    if names > 1 and names == len(operands) - 1:  # x = y = z = 2
        return "def", ("tuple", *operands[:-1]), last
    values = operands[1:] if named else operands
    if len(values) > 1:
        if any(facts(v).structured or facts(v).letters for v in values):
            if not named:
                return "rel", ops, operands
        elif (not named or values[0][0] == "num") and any(_differ(values[0], v) for v in values[1:]):
            return FALSE  # but x = 5 + 5 = 11 says 11
    return ("def", operands[0], values[-1]) if named else values[-1]


def _differ(a: Node, b: Node) -> bool:
    first, second = plain(a), plain(b)
    if constant_equal(first, second) is not False or near(first, second):
        return False
    if "deg" not in (a[0], b[0]) or a[0] == b[0]:
        return True
    first, second = (("mul", n[1], _TURN) if n[0] == "deg" else n for n in (a, b))
    return constant_equal(first, second) is False


def measured(node: Node, asked: frozenset[str], plainly: bool = False) -> Node | None:
    """The value that an equation gives to a quantity: `|z| = 5`, `a + b = 3 + 4 = 7`, `sin(t) = 1/3`, `A^{-1} = M`.

    For an answer to a reference that is a value alone, with `asked` as its letters. `x^2 = 4` and `a + 3z = 0` are
    equations and give no value. `plainly`: nothing else can be meant, so that a reference may say it so.
    """
    if node[0] != "rel" or set(node[1]) != {"="}:
        return None
    quantity, *values = node[2]
    letters = facts(quantity).letters
    if letters & asked or any(facts(v).letters & letters for v in values) or facts(values[-1]).value == 0:
        return None
    if not _is_quantity(quantity, values[-1], plainly):
        return None
    if any(facts(v).structured or facts(v).letters or _differ(values[-1], v) for v in values[:-1]):
        return None
    value: Node = values[-1]
    return value


def _is_quantity(node: Node, value: Node, plainly: bool) -> bool:
    known = facts(node)
    if not known.letters or not {"rel", "list", "num"}.isdisjoint((node[0],)):
        return False
    if facts(value).structured:
        return True
    if plainly and not (node[0] == "call" and (node[1] in _MEASURING or any("vec_" in n for n in known.letters))):
        return False
    if len(known.letters) > 1:  # 2x + 3y = 6 is a line
        return not known.letters <= _COORDINATES or not _has_coefficient(node)
    if node[0] == "call" and node[1] == "abs":
        return known.letters.isdisjoint(_UNKNOWNS)
    return node[0] == "apply" or (node[0] == "call" and node[1] in _MEASURING)


def _without_remark(node: Node) -> Node:
    """`A(1, 2)` names a point; `k pi (k in Z)` carries a remark."""
    last = node[-1]
    if last[0] == "tuple" and len(node) == 3 and node[1][0] == "sym" and len(last) > 2:
        return "def", node[1], last
    return node


def plain(node: Node) -> Node:
    """Without unit and degree sign."""
    return plain(node[1]) if node[0] in ("unit", "deg") else node


def _has_coefficient(node: Node) -> bool:
    if node[0] == "pow":
        return _has_coefficient(node[1])
    return node[0] == "num" or any(_has_coefficient(n) for n in node[1:] if isinstance(n, tuple) and n)


def truth(node: Node) -> bool | None:
    """Whether a relation between numbers or finite sets holds; None where that cannot be told."""
    if node[0] != "rel" or facts(node).letters or len(node[1]) != 1:
        return None
    (op,), (a, b) = node[1], node[2]
    if op in ("subset", "supset", "in"):
        a, b = (b, a) if op == "supset" else (a, b)
        items = (a,) if op == "in" else a[1:] if a[0] == "set" else ()
        keys = [{facts(n).key for n in part} for part in (items, b[1:])]
        return None if b[0] != "set" or not items or None in keys[0] | keys[1] else keys[0] <= keys[1]
    if facts(a).structured or facts(b).structured:
        return None
    if op in ("=", "!="):
        equal = constant_equal(a, b)
        return None if equal is None else equal == (op == "=")
    if op in ("<", ">="):
        below = less(a, b)
        return None if below is None else below == (op == "<")
    below = less(b, a) if op in (">", "<=") else None
    return None if below is None else below == (op == ">")


def is_name(node: Node) -> bool:
    """`x`, `AB`, `f(x)`, `P(X = 1)`, `|AB|`, `NO/BO`, `(x, y)`, `Area`: what a value can be given to."""
    tag = node[0]
    if tag not in _NAMES:
        return False
    if tag in ("tuple", "ratio"):
        return len(node) > 1 and all(is_name(n) for n in node[1:])
    if tag == "apply":
        return node[1][:1].isupper() or all(n[0] in ("sym", "num") for n in node[2:])
    if tag == "div":
        return all(_is_segment(n) for n in node[1:])
    return tag in ("sym", "text") or _is_segment(node)


def _is_segment(node: Node) -> bool:
    """`AB`, `|AB|`: points beside each other."""
    if node[:2] == ("call", "abs"):
        return _is_segment(node[2])
    if node[0] == "text":
        return len(node[1]) == 2 and node[1].isupper()
    return node[0] == "mul" and all(n[0] == "sym" and n[1][:1].isupper() for n in node[1:])


def may_be_one(a: Node, b: Node) -> bool:
    """Whether two names may stand for one thing: a word for a letter, x_1 for x, y for f(x); not x for y."""
    if a == b:
        return True
    a, b = (_points(n) or n for n in (a, b))
    kinds = {a[0], b[0]}
    if kinds == {"points"}:
        return bool(a == b)
    if kinds == {"text"}:
        return same_words(a[1], b[1])
    if "text" in kinds:
        return True
    if kinds == {"apply"}:
        return _same_function(a[1], b[1]) and len(a) == len(b)
    if kinds == {"sym"}:
        return _unindexed(a[1], b[1]) or _same_angle(a[1], b[1])
    if kinds == {"sym", "apply"}:
        function, letter = (a[1], b[1]) if a[0] == "apply" else (b[1], a[1])
        return letter in _DEPENDENT or letter == function or letter.partition("_")[0] == function
    if kinds <= {"tuple", "div"} and len(kinds) == 1:
        return len(a) == len(b) and all(may_be_one(x, y) for x, y in zip(a[1:], b[1:], strict=True))
    return False


def _points(node: Node) -> Node | None:
    """A segment by its ends, in whatever order and dress: `AB`, `|BA|`."""
    if node[0] == "sym":
        return ("points", *sorted(node[1][4:])) if node[1].startswith("bar_") and len(node[1]) == 6 else None
    if not _is_segment(node):
        return None
    while node[0] == "call":
        node = node[2]
    return "points", *sorted(node[1] if node[0] == "text" else (n[1] for n in node[1:]))


def _same_angle(one: str, other: str) -> bool:
    """The angle at B may be called by its point or by three: A, ∠B, ∠ABC."""
    if ANGLE not in (one[:1], other[:1]):
        return False
    points, others = one.lstrip(ANGLE), other.lstrip(ANGLE)
    middles = (points[len(points) // 2 :][:1], others[len(others) // 2 :][:1])
    return points == others or (1 in (len(points), len(others)) and middles[0] == middles[1])


def _unindexed(one: str, other: str) -> bool:
    """`x_1` and `x`."""
    letter, _, index = one.partition("_")
    base, _, other_index = other.partition("_")
    return letter == base and bool(index) != bool(other_index)


def _same_function(one: str, other: str) -> bool:
    return one == other or not one or not other or _unindexed(one, other)

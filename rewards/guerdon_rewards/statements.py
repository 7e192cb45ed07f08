"""What a statement says: a value, the definition of a name, a relation, or something false."""

from guerdon_rewards.evaluate import constant_equal
from guerdon_rewards.facts import facts
from guerdon_rewards.rounding import near
from guerdon_rewards.tree import Node
from guerdon_rewards.words import same_words

FALSE: Node = ("false",)
_VALUE_SIGNS = frozenset(("=", "~"))
_NAMES = frozenset(("sym", "text", "apply", "mul", "tuple", "ratio"))
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
        ops, operands = _without_rounding(ops, operands)
    if not ops:
        return said(operands[0])
    return _equation(ops, operands)


def _without_rounding(ops: tuple[str, ...], operands: tuple[Node, ...]) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    """`x = 1/3 = about 0.333` says 1/3; `x is about 0.333` says that much."""
    at = ops.index("~")
    if at == 0 and is_name(operands[0]):
        return ("=",), operands[:2]
    return ops[:at], operands[: at + 1]


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
        elif any(_differ(values[0], v) for v in values[1:]):
            return FALSE
    return ("def", operands[0], values[-1]) if named else values[-1]


def _differ(a: Node, b: Node) -> bool:
    first, second = plain(a), plain(b)
    return constant_equal(first, second) is False and not near(first, second)


def _without_remark(node: Node) -> Node:
    """`A(1, 2)` names a point; `k pi (k in Z)` carries a remark."""
    last = node[-1]
    if last[0] == "tuple" and len(node) == 3 and node[1][0] == "sym" and len(last) > 2:
        return "def", node[1], last
    return node


def plain(node: Node) -> Node:
    """Without unit and degree sign."""
    return plain(node[1]) if node[0] in ("unit", "deg") else node


def is_name(node: Node) -> bool:
    """`x`, `AB`, `f(x)`, `(x, y)`, `Area`: what a value can be given to."""
    tag = node[0]
    if tag not in _NAMES:
        return False
    if tag in ("tuple", "ratio"):
        return len(node) > 1 and all(is_name(n) for n in node[1:])
    if tag == "mul":
        return all(n[0] == "sym" for n in node[1:])
    if tag == "apply":
        return all(n[0] in ("sym", "num") for n in node[2:])
    return True


def may_be_one(a: Node, b: Node) -> bool:
    """Whether two names may stand for one thing: a word for a letter, x_1 for x, y for f(x); not x for y."""
    if a == b:
        return True
    kinds = {a[0], b[0]}
    if kinds == {"text"}:
        return same_words(a[1], b[1])
    if "text" in kinds:
        return True
    if kinds == {"apply"}:
        return _same_function(a[1], b[1]) and len(a) == len(b)
    if kinds == {"sym"}:
        return _unindexed(a[1], b[1])
    if kinds == {"sym", "apply"}:
        function, letter = (a[1], b[1]) if a[0] == "apply" else (b[1], a[1])
        return letter in _DEPENDENT or letter == function or letter.partition("_")[0] == function
    if kinds == {"mul"}:
        return sorted(n[1] for n in a[1:]) == sorted(n[1] for n in b[1:])
    if kinds == {"tuple"}:
        return len(a) == len(b) and all(may_be_one(x, y) for x, y in zip(a[1:], b[1:], strict=True))
    return False


def _unindexed(one: str, other: str) -> bool:
    """`x_1` and `x`."""
    letter, _, index = one.partition("_")
    base, _, other_index = other.partition("_")
    return letter == base and bool(index) != bool(other_index)


def _same_function(one: str, other: str) -> bool:
    return one == other or not one or not other or _unindexed(one, other)

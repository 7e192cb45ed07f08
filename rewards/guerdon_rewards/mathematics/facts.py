"""What a syntax tree holds, found once for each: its tags, its letters, its exact value where that is cheap."""

from fractions import Fraction

from guerdon_rewards.mathematics.evaluate import Expression, free_symbols
from guerdon_rewards.mathematics.tree import Node

STRUCTURES = frozenset(
    "tuple list set interval union inter minus builder rel or matrix ratio text numberset empty def false given".split()
)
BINDERS = frozenset(("sum", "prod", "int", "lim", "diff"))
MOST_BITS = 4000
"""Numbers beyond are left to `evaluate`."""
KEPT = 1 << 12
"""Trees whose facts are kept."""


class Facts:
    """What is known of a tree.

    `tags` holds the relations' signs too, and "decimal" for numbers with decimals; `letters` are free; `value` is None
    for all but plain rational numbers, and so is `key`, which stands for it; `difference` is for an equation's sides.
    """

    __slots__ = ("difference", "expression", "key", "letters", "node", "structured", "tags", "value")

    def __init__(self, node: Node) -> None:
        self.node = node
        tags: set[str] = set()
        letters: set[str] = set()
        parts: list[Node] = [node]
        for item in parts:
            tag = item[0] if item else None
            if tag == "num":
                if item[2]:
                    tags.add("decimal")
                continue
            if tag == "sym":
                letters.add(item[1])
                continue
            if tag.__class__ is str:
                tags.add(tag)
            for child in item:
                if child.__class__ is tuple:
                    parts.append(child)
        self.tags = frozenset(tags)
        self.structured = not STRUCTURES.isdisjoint(tags)
        self.letters = frozenset(letters) if BINDERS.isdisjoint(tags) else free_symbols(node)
        self.expression: Expression | None = None
        self.difference: Node | None = None
        value = None if letters or not _PLAIN.issuperset(tags) else _exact(node)
        self.value = value
        self.key = None if value is None else (value.numerator, value.denominator)


_PLAIN = frozenset(("neg", "add", "mul", "div", "pow", "decimal"))
_known: dict[int, Facts] = {}


def facts(node: Node) -> Facts:
    """Kept by identity: trees of texts live long, and the parts of a tree with it."""
    known = _known.get(id(node))
    if known is not None and known.node is node:
        return known
    if len(_known) >= KEPT:
        _known.clear()
    found = _known[id(node)] = Facts(node)
    return found


def expression(node: Node) -> Expression:
    """The tree with its values at points, which are computed once."""
    known = facts(node)
    if known.expression is None:
        known.expression = Expression(node)
    return known.expression


def _exact(node: Node) -> Fraction | None:
    tag = node[0]
    if tag == "num":
        return node[1]  # type: ignore[no-any-return]
    if tag == "const":
        return None
    values = []
    for part in node[1:]:
        value = _exact(part)
        if value is None or value.numerator.bit_length() + value.denominator.bit_length() > MOST_BITS:
            return None
        values.append(value)
    if tag == "neg":
        return -values[0]
    if tag == "div":
        return values[0] / values[1] if values[1] else None
    if tag == "pow":
        return _power(*values)
    total = values[0]
    for value in values[1:]:
        total = total + value if tag == "add" else total * value
        if total.numerator.bit_length() > MOST_BITS:
            return None
    return total


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or not base or abs(exponent) > MOST_BITS:
        return None
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MOST_BITS:
        return None
    return base ** int(exponent)

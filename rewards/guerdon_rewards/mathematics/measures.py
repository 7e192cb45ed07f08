"""Quantities in syntax trees: a value with a unit, compound ones, and letters that stand for units."""

from fractions import Fraction
from typing import TYPE_CHECKING

from guerdon_rewards.mathematics.facts import facts
from guerdon_rewards.mathematics.tree import Node, number, product_of
from guerdon_rewards.mathematics.units import omissible, same_unit, split_scale

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.compare import Comparison

UNIT_LETTERS = frozenset("msghLNJWVK")
"""Letters that an answer may have as its unit where the reference is a number: `5 m` for `5`."""
_METRE: Node = ("sym", "m")
_SIGNS = {"Omega": "Ω", "mu": "μ"}


def same_measures(rule: "Comparison", a: Node, b: Node) -> bool | None:
    """Two values of which one at least has a unit in words."""
    (value, unit), (other, other_unit) = _parted(a), _parted(b)
    if not unit and other_unit:
        value, unit = in_symbol(a, other_unit)
    elif unit and not other_unit:
        other, other_unit = in_symbol(b, unit)
    if not unit and not other_unit:
        return rule.same(value, other) if value is not a or other is not b else None
    if not unit or not other_unit:
        if rule.strict or not _may_be_left_out(a, unit) or not _may_be_left_out(b, other_unit):
            return False
        return rule.same(value, other)
    factor = same_unit(unit, other_unit)  # how many of the other unit one is
    if factor is None:
        return False
    return rule.same(value if factor == 1 else ("mul", number(factor), value), other)


def _may_be_left_out(node: Node, unit: str) -> bool:
    """A letter may be where it was written as a unit, `5\\text{ m}`, and not as mathematics."""
    return not unit or omissible(unit) or (node[0] == "unit" and (unit in UNIT_LETTERS or unit == "A"))


def _parted(node: Node) -> tuple[Node, str]:
    """A quantity's number and its unit, multiples such as `million` in the number."""
    value, unit = unit_of(node)
    scale, unit = split_scale(unit) if unit else (1, unit)
    return (("mul", value, number(scale)) if scale > 1 else value), unit


def unit_of(node: Node) -> tuple[Node, str]:
    """A quantity's number and its unit; letters that stand for units (`25 m^2`) too."""
    tag = node[0]
    if tag == "unit":
        return node[1], node[2]
    if tag == "deg":
        return node[1], "°"
    if tag == "percent":
        return node[1], "percent"
    if tag == "neg":
        value, unit = unit_of(node[1])
        return ("neg", value), unit
    if tag == "add" and node[1][0] == "unit":
        return _compound(node)
    return in_letter(node)


def in_letter(node: Node) -> tuple[Node, str]:
    """A letter behind a number: `5 m`, `25 m^2`, `1.5 * 10^8 m`."""
    if node[0] == "mul" and not any(facts(n).letters for n in node[1:-1]):
        value, last = product_of(list(node[1:-1])), node[-1]
        if last[0] == "sym" and last[1] in UNIT_LETTERS:
            return value, last[1]
        if last[0] == "pow" and last[1] == _METRE and last[2][:2] in (("num", 2), ("num", 3)):
            return value, f"m^{last[2][1]}"
    return node, ""


def in_symbol(node: Node, sought: str) -> tuple[Node, str]:
    """Letters behind a number that are read as a unit like the one sought: `2.5 e V`, `9.8 m s^{-2}`."""
    if node[0] == "div":
        value, over = in_symbol(node[1], "") if node[1][0] == "mul" else (node[1], "")
        under = [_letter(n) for n in (node[2][1:] if node[2][0] == "mul" else node[2:])]
        return (value, f"{over}/{' '.join(under)}") if all(under) and facts(value).value is not None else (node, "")
    if node[0] != "mul":
        return node, ""
    at = next((i for i, n in enumerate(node[1:], 1) if _letter(n)), 0)
    letters = [_letter(n) for n in node[at:]]
    if at < 2 or not all(letters) or len(letters) > 3:
        return node, ""
    for name in ("".join(letters), " ".join(letters)):
        if not sought or same_unit(name, sought) is not None:
            return product_of(list(node[1:at])), name
    return node, ""


def _letter(node: Node) -> str:
    if node[0] == "pow":
        exponent = facts(node[2]).value
        return f"{_letter(node[1])}^{exponent}" if node[1][0] == "sym" and exponent is not None else ""
    return _SIGNS.get(node[1], str(node[1])) if node[0] in ("sym", "const") and node[1] != "pi" else ""


def in_letters(rule: "Comparison", a: Node, b: Node) -> bool:
    """An answer of `25 m^2` where the reference is 25."""
    if facts(a).letters:
        return False
    value, unit = in_letter(b)
    return bool(unit) and bool(rule.same(a, value))


def _compound(node: Node) -> tuple[Node, str]:
    """`1 hour 12 minutes`, in the last unit."""
    parts = [n for n in node[1:] if n[0] == "unit"]
    unit = parts[-1][2]
    factors = [same_unit(p[2], unit) for p in parts]
    if len(parts) < len(node) - 1 or None in factors:
        return node, ""
    return ("add", *(("mul", number(f or Fraction(1)), p[1]) for f, p in zip(factors, parts, strict=True))), unit

"""The letters of a syntax tree: which ones are free, and which are bound by sums, integrals and limits."""

from typing import Any

from guerdon_rewards.mathematics.ball import Unsupported
from guerdon_rewards.mathematics.tree import Node

BINDERS = frozenset(("sum", "prod", "int", "lim"))


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
            stack.append((item[-1], bound | {bound_name(item[1])}))
        elif tag != "num":
            stack.extend((child, bound) for child in item if isinstance(child, tuple))
    return frozenset(found)


def bound_name(variable: Any) -> str:
    """What a bound variable is called in the environment; a sum may bind i, the imaginary unit elsewhere."""
    if isinstance(variable, str):
        return variable
    if variable[0] in ("sym", "const"):
        return variable[1] if variable[0] == "sym" else f"\\{variable[1]}"
    raise Unsupported("a bound variable that is not a letter")

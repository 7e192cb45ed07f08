"""Whether two syntax trees mean the same answer: part by part, typed by the reference.

Every function says True, False, or None where it cannot tell. `strict` leaves out what people let pass: units left
out, `x = 5` for `5`, rounding to the reference's digits, `50` for `50%`, lists in another order.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import product

from guerdon_rewards import regions
from guerdon_rewards.evaluate import constant_equal, evaluate, free_symbols, identical, proportional
from guerdon_rewards.rounding import close, near, roughly
from guerdon_rewards.syntax import Node, number
from guerdon_rewards.units import same_unit
from guerdon_rewards.words import number_word, same_words

MOST = 64
"""Items of a list, cells of a matrix: more are not compared."""
STRUCTURES = frozenset(
    "tuple list set interval union inter minus builder rel or matrix ratio text numberset empty def false".split()
)
UNIT_LETTERS = frozenset("msghlLNJWVKFCA")
WHOLE_LETTERS = frozenset("knmljt")
Answer = bool | None


def same(a: Node, b: Node, strict: bool = False) -> Answer:
    """Whether `b`, an answer, means what `a`, the reference, means."""
    if a == b:
        return True
    if a[0] == "given" or b[0] == "given":
        return _with_remarks(a, b, strict)
    first, second = said(a), said(b)
    if first == FALSE or second == FALSE:
        return False
    if first[0] == "def" or second[0] == "def":
        return _definitions(first, second, strict)
    return _same(first, second, strict)


def _same(a: Node, b: Node, strict: bool) -> Answer:
    if a == b:
        return True
    if a[0] == "text" or b[0] == "text":
        return _texts(a, b)
    if _contains(a, "unit") or _contains(b, "unit"):
        if not (a[0] in STRUCTURES or b[0] in STRUCTURES):
            return _quantities(a, b, strict)
    if a[0] == "matrix" or b[0] == "matrix":
        return _matrices(a, b, strict)
    if regions.is_region(a) or regions.is_region(b):
        return _regions(a, b, strict)
    if a[0] == "rel" or b[0] == "rel":
        return _relations(a, b, strict)
    if a[0] in COLLECTIONS or b[0] in COLLECTIONS or _contains(a, "pm") or _contains(b, "pm"):
        return _collections(a, b, strict)
    if a[0] == "ratio" or b[0] == "ratio":
        return _ratios(a, b, strict)
    return _scalars(a, b, strict)


def _with_remarks(a: Node, b: Node, strict: bool) -> Answer:
    """`f(x) = 1 for all x`: what is remarked may be left out, but not differ."""
    if a[0] == b[0]:
        answer = same(a[1], b[1], strict)
        return answer if same_words(a[2], b[2]) else answer and None
    if strict:
        return False
    return same(a[1] if a[0] == "given" else a, b[1] if b[0] == "given" else b, strict)


def for_sympy(a: Node, b: Node) -> tuple[Node, Node] | None:
    """Two expressions that hold what values at points cannot settle, or None."""
    first, second = (n[2] if n[0] == "def" else n for n in (said(a), said(b)))
    if _is_structure(first) or _is_structure(second):
        return None
    return (first, second) if any(_contains(n, t) for n in (first, second) for t in CALCULUS) else None


CALCULUS = ("lim", "int", "sum", "prod", "diff")


# what a statement says -------------------------------------------------------------------------------------------------

FALSE: Node = ("false",)


def said(node: Node) -> Node:
    """A statement's content: `x = 2 + 3 = 5` is the definition of x as 5; `41 = 42` is false."""
    if node[0] != "rel":
        return node
    ops, operands = node[1], node[2]
    if "~" in ops and ops.index("~") > 0:
        ops, operands = ops[: ops.index("~")], operands[: ops.index("~") + 1]
    elif ops[0] == "~":
        return said(operands[0]) if not free_symbols(operands[0]) else FALSE
    if ops == ("in",):
        return operands[1] if operands[1][0] != "numberset" else ("rel", ops, operands)
    if set(ops) != {"="}:
        return ("rel", ops, operands)
    if len(operands) == 2 and _is_name(operands[1]) and not _is_name(operands[0]) and not free_symbols(operands[0]):
        operands = operands[::-1]
    named = _is_name(operands[0])
    values = operands[1:] if named else operands
    if len(values) > 1:
        if any(_is_structure(v) or free_symbols(v) for v in values):
            if not named:
                return ("rel", ops, operands)
        elif any(_differ(values[0], v) for v in values[1:]):
            return FALSE
    return ("def", operands[0], values[-1]) if named else values[-1]


def _differ(a: Node, b: Node) -> bool:
    return constant_equal(_plain(a), _plain(b)) is False and not near(_plain(a), _plain(b))


def _is_name(node: Node) -> bool:
    if node[0] in ("tuple", "ratio"):
        return all(_is_name(n) for n in node[1:])
    if node[0] == "mul":  # BC, angle ABC: a product of letters
        return all(n[0] == "sym" for n in node[1:])
    if node[0] == "apply":
        return all(n[0] in ("sym", "num") for n in node[2:])
    return node[0] in ("sym", "text")


def _definitions(a: Node, b: Node, strict: bool) -> Answer:
    """At least one of the two is `name = value`."""
    if a[0] == "def" and b[0] == "def":
        return _two_definitions(a, b, strict)
    if strict:
        return False
    if a[0] == "def" and b[0] == "rel":
        return _relations(("rel", ("=",), a[1:]), b, strict)
    if b[0] == "def" and a[0] == "rel":
        return _relations(a, ("rel", ("=",), b[1:]), strict)
    value, other = (a[2], b) if a[0] == "def" else (b[2], a)
    if a[0] == "def":
        answer = same(value, other, strict)
        return True if answer is not True and _renamed(value, other) else answer
    return same(other, value, strict)


def _two_definitions(a: Node, b: Node, strict: bool) -> Answer:
    first, second = a[1], b[1]
    if first[0] == second[0] == "apply" and len(first) == len(second):
        value = b[2]
        for old, new in zip(second[2:], first[2:], strict=True):  # f(n) = 2n and f(m) = 2m
            if old[0] == "sym" and new[0] == "sym" and old != new:
                if new[1] in free_symbols(value):
                    return None
                value = regions.substituted(value, old[1], new)
        return same(a[2], value, strict)
    if first == second or not strict:
        answer = same(a[2], b[2], strict)
        names = {n[1] for n in (first, second) if n[0] == "sym"}
        if answer and len(names) == 2 and not _may_differ(first, second, a[2]):
            return False
        if answer is not True and (names & free_symbols(a[2]) or names & free_symbols(b[2]) or len(names) == 2):
            return _relations(("rel", ("=",), a[1:]), ("rel", ("=",), b[1:]), strict)
        return True if answer is not True and first == second and _renamed(a[2], b[2]) else answer
    return _relations(("rel", ("=",), a[1:]), ("rel", ("=",), b[1:]), strict)


def _may_differ(first: Node, second: Node, value: Node) -> bool:
    """Names that may differ: those of a dependent variable, whose value holds letters."""
    return bool(free_symbols(value)) and (first[1] in ("y", "z") or second[1] in ("y", "z"))


def _renamed(a: Node, b: Node) -> bool:
    """`x = k pi` and `n pi`: one free whole number, named otherwise."""
    if _is_structure(a) and a[0] not in ("tuple", "list") or a[0] != b[0]:
        return False
    first, second = free_symbols(a), free_symbols(b)
    if len(first) != 1 or len(second) != 1 or not (second | first) <= WHOLE_LETTERS | {"x"}:
        return False
    (old,), (new,) = second, first
    return old != new and bool(same(a, regions.substituted(b, old, ("sym", new))))


# kinds ------------------------------------------------------------------------------------------------------------------


def _texts(a: Node, b: Node) -> Answer:
    if a[0] == b[0] == "text":
        return same_words(a[1], b[1])
    text, other = (a, b) if a[0] == "text" else (b, a)
    if other[0] in ("num", "neg"):
        value = number_word(text[1])
        return value is not None and bool(constant_equal(other, number(value)))
    if other[0] == "const" and other[1] == "oo":
        return same_words(text[1], "infinitely many")
    if other == ("empty",):
        return same_words(text[1], "no solution")
    if other[0] == "sym":
        return bool(text[1] == other[1])
    return False


def _plain(node: Node) -> Node:
    return _plain(node[1]) if node[0] in ("unit", "deg") else node


def unit_of(node: Node) -> tuple[Node, str]:
    """A quantity's number and its unit; letters that stand for units (`25 m^2`) too."""
    if node[0] == "unit":
        return node[1], node[2]
    if node[0] == "neg":
        value, unit = unit_of(node[1])
        return ("neg", value), unit
    if node[0] == "add" and node[1][0] == "unit":
        return _compound(node)
    if node[0] == "mul" and len(node) == 3 and node[1][0] in ("num", "div"):
        last = node[2]
        if last[0] == "sym" and last[1] in UNIT_LETTERS:
            return node[1], last[1]
        if last[0] == "pow" and last[1][0] == "sym" and last[1][1] in UNIT_LETTERS and last[2][0] == "num":
            return node[1], f"{last[1][1]}^{last[2][1]}"
    return node, ""


def _compound(node: Node) -> tuple[Node, str]:
    """`1 hour 12 minutes`, in the first unit."""
    value, unit = node[1][1:]
    terms: list[Node] = [value]
    for part in node[2:]:
        factor = same_unit(unit, part[2]) if part[0] == "unit" else None
        if not factor:
            return node, ""
        terms.append(("mul", number(factor), part[1]))
    return ("add", *terms), unit


def _quantities(a: Node, b: Node, strict: bool) -> Answer:
    (value, unit), (other, other_unit) = unit_of(a), unit_of(b)
    if not unit and not other_unit:
        return None
    if not unit or not other_unit:
        return False if strict else same(value, other, strict)
    factor = same_unit(unit, other_unit)
    if factor is None or factor is False:
        return False
    if factor == 1:
        return same(value, other, strict)
    return same(value, ("mul", number(factor), other), strict)


def _matrices(a: Node, b: Node, strict: bool) -> Answer:
    if a[0] in ("set", "list") or b[0] in ("set", "list"):
        return _collections(a, b, strict)
    rows, others = _rows(a), _rows(b)
    if rows is None or others is None:
        return False
    if (len(rows), len(rows[0])) != (len(others), len(others[0])):
        flat = [c for r in rows for c in r]
        line = [c for r in others for c in r]
        if strict or a[0] == b[0] or len(flat) != len(line):
            return False
        return _all(same(x, y, strict) for x, y in zip(flat, line, strict=True))
    if len(rows) * len(rows[0]) > 4 * MOST:
        return None
    return _all(same(x, y, strict) for r, s in zip(rows, others, strict=True) for x, y in zip(r, s, strict=True))


def _rows(node: Node) -> tuple[tuple[Node, ...], ...] | None:
    """A matrix's rows; a point is a column."""
    if node[0] == "matrix":
        return node[1]  # type: ignore[no-any-return]
    if node[0] == "tuple" and len(node) > 1:
        return tuple((n,) for n in node[1:])
    if node[0] == "interval" and node[3] == node[4]:
        return ((node[1],), (node[2],))
    return None


def _regions(a: Node, b: Node, strict: bool) -> Answer:
    if a[0] == b[0] == "interval" and a[3:] == b[3:]:
        ends = _all((same(a[1], b[1], strict), same(a[2], b[2], strict)))
        if ends:
            return True
    if strict and (a[0] == "rel") != (b[0] == "rel"):
        return False
    if a[0] == "rel" and b[0] == "rel":
        answer = _relations(a, b, strict)
        if answer:
            return True
    answer = regions.same_region(a, b, lambda x, y: same(x, y, strict))
    if answer is None and a[0] == b[0] == "builder":
        return _all((same(a[1], b[1], strict), same(a[2], b[2], strict)))
    if answer is None and a[0] == b[0] and a[0] in ("list", "or", "union"):
        return _unordered(list(a[1:]), list(b[1:]), strict)
    return answer


_TURNED = {">": "<", ">=": "<="}


def _relations(a: Node, b: Node, strict: bool) -> Answer:
    """Equations and inequalities as they stand: the same, up to a constant factor and the sides' order."""
    if a[0] != "rel" or b[0] != "rel":
        if a[0] == "rel" and a[1] == ("=",) and not strict:
            return _solved_for(a, b)
        return False if a[0] in STRUCTURES or a[0] == "num" else None
    if len(a[1]) == len(b[1]):
        for ops, operands in (_forward(b), _backward(b)):
            first_ops, first = _forward(a)
            if ops == first_ops and _all(same(x, y, strict) for x, y in zip(first, operands, strict=True)):
                return True
    if len(a[1]) != 1 or len(b[1]) != 1:
        return False if a[1] != b[1] else None
    (op, left), (other_op, right) = _difference(a), _difference(b)
    if op != other_op:
        return False
    if op not in ("=", "!=", "<", "<=") or _is_structure(left) or _is_structure(right):
        return None
    if not free_symbols(left) or not free_symbols(right):
        return None
    ratio = proportional(left, right)
    if ratio is None:
        return False
    return op in ("=", "!=") or ratio > 0


def _forward(node: Node) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    if any(op in _TURNED for op in node[1]) and not any(op in ("<", "<=") for op in node[1]):
        return tuple(_TURNED.get(op, op) for op in reversed(node[1])), tuple(reversed(node[2]))
    return node[1], node[2]


def _backward(node: Node) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    """Where an equation stands the other way round."""
    if set(node[1]) <= {"=", "!="}:
        return node[1], tuple(reversed(node[2]))
    return (), ()


def _difference(node: Node) -> tuple[str, Node]:
    ops, operands = _forward(node)
    return ops[0], ("add", operands[0], ("neg", operands[1]))


def _solved_for(a: Node, b: Node) -> Answer:
    """An equation against an expression: the equation solved for the letter that the expression lacks."""
    if _is_structure(b):
        return False
    _, difference = _difference(a)
    if _is_structure(difference):
        return False
    missing = free_symbols(difference) - free_symbols(b)
    if "y" in missing:
        missing = frozenset("y")
    if len(missing) != 1 or not free_symbols(b):
        return False
    (letter,) = missing
    return proportional(difference, ("add", ("sym", letter), ("neg", b))) is not None


# collections ------------------------------------------------------------------------------------------------------------

COLLECTIONS = frozenset(("tuple", "list", "set", "or", "empty"))


def _collections(a: Node, b: Node, strict: bool) -> Answer:
    kind, items = _items(a)
    other_kind, others = _items(b)
    if len(items) > MOST or len(others) > MOST:
        return None
    if "tuple" in (kind, other_kind):
        if {kind, other_kind} == {"tuple", "set"} or (kind == "scalar") != (other_kind == "scalar"):
            return False
        if len(items) != len(others):
            return _named_tuple(a, b, strict)
        return _all(same(x, y, strict) for x, y in zip(items, others, strict=True))
    if "set" in (kind, other_kind):
        items, others = _distinct(items, strict), _distinct(others, strict)
    if len(items) != len(others):
        return False
    if strict and kind == other_kind == "list":
        return _all(same(x, y, strict) for x, y in zip(items, others, strict=True))
    return _unordered(items, others, strict)


def _named_tuple(a: Node, b: Node, strict: bool) -> Answer:
    return False


def _items(node: Node) -> tuple[str, list[Node]]:
    if node[0] in ("list", "or", "set"):
        kind = "set" if node[0] == "set" else "list"
        return kind, [n for item in node[1:] for n in alternatives(item)]
    if node[0] == "tuple":
        return "tuple", list(node[1:])
    if node == ("empty",):
        return "set", []
    both = alternatives(node)
    return ("list" if len(both) > 1 else "scalar"), both


def alternatives(node: Node) -> list[Node]:
    """What `1 ± 2` stands for: with the upper sign everywhere, and with the lower one."""
    if not _contains(node, "pm"):
        return [node]
    return [_signed(node, 1), _signed(node, 2)]


def _signed(node: Node, side: int) -> Node:
    if node[0] == "pm":
        term: Node = _signed(node[2], side)
        term = term if side == 1 else ("neg", term)
        return ("add", _signed(node[1], side), term) if node[1] else term
    return tuple(_signed(n, side) if isinstance(n, tuple) and n else n for n in node)


def _unordered(items: list[Node], others: list[Node], strict: bool) -> Answer:
    """One to one, in any order."""
    if len(items) != len(others):
        return False
    left, unsure = list(others), False
    for item in items:
        for i, other in enumerate(left):
            answer = same(item, other, strict)
            if answer:
                del left[i]
                break
            unsure = unsure or answer is None
        else:
            return None if unsure else False
    return True


def _distinct(items: list[Node], strict: bool) -> list[Node]:
    kept: list[Node] = []
    for item in items:
        if not any(same(k, item, strict) for k in kept):
            kept.append(item)
    return kept


def _ratios(a: Node, b: Node, strict: bool) -> Answer:
    if a[0] == b[0] == "ratio":
        if len(a) != len(b):
            return False
        parts = list(zip(a[1:], b[1:], strict=True))
        if any(_is_structure(x) or _is_structure(y) for x, y in parts) or strict or _zero_part(a) or _zero_part(b):
            return _all(same(x, y, strict) for x, y in parts)
        (x, y), *rest = parts
        return _all(constant_or_identical(("mul", x, q), ("mul", y, p)) for p, q in rest)
    ratio, other = (a, b) if a[0] == "ratio" else (b, a)
    if len(ratio) != 3 or strict or _is_structure(other) or any(_is_structure(n) for n in ratio[1:]):
        return False
    divided: Node = ("div", ratio[1], ratio[2])
    return _scalars(divided, b, strict) if a is ratio else _scalars(a, divided, strict)


def _zero_part(node: Node) -> bool:
    return any(n[0] == "num" and not n[1] for n in node[1:])


# single values ----------------------------------------------------------------------------------------------------------


def _scalars(a: Node, b: Node, strict: bool) -> Answer:
    if _is_structure(a) or _is_structure(b):
        return False if a[0] != b[0] else None
    if a[0] == "base" or b[0] == "base":
        return _bases(a, b, strict)
    for first, second in _readings(a, b, strict):
        answer = constant_or_identical(first, second)
        if answer or (not strict and close(first, second)):
            return True
    if not strict and (free_symbols(a) or free_symbols(b)) and roughly(a, b):
        return True
    (value, unit), (other, other_unit) = unit_of(a), unit_of(b)
    if (unit or other_unit) and not strict and not (unit and other_unit):
        return same(value, other)
    if ("sym", "I") in (*_leaves(a), *_leaves(b)) and ("const", "i") in (*_leaves(a), *_leaves(b)):
        return constant_or_identical(*(regions.substituted(n, "I", ("const", "i")) for n in (a, b)))
    return answer


def constant_or_identical(a: Node, b: Node) -> Answer:
    if not free_symbols(a) and not free_symbols(b):
        return constant_equal(a, b)
    return identical(a, b)


def _readings(a: Node, b: Node, strict: bool) -> Iterator[tuple[Node, Node]]:
    """What percent and degree signs may mean on both sides, likeliest first."""
    if a[0] == b[0] and a[0] in ("percent", "deg"):
        yield a[1], b[1]
        return
    if "percent" in (a[0], b[0]):
        yield a, b
        if not strict:
            yield (a[1] if a[0] == "percent" else a), (b[1] if b[0] == "percent" else b)
        return
    if "deg" in (a[0], b[0]):
        turn: Node = ("div", ("const", "pi"), number(180))
        if ("const", "pi") in _leaves(a if b[0] == "deg" else b):
            yield tuple(("mul", n[1], turn) if n[0] == "deg" else n for n in (a, b))  # type: ignore[misc]
        elif strict:
            return
        yield _plain(a), _plain(b)
        return
    yield a, b


def _bases(a: Node, b: Node, strict: bool) -> Answer:
    if a[0] == b[0]:
        return bool(constant_equal(a, b)) if a[2] == b[2] else False
    based, other = (a, b) if a[0] == "base" else (b, a)
    return not strict and other == number(Fraction(based[1]))


def _leaves(node: Node) -> Iterator[Node]:
    if node[0] in ("sym", "const"):
        yield node
    for child in node[1:]:
        if isinstance(child, tuple) and child:
            yield from _leaves(child)


def _is_structure(node: Node) -> bool:
    return node[0] in STRUCTURES or any(isinstance(n, tuple) and n and _is_structure(n) for n in node[1:])


def _contains(node: Node, tag: str) -> bool:
    return node[0] == tag or any(isinstance(n, tuple) and n and _contains(n, tag) for n in node[1:])


def _all(answers: Iterable[Answer]) -> Answer:
    result: Answer = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            result = None
    return result


__all__ = ["alternatives", "evaluate", "product", "said", "same"]

"""Answers of several parts: lists, sets, tuples, what `±` stands for, matrices, vectors, ratios."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from guerdon_rewards.mathematics.facts import facts
from guerdon_rewards.mathematics.regions import substituted
from guerdon_rewards.mathematics.statements import may_be_one, said
from guerdon_rewards.mathematics.tree import EMPTY, Node, number

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.compare import Comparison

Answer = bool | None
MOST = 64
"""Items of a list: longer ones are not compared."""
MOST_CELLS = 256
COLLECTIONS = frozenset(("tuple", "list", "set", "or", "empty"))
_SETS = frozenset(("union", "inter", "minus"))
_BASES = {"i": 0, "j": 1, "k": 2}


def both(answers: Iterable[Answer]) -> Answer:
    """False where one is, else None where one is."""
    result: Answer = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            result = None
    return result


def _is_statement(node: Node) -> bool:
    """A relation, or a case of a function with its condition."""
    return bool(node[0] == "rel" or (node[0] == "tuple" and len(node) > 1 and node[-1][0] == "rel"))


def _holds_sets(items: list[Node]) -> bool:
    return any(n[0] == "set" for n in items)


def in_order(rule: "Comparison", items: Sequence[Node], others: Sequence[Node]) -> Answer:
    if len(items) != len(others):
        return False
    return both(rule.same(x, y) for x, y in zip(items, others, strict=True))


def collections(rule: "Comparison", a: Node, b: Node) -> Answer:
    if a[0] != b[0]:
        a, b = _signs_apart(a), _signs_apart(b)
    kind, items = _items(a)
    other_kind, others = _items(b)
    if len(items) > MOST or len(others) > MOST:
        return None
    if "or" in (a[0], b[0]) and "tuple" in (kind, other_kind):
        return False  # x = 1 or y = 2 is no point
    if "tuple" in (kind, other_kind):
        return _tuples(rule, (kind, items), (other_kind, others))
    if rule.strict and ("set" in (kind, other_kind)) and kind != other_kind:
        return False
    mixed = "set" in (kind, other_kind) or {a[0], b[0]} == {"or", "list"}
    if mixed and (_letters_differ(items) or _letters_differ(others)) and _names_differ(items) != _names_differ(others):
        return False  # {3, 5} against x = 5, y = 3
    if "set" in (kind, other_kind) or all(n[0] == "tuple" for n in (*items, *others)):
        items, others = _distinct(rule, items), _distinct(rule, others)
    if {a[0], b[0]} == {"or", "list"} and len(items) > 1 and _names_differ(items):
        return False  # x = 1 or y = 1 against x = 1 and y = 1
    if len(items) != len(others) or _holds_sets(items) != _holds_sets(others):
        return False
    if kind == other_kind == "list":
        named, other_named = _names_differ(items), _names_differ(others)
        values = rule.strict and a[0] == b[0] == "list" and not all(_is_statement(n) for n in items)
        if named and other_named and _letters_differ(items) != _letters_differ(others):
            return in_order(rule, items, others)  # width = 3, length = 5 against x = 3, y = 5
        if (named != other_named and (_letters_differ(items) or _letters_differ(others))) or values:
            return in_order(rule, items, others)  # a = 1, b = 2 against 1, 2
    return unordered(rule, items, others)


def _signs_apart(node: Node) -> Node:
    """`(±3, 0)` as two points. With two signs that are not tied by `∓` it could be four."""
    if node[0] != "tuple" or "pm" not in facts(node).tags:
        return node
    signs = [n for item in node[1:] for n in _signs(item)]
    tied = len(signs) == 1 or any(n[2][0] == "neg" for n in signs)
    return ("list", *alternatives(node)) if tied else node


def _signs(node: Node) -> list[Node]:
    inner = [s for n in node[1:] if isinstance(n, tuple) and n for s in _signs(n)]
    return [node, *inner] if node[0] == "pm" else inner


def with_domain(node: Node) -> tuple[Node, list[Node]]:
    """A list without what it says of a letter in it, and that: `x = k pi, k in Z`."""
    if node[0] != "list":
        return node, []
    said_of = [n for n in node[1:] if n[0] == "rel" and n[1] == ("in",) and n[2][0][0] == "sym"]
    domains = [n for n in said_of if n[2][1][0] == "numberset"]
    rest = [n for n in node[1:] if n not in domains]
    letters = {n[2][0][1] for n in domains}
    if not domains or not rest or not all(letters <= facts(n).letters for n in rest):
        return node, []
    return (rest[0] if len(rest) == 1 else ("list", *rest)), [n[2][1] for n in domains]


def _tuples(rule: "Comparison", first: tuple[str, list[Node]], second: tuple[str, list[Node]]) -> Answer:
    (kind, items), (other_kind, others) = first, second
    kinds = {kind, other_kind}
    if kinds == {"tuple", "set"} or "scalar" in kinds or len(items) != len(others):
        return False
    if rule.strict and kinds != {"tuple"}:
        return False
    named = items if kind != "tuple" else others
    if kinds != {"tuple"} and _names_differ(named):  # y = 2, x = 1 against (1, 2)
        ordered = sorted(named, key=lambda n: str(_name(n)))
        items, others = (items, ordered) if kind == "tuple" else (ordered, others)
    return in_order(rule, items, others)


def _name(node: Node) -> Node | None:
    statement = said(node[1] if node[0] == "given" else node)
    return statement[1] if statement[0] == "def" else None


def _names_differ(items: list[Node]) -> bool:
    """Whether all are `name = value` with names of different things."""
    names = [_name(n) for n in items]
    if len(names) < 2 or None in names:
        return False
    return not any(may_be_one(x, y) for i, x in enumerate(names) for y in names[:i] if x and y) and not _numbered(names)


def _letters_differ(items: list[Node]) -> bool:
    """The same where names are more than words, whose order nothing tells: `Minimum: 1, Maximum: 2` is 2, 1."""
    return _names_differ(items) and any((_name(n) or n)[0] != "text" for n in items)


def _numbered(names: list[Node | None]) -> bool:
    """x_1, x_2, x_3: several values of one thing."""
    return len({n[1].partition("_")[0] for n in names if n and n[0] == "sym"}) == 1 and all(
        n and n[0] == "sym" for n in names
    )


def _items(node: Node) -> tuple[str, list[Node]]:
    tag = node[0]
    if tag in ("list", "or", "set"):
        kind = "set" if tag == "set" else "list"
        return kind, [n for item in node[1:] for n in alternatives(item)]
    if tag == "tuple":
        return "tuple", list(node[1:])
    if node == EMPTY:
        return "set", []
    if tag in _SETS:
        found = _finite(node)
        return ("set", found) if found is not None else ("scalar", [node])
    several = alternatives(node)
    return ("list" if len(several) > 1 else "scalar"), several


def _finite(node: Node) -> list[Node] | None:
    """The members of a set that is put together of written ones."""
    if node[0] == "set":
        return list(node[1:])
    if node == EMPTY:
        return []
    if node[0] not in _SETS:
        return None
    parts = [_finite(n) for n in node[1:]]
    if any(p is None or any(facts(n).value is None and n[0] != "sym" for n in p) for p in parts):
        return None
    first, second = parts[0] or [], parts[1] or []
    keys = [(facts(n).value, n[1] if n[0] == "sym" else "") for n in second]
    inside = [(facts(n).value, n[1] if n[0] == "sym" else "") in keys for n in first]
    if node[0] == "union":
        return first + [n for n in second if n not in first]
    return [n for n, there in zip(first, inside, strict=True) if there == (node[0] == "inter")]


def is_finite_set(node: Node) -> bool:
    return node[0] in _SETS and _finite(node) is not None


def alternatives(node: Node) -> list[Node]:
    """What `1 ± 2` stands for: with the upper sign everywhere, and with the lower one."""
    if "pm" not in facts(node).tags:
        return [node]
    return [_signed(node, 1), _signed(node, 2)]


def _signed(node: Node, side: int) -> Node:
    if node[0] == "pm":
        term: Node = _signed(node[2], side)
        term = term if side == 1 else ("neg", term)
        return ("add", _signed(node[1], side), term) if node[1] else term
    return tuple(_signed(n, side) if isinstance(n, tuple) and n else n for n in node)


def unordered(rule: "Comparison", items: list[Node], others: list[Node]) -> Answer:
    """One to one, in any order."""
    if len(items) != len(others):
        return False
    left, rest = _without_equal_numbers(items, others)
    unsure = False
    for item in rest:
        for i, other in enumerate(left):
            answer = rule.same(item, other)
            if answer:
                del left[i]
                break
            unsure = unsure or answer is None
        else:
            return None if unsure else False
    return True


def _without_equal_numbers(items: list[Node], others: list[Node]) -> tuple[list[Node], list[Node]]:
    """What is left of the second and the first where each number that both have is taken out."""
    left, keys = list(others), [facts(o).key for o in others]
    rest: list[Node] = []
    for item in items:
        key = facts(item).key
        if key is not None and key in keys:
            at = keys.index(key)
            del left[at], keys[at]
        else:
            rest.append(item)
    return left, rest


def _distinct(rule: "Comparison", items: list[Node]) -> list[Node]:
    kept: list[Node] = []
    numbers: set[tuple[int, int]] = set()
    for item in items:
        key = facts(item).key
        if key is None and not any(rule.exactly(k, item) for k in kept):
            kept.append(item)
        elif key is not None and key not in numbers:
            numbers.add(key)
            kept.append(item)
    return kept


# matrices, vectors, ratios --------------------------------------------------------------------------------------------


def matrices(rule: "Comparison", a: Node, b: Node) -> Answer:
    rows, others = rows_of(a), rows_of(b)
    if rows is None or others is None:
        return False
    if (len(rows), len(rows[0])) != (len(others), len(others[0])):
        flat = [c for r in rows for c in r]
        line = [c for r in others for c in r]
        is_line = min(len(rows), len(rows[0])) == 1 and min(len(others), len(others[0])) == 1
        if rule.strict or a[0] == b[0] or len(flat) != len(line) or not is_line:
            return False
        return in_order(rule, flat, line)
    if len(rows) * len(rows[0]) > MOST_CELLS:
        return None
    if rule.strict and a[0] != b[0]:
        return False
    return both(in_order(rule, r, s) for r, s in zip(rows, others, strict=True))


def rows_of(node: Node) -> tuple[tuple[Node, ...], ...] | None:
    """A matrix's rows; a point is a column."""
    if node[0] == "matrix":
        return node[1]  # type: ignore[no-any-return]
    if node[0] == "tuple" and len(node) > 1:
        return tuple((n,) for n in node[1:])
    if node[0] == "interval" and node[3] == node[4]:
        return ((node[1],), (node[2],))
    return None


def line(matrix: Node) -> list[Node]:
    """The entries of a row or a column; none of any other matrix."""
    rows = matrix[1]
    return [c for r in rows for c in r] if min(len(rows), len(rows[0])) == 1 else []


def vector(node: Node, size: int) -> Node | None:
    r"""The components of `2\vec{i} + 3\vec{j}`, or of `2i + 3j` where the other answer is a point."""
    letters = facts(node).letters
    marks = [m for m in ("vec_", "hat_", "bold_") if any(m + base in letters for base in _BASES)]
    mark = marks[0] if marks else ""
    names = [mark + base for base in _BASES][:size]
    if size not in (2, 3) or not letters.intersection(names[1:] if not mark else names):
        return None
    if any(mark + base in letters for base in list(_BASES)[size:]):
        return None
    if not mark:
        node = substituted(node, "i", ("sym", "i"))
        node = _with_unit_letter(node)
    if _at(node, names, -1) is None:
        return None
    return ("tuple", *(_at(node, names, i) for i in range(size)))


def _with_unit_letter(node: Node) -> Node:
    if node == ("const", "i"):
        return "sym", "i"
    return tuple(_with_unit_letter(n) if isinstance(n, tuple) and n else n for n in node)


def _at(node: Node, names: list[str], one: int) -> Node | None:
    """A linear combination with one basis vector 1 and the others 0."""
    terms = node[1:] if node[0] == "add" else (node,)
    if not all(len(facts(t).letters.intersection(names)) == 1 and _is_linear(t, names) for t in terms):
        return None
    for i, name in enumerate(names):
        node = substituted(node, name, number(int(i == one)))
    return node


def _is_linear(term: Node, names: list[str]) -> bool:
    if term[0] == "neg":
        return _is_linear(term[1], names)
    if term[0] == "mul":
        return len([n for n in term[1:] if n[0] == "sym" and n[1] in names]) == 1
    if term[0] == "div":
        return _is_linear(term[1], names) and not facts(term[2]).letters.intersection(names)
    return bool(term[0] == "sym")


def ratios(rule: "Comparison", a: Node, b: Node) -> Answer:
    if a[0] == b[0] == "ratio":
        if len(a) != len(b):
            return False
        parts = list(zip(a[1:], b[1:], strict=True))
        if rule.strict or any(facts(x).structured or facts(y).structured for x, y in parts) or _zero(a) or _zero(b):
            return in_order(rule, a[1:], b[1:])
        (x, y), *rest = parts
        return both(rule.equal(("mul", x, q), ("mul", y, p)) for p, q in rest)
    ratio, other = (a, b) if a[0] == "ratio" else (b, a)
    if len(ratio) != 3 or rule.strict or facts(other).structured or any(facts(n).structured for n in ratio[1:]):
        return False
    divided: Node = ("div", ratio[1], ratio[2])
    return rule.same(divided, b) if a is ratio else rule.same(a, divided)


def _zero(node: Node) -> bool:
    return any(facts(n).value == 0 for n in node[1:])

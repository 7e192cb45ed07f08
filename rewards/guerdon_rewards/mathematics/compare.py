"""Whether two syntax trees mean the same answer: part by part, typed by the reference.

`strict` leaves out what people let pass: units left out, `x = 5` for `5`, rounding to the reference's digits, `50` for
`50%`, lists in another order, a set for a list, an interval for an inequality.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from guerdon_rewards.mathematics import lists, measures, regions
from guerdon_rewards.mathematics.evaluate import NoValue, constant_equal, identical, proportional
from guerdon_rewards.mathematics.facts import expression, facts
from guerdon_rewards.mathematics.integers import same_integers
from guerdon_rewards.mathematics.matrices import computed
from guerdon_rewards.mathematics.relations import definitions, relations, renamed
from guerdon_rewards.mathematics.rounding import close, roughly
from guerdon_rewards.mathematics.statements import may_be_one, measured, plain, said, truth
from guerdon_rewards.mathematics.tree import EMPTY, Node, number
from guerdon_rewards.mathematics.words import number_word, same_words

Answer = bool | None
MOST_WORK = 1500
"""Parts compared for one answer, those with much to evaluate counted more often."""
DEEPEST = 80
"""Structures within structures."""
CALCULUS = frozenset(("lim", "int", "sum", "prod", "diff"))
_MARKED = frozenset(("unit", "pm", "percent", "deg", "base"))
REALS: Node = ("numberset", "R")
_INTEGRAL = frozenset(("builder", "numberset"))
_STATED = frozenset(("rel", "def", "or", "false", "given"))
_STATEMENTS = frozenset(("rel", "or", "list"))
_INTEGERS: Node = ("numberset", "Z")
_COUNTED = frozenset(("numberset", name) for name in ("N", "Z+", "N0"))
_LEFT_OUT = frozenset((_INTEGERS, REALS))
_REMARK = re.compile(r"(?:any|for|where|when|with|whenever|such|given|as)\b(?!\W*[0-9])", re.IGNORECASE)
"""How a remark begins that may be left out of an answer, or be added to it."""


def same(a: Node, b: Node, strict: bool = False) -> Answer:
    """Whether `b`, an answer, means what `a`, the reference, means; None where that cannot be told."""
    try:
        return Comparison(strict).same(computed(a), computed(b))
    except (NoValue, RecursionError):
        return None


def for_sympy(a: Node, b: Node) -> tuple[Node, Node] | None:
    """Two expressions that hold what values at points cannot settle, or None."""
    first, second = (n[2] if n[0] == "def" else n for n in (said(a), said(b)))
    if facts(first).structured or facts(second).structured:
        return None
    return None if CALCULUS.isdisjoint(facts(first).tags | facts(second).tags) else (first, second)


class Comparison:
    """One comparison: its strictness, and the work that is left."""

    __slots__ = ("deep", "left", "strict")

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.left = MOST_WORK
        self.deep = 0

    def spend(self, work: int) -> bool:
        self.left -= work
        return self.left > 0

    def same(self, a: Node, b: Node) -> Answer:
        if a == b:
            return None if a == ("tuple",) else True
        if not self.spend(1) or self.deep > DEEPEST:
            return None
        self.deep += 1
        answer = self._statements(a, b)
        self.deep -= 1
        return answer

    def _statements(self, a: Node, b: Node) -> Answer:
        if a[0] == "given" or b[0] == "given":
            return self._with_remarks(a, b)
        if (a[0] == "list" or b[0] == "list") and "numberset" in facts(a).tags | facts(b).tags:
            (first, domain), (second, other_domain) = lists.with_domain(a), lists.with_domain(b)
            if domain or other_domain:
                return self._with_domains(first, domain, second, other_domain)
        first, second = said(a), said(b)
        if second[0] == "rel" and not self.strict and first[0] not in _STATED:
            second = self._value_of(first, second)
        elif first[0] == "rel" and not self.strict and second[0] not in _STATED:
            first = measured(first, facts(second).letters, plainly=True) or first
        kinds = (first[0], second[0])
        if "false" in kinds:
            return False
        if "def" in kinds:
            return definitions(self, first, second)
        if a[0] == b[0] == "rel" and "rel" not in kinds and not self.same(a[2][0], b[2][0]):
            return False  # 3 * 8 = 24 and 24 = 24, but not 27.7 / 22.3 = 1.24 and 27.8 / 22.3 = 1.24
        return self._same(first, second, *kinds)

    def _value_of(self, reference: Node, equation: Node) -> Node:
        """What an equation says where a value alone is asked for: `|z| = 5` says 5, an identity its last side."""
        value = measured(equation, facts(reference).letters, plainly=self.deep > 1)
        if value is not None:
            return value
        sides = equation[2]
        if set(equation[1]) != {"="} or facts(equation).letters != facts(reference).letters or len(sides) > 4:
            return equation
        if any(facts(n).structured for n in (reference, *sides)) or not self.spend(4):
            return equation
        return sides[-1] if all(self.equal(sides[0], n) for n in sides[1:]) else equation

    def _same(self, a: Node, b: Node, kind: str, other: str) -> Answer:
        if kind == "text" or other == "text":
            return self._texts(a, b)
        one, two = facts(a), facts(b)
        if not one.structured and not two.structured:
            if _MARKED.isdisjoint(one.tags) and _MARKED.isdisjoint(two.tags):
                return self._values(a, b)
            if "unit" in one.tags or "unit" in two.tags:
                return measures.same_measures(self, a, b)
            if "pm" in one.tags or "pm" in two.tags:
                return lists.collections(self, a, b)
            return self.scalars(a, b)
        if kind == "matrix" or other == "matrix" or self._is_vector(a, b):
            return self._matrices(a, b)
        return self._structures(a, b, kind, other)

    def _structures(self, a: Node, b: Node, kind: str, other: str) -> Answer:
        if lists.is_finite_set(a) or lists.is_finite_set(b):
            return lists.collections(self, a, b)
        if regions.is_region(a) or regions.is_region(b):
            return self._regions(a, b)
        if kind == "rel" or other == "rel":
            if kind == other or not lists.COLLECTIONS.intersection((kind, other)):
                return relations(self, a, b)
            return lists.collections(self, a, b) if not self.strict else False
        if kind in lists.COLLECTIONS or other in lists.COLLECTIONS:
            return lists.collections(self, a, b)
        if kind == "ratio" or other == "ratio":
            return lists.ratios(self, a, b)
        return self._alike(a, b)

    def _with_domains(self, a: Node, domain: list[Node], b: Node, other_domain: list[Node]) -> Answer:
        """`x = k pi, k in Z`: what the letter stands for may be left out, or be said of another letter."""
        if domain and other_domain:
            if sorted(domain) != sorted(other_domain):
                return False
        elif self.strict or not self._may_be_left_out({*domain, *other_domain}, a if domain else b):
            return False
        answer = self.same(a, b)
        if answer or _INTEGERS not in (*domain, *other_domain):
            return answer
        return self._one_renamed(a, b) or answer

    def _may_be_left_out(self, domains: set[Node], node: Node) -> bool:
        return domains <= _LEFT_OUT or (domains <= _COUNTED and _is_sequence(node))

    def _one_renamed(self, a: Node, b: Node) -> bool:
        first, second = said(a), said(b)
        if first[0] == second[0] == "def" and not may_be_one(first[1], second[1]):
            return False
        first, second = ((n[2] if n[0] == "def" else n) for n in (first, second))
        return renamed(self, first, second, whole=True)

    def _texts(self, a: Node, b: Node) -> Answer:
        """Words, and what they stand for: no solution, infinitely many, all real numbers, three."""
        if a[0] == b[0]:
            return same_words(a[1], b[1])
        text, other = (a, b) if a[0] == "text" else (b, a)
        if other[0] == "const" and other[1] == "oo":
            return same_words(text[1], "infinitely many")
        if other == EMPTY:
            return same_words(text[1], "no solution")
        if other[0] in ("sym", "const"):
            return bool(text[1] == other[1])
        if text[1].lower() in ("true", "false"):
            found = truth(other)
            return found is not None and found == (text[1].lower() == "true")
        if other[0] == "tuple" or regions.is_region(other):
            reals = same_words(text[1], "all real numbers")
            return reals and (other == REALS or (not self.strict and regions.same_region(REALS, other, self.same)))
        value = facts(other).value
        return value is not None and number_word(text[1]) == value

    def _alike(self, a: Node, b: Node) -> Answer:
        """Trees of one shape with structures inside, such as `p and q`."""
        if a[0] != b[0] or len(a) != len(b):
            return False
        for x, y in zip(a[1:], b[1:], strict=True):
            if isinstance(x, tuple) and isinstance(y, tuple) and x and y and isinstance(x[0], str):
                if not self.same(x, y):
                    return None
            elif x != y:
                return None
        return True

    def _with_remarks(self, a: Node, b: Node) -> Answer:
        """`f(x) = 1 for all x`: what is remarked may be left out, but not differ."""
        if a[0] == b[0]:
            answer = self.same(a[1], b[1])
            return answer if same_words(a[2], b[2]) else answer and None
        remark = a[2] if a[0] == "given" else b[2]
        first, second = (a[1], b) if a[0] == "given" else (a, b[1])
        if self.strict or "text" in (first[0], second[0]) or not _REMARK.match(remark):
            return False
        answer = self.same(first, second)
        if answer or ("integer" not in remark and "Z" not in remark):
            return answer
        return self._one_renamed(first, second) or answer

    # structures that stand for others -------------------------------------------------------------------------------

    def _is_vector(self, a: Node, b: Node) -> bool:
        point, other = (a, b) if a[0] == "tuple" else (b, a)
        return not self.strict and point[0] == "tuple" and not facts(other).structured and bool(facts(other).letters)

    def _matrices(self, a: Node, b: Node) -> Answer:
        if not self.strict:
            a = lists.vector(a, _size(b)) or a if not facts(a).structured else a
            b = lists.vector(b, _size(a)) or b if not facts(b).structured else b
        if not self.strict and {a[0], b[0]} == {"matrix", "list"}:
            line = lists.line(a if a[0] == "matrix" else b)
            return bool(line) and lists.in_order(self, *(n[1:] if n[0] == "list" else line for n in (a, b)))
        if a[0] in ("set", "list") or b[0] in ("set", "list") or a[0] == b[0] == "tuple":
            return lists.collections(self, a, b)
        return lists.matrices(self, a, b)

    def _regions(self, a: Node, b: Node) -> Answer:
        if a[0] == b[0] == "interval" and a[3:] == b[3:]:
            return lists.in_order(self, a[1:3], b[1:3])
        if self.strict and (a[0] in _STATEMENTS) != (b[0] in _STATEMENTS):
            return False
        if a[0] == b[0] == "rel" and relations(self, a, b):
            return True
        if a[0] == b[0] and a[0] in ("list", "or") and lists.unordered(self, list(a[1:]), list(b[1:])):
            return True
        if a[0] == b[0] == "builder":
            alike = self._builders(a, b)
            if alike:
                return True
        if a[0] in _INTEGRAL and b[0] in _INTEGRAL and same_integers(a, b):
            return True
        if "builder" in (a[0], b[0]) and "rel" in (a[0], b[0]) and not self.strict:
            built, other = (a, b) if a[0] == "builder" else (b, a)
            if facts(built[1]).letters <= facts(other).letters and self.same(built[2], other):
                return True
        if not regions.same_subject(a, b):
            return False
        answer = regions.same_region(a, b, self.same)
        if answer is None and a[0] == b[0] == "union":
            return lists.unordered(self, list(a[1:]), list(b[1:]))
        return answer

    def _builders(self, a: Node, b: Node) -> Answer:
        first, second = a, b
        if a[1] != b[1] and len(facts(a[1]).letters) == len(facts(b[1]).letters) == 1:
            (new,), (old,) = facts(a[1]).letters, facts(b[1]).letters
            if new not in facts(b).letters:
                second = regions.substituted(b, old, ("sym", new))
        return lists.both((self.same(first[1], second[1]), self.same(first[2], second[2])))

    # single values --------------------------------------------------------------------------------------------------

    def scalars(self, a: Node, b: Node) -> Answer:
        one, two = facts(a), facts(b)
        if one.structured or two.structured:
            return None if a[0] == b[0] else False
        if "base" in (a[0], b[0]):
            return self._bases(a, b)
        answer: Answer = False
        for first, second in self._readings(a, b):
            answer = self._values(first, second)
            if answer:
                return True
        return answer

    def _values(self, a: Node, b: Node) -> Answer:
        answer = self.equal(a, b)
        if answer:
            return True
        one, two = facts(a), facts(b)
        if not self.strict and ("decimal" in one.tags or "decimal" in two.tags) and close(a, b):
            return True
        if one.letters or two.letters:
            return self._with_letters(a, b) or answer
        return answer

    def _with_letters(self, a: Node, b: Node) -> Answer:
        first, second = facts(a), facts(b)
        if not self.strict:
            if "decimal" in first.tags and roughly(a, b):
                return True
            if not _MARKED_BASES.isdisjoint(first.letters) and not _MARKED_BASES.isdisjoint(second.letters):
                return self.equal(*(_with_one_mark(n) for n in (a, b)))
            if measures.in_letters(self, a, b) or self._up_to_constant(a, b):
                return True
        if "I" in first.letters | second.letters and "const" in first.tags | second.tags:
            return self.equal(*(regions.substituted(n, "I", ("const", "i")) for n in (a, b)))
        return False

    def _up_to_constant(self, a: Node, b: Node) -> bool:
        """Antiderivatives, both with a constant of integration."""
        first, second = _integrated(a), _integrated(b)
        if first is None or second is None or not self.spend(8):
            return False
        if self.equal(first, second):
            return True
        return proportional(("add", first, ("neg", second)), number(1)) is not None

    def equal(self, a: Node, b: Node) -> Answer:
        """Whether two expressions have the same values."""
        one, two = facts(a), facts(b)
        if one.key is not None and two.key is not None:
            return one.key == two.key
        if not self.spend(4):
            return None
        if not one.letters and not two.letters:
            return constant_equal(a, b)
        return identical(expression(a), expression(b))

    def exactly(self, a: Node, b: Node) -> bool:
        """Whether two members of a set are one."""
        if a == b:
            return True
        if facts(a).structured or facts(b).structured:
            return bool(Comparison.same(self, a, b))
        return bool(self.equal(a, b))

    def _readings(self, a: Node, b: Node) -> Iterator[tuple[Node, Node]]:
        """What percent and degree signs may mean on both sides, likeliest first."""
        if a[0] == b[0] and a[0] in ("percent", "deg"):
            yield a[1], b[1]
        elif "percent" in (a[0], b[0]):
            yield a, b
            if not self.strict:
                yield (a[1] if a[0] == "percent" else a), (b[1] if b[0] == "percent" else b)
        elif "deg" in (a[0], b[0]):
            turn: Node = ("div", ("const", "pi"), number(180))
            if "const" in facts(a if b[0] == "deg" else b).tags:
                yield tuple(("mul", n[1], turn) if n[0] == "deg" else n for n in (a, b))  # type: ignore[misc]
            if not self.strict:
                yield plain(a), plain(b)
        else:
            yield a, b

    def _bases(self, a: Node, b: Node) -> Answer:
        """A base may be left out; a number in another base is another answer."""
        if a[0] == b[0]:
            return bool(a[1].lstrip("0") == b[1].lstrip("0") and a[2] == b[2])
        based, other = (a, b) if a[0] == "base" else (b, a)
        return not self.strict and based[1].isdecimal() and facts(other).value == Fraction(based[1])


_MARKED_BASES = frozenset(f"{mark}_{base}" for mark in ("vec", "hat", "bold") for base in "ijk")


def _with_one_mark(node: Node) -> Node:
    """Unit vectors, whichever way they are marked."""
    for name in _MARKED_BASES & facts(node).letters:
        node = regions.substituted(node, name, ("sym", f"vec_{name[-1]}"))
    return node


def _is_sequence(node: Node) -> bool:
    """`a_n = 2n - 1`, whose letter counts anyway."""
    statement = said(node)
    return bool(statement[0] == "def" and statement[1][0] == "sym" and "_" in statement[1][1])


def _size(node: Node) -> int:
    rows = lists.rows_of(node)
    return max(len(rows), len(rows[0])) if rows else 0


_INTEGRATED = frozenset(("x", "t", "u", "y", "z", "theta", "r", "s", "v", "w"))
_CONSTANTS = frozenset(("C", "c", "K", "k", "C_1", "c_1", "C_0", "const"))


def _integrated(node: Node) -> Node | None:
    """What stands before `+ C`, in an expression of the letters that one integrates over."""
    if node[0] != "add" or node[-1][0] != "sym" or node[-1][1] not in _CONSTANTS:
        return None
    rest: Node = ("add", *node[1:-1]) if len(node) > 3 else node[1]
    letters = facts(rest).letters
    if not letters & _INTEGRATED or node[-1][1] in letters or any(c.isupper() for c in letters):
        return None
    return rest if "C" in node[-1][1].upper() or "K" in node[-1][1].upper() else None

"""Two written answers compared in stages, the cheapest first; each says yes, no, or leaves it to the next.

    text        the same signs
    choice      the letter of a multiple-choice reference
    number      two plain numbers, exactly
    structure   the syntax trees, part by part (`compare`), their values at exact or interval points (`evaluate`)
    symbolic    sympy, in a worker process, for what is left (`symbolic`)

What is not understood is not accepted. Trees are kept in a cache of bounded size, so that a reference is parsed once;
`equivalence` keeps the verdicts.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from guerdon_rewards.mathematics.prepare import repaired

TREES = 1 << 14


class Verdict(NamedTuple):
    """`equal` is None where no stage could tell; `stage` decided, or was the last to try."""

    equal: bool | None
    stage: str


def compared(reference: str, answer: str, strict: bool = False) -> Verdict:
    """Whether an answer means what the reference means, as far as the bounded stages can tell."""
    if reference.isdecimal() and answer.isdecimal() and (reference + answer).isascii():
        equal = reference == answer or reference.lstrip("0") == answer.lstrip("0")
        return Verdict(equal, "text" if reference == answer else "number")
    first, second = plain(reference), plain(answer)
    if first == second:
        return Verdict(True, "text") if first else Verdict(False, "text")
    if len(first) <= LONG_NUMBER and len(second) <= LONG_NUMBER:
        one, other = _SIMPLE.fullmatch(first), _SIMPLE.fullmatch(second)
        if one and other:
            decided = _numbers(one, other)
            if decided is not None:
                return Verdict(decided, "number")
    return _structured(first, second, strict)


LONG_NUMBER = 40
"""Characters."""
_SIMPLE = re.compile(r"(-?(?:[1-9][0-9]{0,2}(?:(,)[0-9]{3})++|[0-9]++))(?:\.([0-9]++))?")
FAR = 0.02
"""Relative: what is farther apart was not rounded."""


def _numbers(a: re.Match[str], b: re.Match[str]) -> bool | None:
    """Two plain numbers; None where both may be lists, or one was rounded."""
    lists = a[2] and b[2]
    first, second = a[0].replace(",", ""), b[0].replace(",", "")
    if not (a[3] or b[3]):
        same = int(first) == int(second)
        return same or (None if lists else False)
    if first == second:
        return True
    x, y = float(first), float(second)
    return False if abs(x - y) > FAR * max(abs(x), abs(y)) and not lists else None


_SPACES = re.compile(r"\s+")
_DRESSED = frozenset("$*\\ \n\t.")


def plain(text: str) -> str:
    """Without the dress around the whole: dollars, bold stars, display brackets, a final full stop."""
    if not text.isprintable():
        text = repaired(text)
    if not text or (text[0] not in _DRESSED and text[-1] not in _DRESSED):
        return _SPACES.sub(" ", text) if "\n" in text or "  " in text else text
    text = text.strip()
    before = None
    while text != before:
        before = text
        if text.startswith("**") and text.endswith("**") and len(text) > 4:
            text = text[2:-2].strip()
        if text.startswith("$") and text.endswith("$") and "$" not in text.strip("$"):
            text = text.strip("$").strip()
        for opener, closer in (("\\(", "\\)"), ("\\[", "\\]")):
            if text.startswith(opener) and text.endswith(closer) and len(text) > 3:
                text = text[2:-2].strip()
        if text.endswith((".", "\\")) and not text.endswith(("..", "\\\\")):
            text = text[:-1].strip()
    return _SPACES.sub(" ", text)


def _structured(reference: str, answer: str, strict: bool) -> Verdict:
    from guerdon_rewards.mathematics.compare import same
    from guerdon_rewards.mathematics.quantity import same_quantity
    from guerdon_rewards.mathematics.words import choice, choices, same_words

    letter = choice(reference)
    if letter:
        picked = choice(answer, lower=not strict)
        if picked:
            return Verdict(picked == letter, "choice")
    elif several := choices(reference):
        picked_several = choices(answer)
        if picked_several:
            return Verdict(picked_several == several, "choice")
    quantity = same_quantity(reference, answer, strict)
    if quantity is not None:
        return Verdict(quantity, "number")
    if not strict and _decimal_comma(reference, answer):
        return Verdict(True, "number")
    wanted, given = trees(reference), trees(answer)
    if not wanted or not given:
        return Verdict(True, "text") if same_words(reference, answer) else Verdict(False, "unread")
    result: bool | None = False
    for first in wanted:
        for second in given:
            answered = same(first, second, strict)
            if answered:
                return Verdict(True, "structure")
            if answered is None:
                result = None
    return Verdict(result, "structure")


_COMMA = re.compile(r"-?[0-9]++,[0-9]++")


def _decimal_comma(a: str, b: str) -> bool:
    """`1000,99` for `1000.99`: the same digits, one of the two with a comma for the point."""
    if _COMMA.fullmatch(a):
        return a.replace(",", ".") == b
    return bool(_COMMA.fullmatch(b)) and b.replace(",", ".") == a


def readable(text: str) -> bool:
    """Whether a text is understood as mathematics."""
    return bool(trees(plain(text)))


def slow_pair(reference: str, answer: str) -> tuple[Any, Any] | None:
    """The trees that sympy is to compare; None where it has no say: in structures, or without calculus."""
    from guerdon_rewards.mathematics.compare import for_sympy

    for first in trees(plain(reference))[:1]:
        for second in trees(plain(answer))[:1]:
            pair = for_sympy(first, second)
            return pair if pair and any(map(_is_open, pair)) else None
    return None


def _is_open(node: tuple[Any, ...]) -> bool:
    """Whether calculus in it has no value that arithmetic finds: a limit, a derivative, no bounds or infinite ones."""
    if node[0] in ("lim", "diff"):
        return True
    if node[0] in ("int", "sum", "prod"):
        ends = [e for e in node[2:4] if e is not None]
        return len(ends) < 2 or any(("const", "oo") in (e, e[-1]) for e in ends) or _is_open(node[4])
    return any(_is_open(n) for n in node[1:] if isinstance(n, tuple) and n)


@lru_cache(TREES)
def trees(text: str) -> tuple[Any, ...]:
    """The ways to read a text, likeliest first; none where it is not understood."""
    from guerdon_rewards.mathematics.syntax import Unread, number, parse
    from guerdon_rewards.mathematics.words import number_word

    if _SPELLED.match(text):
        value = number_word(text)
        if value is not None:
            return (number(value),)
    found = []
    for source, grouped in _sources(text):
        try:
            tree = parse(source, grouped)
        except (Unread, RecursionError):
            continue
        if tree not in found:
            found.append(tree)
    return tuple(found)


_SPELLED = re.compile(r"(?:\\text\w*\s*\{\s*)?[A-Za-z]{1,9}[- ][A-Za-z]")
_GROUPED = re.compile(r"[0-9],[0-9]{3}(?![0-9])")


def _sources(text: str) -> list[tuple[str, bool]]:
    sources = [(text, True)]
    if _GROUPED.search(text):
        sources.append((text, False))
    return sources

r"""The marks that writers make on purpose: `### 42 ###`, `#### 42`, `<answer>42</answer>`, `\boxed{42}`.

Each function gives where its mark opens and what it holds. All are linear: possessive quantifiers, bounds, and boxes
read from the end, where answers stand.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from guerdon_rewards.number import parse_number

Method = Literal["hashes", "gsm8k", "boxed", "xml", "sentence", "clause", "last_number", "whole"]
MARKS: tuple[Method, ...] = ("hashes", "gsm8k", "boxed", "xml")

LONGEST_BOX = 10_000
"""Characters of the longest box."""
MOST_JOINED = 64
"""Marks beside each other that are joined."""
MOST_OPEN = 200
"""Marks at a text's end that are passed over, as they hold no answer."""

Found = tuple[int, str] | None
Joined = tuple[int, str, tuple[str, ...]] | None


class Answer(NamedTuple):
    """An answer as it was written, the method that found it, and the boxes that it was joined from, if so."""

    text: str
    how: Method
    parts: tuple[str, ...] = ()


def marked(text: str, methods: Sequence[Method]) -> Answer | None:
    """The mark that opens last."""
    at, content, how = -1, "", None
    parts: tuple[str, ...] = ()
    clause = "clause" in methods
    hashes = text.find("###") if "#" in text else -1  # one sign is found much faster than several
    if hashes != -1:
        if "gsm8k" in methods and (found := _gsm8k(text)):
            at, content, how = *found, "gsm8k"
        alone = not text.startswith("####", hashes) or text.find("###", hashes + 4) != -1
        if alone and "hashes" in methods and (found := _hashes(text, hashes)) and found[0] > at:
            at, content, how = *found, "hashes"
    if "<" in text and "xml" in methods and (tags := _xml(text, clause)) and tags[0] > at:
        at, content, parts, how = *tags, "xml"
    if "boxed" in methods and "\\" in text and (boxes := _boxes(text, clause)) and boxes[0] > at:
        at, content, parts, how = *boxes, "boxed"
    return Answer(content, how, parts) if how else None  # type: ignore[arg-type]


_HASHES = re.compile(r"(?<!#)###(?!#)\s*+([^#\n]++)(?:###(?!#)|\s*+(?:\Z|###[ \t]*+(?:\n|\Z)))")
_HEADING = re.compile(
    r"(?:the )?(?:final )?(?:answer|solution|conclusion|result|explanation|summary|step)s?:?", re.IGNORECASE
)


def _hashes(text: str, at: int) -> Found:
    if text.count("###", at) == 2 and text.endswith("###"):  # what is asked for, at once
        content = text[at + 3 : -3].strip()
        if content and "\n" not in content and "#" not in content:
            return None if _HEADING.fullmatch(content) else (at, content)
    found = ((m.start(), m[1].strip()) for m in _HASHES.finditer(text, at))
    return last((at, content) for at, content in found if not _HEADING.fullmatch(content))


_GSM8K = re.compile(r"(?<!#)####(?!#)[ \t]*+([^\n]++)")


def _gsm8k(text: str) -> Found:
    # a heading of Markdown looks the same: only a number, or the last line of all, is an answer
    at = text.rfind("####")
    if at == -1:
        return None
    end = len(text.rstrip())
    if text[at - 1 : at] != "#" and text.find("\n", at, end) == -1 and (content := text[at + 4 : end].strip()):
        return at, content
    lines = [m for m in _GSM8K.finditer(text) if not m[1].isspace()][-1:-MOST_OPEN:-1]
    return next(((m.start(), m[1].strip()) for m in lines if m.end() >= end or parse_number(m[1])), None)


def _xml(text: str, join: bool) -> Joined:
    """Where the last tag opens and what it holds; `join`: with the tags right beside it."""
    end = text.rfind("</answer>")
    at = start = text.rfind("<answer>", 0, end) if end != -1 else -1
    if start == -1:
        return None
    content = text[start + len("<answer>") : end].strip()
    end = text.rfind("</answer>", max(0, start - 40), start) if join else -1
    if end == -1:
        return at, content, ()
    parts = [content]
    for _ in range(MOST_JOINED):
        if end == -1 or text[end + len("</answer>") : start].strip(" \t\n,;") not in ("", "and", "or"):
            break
        start = text.rfind("<answer>", 0, end)
        if start == -1:
            break
        parts.append(text[start + len("<answer>") : end].strip())
        end = text.rfind("</answer>", max(0, start - 40), start)
    return _joined(at, parts[::-1])


def _joined(at: int, parts: list[str]) -> Joined:
    """Answers beside each other; equal ones once."""
    parts = list(dict.fromkeys(parts))
    return at, ", ".join(parts), tuple(parts) if len(parts) > 1 else ()


_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
_BARE_BOX = re.compile(r"\\boxed\s*+(?P<content>[-+]?[\d.][^$\n\\{}]{0,40}+|\\[a-zA-Z]++(?:\{[^{}$\n]{0,40}+\}){0,2}+)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_GLUE = r"[\s$,;&]|</?answer>|\\[()\[\]\\,;:! ]|\\q?quad\b|\\(?:text|mbox|textrm|mathrm)\s*\{[\s,]*+\}"
_LEADS = r"(?:[A-Za-z](?:_\{?\w{1,8}\}?)?(?:\([A-Za-z]\))?\s*(?:=|\\in\b)\s*)?"
_BESIDE = re.compile(
    rf"(?:{_GLUE})*+{_LEADS}|[^.!?\n]{{0,40}}?\b(?:and|or|und|oder|et|ou|y)\b(?:{_GLUE}|\}})*+{_LEADS}|[\s$]*(?:和|或|、|，)[\s$]*"
)
"""What stands between two boxes that are one answer."""


_NAME = re.compile(r"(?<![A-Za-z\\])([A-Za-z](?:_\{?\w{1,8}\}?)?)\s*=[\s$]*\Z")
_UNIT = re.compile(
    r"(?:[ \t$~]|\\[)\],;: ])*+"
    r"((?:\\(?:text|mathrm|mbox)\s*\{[\s\\]*)?(?P<word>[A-Za-z]{2,40}+|\\?%)\}?(?:\s?\^\{?[23]\}?|[²³])?)"
)
_NO_UNITS = frozenset(("in", "as", "at", "am", "pm", "so", "or"))


def _boxes(text: str, units: bool) -> Joined:
    """Where the last closed box opens and what it holds, joined with the boxes beside it, and these one by one.

    `units`: with the unit that stands behind the box, outside it.
    """
    at = stop = len(text)
    box = None
    for _ in range(MOST_OPEN):
        at = _box_before(text, at)
        if at == -1 or (box := _closed(text, at, stop)):
            break
        stop = at  # an open brace there: an earlier box can only close before it
    if not box:
        return None
    parts, start = [box[1]], at
    names = []
    for _ in range(MOST_JOINED if box[1] else 0):
        first = _box_before(text, start)
        beside = _closed(text, first, start) if first != -1 else None
        if not beside or not beside[1] or start - beside[0] > 80 or not _BESIDE.fullmatch(text, beside[0], start):
            break
        names.append(_NAME.search(text, max(0, start - 20), start))
        parts.append(beside[1])
        start = first
    if len(parts) == 1:
        end, content = box
        return at, content + _unit(text, end, content) if units and content[-1:].isdigit() else content, ()
    names.append(_NAME.search(text, max(0, start - 20), start))
    if len({name[1] for name in names if name}) == len(parts):
        return (
            at,
            ", ".join(f"{name[1]} = {part}" for name, part in zip(names[::-1], parts[::-1], strict=True) if name),
            (),
        )
    return _joined(at, parts[::-1])


def _unit(text: str, end: int, content: str) -> str:
    """The unit behind a box that holds a number alone: `$\\boxed{5}$ hours`."""
    found = _UNIT.match(text, end)
    return " " + found[1] if found and _is_unit(found["word"]) and parse_number(content) else ""


@lru_cache(1 << 10)
def _is_unit(word: str) -> bool:
    from guerdon_rewards.mathematics.units import is_unit

    return word[-1] == "%" or (word.lower() not in _NO_UNITS and is_unit(word))


def _box_before(text: str, stop: int) -> int:
    at = text.rfind("box", 0, stop)
    while at > 0:
        if text[at - 1] == "\\" and text.startswith("ed", at + 3):
            return at - 1
        if text.startswith("\\f", at - 2):
            return at - 2
        at = text.rfind("box", 0, at)
    return -1


def _closed(text: str, at: int, stop: int) -> tuple[int, str] | None:
    """Where the box at `at` ends, and its content; `None` if it is not closed before `stop`."""
    if text.startswith("\\boxed{", at):
        start = at + 7
    elif opening := _BOX.match(text, at):
        start = opening.end()
    else:
        bare = _BARE_BOX.match(text, at, stop)
        return (bare.end(), bare["content"].strip().rstrip(".,;")) if bare else None
    stop = min(stop, start + LONGEST_BOX)
    close = text.find("}", start, stop)
    if close != -1 and text.find("{", start, close) == -1 and text[close - 1] != "\\":
        return close + 1, text[start:close].strip()
    depth = 1
    for brace in _BRACE.finditer(text, start, stop):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
            if not depth:
                return brace.end(), text[start : brace.start()].strip()
    return None


def last(found: Iterable[tuple[int, str]]) -> Found:
    """The last of them, if any."""
    latest: Found = None
    for latest in found:  # noqa: B007  the last one is what is wanted
        pass
    return latest

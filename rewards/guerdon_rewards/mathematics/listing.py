"""Answers of several statements: what joins them, what they are called, and what is remarked beside them."""

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from guerdon_rewards.mathematics.lexer import Unread
from guerdon_rewards.mathematics.tree import Node, is_clause, is_condition, spread

if TYPE_CHECKING:
    from guerdon_rewards.mathematics.syntax import Parser

_LOGIC = {"\\wedge": "\\and", "\\land": "\\and", "\\vee": "\\or", "\\lor": "\\or"}
_COPULAS = frozenset(("is", "are", "equals"))
_ADVERBS = frozenset(("only", "so", "thus", "hence", "therefore", "then"))
_CLOSING = (")", "]", "\\}", "\\rbrack", "}")


def several(parser: "Parser", first: Node) -> Node:
    """A list whose first item was read."""
    items, labels, words = [first], [parser.label], set()
    semicolons: list[int] = []
    ors: list[int] = []
    commas = 0
    while True:
        if parser.tokens[parser.at].kind == "end":
            break
        remarked = remark(parser)
        if remarked:
            items[-1] = ("given", items[-1], remarked)
        mark = parser.at
        separated = parser.accept(",", ";", "\\\\", "&", "\\&", *_LOGIC)
        if separated and parser.tokens[mark].value in _LOGIC:
            words.add(_LOGIC[str(parser.tokens[mark].value)])
        if separated and parser.tokens[mark].value == ";":
            semicolons.append(len(items))
        elif separated:
            commas += 1
        while parser.next.kind == "text" and parser.next.value in ("and", "or"):
            word = str(parser.take().value)
            words.add(word)
            separated = True
            if word == "or":
                ors.append(len(items))
        if (
            not separated
            or parser.next.kind == "end"
            or (parser.sees(".") and parser.tokens[parser.at + 1].kind == "end")
        ):
            parser.at = mark if not separated else parser.at
            break
        if parser.sees(*_CLOSING):
            parser.at = mark
            break
        if parser.next.kind == "text" and is_clause(parser.next):
            break
        if parser.accept("..."):
            items.append(("text", "..."))
            labels.append("")
            continue
        items.append(parser.statement())
        labels.append(parser.label)
    return _joined(_labelled(items, labels), words, semicolons, ors, commas)


def _joined(items: list[Node], words: set[str], semicolons: list[int], ors: list[int], commas: int) -> Node:
    if len(items) == 1:
        return items[0]
    if semicolons and commas and not words:  # a = 5, b = 2; a = 7, b = 2
        return "list", *_rows(items, semicolons)
    if items[-1][0] == "rel" and items[-1][1][-1] == "mod":
        congruences = spread(items)
        if congruences and "and" not in words:
            return "or", *congruences
    if "or" in words and all(is_condition(i) for i in items):
        rows = _rows(items, ors)
        return ("list", *rows) if _one_pattern(rows) else ("or", *items)
    if {"\\and", "\\or"} & words:
        if all(is_condition(i) for i in items):
            return ("or" if "\\or" in words else "list"), *items
        if len(words) > 1:
            raise Unread("logic without brackets")
        return "apply", words.pop(), *items
    return "list", *items


def _rows(items: list[Node], breaks: list[int]) -> list[Node]:
    rows = [items[i:j] for i, j in pairwise([0, *breaks, len(items)]) if j > i]
    return [("tuple", *row) if len(row) > 1 else row[0] for row in rows]


def _one_pattern(rows: list[Node]) -> bool:
    """Whether all give values to the same names: `x = 2, y = 3 or x = 3, y = 2`."""
    names = {tuple(n[2][0] for n in row[1:] if n[0] == "rel" and n[1] == ("=",)) for row in rows if row[0] == "tuple"}
    if len(names) != 1 or len(rows) < 2:
        return False
    (same,) = names
    return len(set(same)) == len(same) and all(row[0] == "tuple" and len(row) == len(same) + 1 for row in rows)


def _labelled(items: list[Node], labels: list[str]) -> list[Node]:
    """With what tells the items apart: `Alice: 3, Bob: 5` and `A: 5, B: 12` give values to names."""
    if len(items) < 2:
        return items
    if all(n[0] == "ratio" and len(n) == 3 and n[1][0] == "sym" and n[2][0] != "sym" for n in items):
        return [("rel", ("=",), n[1:]) for n in items]
    if not all(labels) or len(set(labels)) < len(labels):
        return items
    return [
        n if label[-1] == "=" or n[0] == "rel" else ("rel", ("=",), (("text", label), n))
        for n, label in zip(items, labels, strict=True)
    ]


def remark(parser: "Parser") -> str:
    """Pass over `for all x` where more statements follow it; its words."""
    if not (parser.next.kind == "text" and is_clause(parser.next)):
        return ""
    level, start = 0, parser.at
    for place in range(parser.at, len(parser.tokens)):
        token = parser.tokens[place]
        level += (token.value in ("(", "[", "{", "\\{")) - (token.value in (")", "]", "}", "\\}"))
        if level < 0:
            return ""
        if token.kind == "text" and token.value in ("and", "or") and parser.tokens[place + 1].kind != "end":
            parser.at = place
            return " ".join(t.raw for t in parser.tokens[start:place]).strip()
    return ""


def label(parser: "Parser") -> str:
    """Pass over `Answer:`, `the answer is`, and tell what it was; before `=` it is a name, and stays."""
    while parser.next.kind in ("text", "word") and str(parser.next.value).lower() in _ADVERBS:
        parser.at += 1
    mark = parser.at
    words: list[str] = []
    while parser.next.kind in ("text", "word"):
        last = parser.take()
        words.append(str(last.raw).strip())
        if words[-1].endswith((":", "=")):
            return " ".join(words).rstrip(": ")
        phrase = " ".join(words).split(" ")
        if phrase[-1] in _COPULAS and len(phrase) > 1 and parser.next.kind not in ("text", "word", "end"):
            return " ".join(phrase[:-1])  # the answer is 5
    if words and parser.accept(":"):
        return " ".join(words)
    parser.at = mark
    return ""


_EXCEPT = re.compile(r"(?:all|every|any) reals?(?: numbers?)? (?:except|but|other than)(?: for)?", re.IGNORECASE)


def said(words: str, value: Node) -> Node:
    """`maximum 5`, which only the same words say; but `all real numbers except 2` is a set."""
    if _EXCEPT.fullmatch(words):
        return "minus", ("numberset", "R"), value if value[0] == "set" else ("set", value)
    return "rel", ("says",), (("text", words), value)


def hyphened(parser: "Parser") -> None:
    """Pass over `x-intercept:`."""
    mark = parser.at
    parser.at += 2
    while parser.next.kind in ("text", "word"):
        parser.at += 1
    if len(parser.tokens[mark + 2].raw) > 3 and parser.sees(":", "="):
        parser.at += 1
    else:
        parser.at = mark


def without_domain(node: Node) -> Node:
    r"""`k\pi (k \in \mathbb{Z})`: the remark on its own."""
    rest, domain = _parted(node[2][-1] if node[0] == "rel" else node)
    if domain is None:
        return node
    return "list", (("rel", node[1], (*node[2][:-1], rest)) if node[0] == "rel" else rest), domain


def _parted(node: Node) -> tuple[Node, Node | None]:
    """An expression without the condition that its last sign is multiplied with, and that."""
    if node[0] == "mul" and node[-1][0] == "rel" and node[-1][1] == ("in",):
        return (node[1] if len(node) == 3 else node[:-1]), node[-1]
    if node[0] in ("add", "neg"):
        rest, domain = _parted(node[-1])
        return (*node[:-1], rest), domain
    return node, None

"""`xml_format`: does the completion keep to the tagged template that the prompt asked for?"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

TAGS = ("reasoning", "answer")


def xml_format(
    completion: str,
    *,
    style: Literal["soft", "strict", "count"] = "soft",
    tags: tuple[str, ...] = TAGS,
    compat: bool = False,
) -> float | tuple[float, str]:
    """Up to 0.5 for `<reasoning>...</reasoning><answer>...</answer>`; the three format rewards of the Unsloth
    GRPO tutorial.

    `soft`: 0.5 or 0.0; the completion opens with the blocks in order, blanks between them, each tag once,
    none empty; text may follow. `strict`: 0.5 or 0.0; the blocks are all there is, and tags stand on lines of
    their own. `count`: 0.0 to 0.5; an equal share for each tag that occurs once, less 0.001 for each
    character after the last closing tag.

    `compat` gives the tutorial's exact values, which differ: a block of several lines fails `soft` and
    `strict`, so `soft` is 0.0 on the very template; `strict` requires the final newline; tags may repeat and
    blocks be empty; `count` asks for newlines around tags, takes 0.001 for each character of the whole text
    where the final newline is missing (a long answer goes far below zero), and charges text after the answer
    twice.

    Args:
        style: Which of the three rules.
        tags: The template's blocks, in order.
        compat: Score exactly as the tutorial does, faults included; knows the tags `reasoning` and `answer`
            only.

    Raises:
        ValueError: no tags, or `compat` with tags of your own.

    >>> template = "<reasoning>\\n6 * 7\\n</reasoning>\\n<answer>\\n42\\n</answer>"
    >>> xml_format(template), xml_format(template, compat=True)
    (0.5, 0.0)
    >>> xml_format("It is 42.")
    (0.0, 'no <reasoning>')
    """
    if compat:
        if tags != TAGS:
            raise ValueError("xml_format: with `compat`, leave out `tags`")
        return _AS_PRINTED[style](completion)
    if not tags:
        raise ValueError("xml_format: `tags` is empty")
    return _RULES[style](completion, tags)


Scored = float | tuple[float, str]


def _soft(text: str, tags: Sequence[str]) -> Scored:
    blocks = _blocks(text, tags)
    return (0.0, blocks) if isinstance(blocks, str) else 0.5


def _strict(text: str, tags: Sequence[str]) -> Scored:
    blocks = _blocks(text, tags)
    if isinstance(blocks, str):
        return 0.0, blocks
    template = "\n".join(f"<{tag}>{block}</{tag}>" for tag, block in zip(tags, blocks, strict=True))
    if text.removesuffix("\n") != template:
        return 0.0, "not the blocks alone, one after the other"
    lines = all(block[0] == block[-1] == "\n" for block in blocks)
    return 0.5 if lines else (0.0, "a tag without a line of its own")


def _count(text: str, tags: Sequence[str]) -> Scored:
    marks = _marks(tags)
    once = sum(text.count(mark) == 1 for mark in marks)
    after = len(text.rpartition(marks[-1])[2].strip()) if marks[-1] in text else 0
    if once == len(marks) and not after:
        return 0.5
    behind = f", {after} characters after the last" if after else ""
    return max(0.0, 0.5 / len(marks) * once - 0.001 * after), f"{once} of {len(marks)} tags occur once{behind}"


def _marks(tags: Sequence[str]) -> list[str]:
    return [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]


def _blocks(text: str, tags: Sequence[str]) -> list[str] | str:
    """What each block holds, where each tag occurs once, in order, with only blanks before and between; else what is
    wrong."""
    edges = [0]
    for mark in _marks(tags):
        at = text.find(mark)
        if at == -1:
            return f"no {mark}"
        if at < edges[-1]:
            return f"{mark} in the wrong place"
        if text.find(mark, at + 1) != -1:
            return f"{mark} more than once"
        edges += [at, at + len(mark)]
    pieces = [text[a:b] for a, b in pairwise(edges)]  # between, tag, block, tag, between, tag, block, tag
    blocks, between = pieces[2::4], pieces[0::4]
    for tag, block, before in zip(tags, blocks, between, strict=True):
        if before.strip() or not block.strip():
            return f"text before <{tag}>" if before.strip() else f"nothing in <{tag}>"
    return blocks


_CLOSE_AND_OPEN = re.compile(r"</reasoning>\s*+<answer>")


def _soft_as_printed(text: str) -> float:
    r"""`re.match(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")`, in linear time, where that pattern's
    is quadratic.

    Each `.` stays on its line, so two places can decide: the first `</reasoning><answer>` of the first line,
    and the last.
    """
    if not text.startswith("<reasoning>"):
        return 0.0
    end = text.find("\n") if "\n" in text else len(text)
    first = _CLOSE_AND_OPEN.search(text, len("<reasoning>"))
    last = _CLOSE_AND_OPEN.match(text, max(text.rfind("</reasoning>", 0, end), len("<reasoning>")))
    for place in (first, last):
        if place and place.start() < end:
            close = text.find("</answer>", place.end())
            if close != -1 and "\n" not in text[place.end() : close]:
                return 0.5
    return 0.0


_STRICT = re.compile(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$")


def _strict_as_printed(text: str) -> float:
    return 0.5 if _STRICT.match(text) else 0.0


def _count_as_printed(text: str) -> float:
    count = 0.125 * (text.count("<reasoning>\n") == 1) + 0.125 * (text.count("\n</reasoning>\n") == 1)
    if text.count("\n<answer>\n") == 1:
        count += 0.125 - len(text.split("\n</answer>\n")[-1]) * 0.001
    if text.count("\n</answer>") == 1:
        count += 0.125 - (len(text.split("\n</answer>")[-1]) - 1) * 0.001
    return count


_RULES = {"soft": _soft, "strict": _strict, "count": _count}
_AS_PRINTED = {"soft": _soft_as_printed, "strict": _strict_as_printed, "count": _count_as_printed}

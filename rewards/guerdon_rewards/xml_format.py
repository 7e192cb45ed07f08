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
) -> float:
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
    """
    if compat:
        if tags != TAGS:
            raise ValueError("xml_format: with `compat`, leave out `tags`")
        return _AS_PRINTED[style](completion)
    if not tags:
        raise ValueError("xml_format: `tags` is empty")
    return _RULES[style](completion, tags)


def _soft(text: str, tags: Sequence[str]) -> float:
    return 0.5 if _blocks(text, tags) is not None else 0.0


def _strict(text: str, tags: Sequence[str]) -> float:
    blocks = _blocks(text, tags)
    if blocks is None:
        return 0.0
    template = "\n".join(f"<{tag}>{block}</{tag}>" for tag, block in zip(tags, blocks, strict=True))
    lines = all(block[0] == block[-1] == "\n" for block in blocks)
    return 0.5 if lines and text.removesuffix("\n") == template else 0.0


def _count(text: str, tags: Sequence[str]) -> float:
    marks = _marks(tags)
    share = 0.5 / len(marks)
    after = text.rpartition(marks[-1])[2].strip() if marks[-1] in text else ""
    return max(0.0, share * sum(text.count(mark) == 1 for mark in marks) - 0.001 * len(after))


def _marks(tags: Sequence[str]) -> list[str]:
    return [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]


def _blocks(text: str, tags: Sequence[str]) -> list[str] | None:
    """What each block holds, where each tag occurs once, in order, with only blanks before and between."""
    edges = [0]
    for mark in _marks(tags):
        at = text.find(mark)
        if at < edges[-1] or text.count(mark) != 1:
            return None
        edges += [at, at + len(mark)]
    pieces = [text[a:b] for a, b in pairwise(edges)]  # between, tag, block, tag, between, tag, block, tag
    blocks, between = pieces[2::4], pieces[0::4]
    return blocks if all(b.strip() for b in blocks) and not any(b.strip() for b in between) else None


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

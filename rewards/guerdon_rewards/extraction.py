r"""Where in a completion the answer stands: one function, `extract`, that every reward shares.

Four methods read a *mark* that the writer made on purpose; three are *guesses*:

    hashes       ### 42 ###              Agent Lightning's Unsloth example (the end may close it too)
    gsm8k        #### 42                 GSM8K's references (Cobbe et al., 2021)
    boxed        \boxed{42}, \fbox{42}   MATH (Hendrycks et al., 2021)
    xml          <answer>42</answer>     the Unsloth GRPO tutorial; also DeepSeek-R1 (2025)
    sentence     the answer is 42
    last_number  the last number in the text
    whole        the text itself
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from guerdon_rewards.number import TOKEN, parse_number

Method = Literal["hashes", "gsm8k", "boxed", "xml", "sentence", "last_number", "whole"]

MARKS: tuple[Method, ...] = ("hashes", "gsm8k", "boxed", "xml")
DEFAULT_ORDER: tuple[Method, ...] = (*MARKS, "sentence", "last_number", "whole")

LONGEST = 100_000
"""Characters of a completion's end that are read: answers stand there, and no text costs more than this."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was written, and the method that found it."""

    text: str
    how: Method


def extract(completion: str, how: Method | Sequence[Method] = DEFAULT_ORDER) -> Answer | None:
    r"""The answer that a completion commits to, or `None`.

    Reasoning (`<think>`, `<thinking>` and `<reasoning>` blocks) is left out, unless nothing else was written.
    Among the marks in `how` the one that opens last wins: a later commitment beats an earlier one, and the
    inner mark the outer (`<answer>\boxed{42}</answer>` is 42). Without a mark, the guesses are tried in the
    order of `how`. Time is linear in the completion's length.

    >>> extract("At first 41: ### 41 ###. No, \\boxed{42}.")
    Answer(text='42', how='boxed')
    >>> extract("<think>\\boxed{1}? or 2?</think>It is 3.")
    Answer(text='3', how='last_number')
    >>> extract("It is 3.", how="boxed") is None
    True
    """
    methods: Sequence[Method] = [how] if isinstance(how, str) else how
    text = _spoken(completion[-LONGEST:])
    marks = [(*found, m) for m in methods if m in MARKS and (found := _FIND[m](text))]
    if marks:
        _, content, method = max(marks)
        stated = _sentence(content) if "sentence" in methods else None
        return Answer(stated[1] if stated else content, method)
    for method in methods:
        if method not in MARKS and (found := _FIND[method](text)):
            return Answer(found[1], method)
    return None


def tutorial_answer(completion: str) -> str:
    """The Unsloth GRPO tutorial's `extract_xml_answer`: after the last `<answer>`, else the whole text.

    >>> tutorial_answer("<answer> 42 </answer>"), tutorial_answer("42")
    ('42', '42')
    """
    return completion.split("<answer>")[-1].split("</answer>")[0].strip()


_REASONING = re.compile(r"<(/?)(?:think|thinking|reasoning)>")


def _spoken(text: str) -> str:
    """The text without its reasoning blocks; the text itself where nothing else is left."""
    kept: list[str] = []
    start, inside = 0, False
    for tag in _REASONING.finditer(text):
        if tag[1]:  # a closing tag alone: the chat template opened the block, or we read only the text's end
            kept = kept if inside else []
            start, inside = tag.end(), False
        elif not inside:
            kept.append(text[start : tag.start()])
            inside = True
    if not inside:
        kept.append(text[start:])
    spoken = "\n".join(kept)
    return spoken if spoken.strip() else text


# Each method gives where its mark opens and what it holds. Possessive quantifiers keep the patterns linear.
Found = tuple[int, str] | None

_HASHES = re.compile(r"(?<!#)###(?!#)\s*+([^#\n]++)(?:###(?!#)|\s*+(?:\Z|###[ \t]*+(?:\n|\Z)))")


def _hashes(text: str) -> Found:
    return _last((m.start(), m[1].strip()) for m in _HASHES.finditer(text))


_GSM8K = re.compile(r"(?<!#)####(?!#)[ \t]*+([^\n]++)")


def _gsm8k(text: str) -> Found:
    # a heading of Markdown looks the same: only a number, or the last line of all, is an answer
    end = len(text.rstrip())
    lines = ((m.start(), m[1].strip(), m.end()) for m in _GSM8K.finditer(text))
    return _last((at, line) for at, line, stop in lines if line and (stop >= end or parse_number(line)))


_BRACES = re.compile(r"\\(?:boxed|fbox)\s*+\{|\\.|[{}]", re.DOTALL)


def _boxed(text: str) -> Found:
    first = min((at for at in (text.find("\\boxed"), text.find("\\fbox")) if at != -1), default=-1)
    if first == -1:
        return None
    best: tuple[int, int, int] | None = None
    opened: list[re.Match[str]] = []
    for brace in _BRACES.finditer(text, first):
        if brace[0][-1] == "{" and brace[0] != "\\{":
            opened.append(brace)
        elif brace[0] == "}" and opened:
            box = opened.pop()
            if len(box[0]) > 1 and (best is None or box.start() > best[0]):
                best = box.start(), box.end(), brace.start()
    return (best[0], text[best[1] : best[2]].strip()) if best else None


def _xml(text: str) -> Found:
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end != -1 else -1
    return (start, text[start + len("<answer>") : end].strip()) if start != -1 else None


_ANSWER_IS = re.compile(r"\banswer\b[^.\n:=]{0,60}?(?:\bis\b|:|=)[\s*:=]*+", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|\*|\Z)")


def _sentence(text: str) -> Found:
    last = _last((m.start(), text[m.end() : m.end() + 1000]) for m in _ANSWER_IS.finditer(text))
    if last is None:
        return None
    content = _SENTENCE_END.split(last[1], maxsplit=1)[0].strip(" \t*")
    return (last[0], content) if content else None


def _last_number(text: str) -> Found:
    if parse_number(text):  # a bare answer: 1 000, 33.5 percent
        return 0, text.strip()
    return _last((m.start(), m[0]) for m in TOKEN.finditer(text[-LONGEST // 10 :]))


def _whole(text: str) -> Found:
    return (0, text.strip()) if text.strip() else None


def _last(found: Iterable[tuple[int, str]]) -> Found:
    last: Found = None
    for last in found:  # noqa: B007  the last one is what is wanted
        pass
    return last


_FIND: dict[Method, Callable[[str], Found]] = {
    "hashes": _hashes,
    "gsm8k": _gsm8k,
    "boxed": _boxed,
    "xml": _xml,
    "sentence": _sentence,
    "last_number": _last_number,
    "whole": _whole,
}

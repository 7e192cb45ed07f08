r"""Where in a completion the answer stands, for every reward; and in a reference, whose texts are as various.

Four methods read a *mark* that the writer made on purpose; the others are *guesses*:

    hashes       ### 42 ###              Agent Lightning's Unsloth example (the end may close it too)
    gsm8k        #### 42                 GSM8K's references (Cobbe et al., 2021)
    boxed        \boxed{42}, \fbox{42}   MATH (Hendrycks et al., 2021)
    xml          <answer>42</answer>     the Unsloth GRPO tutorial; also DeepSeek-R1 (2025)
    sentence     the answer is 42
    clause       a bare answer, or what the announced or last sentence states, see `guesses`
    last_number  the last number in the text
    whole        the text itself

The last mark wins. Boxes beside each other (`\boxed{1}, \boxed{2}`) are one answer. A box that is not closed is not
there, an empty mark commits to nothing, and neither does a text that ends in an open box.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from guerdon_rewards import choices, guesses
from guerdon_rewards.guesses import Sought
from guerdon_rewards.marks import MARKS, Answer, Found, Method, last, marked
from guerdon_rewards.number import TOKEN, parse_number

DEFAULT_ORDER: tuple[Method, ...] = (*MARKS, "sentence", "last_number", "whole")
COMMITTED: tuple[Method, ...] = (*MARKS, "clause")
"""Marks, else one clause: what an answer of any kind is looked for in."""

LONGEST = 100_000
"""Characters of a completion's end that are read: answers stand there, and no text costs more than this."""
__all__ = [
    "COMMITTED", "DEFAULT_ORDER", "LONGEST", "MARKS", "Answer", "Method", "Sought",
    "candidates", "extract", "read", "reference", "tutorial_answer", "undressed",
]  # fmt: skip

T = TypeVar("T")


def extract(completion: str, how: Method | Sequence[Method] = DEFAULT_ORDER, sought: Sought = "any") -> Answer | None:
    r"""The answer that a completion commits to, or `None`.

    Reasoning (`<think>`, `<thinking>`, `<thought>` and `<reasoning>` blocks) is left out, unless nothing else was
    written; so are the turns of a chat that follow. Among the marks in `how` the one that opens last wins: a later
    commitment beats an earlier one, and the inner mark the outer (`<answer>\boxed{42}</answer>` is 42). Without a
    mark, the guesses are tried in the order of `how`. Time is linear in the completion's length, up to `LONGEST`.

    Args:
        completion: The text.
        how: The methods.
        sought: What kind of answer the reference is; guesses depend on it. With `choice`, a mark's
            `(C) the third` is `C`.

    >>> extract("At first 41: ### 41 ###. No, \\boxed{42}.").text
    '42'
    >>> extract("<think>\\boxed{1}? or 2?</think>It is 3.")
    Answer(text='3', how='last_number', parts=())
    >>> extract("\\boxed{1} and \\boxed{2}")
    Answer(text='1, 2', how='boxed', parts=('1', '2'))
    >>> extract("It is 3.", how="boxed") is None
    True
    """
    methods: Sequence[Method] = (how,) if isinstance(how, str) else how
    text = _own(completion)
    if (mark := marked(text, methods)) and mark.text:
        return _within(mark, methods, sought)
    return next(_guessed(_after_marks(text) if mark else text, methods, sought), None)


def candidates(completion: str, how: Method | Sequence[Method] = COMMITTED, sought: Sought = "any") -> list[Answer]:
    """The readings of a completion, best first: one where there is a mark, at most three guesses else.

    They are for a reader that does not understand the first. Never compare one after the other with a reference
    until one is right: that would reward guessing. `read` takes care of it.
    """
    methods: Sequence[Method] = (how,) if isinstance(how, str) else how
    text = _own(completion)
    if (mark := marked(text, methods)) and mark.text:
        return [_within(mark, methods, sought)]
    return list(islice(_guessed(_after_marks(text) if mark else text, methods, sought), 3))


def read(
    completion: str,
    reader: Callable[[str], T | None],
    how: Method | Sequence[Method] = COMMITTED,
    sought: Sought = "any",
) -> tuple[Answer, T] | None:
    """The first candidate that `reader` understands (gives anything but `None` for), and what it read.

    >>> read("Total 42 apples", parse_number, sought="number")[0].text
    '42'
    """
    for answer in candidates(completion, how, sought):
        understood = reader(answer.text)
        if understood is not None:
            return answer, understood
    return None


def reference(answer: str) -> str:
    r"""What a reference states: its mark, what it says the answer is, or itself without the dollars around it.

    >>> [reference(r) for r in ("42", "$\\frac{1}{2}$", "So the answer is: \\[ \\boxed{7} \\]", "answer is 0.5")]
    ['42', '\\frac{1}{2}', '7', '0.5']
    """
    text = answer[-LONGEST:].strip()
    if "box" in text or "#" in text or "</answer>" in text:
        mark = marked(text, MARKS)
        if mark and mark.text:
            return undressed(mark.text)
        at = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
        if at != -1 and not mark:  # cut off, or a closing brace was lost
            return undressed(text[text.index("{", at) + 1 :].rstrip("$. \n"))
    if "nswer" in text or "NSWER" in text:
        said = guesses.sentence(text)
        if said:
            return undressed(said[1])
    return undressed(text)


_DRESSES = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))


def undressed(text: str) -> str:
    r"""A text without the dollars, `\(` or `\[` around the whole of it, and the full stop behind them."""
    text = text.strip()
    if text[:1] not in ("$", "\\"):
        return text
    bare = text.rstrip(". \n")
    for opening, closing in _DRESSES:
        if bare.startswith(opening) and bare.endswith(closing) and len(bare) > len(opening) + len(closing):
            inner = bare[len(opening) : -len(closing)]
            if opening not in inner and closing not in inner and inner[-1] != "\\":
                return inner.strip()
    return text


def tutorial_answer(completion: str) -> str:
    """The Unsloth GRPO tutorial's `extract_xml_answer`: after the last `<answer>`, else the whole text.

    >>> tutorial_answer("<answer> 42 </answer>"), tutorial_answer("42")
    ('42', '42')
    """
    return completion.split("<answer>")[-1].split("</answer>")[0].strip()


_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{[^{}]*+\Z")


def _guessed(text: str, methods: Sequence[Method], sought: Sought) -> Iterator[Answer]:
    for method in methods:
        if method == "clause":
            if "box" not in text or not _OPEN_BOX.search(text):
                yield from (Answer(guess, method) for guess in guesses.guesses(text, sought) if guess)
        elif method not in MARKS and (found := _GUESS[method](text)):
            yield Answer(found[1], method)


_TEXT = re.compile(r"\\(?:text\w*|mbox)\s*\{([^{}]*)\}")
_TITLE = re.compile(r"\\(?:text\w*|mbox)\s*\{\s*(?:The|the)((?:\s+[A-Za-z]+){1,6})\s*:?\s*\}[\s:]*")
_LINKING = re.compile(
    r"(?:of|to|than|by|from|except|for|between|and|or|not)\s*\Z|\b(?:not|no|smaller|larger|greater|less|more)\b"
)


def _within(mark: Answer, methods: Sequence[Method], sought: Sought) -> Answer:
    """A mark may hold a letter and its wording, a sentence, or a title and what it stands for."""
    text = mark.text
    if sought == "choice":
        letter = "" if mark.parts else choices.choice(text)
        return mark._replace(text=letter) if letter else mark
    if ("nswer" not in text and text[0] != "\\") or not ("sentence" in methods or "clause" in methods):
        return mark
    if "nswer" in text:
        said = guesses.sentence(_TEXT.sub(r" \1 ", text))
        return mark._replace(text=said[1]) if said else mark
    title = _TITLE.match(text)
    rest = text[title.end() :] if title and not _LINKING.search(title[1]) else ""
    return mark._replace(text=rest) if rest and "\\text" not in rest else mark


# What the completion itself says ----------------------------------------------------------------------------------

_NEXT = re.compile(
    r"\n[ \t]*+(?:\*\*|#{1,3} )?(?=[QPEHU])"
    r"(?:Question|Q|Problem|Exercise|Human|User)(?: \d{1,3})?(?:\*\*)?:"
)
"""A base model goes on with questions of its own: the first answer was the one to the prompt."""
_TAGGED = re.compile(r"<(?:\||/?(?:think|thought|reasoning)|/s>|(?:start|end)_of_turn)")
_REASONING = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>")
_HEADER = re.compile(
    r"<\|im_start\|>assistant\s*+|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model|"
    r"<\|assistant\|>"
)
_FINAL = "<|channel|>final<|message|>"  # gpt-oss
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|start_header_id|end|return|user|eom_id)\|>|</s>|<end_of_turn>|<start_of_turn>"
)


def _own(completion: str) -> str:
    """What the model itself says at last: its turn without the reasoning."""
    text = completion[-LONGEST:]
    if "<" in text and _TAGGED.search(text):
        text = _spoken(_turn(text))
    if ":" in text and (following := _NEXT.search(text, _first_mark(text))):
        before = text[: following.start()]
        if marked(before, MARKS) or guesses.sentence(before):
            return before
    return text


def _first_mark(text: str) -> int:
    """Where an answer can stand at the earliest; 0 where no mark does."""
    for first, sign in (("\\", "\\boxed"), ("#", "###"), ("<", "</answer>")):
        if first in text and (at := text.find(sign)) != -1:
            return at
    return 0


def _turn(text: str) -> str:
    """The assistant's first turn: without a prompt repeated before it and the turns that were made up after it."""
    first = _TURN_END.search(text)
    header = _HEADER.search(text)
    if _FINAL in text:
        text = text.rpartition(_FINAL)[2]
    elif header and (first is None or not text[: first.start()].strip() or header.start() <= first.start()):
        text = text[header.end() :]
    for end in _TURN_END.finditer(text):
        if text[: end.start()].strip():
            return text[: end.start()]
    return text


def _spoken(text: str) -> str:
    """The text without its reasoning blocks; the text itself where nothing else was written.

    Reasoning that is not closed was cut off, and commits to nothing.
    """
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
    return spoken if inside or spoken.strip() else text


def _after_marks(text: str) -> str:
    """What follows an empty mark."""
    ends = (text.rfind("}"), text.rfind("</answer>") + 8, text.rfind("###") + 2)
    return text[max(ends) + 1 :]


# Guesses ----------------------------------------------------------------------------------------------------------


def _last_number(text: str) -> Found:
    if parse_number(text):  # a bare answer: 1 000, 33.5 percent
        return 0, text.strip()
    return last((m.start(), m[0]) for m in TOKEN.finditer(text[-LONGEST // 10 :]))


def _whole(text: str) -> Found:
    return (0, text.strip()) if text.strip() else None


_GUESS: dict[Method, Callable[[str], Found]] = {
    "sentence": guesses.sentence,
    "last_number": _last_number,
    "whole": _whole,
}

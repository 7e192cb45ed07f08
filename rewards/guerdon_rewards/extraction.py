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
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple, TypeVar

from guerdon_rewards import guesses
from guerdon_rewards.guesses import Sought
from guerdon_rewards.number import TOKEN, parse_number

Method = Literal["hashes", "gsm8k", "boxed", "xml", "sentence", "clause", "last_number", "whole"]

MARKS: tuple[Method, ...] = ("hashes", "gsm8k", "boxed", "xml")
DEFAULT_ORDER: tuple[Method, ...] = (*MARKS, "sentence", "last_number", "whole")
COMMITTED: tuple[Method, ...] = (*MARKS, "clause")
"""Marks, else one clause: what an answer of any kind is looked for in."""

LONGEST = 100_000
"""Characters of a completion's end that are read: answers stand there, and no text costs more than this."""
LONGEST_BOX = 10_000
"""Characters of the longest box."""
MOST_BOXES = 64
"""Boxes beside each other that are joined."""
MOST_OPEN = 200
"""Marks at a text's end that are passed over, as they hold no answer."""

T = TypeVar("T")


class Answer(NamedTuple):
    """An answer as it was written, the method that found it, and the boxes that it was joined from, if so."""

    text: str
    how: Method
    parts: tuple[str, ...] = ()


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
    if (marked := _marked(text, methods)) and marked.text:
        return _within(marked, methods, sought)
    return next(_guessed(_after_marks(text) if marked else text, methods, sought), None)


def candidates(completion: str, how: Method | Sequence[Method] = COMMITTED, sought: Sought = "any") -> list[Answer]:
    """The readings of a completion, best first: one where there is a mark, at most three guesses else.

    They are for a reader that does not understand the first. Never compare one after the other with a reference
    until one is right: that would reward guessing. `read` takes care of it.
    """
    methods: Sequence[Method] = (how,) if isinstance(how, str) else how
    text = _own(completion)
    if (marked := _marked(text, methods)) and marked.text:
        return [_within(marked, methods, sought)]
    return list(islice(_guessed(_after_marks(text) if marked else text, methods, sought), 3))


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
        marked = _marked(text, MARKS)
        if marked and marked.text:
            return undressed(marked.text)
        at = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
        if at != -1 and not marked:  # cut off, or a closing brace was lost
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


def _guessed(text: str, methods: Sequence[Method], sought: Sought) -> Iterator[Answer]:
    for method in methods:
        if method == "clause":
            if "box" not in text or not _OPEN_BOX.search(text):
                yield from (Answer(guess, method) for guess in guesses.guesses(text, sought) if guess)
        elif method not in MARKS and (found := _GUESS[method](text)):
            yield Answer(found[1], method)


def _within(marked: Answer, methods: Sequence[Method], sought: Sought) -> Answer:
    """A mark may hold a sentence, or a letter and what it stands for."""
    text = marked.text
    if sought == "choice" and not marked.parts and (letter := guesses.choice(text)):
        return Answer(letter, marked.how)
    if "nswer" in text and ("sentence" in methods or "clause" in methods) and (stated := guesses.sentence(text)):
        return Answer(stated[1], marked.how)
    return marked


# What the completion itself says ----------------------------------------------------------------------------------

_NEXT = re.compile(r"\n[ \t]*(?:\*\*|#{1,3} )?(?:Question|Q|Problem|Exercise|Human|User)(?: \d{1,3})?(?:\*\*)?:")
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
    if ":" in text and (following := _NEXT.search(text)):
        before = text[: following.start()]
        if _marked(before, MARKS) or guesses.sentence(before):
            return before
    return text


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


# Marks: each function gives where its mark opens and what it holds. Possessive quantifiers keep the patterns linear.

Found = tuple[int, str] | None


def _marked(text: str, methods: Sequence[Method]) -> Answer | None:
    """The mark that opens last."""
    at, content, how = -1, "", None
    parts: tuple[str, ...] = ()
    hashes = text.find("###")
    if hashes != -1:
        if "gsm8k" in methods and (found := _gsm8k(text)):
            at, content, how = *found, "gsm8k"
        if "hashes" in methods and (found := _hashes(text, hashes)) and found[0] > at:
            at, content, how = *found, "hashes"
    if "xml" in methods and (found := _xml(text)) and found[0] > at:
        at, content, how = *found, "xml"
    if "boxed" in methods and (boxes := _boxes(text)) and boxes[0] > at:
        content, how, parts = boxes[1], "boxed", boxes[2]
    return Answer(content, how, parts) if how else None  # type: ignore[arg-type]


_HASHES = re.compile(r"(?<!#)###(?!#)\s*+([^#\n]++)(?:###(?!#)|\s*+(?:\Z|###[ \t]*+(?:\n|\Z)))")
_HEADING = re.compile(
    r"(?:the )?(?:final )?(?:answer|solution|conclusion|result|explanation|summary|step)s?:?", re.IGNORECASE
)


def _hashes(text: str, at: int) -> Found:
    found = ((m.start(), m[1].strip()) for m in _HASHES.finditer(text, at))
    return _last((at, content) for at, content in found if not _HEADING.fullmatch(content))


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


def _xml(text: str) -> Found:
    end = text.rfind("</answer>")
    if end == -1:
        return None
    start = text.rfind("<answer>", 0, end)
    return (start, text[start + len("<answer>") : end].strip()) if start != -1 else None


_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{[^{}]*+\Z")
_BARE_BOX = re.compile(r"\\boxed\s*+(?P<content>[-+]?[\d.][^$\n\\{}]{0,40}+|\\[a-zA-Z]++(?:\{[^{}$\n]{0,40}+\}){0,2}+)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_GLUE = r"[\s$,;&]|\\[()\[\]\\,;:! ]|\\q?quad\b|\\(?:text|mbox|textrm|mathrm)\s*\{[\s,]*+\}"
_LEADS = r"(?:[A-Za-z](?:_\{?\w{1,8}\}?)?(?:\([A-Za-z]\))?\s*(?:=|\\in\b)\s*)?"
_BESIDE = re.compile(
    rf"(?:{_GLUE})*+{_LEADS}|[^.!?\n]{{0,40}}?\b(?:and|or|und|oder|et|ou|y)\b(?:{_GLUE}|\}})*+{_LEADS}|[\s$]*(?:和|或|、|，)[\s$]*"
)
"""What stands between two boxes that are one answer."""


def _boxes(text: str) -> tuple[int, str, tuple[str, ...]] | None:
    """Where the last closed box opens and what it holds, joined with the boxes beside it, and these one by one."""
    at = stop = len(text)
    box = None
    for _ in range(MOST_OPEN):
        at = _box_before(text, at)
        if at == -1 or (box := _closed(text, at, stop)):
            break
        stop = at  # an open brace there: an earlier box can only close before it
    if not box:
        return None
    first = _box_before(text, at)
    if first == -1 or not box[1]:
        return at, box[1], ()
    parts, stop = [box[1]], at
    for _ in range(MOST_BOXES):
        beside = _closed(text, first, stop) if first != -1 else None
        if not beside or not beside[1] or stop - beside[0] > 80 or not _BESIDE.fullmatch(text, beside[0], stop):
            break
        if beside[1] not in parts:
            parts.append(beside[1])
        stop = first
        first = _box_before(text, first)
    parts.reverse()
    return at, ", ".join(parts), tuple(parts) if len(parts) > 1 else ()


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


def _after_marks(text: str) -> str:
    """What follows an empty mark."""
    ends = (text.rfind("}"), text.rfind("</answer>") + 8, text.rfind("###") + 2)
    return text[max(ends) + 1 :]


# Guesses ----------------------------------------------------------------------------------------------------------


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


_GUESS: dict[Method, Callable[[str], Found]] = {
    "sentence": guesses.sentence,
    "last_number": _last_number,
    "whole": _whole,
}

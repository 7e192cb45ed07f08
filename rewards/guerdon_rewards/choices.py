"""The one letter of a multiple-choice question that a completion commits to.

A letter counts where it is the whole text, or where a cue names it: "the answer is C", "option C", "C is correct". A
capital alone among words is no choice (vitamin C, the energy E), nor is one in a formula, or one of several.
"""

import re

from guerdon_rewards.mathematics.words import choice as whole
from guerdon_rewards.sentences import NEAR, SPAN, announcement, is_meant, last_sentence

_OPENED, _CLOSED = r"[(\[（【]", r"[)\]）】]"
_LETTER = (
    rf"[\s*_$\"“]*+(?:\\[(\[])?(?:\\(?:text\w*|math\w+|mbox|boxed)\s*\{{\s*)?{_OPENED}?\s*(?P<letter>[A-J])(?![A-Za-z0-9_'’^=+/<>-])"
    rf"\s*(?P<shut>[*_\"”$]*{_CLOSED}?\s*\}}?)"
)
_SURELY = (
    r"(?:(?:for sure|definitely|clearly|certainly|indeed|therefore|thus|most likely|option|choice|letter|la|el|die|the"
    r"|选项)\b\s*+(?::\s*+)?){0,4}+"
)
_ENDED = (
    r"(?=[*_$\"”\s]*(?:\Z|[.,;:!)—–。，；：、．]|-\s|\n|\(|不|입니다|です"
    r"|(?:is|because|since|as|which|with|for|rather)\b))"
)
_HEAD = re.compile(rf"\s*+{_SURELY}{_LETTER}(?:(?<=[)\]}}）】*]){_ENDED}?|{_ENDED})")
_CUE = re.compile(
    r"(?:\b(?:option|choice|alternative|answer|choose|select|pick|selected|chose|picked|go with|must be|has to be)"
    r"|\b(?:it is|it['’]s|it would be|leaving|leaves|only)|(?:选择?|选项))"
    rf"\s*+(?:[:：]\s*+)?{_SURELY}{_LETTER}{_ENDED}",
    re.IGNORECASE,
)
_AFFIRMED = re.compile(
    rf"{_OPENED}?\b(?P<letter>[A-J])\b{_CLOSED}?(?:\*\*)?\s+(?:is|must be)\s+(?:indeed\s+)?(?:the\s+)?"
    r"(?:most\s+)?(?:correct|right|best|true|answer|appropriate)\b"
)
_CONCLUDED = re.compile(
    rf"\b(?:so|thus|hence|therefore)\b(?:,|[^()]{{0,60}}(?={_OPENED}))?{_LETTER}[\s.*]*\Z", re.IGNORECASE
)
_CORRECT = re.compile(
    r"(?:\b(?:correct|right|best|final|appropriate)\s+(?:option|choice|alternative|one|statement)s?|正确选项|正确的选项)"
    r"[*_\s]*(?:\b(?:is|would be|must be)\b|[:：]|是|为)[\s*_:：]*",
    re.IGNORECASE,
)
_OTHER = re.compile(rf"[\s*]*(?:,|/|or\b|and\b|&|和|或)\s*{_OPENED}?[A-J](?![\w'’])")
_DENIED = re.compile(r"\s*(?:is|does|can|would|could|was)(?:\s*not\b|n['’]t\b|\s+(?:wrong|incorrect|false|out)\b)")
_LISTED = re.compile(rf"^[ \t*]*{_OPENED}?([A-J])[ \t]*[).:）．、]", re.MULTILINE)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_ANY = re.compile(r"(?<![\w\\])[A-J](?![\w'’])")


def choice(text: str) -> str:
    """The letter, or nothing.

    >>> [choice(t) for t in ("(c)", "C. the third one", "The answer is for sure D, it can't be A", "A, B, C", "A or B")]
    ['C', 'C', 'D', '', '']
    """
    text = text[-NEAR:].strip()
    if (announced := _announced(text)) is not None:
        return announced
    return whole(text, lower=True) or _first_line(text) or _last_line(text)


def _announced(text: str) -> str | None:
    """What is announced: nothing (an empty string) where that is no single letter, `None` without an announcement."""
    said, correct = announcement(text), None
    for correct in _CORRECT.finditer(text):  # noqa: B007  the last one is wanted
        pass
    if correct and (not said or correct.start() > said.start):
        content = text[correct.end() : correct.end() + 200].partition("\n")[0]
        return _head(content) if is_meant(content) else ""
    if not said:
        return None
    if not said.content or not is_meant(said.content) or said.taken_back(_ANY):
        return ""
    return whole(said.content, lower=True) or _head(said.content) or _cued(said.content)


def _head(content: str) -> str:
    """The letter that opens a clause."""
    found = _HEAD.match(content)
    if not found or _OTHER.match(content, found.end()) or _DENIED.match(content, found.end()):
        return ""
    bare = not found["shut"].strip() and found["letter"] == "A"
    return "" if bare and re.match(r"\s+[a-z]", content[found.end() :]) else found["letter"]


def _first_line(text: str) -> str:
    """`C. the third one` and a reason below it, but no list of the options."""
    first = text.partition("\n")[0]
    return (whole(first) or "") if len(set(_LISTED.findall(text))) < 2 else ""


def _last_line(text: str) -> str:
    """A letter alone, or in bold, or what the last sentence names."""
    last = text.rpartition("\n")[2]
    if len(set(_LISTED.findall(text))) < 2 or not _LISTED.match(last):
        for piece in (last, *_BOLD.findall(last)[::-1]):
            if letter := whole(piece):
                return letter
    sentence = last_sentence(last, None)[0]
    return _cued(sentence) if is_meant(sentence) else ""


def _cued(sentence: str) -> str:
    """The letter that a sentence names with a cue; nothing where it names several."""
    text = SPAN.sub(lambda m: m[0] if whole(m[0]) else "\0", sentence).rstrip(".。!！ ")
    named = {
        found["letter"]
        for cue in (_CUE, _AFFIRMED, _CONCLUDED)
        for found in cue.finditer(text)
        if found["letter"].isupper() and not _OTHER.match(text, found.end()) and not _DENIED.match(text, found.end())
    }
    return named.pop() if len(named) == 1 else ""

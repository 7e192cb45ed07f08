r"""The sentences of a completion: the one that announces its answer, the last one, and what is no sentence at all.

An announcement is `the answer is`, `Réponse :`, `答案：` and the like in a dozen languages. The last one counts. Where
it is asked, denied, supposed or taken back, nothing is announced.
"""

import re
from typing import NamedTuple

NEAR = 10_000
"""Characters of a text's end that are read for an answer without a mark."""
CLAUSE = 1000
"""Characters of the longest bare answer, and of the longest clause."""
MOST_SAID = 50
"""Words like "answer" that are looked at, from the end."""
WORDS = 8
"""More words than these are prose."""

SPAN = re.compile(
    r"\$\$(?:[^$\\]|\\.){1,1000}+\$\$|\$(?:[^$\\\n]|\\.){1,1000}+\$(?!\d)"
    r"|\\\((?:[^\\]|\\[^()]){1,1000}+\\\)|\\\[(?:[^\\]|\\[^\[\]]){1,1000}+\\\]",
    re.DOTALL,
)
"""Mathematics between dollars or LaTeX's brackets."""
MATHS = re.compile(r"[\d$\\∞∅π]")
WORD = re.compile(r"[^\W\d_]{2,}")


def masked(text: str) -> str:
    """The text with its mathematics blotted out, so that sentences and verbs are found around it."""
    return SPAN.sub(lambda m: "\0" * len(m[0]), text) if "$" in text or "\\" in text else text


def trimmed(text: str) -> str:
    """Without blanks, quotes and stars of Markdown that nothing opens or closes."""
    text = text.strip(' \t\n_"“”')
    if text.endswith("*") and (text[0] == "*" or text.count("**") % 2):
        text = text.rstrip("*").rstrip()
    return text.lstrip("*").lstrip() if text.startswith("*") and text.count("**") % 2 else text


# bare answers ---------------------------------------------------------------------------------------------------------

_COMMAND = re.compile(r"\\(?:text\w*|mbox|math\w+|operatorname|begin|end)\s*\*?\s*\{[^{}]*\}|\\[a-zA-Z]+")
_TWO_SENTENCES = re.compile(r"[!?]\s+\S|\.\s+(?=[A-Z$\\])")
_LABEL = re.compile(r"[^\W\d_]\s*:\s*(?:\$|\\[(\[])")
_STAGE = frozenset(
    "is are was were be am been being does did do has have had makes make made gives give get gets got equals equal "
    "find finds found let so thus hence therefore since because which that we you it he she they there this these "
    "those not answer answers result my your our their what how why who if when can could should would will must need "
    "needs just also please calculate compute solve".split(" ")
)
"""Words of a sentence: a text that has one of them is prose."""


def is_bare(text: str) -> bool:
    r"""Whether a text is an answer and nothing else: mathematics, or a few words with it, but no sentence.

    >>> [is_bare(t) for t in (r"\\frac{1}{2}", "1 hr 23 min", "Maximum = 2, Minimum = 1", "$3$ or $4$", "odd $n$")]
    [True, True, True, True, True]
    >>> [is_bare(t) for t in ("The result is $3$", "First compute 6*7.\n42", "Matrix: $A$", "42 because it is")]
    [False, False, False, False]
    """
    if not text or len(text) > CLAUSE:
        return False
    if "\n" in text and text[0] not in "$\\":
        return False
    if not text.isascii() and any(c.isalpha() and not _symbol(c) for c in text):
        return False
    words = WORD.findall(_COMMAND.sub(" ", text) if "\\" in text else text)
    if not words:
        return True
    if len(words) > WORDS or not _STAGE.isdisjoint(w.lower() for w in words):
        return False
    return not _TWO_SENTENCES.search(text) and (text[0] == "$" or not _LABEL.search(text))


def _symbol(letter: str) -> bool:
    """Whether a letter is one that mathematics uses: ASCII, Greek, ℝ and the like."""
    greek, blackboard = "\u0370" <= letter <= "\u03ff", "\u2100" <= letter <= "\u214f"
    return letter < "\x80" or greek or blackboard or "\U0001d400" <= letter <= "\U0001d7ff"


# the last sentence ----------------------------------------------------------------------------------------------------

_END = re.compile(r"\n|[.!?](?=[\s*\"'”)]|\Z)|[。！？।؟]")


def last_sentence(text: str, stating: re.Pattern[str] | None) -> tuple[str, str]:
    """The last sentence, or the one before it where that has nothing of `stating`; and all from there on."""
    text = text[-CLAUSE:].rstrip()
    starts = [0, *(m.end() for m in _END.finditer(masked(text)))]
    spans = [(a, b) for a, b in zip(starts, [*starts[1:], len(text)], strict=True) if text[a:b].strip(" \t\n*_-#✅")]
    for start, end in spans[:-3:-1]:
        if not stating or stating.search(text, start, end):
            return text[start:end].strip(), text[start:]
    return "", text[spans[-1][0] :] if spans else ""


# what is said without being meant -------------------------------------------------------------------------------------

_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|might|may be|could be|not sure|unsure|i guess|no idea|unclear"
    r"|(?:do not|don't|cannot|can't|can not) (?:know|tell|say|determine|decide))\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(r"[\s*_]*(?:if|suppose|assum(?:e|ing)|imagine|unless|let)\b", re.IGNORECASE)
_NOT_MEANT = re.compile(
    r"\b(?:if|suppose|assum\w+|imagine|unless|whether|not|never|cannot|nobody|no one|doubt\w*|wrong|incorrect|false"
    r"|previous|earlier|possible|plausible|tempting|maybe|perhaps|possibly|might|could)\b|n['’]t\b",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    r"\b(?:no\s*[,.:;!—–-]|no,? wait|wait|actually|correction|scratch that|sorry|oops|i made (?:a|an) (?:mistake|error)"
    r"|let me (?:redo|recheck|correct|reconsider|fix)|on second thought)",
    re.IGNORECASE,
)


def is_meant(sentence: str) -> bool:
    """Whether a sentence states what it says: no question or heading, no hedge, no supposition."""
    asked = sentence.rstrip(" \t\n*_\"'”)").endswith(("?", "？", "؟", ":", "："))
    return not (asked or _SUPPOSED.match(sentence) or _HEDGE.search(sentence))


# the announcement -----------------------------------------------------------------------------------------------------

_SAID = (
    r"answers?|r[ée]ponse|respuesta|resposta|risposta|antwort|odpowied[źz]|jawaban|cevap|"
    r"ответ|відповідь|उत्तर|الجواب|الإجابة|תשובה"
)
_SAID_CJK = "答案|答え|正解|정답|답"
_ANSWER_IS = re.compile(
    rf"(?:(?<![^\W_])(?:{_SAID})\b(?:\s+(?:correct[aeo]|corretta|final[ea]?|exact[ae]|esatta|الصحيحة))?(?:[*_\"”\s]*\([^()\n]{{0,40}}\))?"
    r"(?:\s+(?:to|of|for|in|choice|option|here|that|à|de|la|zur?)\b[^.\n:=]{0,60}?)?"
    rf"|{_SAID_CJK})[*_\"”\s]*"
    r"(?:(?P<verb>(?:(?:would|should|must|will)\s+)?\b(?:is|are|be|est|es|é|è|ist|sind|lautet|adalah|это|है|هي|هو)\b)"
    r"|[:：=]|是|为|は|은|는)(?P<on>[\s*_:：=]*+)",
    re.IGNORECASE,
)
_SAYING = (
    "answer réponse reponse respuesta resposta risposta antwort odpowiedź odpowiedz jawaban cevap ответ відповідь उत्तर "
    "الجواب الإجابة תשובה 答案 答え 正解 정답 답"
).split(" ")
_SAYING_ASCII = [word for word in _SAYING if word.isascii()]
_JSON = re.compile(r'"((?:[^"\\]|\\.)*+)"|[^,}\n]++')
_PRAISE = re.compile(
    r"(?:indeed |therefore |thus )?(?:correct|right|verified|confirmed|consistent|reasonable|valid|sensible|unique"
    r"|helpful|useful|clear|accurate|complete|logical|fine|good)\b",
    re.IGNORECASE,
)
_PIECE = re.compile(r"[,;:.!?\n。，；：]")


class Announcement(NamedTuple):
    """What follows "the answer is".

    `content` is empty where it is not meant, `after` is the text behind it, and `predicate` says whether an English
    verb leads to it: then the answer has to stand there at once.
    """

    start: int
    content: str
    after: str
    predicate: bool

    def taken_back(self, value: re.Pattern[str]) -> bool:
        """Whether the text goes on with "no, wait" and another value."""
        retracted = _RETRACTED.search(self.after)
        return bool(retracted and value.search(self.after, retracted.end()))


def announcement(text: str) -> Announcement | None:
    """The last announcement; one that only praises the answer (`this answer is correct`) is passed over."""
    text = text[-NEAR:] if len(text) > NEAR else text
    praised = None
    for at in _places(text):
        found = _ANSWER_IS.match(text, at)
        if found:
            announced = _announced(text, found)
            if not _PRAISE.match(announced.content):
                return announced
            praised = praised or announced
    return praised


def _places(text: str) -> list[int]:
    """Where the words for an answer stand, the last first."""
    lowered = text.lower()
    lowered = lowered if len(lowered) == len(text) else text
    places: list[int] = []
    for word in _SAYING_ASCII if text.isascii() else _SAYING:
        at = lowered.rfind(word)
        for _ in range(MOST_SAID):
            if at == -1:
                break
            places.append(at)
            at = lowered.rfind(word, 0, at)
    return sorted(places, reverse=True)[:MOST_SAID]


def _announced(text: str, found: re.Match[str]) -> Announcement:
    content = text[found.end() : found.end() + CLAUSE]
    if '":' in found[0] and (value := _JSON.match(content)):  # a key of JSON
        return Announcement(found.start(), trimmed(value[0]), "", False)
    end = _END.search(masked(content))
    after = content[end.start() :] if end else ""
    content = content[: end.start()] if end else content
    before = _PIECE.split(text[max(0, found.start() - 120) : found.start()])[-1]
    if after.startswith(("?", "？", "؟")) or _NOT_MEANT.search(before):
        content = ""
    predicate = bool(found["verb"]) and not MATHS.search(found["on"]) and ":" not in found["on"] and "nswer" in found[0]
    return Announcement(found.start(), trimmed(content) if content else "", after, predicate)

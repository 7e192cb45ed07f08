r"""What a completion without a mark answers: bare answers, the final clause, the letter chosen.

A guess is weak, so it is made narrowly: at most two readings, best first, from one clause only. The clause is what
follows the last "the answer is" (in a dozen languages), else the last sentence. A hedge ("maybe 13"), a question, a
denial ("is not 42") or a choice between numbers ("41 or 42") commits to nothing.
"""

import re
from typing import Literal

from guerdon_rewards.number import TOKEN, parse_number

Sought = Literal["any", "number", "choice", "text"]
"""What kind of answer the reference is: a lone number may stand in prose; of a choice, the letter counts."""

NEAR = 10_000
"""Characters of a text's end in which an answer's announcement is looked for."""
CLAUSE = 1000
"""Characters of the longest bare answer, and of the longest clause."""
MOST_SAID = 50
"""Words like "answer" that are looked at, from the end."""
CUT = 400
"""Characters: a longer text that ends in the middle of a sentence was cut off before its answer."""
WORDS = 8
"""More words than these are prose."""

SPAN = re.compile(
    r"\$\$(?P<a>(?:[^$\\]|\\.){1,1000}+)\$\$|\$(?P<b>(?:[^$\\\n]|\\.){1,1000}+)\$"
    r"|\\\((?P<c>(?:[^\\]|\\[^()]){1,1000}+)\\\)|\\\[(?P<d>(?:[^\\]|\\[^\[\]]){1,1000}+)\\\]",
    re.DOTALL,
)
"""Mathematics between dollars or LaTeX's brackets."""

_SAID = (
    r"answers?|r[ée]ponse|respuesta|resposta|risposta|antwort|odpowied[źz]|jawaban|cevap|"
    r"ответ|відповідь|उत्तर|الجواب|الإجابة|תשובה"
)
_SAID_CJK = "答案|答え|正解|정답|답"
ANSWER_IS = re.compile(
    rf"(?:\b(?:{_SAID})\b(?:[*_\"”\s]*\([^()\n]{{0,40}}\))?"
    r"(?:\s+(?:to|of|for|in|choice|option|here|that|à|de|la|zur?)\b[^.\n:=]{0,60}?)?"
    rf"|{_SAID_CJK})[*_\"”\s]*"
    r"(?:(?:(?:would|should|must|will)\s+)?\b(?:is|are|be|est|es|é|è|ist|sind|adalah|это|है|هي|هو)\b"
    r"|[:：=]|是|为|は|은|는)[\s*_:：=]*+",
    re.IGNORECASE,
)
"""The words that announce an answer."""
_SAYING = (
    "answer réponse reponse respuesta resposta risposta antwort odpowiedź odpowiedz jawaban cevap ответ відповідь उत्तर "
    "الجواب الإجابة תשובה 答案 答え 正解 정답 답"
).split(" ")
_SAYING_ASCII = [word for word in _SAYING if word.isascii()]
END = re.compile(r"\n|[.!?](?=[\s*\"'”)]|\Z)|[。！？।؟]")
"""Where a sentence ends."""
_FINISHED = re.compile(r"(?:[.!?。！？।؟*$%)\]}✅]|\\[)\]])[\s\"'”]*\Z")

_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|equals?|becomes?|gives?|yields?|est|sont|ist|sind|es|son|é|è|это|равно|составляет)\b[:\s]*"
    r"|:(?=\s)|[=：≈]|等于|是|为|هو|है"
)
_LEAD = re.compile(
    r"(?:(?:and|so|then|thus|hence|therefore|finally|consequently|in conclusion|we|get|have|find|obtain|conclude|see|"
    r"that|this gives|which gives|step \d{1,3}|donc|also|daher|luego|por lo tanto)\b[\s,:]*)+",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[,;]?\s+(?:because|since|which|as|so|but|where|when|if)\b|[,;:—]\s+(?=(?!and\b|or\b)[a-z]{2,})")
_ASIDE = re.compile(r",\s+(?:which|because|since|as|where|while|not|rather than)\b")
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|might|may be|could be|not sure|unsure|i guess|no idea|unclear"
    r"|(?:do not|don't|cannot|can't|can not) (?:know|tell|say|determine|decide))\b",
    re.IGNORECASE,
)
_DENIED = re.compile(r"(?:\w+ly\s+)?(?:not|never|neither|nor)\b", re.IGNORECASE)
_DENYING = re.compile(
    r"(?:\b(?:not|never|neither)|n['’]t)\s+(?:be\s+|equal\s+(?:to\s+)?|have\s+|\w+ly\s+|[$*(\\]+\s*)*\Z", re.IGNORECASE
)
_NONE = re.compile(
    r"\b(?:no (?:\w+ )?solutions?|does not exist|DNE|undefined|infinitely many(?: solutions)?|the empty set"
    r"|all real numbers)\b",
    re.IGNORECASE,
)
_EITHER = re.compile(r"[\d}$)%]\s*,?\s*\b(?:or|oder|ou|или)\b|或|还是", re.IGNORECASE)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_NUMBER = re.compile(TOKEN.pattern, re.ASCII)  # 共有99颗: other scripts leave no blank before a number
_FRACTION = re.compile(r"-?\\[dt]?frac\s*\{-?\d{1,40}\}\s*\{\d{1,40}\}")
_MATHS = re.compile(r"[\d$\\∞∅π]")
_COMMAND = re.compile(r"\\(?:text\w*|mbox|math\w+|operatorname|begin|end)\s*\*?\s*\{[^{}]*\}|\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
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
    words = _WORD.findall(_COMMAND.sub(" ", text) if "\\" in text else text)
    if not words:
        return True
    if len(words) > WORDS or not _STAGE.isdisjoint(w.lower() for w in words):
        return False
    return not _TWO_SENTENCES.search(text) and (text[0] == "$" or not _LABEL.search(text))


def _symbol(letter: str) -> bool:
    """Whether a letter is one that mathematics uses: ASCII, Greek, ℝ and the like."""
    greek, blackboard = "\u0370" <= letter <= "\u03ff", "\u2100" <= letter <= "\u214f"
    return letter < "\x80" or greek or blackboard or "\U0001d400" <= letter <= "\U0001d7ff"


def guesses(text: str, sought: Sought) -> list[str]:
    """The readings of a text without a mark, best first: at most two."""
    text = text[-NEAR:].strip() if len(text) > NEAR else text.strip()
    if sought == "choice":
        letter = choice(text)
        return [letter] if letter else [text] if is_bare(text) else []
    said = _announced(text)
    if said is not None:
        return _of_clause(said, sought, announced=True)
    plain = _trimmed(text.strip("*_ \t")) if text[:1] in "*_" else text
    if is_bare(plain):
        return _with_number(plain, sought)
    clause, on = _last_sentences(text, sought)
    if sought == "text" and len(text) <= CLAUSE and on.strip() == text:
        return [text]
    if _HEDGE.search(on):
        return []
    found = _of_clause(clause, sought, announced=False)
    if len(text) > CUT and not _FINISHED.search(on) and not (found and on.rstrip().endswith(found[-1])):
        return []  # it breaks off while it goes on
    return found


def sentence(text: str) -> tuple[int, str] | None:
    """What the last announcement says, as written, and where it opens."""
    text = text[-NEAR:] if len(text) > NEAR else text
    lowered = text.lower()
    lowered = lowered if len(lowered) == len(text) else text
    starts: list[int] = []
    for word in _SAYING if not text.isascii() else _SAYING_ASCII:
        at = lowered.rfind(word)
        for _ in range(MOST_SAID):
            if at == -1:
                break
            starts.append(at)
            at = lowered.rfind(word, 0, at)
    starts.sort(reverse=True)
    last = next((m for at in starts[:MOST_SAID] if (m := ANSWER_IS.match(text, at))), None)
    if last is None:
        return None
    content = text[last.end() : last.end() + CLAUSE]
    end = END.search(_masked(content))
    content = _trimmed(content[: end.start()] if end else content)
    return (last.start(), content) if content else None


def _trimmed(text: str) -> str:
    """Without blanks, quotes and stars of Markdown that nothing opens or closes."""
    text = text.strip(' \t\n_"“”')
    if text.endswith("*") and (text[0] == "*" or text.count("**") % 2):
        text = text.rstrip("*").rstrip()
    if text.endswith("}") and text.count("{") < text.count("}"):  # JSON
        text = text.rstrip('} \n"')
    return text.lstrip("*").lstrip() if text.startswith("*") and text.count("**") % 2 else text


def _announced(text: str) -> str | None:
    found = sentence(text)
    return found[1] if found else None


def _masked(text: str) -> str:
    """The text with its mathematics blotted out, so that sentences and verbs are found around it."""
    return SPAN.sub(lambda m: "\0" * len(m[0]), text) if "$" in text or "\\" in text else text


def _last_sentences(text: str, sought: Sought) -> tuple[str, str]:
    """The last sentence, or the one before it where that one states nothing; and all from there on."""
    text = text[-CLAUSE:].rstrip()
    masked = _masked(text)
    starts = [0, *(m.end() for m in END.finditer(masked))]
    spans = [(a, b) for a, b in zip(starts, [*starts[1:], len(text)], strict=True) if text[a:b].strip(" \t\n*_-#✅")]
    for start, end in spans[:-3:-1]:
        if sought == "text" or _MATHS.search(text, start, end) or _NONE.search(text, start, end):
            return text[start:end].strip(), text[start:]
    return "", text[spans[-1][0] :] if spans else ""


def _of_clause(clause: str, sought: Sought, announced: bool) -> list[str]:
    """What a clause states."""
    if clause.endswith(("?", "？", "؟")) or _HEDGE.search(clause):
        return []
    clause = _trimmed(clause.strip(" \t\n_\"“”'✅").rstrip(".。!！। "))
    if lead := _LEAD.match(clause):
        clause = clause[lead.end() :]
    if not clause or _DENIED.match(clause):
        return []
    if is_bare(clause):
        return _with_number(clause, sought)
    if announced:
        if sought == "text":
            return [clause]
        head = _BREAK.split(clause, maxsplit=1)[0]
        if len(head) < len(clause) and is_bare(head) and _MATHS.search(head):
            return _with_number(head, sought)
    elif (aside := _ASIDE.search(clause)) and _MATHS.search(clause, 0, aside.start()):
        clause = clause[: aside.start()]
    masked = _masked(clause)
    copula = None
    for copula in _COPULA.finditer(masked):  # noqa: B007  the last one is wanted
        pass
    tail = clause[copula.end() :].strip() if copula else ""
    if sought == "text" or not _MATHS.search(clause):
        bold, none = _BOLD.findall(clause), _NONE.search(clause)
        words = bold[-1:] or ([none[0]] if none else []) or ([tail] if sought == "text" and is_bare(tail) else [])
        return [w.strip(" .:") for w in words]
    for part in (tail, clause):
        if part and _MATHS.search(part):
            found = _of_part(part, sought, first=announced and part is clause, masked=masked[-len(part) :])
            denied = found and _DENYING.search(clause[: clause.rfind(found[0])])
            return [] if denied else found
    return []


def _of_part(part: str, sought: Sought, first: bool, masked: str) -> list[str]:
    """What a piece of a clause that holds mathematics states: its bold words, a bare answer, the last formula."""
    head = _BREAK.split(part, maxsplit=1)[0]
    if len(head) < len(part) and is_bare(head) and _MATHS.search(head):
        part = head
    if _DENIED.match(part) or _EITHER.search(part):
        return []
    bold = [b.strip(" .:") for b in _BOLD.findall(part) if _MATHS.search(b)]
    if bold:
        return [bold[-1]] if is_bare(bold[-1]) else _number_of(bold[-1], first=True)
    if is_bare(part):
        return _with_number(part, sought)
    spans = [m[0] for m in SPAN.finditer(part)]
    if spans and not _MATHS.search(masked[part.rfind(spans[-1]) + len(spans[-1]) :].replace("\0", "")):
        return [spans[-1]]
    return _number_of(part, first) if sought == "number" else []


def _with_number(text: str, sought: Sought) -> list[str]:
    """A bare answer; where a number is sought and stands among words, the number too (`Total 42 apples`)."""
    if sought != "number" or not _WORD.search(text) or parse_number(text) or "\\" in text:
        return [text]
    numbers = _NUMBER.findall(text)
    rest = _NUMBER.sub("#", text)
    lone = len(numbers) == 1 and _WORDY.fullmatch(rest) and not _OPERATIONS.search(rest)
    return [text, numbers[0]] if lone else [text]


_WORDY = re.compile(r"(?:[^\W\d_]{2,}(?:['’][a-z])?|[\s:,.!#]|\ba\b)*+", re.IGNORECASE)
_OPERATIONS = re.compile(
    r"\b(?:over|times|plus|minus|divided|percent|hundred|thousand|million|billion|remainder|half|third|quarter|pi|sin|cos"
    r"|tan|log|ln|exp|sqrt|mod|less|more|least|most|out|between)\b|#\s*(?:of|to)\b",
    re.IGNORECASE,
)


def _number_of(part: str, first: bool) -> list[str]:
    numbers = [(m.start(), m[0]) for m in _FRACTION.finditer(part)]
    if not numbers:
        numbers = [(m.start(), m[0]) for m in _NUMBER.finditer(part)]
    if not numbers or _EITHER.search(part) or not re.search(r"[^\W\d_]", part):
        return []
    return [numbers[0 if first else -1][1]]


# Multiple choice ------------------------------------------------------------------------------------------------------

_LETTER = r"(?:\\(?:text\w*|math\w+|mbox)\s*\{\s*)?[(\[（【]?\s*(?P<letter>[A-Za-z])\s*[)\]）】]?\s*\}?"
_ONLY = re.compile(
    rf"[\s*_$]*+(?:\\[(\[][\s*_$]*+)?(?:(?:option|choice|answer)\s*:?\s*)?"
    rf"{_LETTER}[\s*_$.。]*+(?:\\[)\]][\s.]*+)?",
    re.IGNORECASE,
)
_FIRST = re.compile(
    r"[\s*_$]*+(?:[(\[（【]\s*(?P<a>[A-Z])\s*[)\]）】]|\\(?:text\w*|math\w+|mbox)\s*\{\s*\(?(?P<b>[A-Z])(?:\)|[.:]?\s*\})"
    r"|(?P<c>[A-Z])(?:\*\*)?\s*(?:不是|(?:is|because|since|which)\b)"
    r"|(?P<d>[A-Z])(?:\*\*)?(?:\s*[.):,!。：、．，]|[ \t]*\n))(?:\*\*)?"
    r"(?!\s*(?:and\b|or\b|/)?\s*[(\[]?[A-Z]\s*(?:[.):,]|(?:and|or)\b|\Z))"
)
_NAMED = re.compile(
    r"(?<![\w'’])(?:[(\[（【]\s*(?P<a>[A-Z])\s*[)\]）】]"
    r"|(?P<b>[B-HJ-Z]|[AI](?=\s*(?:[.,;:)*。，]|\Z|(?:is|because|since|as|or|and)\b)))(?![\w'’]))"
)
_OTHER = re.compile(r"\s*(?:,|/|or|and|&)\s*\(?[A-Z]\b")
_OPTION = re.compile(r"\b(?:option|choice|select|choose|pick)\s*:?\s*(?:is\s+)?", re.IGNORECASE)


def choice(text: str) -> str:
    """The one letter that a text commits to, or nothing.

    >>> [choice(t) for t in ("(c)", "C. the third one", "The answer is for sure D, it can't be A", "A, B, C", "A or B")]
    ['C', 'C', 'D', '', '']
    """
    text = text.strip()
    if len(text) <= 40 and (only := _ONLY.fullmatch(text)):
        return only["letter"].upper()
    said = _announced(text)
    if said is not None:
        return _named(said)
    if first := _FIRST.match(text):
        return next(letter for letter in first.groups() if letter)
    last = text[-2 * CLAUSE :].rstrip().rpartition("\n")[2]
    for piece in (last, *_BOLD.findall(last)[::-1]):
        if len(piece) <= 40 and (only := _ONLY.fullmatch(piece)):
            return only["letter"].upper()
    sentence = _last_sentences(last, "text")[0]
    if options := list(_OPTION.finditer(sentence)):
        return _named(sentence[options[-1].end() :])
    named = {m["a"] or m["b"] for m in _NAMED.finditer(sentence)}
    return _named(sentence) if len(named) == 1 and _WORD.search(sentence) and not _HEDGE.search(sentence) else ""


def _named(clause: str) -> str:
    only = _ONLY.fullmatch(clause) or _FIRST.match(clause)
    if only:
        return next(letter for letter in only.groups() if letter).upper()
    found = _NAMED.search(clause)
    if not found or found.start() > 60 or re.search(r"\bnot\b|n['’]t\b", clause[: found.start()]):
        return ""
    return "" if _OTHER.match(clause, found.end()) else found["a"] or found["b"]

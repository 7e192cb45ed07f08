r"""What a completion without a mark answers: a bare answer, what its announcement says, or its last sentence.

A guess is weak, so it is made narrowly: at most two readings, best first, from one sentence only. A hedge ("maybe 13"),
a question, a denial ("is not 42"), a supposition ("if it were 42"), a choice between numbers ("41 or 42"), a number
that the words around it change ("twice 42", "42 digits"), and a sentence that was cut off commit to nothing.
"""

import re
from typing import Literal

from guerdon_rewards.choices import choice
from guerdon_rewards.mathematics.units import is_unit
from guerdon_rewards.mathematics.words import number_word
from guerdon_rewards.number import TOKEN, parse_number
from guerdon_rewards.sentences import (
    CLAUSE,
    MATHS,
    NEAR,
    SPAN,
    WORD,
    announcement,
    is_bare,
    is_meant,
    last_sentence,
    masked,
    trimmed,
)  # fmt: skip

Sought = Literal["any", "number", "choice", "text"]
"""What kind of answer the reference is: a lone number may stand in prose; of a choice, the letter counts."""


def guesses(text: str, sought: Sought) -> list[str]:
    """The readings of a text without a mark, best first: at most two."""
    text = text[-NEAR:].strip()
    if sought == "choice":
        letter = choice(text)
        return [letter] if letter else [text] if is_bare(text) else []
    if said := announcement(text):
        if not said.content or not is_meant(said.content) or said.taken_back(MATHS):
            return []
        return _announced(said.content, sought, said.predicate)
    plain = trimmed(text.strip("*_ \t")).lstrip("= ")
    if is_bare(plain):
        return _bare(plain, sought)
    sentence, rest = last_sentence(text, None if sought == "text" else _STATING)
    if not is_meant(rest):
        return []
    if sought == "text" and len(text) <= CLAUSE and rest.strip() == text:
        return _words(_cleaned(sentence)) or [text]
    found = _stated(_cleaned(sentence), sought)
    return [] if found and _cut_off(rest, found[-1]) else found


def sentence(text: str) -> tuple[int, str] | None:
    """What the last announcement says, as written, and where it opens."""
    said = announcement(text)
    return (said.start, said.content) if said and said.content else None


# clauses --------------------------------------------------------------------------------------------------------------

_LEAD = re.compile(
    r"(?:(?:and|so|then|thus|hence|therefore|finally|consequently|in conclusion|we|get|have|find|obtain|conclude|see|"
    r"that|this gives|which gives|step \d{1,3}|donc|also|daher|luego|por lo tanto)\b[\s,:]*)+",
    re.IGNORECASE,
)
_EXACTLY = re.compile(r"(?:(?:simply|just|exactly|precisely|only|indeed|clearly|definitely)\s+)+", re.IGNORECASE)
_NOT = r"(?:\b(?:not|never|neither|nor|nicht|kein\w*|не|não|non)\b|n['’]t\b|不是?|没有|并非)"
_DENIED = re.compile(rf"(?:\w+ly\s+)?{_NOT}", re.IGNORECASE)
_DENYING = re.compile(rf"{_NOT}\s*(?:be\s+|equal\s+(?:to\s+)?|have\s+|\w+ly\s+|[$*(\\]+\s*)*\Z", re.IGNORECASE)
_REASON = re.compile(r"[,;]?\s+(?:because|since|which|as|so|but|where|when|if)\b|[,;:—]\s+(?=(?!and\b|or\b)[a-z]{2,})")
_ASIDE = re.compile(r",\s+(?:which (?:is|are|was|were|has|had)|because|since|as|where|while|not|rather than)\b")
_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|equals?|becomes?|gives?|yields?|est|sont|ist|sind|es|son|é|è|это|равно|составляет)\b[:\s]*"
    r"|:(?=\s)|[=：≈]|等于|是|为|هو|है"
)
_EITHER = re.compile(
    r"[\d}$)%*]\s*,?\s*\b(?:or|oder|ou|или)\b|或|还是|\bbetween\b|\d\s+to\s+\d"
    r"|[\d}$)%]\s*(?:,|,?\s+(?:and|und|et|y|и)|和|&)\s*\$?-?\d[\d.,]*\$?\s*\Z",
    re.IGNORECASE,
)
"""Two values where one is sought."""


def _cleaned(clause: str) -> str:
    clause = trimmed(clause.strip(" \t\n_\"“”'✅").rstrip(".。!！। "))
    for opening in (_LEAD, _EXACTLY):
        if found := opening.match(clause):
            clause = clause[found.end() :]
    return clause


def _announced(said: str, sought: Sought, predicate: bool) -> list[str]:
    """What stands after "the answer is": the whole, or what comes before a reason."""
    clause, predicate = _cleaned(said), predicate and not _TELLING.match(said)
    if not clause or _DENIED.match(clause):
        return []
    head = _REASON.split(clause, maxsplit=1)[0]
    for piece in (clause, head):
        if is_bare(piece) and (piece is clause or MATHS.search(piece)):
            return _bare(piece, sought, predicate)
    if sought == "text":
        return [clause]
    return _stated(clause, sought, first=True, predicate=predicate)


def _stated(clause: str, sought: Sought, first: bool = False, predicate: bool = False) -> list[str]:
    """What a sentence states: its bold words, else what follows its last verb, else its last formula or number.

    `first`: of several numbers the first one. `predicate`: the value has to open the clause.
    """
    if not clause or _DENIED.match(clause):
        return []
    if is_bare(clause):
        return _bare(clause, sought, predicate)
    if sought == "text" or not MATHS.search(clause):
        return _words(clause) or (_bold_number(clause) if sought != "text" else [])
    if bold := _bold_value(clause):
        found = bold
    else:
        if not first and (aside := _ASIDE.search(clause)) and MATHS.search(clause, 0, aside.start()):
            clause = clause[: aside.start()]
        tail = _after_verb(clause)
        verb = bool(tail and MATHS.search(tail))
        first = bool(_NUMBER.match(tail)) if verb else first
        found = _of_part(tail if verb else clause, sought, first, predicate and not verb)
    denied = found and _DENYING.search(clause[: clause.rfind(found[0])])
    return [] if denied else found


def _after_verb(clause: str) -> str:
    end = 0
    for copula in _COPULA.finditer(masked(clause)):
        end = copula.end()
    return clause[end:].strip() if end else ""


def _of_part(part: str, sought: Sought, first: bool, predicate: bool) -> list[str]:
    """What a piece of a sentence that holds mathematics states: a bare answer, the last formula, a number."""
    head = _REASON.split(part, maxsplit=1)[0]
    if len(head) < len(part) and is_bare(head) and MATHS.search(head):
        part = head
    if _DENIED.match(part):
        return []
    if is_bare(part):
        return _bare(part, sought, predicate)
    if _EITHER.search(part):
        return []
    if (formula := _formula(part, predicate)) or sought != "number" or not _LETTER.search(part):
        return formula
    return _number(part, first, predicate)


def _bare(text: str, sought: Sought, predicate: bool = False) -> list[str]:
    """A bare answer; and the formula or, where one is sought, the number that stands in it among words."""
    if not WORD.search(text):
        return [text]
    if sought == "number" and (counted := _counted(text)):
        return [counted]
    if parse_number(text):
        return [text]
    inner = _bold_value(text)
    if not inner and ("$" in text or "\\" in text):
        inner = _formula(text, predicate)
    if not inner and sought == "number" and "\\" not in text and _WORDY.fullmatch(_NUMBER.sub("#", text)):
        inner = _number(_after_verb(text) or text, False, predicate)
    return inner if inner and len(WORD.findall(text)) > MOST_AROUND else [text, *inner]


def _counted(text: str) -> str:
    """The number, with its unit, of `12 ways to arrange them`: more words than a unit has."""
    found = _COUNT.fullmatch(text)
    if not found or _FOLLOWED.match(text, found.end(1)) or _CHANGED.search(text, found.end(2)):
        return ""
    return f"{found[1]} {found[2]}" if is_unit(found[2]) else found[1]


MOST_AROUND = 3
"""Words around a value that may belong to it."""
_COUNT = re.compile(rf"(\$?{TOKEN.pattern}\$?) ([A-Za-z]+)(?: [A-Za-z]+){{2,}}", re.ASCII)
_PLAIN = r"(?:[^\W\d_]{2,}(?:['’][a-z])?|[\s:,.!$*]|\ba\b)*+"
_WORDY = re.compile(rf"{_PLAIN}(?:(?:#\s*[-+*/x×]\s*)++#\s*=\s*)?#{_PLAIN}", re.IGNORECASE)
"""Words around one number, or around arithmetic and its result."""


_LETTER = re.compile(r"[^\W\d_]")

# values among words ---------------------------------------------------------------------------------------------------

_NUMBER = re.compile(  # 共有99颗: other scripts leave no blank before a number
    rf"(?:{TOKEN.pattern})(?:\s+(?:hundred|thousand|million|billion|trillion|percent)\b)?", re.ASCII
)
_FRACTION = re.compile(r"-?\\[dt]?frac\s*\{-?\d{1,40}\}\s*\{\d{1,40}\}")
_CHANGED = re.compile(
    r"\b(?:no|more|less|greater|fewer|larger|smaller|bigger|higher|lower|below|above|under|over|beyond|exceed\w*|least|most|than"
    r"|twice|doubl\w*|tripl\w*|thrice|square[sd]?|cube[sd]?|roots?|multiples?|divi\w+|factors?|power|reciprocal|opposite"
    r"|inverse|complement|negative|minus|plus|times|except|excluding|but|any\w*|without|besides|close|near\w*|almost"
    r"|between|within|up to|sin|cos|tan|log|ln|exp|sqrt|pi|mod|modulo|base|digits?|out|same"
    r"|step|equation|case|part|problem|question|line|figure|page|section|example|option|choice|item"
    r"|(?:half|third|quarter) of|más|menos|mayor|menor|excepto|doble|raíz|moins|sauf|racine|mehr|weniger|größer"
    r"|kleiner|außer|nicht|pas|não|non|не|больше|меньше|более|менее|кроме)\b|超过|大于|小于|多于|少于|至少|至多|不到|[-+*/^×÷·√<>≤≥]\s*\Z",
    re.IGNORECASE,
)
"""Words before a value that make it another one, or the name of something."""
_FOLLOWED = re.compile(
    r"(?:st|nd|rd|th)\b|\s*-?\s*digits?\b|\s*(?:over|plus|minus|times|divided|remainder|pi|squared|cubed|factorial|dozen"
    r"|and a (?:half|third|quarter)|out of|less|(?:more|fewer) than|or|to|mod)\b|\s*[\^*+/×÷·√π]|\s*°",
    re.IGNORECASE,
)
"""What makes another value of a number when it comes after it."""
_INTRODUCED = re.compile(
    r"(?:[\s,$€£¥₹*(=:≈]|\b(?:(?:exactly|about|approximately|roughly|around|simply|just|only|precisely|indeed|thus|therefore"
    r"|then|also|still|clearly|definitely|equal to|equals|given by|now|in total|all real)\b"
    r"|(?:the|an?)(?:\s+(?!\d)\w+){0,3}\b))*+",
    re.IGNORECASE,
)
_TELLING = re.compile(r"\W*(?:that|there|he|she|it|they|we|you|i)\b", re.IGNORECASE)
_CLAUSE_END = re.compile(r"[,;:]\s|[，；：。]|\d")


def _stands(part: str, start: int, end: int, predicate: bool) -> bool:
    """Whether the words around a value leave it as it is.

    As a predicate ("the answer is ...") it has to come at once, but for articles, nouns and words like "exactly"; in
    other sentences none of the words before it, from the last comma or number on, may change it.
    """
    before = part[:start]
    if predicate and not _TELLING.match(before) and not _INTRODUCED.fullmatch(before):
        return False
    near = _CLAUSE_END.split(before)[-1].split()[-5:]
    return not (_CHANGED.search(" ".join(near)) or _FOLLOWED.match(part, end))


def _formula(part: str, predicate: bool) -> list[str]:
    """The last formula, when no number comes after it."""
    spans = list(SPAN.finditer(part))
    if not spans or spans[-1][0] == part:
        return []
    value = spans[-1]
    if re.search(r"\d", part[value.end() :]) or _EITHER.search(part):
        return []
    return [value[0]] if _stands(part, value.start(), value.end(), predicate) else []


def _number(part: str, first: bool, predicate: bool) -> list[str]:
    numbers = list(_FRACTION.finditer(part)) or list(_NUMBER.finditer(part))
    if not numbers:
        return []
    value = numbers[0 if first else -1]
    return [value[0]] if _stands(part, value.start(), value.end(), predicate) else []


# words ----------------------------------------------------------------------------------------------------------------

_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*(?!\s*[:：])")
_HEADING = re.compile(
    r"^\s*(?:step|part|case|problem|question|example|option|section|method|note)\b|[:：]\s*$", re.IGNORECASE
)
_NONE = re.compile(
    r"(?<!I have )\b(?:no (?:\w+ )?solutions?|does not exist|DNE|undefined|infinitely many(?: solutions)?|the empty set"
    r"|all real numbers)\b(?=\W*\Z|\s+(?:exists?|in|over)\b|[,;])",
    re.IGNORECASE,
)
_STATING = re.compile(rf"{MATHS.pattern}|\*\*\w+\*\*|{_NONE.pattern.partition('(?=')[0]}", re.IGNORECASE)
"""What a sentence that states a value has."""


def _bold_value(clause: str) -> list[str]:
    """The last bold words that hold mathematics, unless they are a heading."""
    bold = [m for m in _BOLD.finditer(clause) if MATHS.search(m[1]) and not _HEADING.search(m[1])]
    if not bold or _EITHER.search(clause[: bold[-1].end()]):
        return []
    words = bold[-1][1].strip(" .")
    return [words] if is_bare(words) else _number(words, first=True, predicate=False)


def _bold_number(clause: str) -> list[str]:
    """There are **six** of them."""
    return [word for word in _BOLD.findall(clause)[-1:] if number_word(word) is not None]


def _words(clause: str) -> list[str]:
    """The words in bold, the saying that there is none, or those after the verb."""
    if bold := _BOLD.findall(clause):
        return [bold[-1].strip(" .:")]
    none = _NONE.search(clause)
    if none and not re.search(_NOT, clause[: none.start()], re.IGNORECASE):
        return [none[0]]
    return []


# breaking off ---------------------------------------------------------------------------------------------------------

_FINISHED = re.compile(r"(?:[.!?。！？।؟*$%)\]}✅]|\\[)\]])[\s\"'”]*\Z")
_GOING_ON = re.compile(
    r"(?:[,=+*/<>(-]|\b(?:the|an?|of|to|and|or|by|with|for|in|on|at|from|is|are|be|we|he|she|it|they|that|which|so|then|if|as|but|than))"
    r"\s*\Z",
    re.IGNORECASE,
)
MOST_AFTER = 4
"""Words that may follow the value in a sentence without its full stop."""


def _cut_off(rest: str, value: str) -> bool:
    """Whether a text breaks off while it goes on behind its value."""
    if _FINISHED.search(rest):
        return False
    after = rest[rest.rfind(value) + len(value) :]
    return bool(_GOING_ON.search(rest)) or len(WORD.findall(after)) > MOST_AFTER

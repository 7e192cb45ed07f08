r"""Answers that are words: what is the same said differently, numbers in words, and letters of a choice.

Two answers in words are the same when their words are, apart from case, punctuation, articles and LaTeX's wrappers.
A few answers have many wordings (no solution, does not exist, infinitely many, yes, days and months); those stand in
tables. Letters alone keep their case. A sentence is the same as a word only where it says just that: `The function
is odd.` and `odd`.
"""

import re
from fractions import Fraction
from functools import lru_cache

from guerdon_rewards.mathematics import lexicon

LONGEST = 400
"""Characters: a longer text is the same only as itself."""

# words ----------------------------------------------------------------------------------------------------------------

_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mbox|hbox|emph|boxed|fbox"
    r"|operatorname|textup|underline)\s*\{([^{}]*)\}"
)
_DRESS = re.compile(r"\\(?:left|right|displaystyle|quad|qquad|rm|bf|it)(?![A-Za-z])|\\[,;:! ]|\\(?=[$%&#_])|[$~]|\*\*")
_TOKEN = re.compile(r"\\[A-Za-z]+|(?:[0-9]+(?:[.,][0-9]+)*|\.[0-9]+)|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\s\w]|_")
_ENDINGS = re.compile(r"\^\s*\{?\s*(?:\\(?:text|mathrm|rm)\s*)?\{?\s*(st|nd|rd|th)\b\s*\}?\s*\}?")
_QUOTES = frozenset('"`“”‘’')
_STOPS = frozenset(".?!:;,，。；：！？'")
_ARTICLES = frozenset(("a", "an", "the"))

_TEENS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {w: i for i, w in enumerate(_TEENS.split(" "))} | {w: 20 + 10 * i for i, w in enumerate(_TENS.split(" "))}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINAL_WORDS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
)
_ORDINALS = {word: i for i, word in enumerate(_ORDINAL_WORDS.split(" "), 1)}
_DAYS = {
    "mon": "monday", "tue": "tuesday", "tues": "tuesday", "wed": "wednesday", "weds": "wednesday", "thu": "thursday",
    "thur": "thursday", "thurs": "thursday", "fri": "friday", "sat": "saturday", "sun": "sunday",
}  # fmt: skip
_MONTHS = {
    "jan": "january", "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july", "aug": "august",
    "sep": "september", "sept": "september", "oct": "october", "nov": "november", "dec": "december",
}  # fmt: skip
_MONTH_NAMES = frozenset(_MONTHS.values()) | {"may"}
_SPELLINGS = _DAYS | _MONTHS | {
    "colour": "color", "centre": "center", "grey": "gray", "metre": "meter", "anticlockwise": "counterclockwise",
    "can't": "cannot", "doesn't": "does not", "don't": "do not", "isn't": "is not", "\\infty": "infinity",
    "∞": "infinity", "\\varnothing": "\\emptyset", "∅": "\\emptyset", "\\&": "and", "&": "and",
}  # fmt: skip
_SPELLINGS |= {word: str(n) for word, n in _SMALL.items()}
_SPELLINGS |= {word: f"{n}th" for word, n in _ORDINALS.items() if word != "second"}
_SAYINGS = {
    "none": "none|\\emptyset|empty set|null set|there are none|none exist|none exists",
    "undefined": "undefined|dne|does not exist|not defined|do not exist|it does not exist|limit does not exist"
    "|is undefined|is not defined|it is undefined|nonexistent",
    "infinite": "infinity|infinitely many|infinite|infinitely many solutions|infinite solutions|infinite number"
    "|infinite number of solutions|there are infinitely many|there are infinitely many solutions",
    "yes": "yes|true|yes it is|yes it does|it is true",
    "no": "no|false|no it is not|no it does not|it is false|not true",
    "undetermined": "cannot be determined|it cannot be determined|not enough information|insufficient information"
    "|not enough information to determine|cannot determine|answer cannot be determined",
    "neither": "neither|neither odd nor even|neither even nor odd",
    "odd": "odd|odd function|is odd|it is odd",
    "even": "even|even function|is even|it is even",
    "reals": "all real numbers|all reals|any real number|every real number|set of all real numbers|set of real numbers"
    "|\\mathbb{R}|ℝ|all real values",
}
_NO_SUCH = re.compile(
    r"(?:there (?:is|are) )?no (?:real |such )?(?:solution|root|number|integer|value|function)s?(?: exists?)?"
)


def _squeezed(saying: str) -> str:
    return saying.replace(" ", "")


_SAID = {_squeezed(saying): name for name, sayings in _SAYINGS.items() for saying in sayings.split("|")}
_ROMAN = frozenset(("I", "ii", "iii", "iv", "V", "vi", "vii", "viii", "ix", "X"))
_COPULA = re.compile(r"\s(?:is|are|was|were)\s", re.IGNORECASE)
_REMARKS = frozenset((
    "not", "no", "never", "nor", "neither", "or", "if", "but", "however", "unless", "except", "either", "whether",
    "would", "could", "might", "may", "cannot", "can't", "isn't", "aren't", "doesn't", "don't", "wasn't", "claim",
    "claims", "false", "wrong", "incorrect", "suppose", "assume", "than", "instead", "rather", "nobody", "nothing",
    "which", "what", "who", "nearly", "almost", "then", "when", "while", "although", "though", "impossible", "only",
    "because", "none", "few", "without", "some",
))  # fmt: skip
_FOLDED = frozenset((
    "no", "is", "it", "an", "of", "in", "on", "up", "at", "or", "if", "be", "am", "pm", "we", "he", "us", "to", "do",
    "go", "by", "my", "so", "as", "ii", "iv", "vi", "ix",
))  # fmt: skip
"""Words of two letters; others are names of segments and products, which keep their case."""


@lru_cache(2048)
def _words(text: str) -> tuple[str, ...]:
    """The words that count, in lower case, but letters that stand alone as they are."""
    if "^" in text:
        text = _ENDINGS.sub(r"\1", text)
    found = _TOKEN.findall(_unwrapped(text))
    if len(found) > 2 and found[0] + found[-1] in ("()", "{}") and all(t.isalpha() for t in found[1:-1]):
        found = found[1:-1]
    words: list[str] = []
    for i, token in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else ""
        lower = token.lower().replace("’", "'")
        if token in _QUOTES or (token in _STOPS and _stops(token, words, after)):
            continue
        if lower in _ARTICLES and len(after) > 1 and (after[0].isalnum() or after[0] == "\\"):
            continue
        if token == "-" and words and words[-1].isalpha() and after.isalpha() and min(len(words[-1]), len(after)) > 1:
            continue
        if lower in ("st", "nd", "rd", "th") and words and words[-1].isdigit():
            words[-1] += "th"
        elif len(token) == 1 or token[0] == "\\":
            words.append(_SPELLINGS.get(token, token))
        else:
            words += _SPELLINGS.get(lower, token if len(token) == 2 and lower not in _FOLDED else lower).split(" ")
    return tuple(words)


def _stops(token: str, words: list[str], after: str) -> bool:
    """Whether a mark ends a clause; marks of mathematics, as in `5!`, `f'`, `1, 2` and `1:2`, stay."""
    if token in ".。?？" and not after:
        return True
    before = words[-1] if words else "start"
    return (before.isalpha() and len(before) > 1) or (token == "," and after.isalpha() and len(after) > 1)


def _unwrapped(text: str, space: str = " ") -> str:
    """Without LaTeX's words around words; braces that may mean something stay."""
    if "\\" not in text and "$" not in text and "*" not in text and "~" not in text:
        return text
    for _ in range(3):
        if "{" in text:
            text = _WRAPPED.sub(rf"{space}\1{space}", text)
    return _DRESS.sub(space, text)


@lru_cache(2048)
def _meaning(text: str) -> tuple[str, ...]:
    words = _words(text)
    if not words:
        return ()
    said = _SAID.get("".join(words))
    if said:
        return ("=", said)
    if "no" in words and len(words) <= 6 and _NO_SUCH.fullmatch(" ".join(words)):
        return ("=", "none")
    if len(words) <= 5:
        date = _date(words)
        if date:
            return date
    numerals = [w for w in words if w not in ("and", "only", ",")]
    if numerals and all(w in _ROMAN for w in numerals) and (len(words) > 1 or len(numerals[0]) > 1):
        return ("roman", *sorted(numerals))
    if all(w.isalpha() and len(w) > 1 for w in words):
        return ("".join(words),)
    return words


def _date(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """`June 20`, `20th of June`, `June 20, 1995`."""
    months = [w for w in words if w in _MONTH_NAMES]
    days = [w.removesuffix("th") for w in words if w.removesuffix("th").isdigit()]
    rest = words.count("of") + words.count(",")
    if len(months) != 1 or not 1 <= len(days) <= 2 or len(months) + len(days) + rest != len(words):
        return None
    return ("date", months[0], *sorted(days, key=lambda d: (len(d), d)))


def same_words(a: str, b: str) -> bool:
    r"""Whether two answers in words say the same.

    >>> same_words(r"\text{east}", "East."), same_words("odd", "oddd"), same_words("no solution", r"\emptyset")
    (True, False, True)
    >>> same_words("odd", "The function f is odd."), same_words("odd", "It is not odd."), same_words("A", "a")
    (True, False, False)
    """
    if len(a) > LONGEST or len(b) > LONGEST:
        return a.strip() == b.strip()
    one, other = _meaning(a), _meaning(b)
    if not one or not other:
        return False
    return one == other or _of_its_kind(one, other) or _says(a, other) or _says(b, one)


_KINDS = frozenset("triangle quadrilateral polygon angle function number integer series sequence event matrix".split())


def _of_its_kind(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """`isosceles`, and `an isosceles triangle`."""
    shorter, longer = sorted((one[-1], other[-1]), key=len)
    if not len(one) == len(other) == 1 or len(shorter) < 4 or not longer.startswith(shorter):
        return False
    return longer[len(shorter) :] in _KINDS


def _says(sentence: str, meaning: tuple[str, ...]) -> bool:
    """Whether a sentence, with one `is` and nothing that turns it, ends in the words sought."""
    if meaning[0] in ("roman", "date") or len(meaning[-1]) < 2:
        return False
    text = sentence.strip()
    if text.count(".") - text.endswith(".") or "?" in text or "," in text:
        return False
    halves = _COPULA.split(text)
    if len(halves) != 2 or not halves[0].strip() or _meaning(halves[1]) != meaning:
        return False
    return not any(w in _REMARKS for w in re.findall(r"[a-z']+", halves[0].lower()))


# numbers in words -----------------------------------------------------------------------------------------------------

_PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4} | {
    word + s: n for word, n in _ORDINALS.items() if n > 4 for s in ("", "s")
}
_SIGNS = frozenset(("negative", "minus"))


def number_word(text: str) -> Fraction | None:
    r"""The number that words are, a whole one or a fraction; `None` for all else, digits too.

    >>> number_word("twenty-one"), number_word("two thirds"), number_word("seven apples")
    (Fraction(21, 1), Fraction(2, 3), None)
    """
    if len(text) > 160:
        return None
    words = _unwrapped(text).lower().replace("-", " ").strip(" .{}").split()
    negative = bool(words) and words[0] in _SIGNS
    if negative:
        words = words[1:]
    if not words or (words[0] not in _SMALL and words[0] not in ("a", "an", "half")):
        return None
    value = _fraction(words) if words[-1] in _PARTS else _whole(words)
    return -value if value is not None and negative else value


def _fraction(words: list[str]) -> Fraction | None:
    """`two thirds`, `one half`, `three and a half`."""
    below, before = _PARTS[words[-1]], words[:-1]
    whole = Fraction(0)
    if "and" in before:
        at = len(before) - 1 - before[::-1].index("and")
        found = _whole(before[:at]) if at else None
        if found is None:
            return None
        whole, before = found, before[at + 1 :]
    above = _whole(before) if before not in ([], ["a"], ["an"]) else Fraction(1)
    if above is None or not 0 < above < below or (not before and (whole or below > 2)):
        return None
    return whole + above / below


def _whole(words: list[str]) -> Fraction | None:
    """`two thousand three hundred and five`: parts in falling order."""
    if words[0] == "a" and len(words) > 1 and words[1] in ("hundred", "dozen", *_LARGE):
        words = ["one", *words[1:]]
    if words[-1] == "dozen" and len(words) == 2 and words[0] in _SMALL:
        return Fraction(12 * _SMALL[words[0]])
    total, group, room, limit = 0, 0, 100, 10**15  # `room`: below what the next small number must be
    empty = True
    for i, word in enumerate(words):
        small = _SMALL.get(word)
        if small is not None:
            if (not small and len(words) > 1) or room <= 1 or (small >= 10 and room < 100):
                return None
            group, room, empty = group + small, 10 if small >= 20 else 1, False
        elif word == "hundred":
            if empty or not 0 < group < 100 or (group >= 20 and group % 10 == 0):
                return None
            group, room = group * 100, 100
        elif word in _LARGE:
            if empty or _LARGE[word] >= limit:
                return None
            limit = _LARGE[word]
            total, group, room, empty = total + group * limit, 0, 100, True
        elif word != "and" or room != 100 or not i or i == len(words) - 1 or words[i - 1] == "and":
            return None
    return Fraction(total + group)


_ORDINAL = re.compile(r"([0-9]{1,12})\s*\^?\s*(?:st|nd|rd|th)")


def ordinal(text: str) -> int | None:
    r"""The number of an ordinal: `12th`, `12^{\text{th}}` and `twelfth` are 12; `12` is `None`."""
    if len(text) > 60:
        return None
    text = _unwrapped(_ENDINGS.sub(r"\1", text) if "^" in text else text, "").strip(" .").lower()
    match = _ORDINAL.fullmatch(text)
    if match:
        return int(match[1])
    tens, _, last = text.replace("-", " ").partition(" ")
    if last in _ORDINALS and _ORDINALS[last] < 10 and _SMALL.get(tens, 0) >= 20:
        return _SMALL[tens] + _ORDINALS[last]
    return _ORDINALS.get(text)


# choices --------------------------------------------------------------------------------------------------------------

_LABEL = re.compile(
    r"(?:(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice)(?:\s+(?:choice|option))?\s*(?:is|:|：)?\s*:?\s*"
    r"(?:(?:for sure|definitely|clearly|option|choice|letter)\s+)*)?",
    re.IGNORECASE,
)
_HEAD = re.compile(r"(?:\(\s*([A-Ja-j])\s*\)|\[\s*([A-J])\s*\]|([A-J])(?![\w'’]))\s*")
_LISTED = re.compile(r"(?<![\w\\])\(?[A-J]\s*[.):、。]\s*\S|\([A-Ja-j]\)")
_AFFIRMED = re.compile(
    r"is\s+(?:the\s+)?(?:correct|right|best|answer)(?:\s+(?:answer|option|choice))?\W*", re.IGNORECASE
)
_WORDING = re.compile(r"[^\W\d_]{2,}[\w\s,.'’-]*")
_NO_WORDING = frozenset((
    "is", "isn't", "was", "are", "can", "cannot", "can't", "could", "does", "doesn't", "would", "will", "has", "or",
    "and", "not", "nor", "only",
)) | {name.lower() for name in (*lexicon.FUNCTIONS, *lexicon.GREEK, *lexicon.CONSTANTS)}  # fmt: skip
_SEPARATORS = re.compile(r"\s*(?:,|;|、|，|&|\band\b)\s*(?:and\s+)?")


def choice(text: str, lower: bool = False) -> str | None:
    r"""The letter, A to J, of a multiple-choice answer; `None` where there is none or more than one.

    Args:
        lower: a small letter alone counts too; to be set where the other answer is a letter of a choice.

    >>> [choice(t) for t in ("(C)", r"\text{(C)}", "Option B", "C. the third one", "B\u3002 \u4e0d\u662f A", "**B**")]
    ['C', 'C', 'B', 'C', 'B', 'B']
    >>> [choice(t) for t in ("A + B", "a", "AB", "A, B, C, D", "A circle", "B is wrong")]
    [None, None, None, None, None, None]
    """
    text = text.strip()
    if not text or len(text) > LONGEST:
        return None
    if len(text) == 1:
        return text if text in "ABCDEFGHIJ" else text.upper() if lower and text in "abcdefghij" else None
    text = _unwrapped(text).strip(" *")
    head = _HEAD.match(text, _LABEL.match(text).end())  # type: ignore[union-attr]
    if head is None:
        return text.upper() if lower and text in list("abcdefghij") else None
    letter = head[1] or head[2] or head[3]
    rest = text[head.end() :].strip(" *\n\t")
    spaced = text[head.end() - 1].isspace()
    if not rest or not rest.strip(".)]:,;。、"):
        return letter.upper()
    if letter.islower() or letter == "I" or not (spaced or rest[0] in ".:)、。，,：;"):
        return None
    return letter if _may_follow(letter, rest, bool(head[1] or head[2]), labelled=head.start() > 0) else None


def _may_follow(letter: str, rest: str, bracketed: bool, labelled: bool) -> bool:
    """Whether what stands after a choice's letter is its wording or a remark on it: no formula, no other letter."""
    if _AFFIRMED.fullmatch(rest):
        return True
    body = rest.lstrip(".:)、。，,：; ")
    first = re.match(r"[\w'’]+", body)
    word = first[0] if first else ""
    if not body or _LISTED.search(rest) or word.lower() in _NO_WORDING or word in list("ABCDEFGHIJ"):
        return False
    if rest[0] in ",，;" or labelled:
        return len(word) > 1 and word.isalpha()
    if rest[0] in ".:)、。：":
        return True
    if bracketed:
        return body.isdigit() or (len(body) > 1 and body[0] not in "+-*/=^_<>(|")
    return _WORDING.fullmatch(body) is not None and (letter != "A" or body[0].isupper())


def choices(text: str) -> frozenset[str]:
    """The letters of an answer that is one or several choices: `A and C`, `A, C`, `(A), (C)`; empty for all else.

    >>> sorted(choices("A, C and D")), choices("A or B"), choices("A, 5")
    (['A', 'C', 'D'], frozenset(), frozenset())
    """
    if len(text) > 120:
        return frozenset()
    one = choice(text)
    if one:
        return frozenset(one)
    text = _unwrapped(text).strip(" .*")
    text = text[_LABEL.match(text).end() :]  # type: ignore[union-attr]
    letters = [part.strip(" ()") for part in _SEPARATORS.split(text)]
    if (
        len(letters) < 2
        or not all(len(c) == 1 and c in "ABCDEFGHIJ" for c in letters)
        or len(set(letters)) < len(letters)
    ):
        return frozenset()
    return frozenset(letters)

"""Tokens of written mathematics, LaTeX and plain alike."""

import re
from collections.abc import Sequence
from fractions import Fraction

from guerdon_rewards.mathematics import lexicon
from guerdon_rewards.mathematics.prepare import prepared
from guerdon_rewards.mathematics.units import is_unit

LONGEST = 4096
"""Characters: a longer answer is not read."""
MOST = 800
"""Tokens of one answer."""
DIGITS = 2000
"""Digits of one number."""


class Unread(Exception):
    """The text is not mathematics that we know, or more of it than an answer holds."""


class Token:
    """`kind`: num sym func const op text word rel set numberset repeat end. `value`: a name, or a number's node.

    Tokens are shared between texts: never change one.
    """

    __slots__ = ("ends", "kind", "raw", "spaced", "value")

    def __init__(self, kind: str, value: object, raw: str, spaced: bool) -> None:
        self.kind = kind
        self.value = value
        self.raw = raw
        self.spaced = spaced
        self.ends = kind in _ENDS or (kind == "op" and value in _ENDING)
        """Nothing that this token begins belongs to the product before it."""

    def at(self, spaced: bool) -> "Token":
        return self if self.spaced == spaced else Token(self.kind, self.value, self.raw, spaced)


_ENDS = frozenset(("end", "rel", "set"))
_ENDING = frozenset(("+", "-", "\\pm", "\\mp", ")", "]", "}", "\\}", "\\rbrack", ",", ";", ":", "&", "\\\\", "\\end"))
END = Token("end", "", "", False)

_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])"
_THIN = r"[0-9]{1,3}(?:(?:\\[,;:\ ]|\ )[0-9]{3})++(?![0-9])"


def _pattern(grouped: bool) -> re.Pattern[str]:
    digits = f"(?:{_GROUPED}|{_THIN}|[0-9]++)" if grouped else f"(?:{_THIN}|[0-9]++)"
    return re.compile(
        rf"""\s+|~
        |[0-9]*+\.[0-9]*+\\(?:overline|bar|dot)\s*+\{{?[0-9]+\}}?
        |{digits}(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++(?![A-Za-z]))?+|\.[0-9]++(?:[eE][-+]?[0-9]++(?![A-Za-z]))?+
        |\\\\|\\[A-Za-z]+\*?|\\.
        |[A-Za-z]+
        |\*\*|<=|>=|=<|=>|!=|<>|==|:=|\.\.\.|.""",
        re.VERBOSE | re.DOTALL,
    )


_PATTERNS = {grouped: _pattern(grouped) for grouped in (True, False)}
_UNIT_NAMES = frozenset(("min", "sec", "max", "deg", "ch", "\\max", "\\min"))
_NO_ARGUMENT = frozenset(("end", "rel", "text", "word"))
_ARGUMENTS = frozenset("( { [ _ ^ - \\frac \\sqrt |".split())
_DOT_DOT = frozenset(("\\ldots", "\\cdots", "\\dots", "...", "\\vdots", "\\ddots", "\\dotsc", "\\dotsb"))
_WORD_FUNCTIONS = sorted(
    (n for n in lexicon.FUNCTIONS.keys() - lexicon.PLAIN_ONLY if len(n) > 1), key=len, reverse=True
)
_SPLIT = re.compile("(" + "|".join([*_WORD_FUNCTIONS, "pi"]) + ")")


def tokens(text: str, grouped: bool = True) -> list[Token]:
    """The tokens of a text, and an end token. With `grouped`, `1,234` is one number, else it is two.

    Raises:
        Unread: it is too long.
    """
    if len(text) > LONGEST:
        raise Unread("too long")
    text = prepared(text)
    raws = _PATTERNS[grouped].findall(text)
    out: list[Token] = []
    _scan(raws, grouped, out, 0)
    if len(out) > MOST:
        raise Unread("too long")
    out += (END, END, END)  # so that the parser may look ahead
    if not _UNIT_NAMES.isdisjoint(raws):
        _units(out)
    if "U" in raws:
        _unions(out)
    return out


def _units(out: list[Token]) -> None:
    """5 min, 30 sec, but min(5, 3) and sec x."""
    for i, token in enumerate(out):
        if token.kind == "func" and token.raw in _UNIT_NAMES:
            after = out[i + 1]
            alone = after.kind in _NO_ARGUMENT or (after.kind == "op" and after.value not in _ARGUMENTS)
            if alone or (after.kind == "num" and token.raw == "min"):
                name = token.raw.lstrip("\\")
                out[i] = Token("word", name, name, token.spaced)


_CLOSE, _OPEN = frozenset((")", "]", "\\}", "[")), frozenset(("(", "[", "\\{", "]"))


def _unions(out: list[Token]) -> None:
    """`(0, 1) U (2, 3)`."""
    for i in range(1, len(out) - 1):
        if out[i].raw == "U" and out[i - 1].raw in _CLOSE and out[i + 1].raw in _OPEN:
            out[i] = Token("set", "union", "U", True)


_known: tuple[dict[str, Sequence[Token]], dict[str, Sequence[Token]]] = ({}, {})
"""What was read before, without and with a space before it."""
_MANY, _SHORT = 4096, 16


def _read(raw: str, spaced: bool) -> Sequence[Token]:
    """The tokens of one piece, none where it only separates, decorates or wraps."""
    first = raw[0]
    made: Sequence[Token]
    if first.isspace() or raw in ("$", "~") or raw in lexicon.DRESS or raw in _WRAPPERS:
        made = ()
    elif "0" <= first <= "9" or (first == "." and raw not in (".", "...")):
        made = (_digits(raw, spaced),)
    elif first == "\\":
        made = _glued(raw, spaced)
    elif first.isascii() and first.isalpha():
        made = _word(raw, spaced)
    else:
        made = (_operator(raw, spaced),)
    if len(raw) <= _SHORT:
        cache = _known[spaced]
        if len(cache) >= _MANY:
            cache.clear()
        cache[raw] = made
    return made


_WRAPPERS = lexicon.WRAPPERS | {"\\color"}


def _scan(raws: list[str], grouped: bool, out: list[Token], depth: int) -> None:
    at, end, spaced = 0, len(raws), False
    plain, apart = _known
    while at < end:
        raw = raws[at]
        at += 1
        made = apart.get(raw) if spaced else plain.get(raw)
        if made is None:
            made = _read(raw, spaced)
        if made:
            out += made
            spaced = False
        elif raw in _WRAPPERS:
            inside, at = _braced(raws, at)
            if raw != "\\color" and raw != "\\operatorname*":
                _wrapped(raw, inside, grouped, out, spaced, depth)
            spaced = False
        else:
            spaced = True


def _braced(raws: list[str], at: int) -> tuple[str, int]:
    """What stands in braces (or the one piece) at a place, and the place after it."""
    while at < len(raws) and raws[at].isspace():
        at += 1
    if at >= len(raws):
        raise Unread("an argument is missing")
    if raws[at] != "{":
        return raws[at], at + 1
    level = 0
    for place in range(at, len(raws)):
        if raws[place] == "{":
            level += 1
        elif raws[place] == "}":
            level -= 1
            if level == 0:
                return "".join(raws[at + 1 : place]), place + 1
    return "".join(raws[at + 1 :]), len(raws)  # cut off


_EXACT = Fraction(0)
_REPEATED = re.compile(r"([0-9]*\.[0-9]*)\\[a-z]+\s*\{?([0-9]+)\}?")


def _digits(raw: str, spaced: bool) -> Token:
    if "\\" in raw:
        repeated = _REPEATED.fullmatch(raw)
        if repeated:
            return Token("repeat", (repeated[1], repeated[2]), raw, spaced)
    return Token("num", ("num", *_number(raw)), raw, spaced)


def _number(raw: str) -> tuple[Fraction, Fraction]:
    if len(raw) <= DIGITS and raw.isdigit():
        return Fraction(int(raw)), _EXACT
    digits = re.sub(r"[^0-9.eE+-]", "", raw)
    mantissa, _, exponent = digits.lower().partition("e")
    if len(mantissa) > DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > DIGITS:
        raise Unread("a number of too many digits")
    whole, _, decimals = mantissa.partition(".")
    if not decimals and not exponent:
        return Fraction(int(whole)), _EXACT
    shift = int(exponent or 0) - len(decimals)
    value = int((whole or "0") + decimals)
    if shift < 0:
        return Fraction(value, 10**-shift), Fraction(1, 10**-shift) if decimals or int(exponent) < 0 else _EXACT
    return Fraction(value * 10**shift), Fraction(10**shift) if decimals else _EXACT


def _operator(raw: str, spaced: bool) -> Token:
    if raw in lexicon.RELATIONS:
        return Token("rel", lexicon.RELATIONS[raw], raw, spaced)
    return Token("op", "^" if raw == "**" else raw, raw, spaced)


def _command(raw: str, spaced: bool) -> Token:
    name = raw[1:]
    if raw in lexicon.RELATIONS:
        return Token("rel", lexicon.RELATIONS[raw], raw, spaced)
    if raw in lexicon.SETS:
        return Token("set", lexicon.SETS[raw], raw, spaced)
    if raw in _DOT_DOT:
        return Token("op", "...", raw, spaced)
    if name in lexicon.CONSTANTS:
        return Token("const", lexicon.CONSTANTS[name], raw, spaced)
    if name in ("exponentialE", "imaginaryI", "imaginaryJ"):
        return Token("const", "e" if name[-1] == "E" else "i", raw, spaced)
    if name in lexicon.FUNCTIONS and name not in ("zeta", "Gamma", "binom"):
        return Token("func", lexicon.FUNCTIONS[name], raw, spaced)
    if name in lexicon.GREEK:
        return Token("sym", lexicon.VARIANTS.get(name, name), raw, spaced)
    if raw in lexicon.OPERATORS or len(name) < 2 or not name.isalpha():
        return Token("op", raw, raw, spaced)
    return Token("unknown", raw, raw, spaced)


def _glued(raw: str, spaced: bool) -> tuple[Token, ...]:
    r"""A command, and a letter that is stuck to it: `\lex` for `\le x`."""
    if raw[:-1] in _OFTEN and raw not in lexicon.OPERATORS:
        known = _command(raw, spaced)
        return (known,) if known.kind != "unknown" else (_command(raw[:-1], spaced), _letter(raw[-1], False))
    return (_command(raw, spaced),)


_OFTEN = frozenset(r"\le \ge \leq \geq \ne \neq \pi \cdot \times \infty \in \cup \pm".split())


def _word(raw: str, spaced: bool) -> list[Token]:
    lower = raw.lower()
    if len(raw) == 1:
        return [_letter(raw, spaced)]
    if raw in lexicon.CONSTANTS:
        return [Token("const", lexicon.CONSTANTS[raw], raw, spaced)]
    if raw in lexicon.FUNCTIONS:
        return [Token("func", lexicon.FUNCTIONS[raw], raw, spaced)]
    if lower in lexicon.SEPARATORS or lower in lexicon.CLAUSES:
        return [Token("text", lower, raw, spaced)]
    if raw in lexicon.GREEK:
        return [Token("sym", lexicon.VARIANTS.get(raw, raw), raw, spaced)]
    if raw in lexicon.WORD_OPERATORS:
        return [Token(*lexicon.WORD_OPERATORS[raw], raw, spaced)]
    parts = [p for p in _SPLIT.split(raw) if p]
    if len(parts) > 1 and all(len(p) == 1 or p == "pi" or p in lexicon.FUNCTIONS for p in parts):
        pieces = [t for p in parts for t in _word(p, False)]
        return [pieces[0].at(spaced), *pieces[1:]]
    return [Token("word", raw, raw, spaced)]  # the parser knows whether it is a unit or a product of letters


def _letter(raw: str, spaced: bool) -> Token:
    if raw in "ei":
        return Token("const", raw, raw, spaced)
    return Token("sym", raw, raw, spaced)


_RAISED = r"\^\{?-?[0-9]\}?"
_COMPOUND = re.compile(
    rf"[A-Za-z]+(?:{_RAISED})?(?:\s*(?:/|\\cdot|\*)\s*[A-Za-z]+(?:{_RAISED})?)+|[A-Za-z]{{2,}}{_RAISED}"
)
_UNIT_LETTERS = frozenset("msghLlNJWVAK")
_PIECES = re.compile(r"[A-Za-z]+")
_JOINS = re.compile(r"[,;.\s]*(?:and|or)[,;.\s]*", re.IGNORECASE)
_JOIN = re.compile(r"\b(and|or)\b", re.IGNORECASE)


def _phrases(words: str, spaced: bool) -> list[Token]:
    """Words, with the `and`s and `or`s that join answers apart."""
    if words.split(" ")[0].lower() in lexicon.CLAUSES:
        return [Token("text", words, words, spaced)]
    pieces = [p for piece in _JOIN.split(words) if (p := piece.strip(" ,;\n"))]
    return [Token("text", p.lower() if p.lower() in lexicon.SEPARATORS else p, p, spaced) for p in pieces]


def _wrapped(command: str, inside: str, grouped: bool, out: list[Token], spaced: bool, depth: int) -> None:
    words = inside.replace("~", " ").strip()
    if command in ("\\mathbb", "\\Bbb") and words in lexicon.NUMBER_SETS:
        out.append(Token("numberset", words, inside, spaced))
        return
    if not words or depth > 3:
        return
    name = words.replace(" ", "").replace("\\,", "")
    plain = name in lexicon.PLAIN_ONLY and command != "\\operatorname"
    if name in lexicon.FUNCTIONS and not plain and command not in ("\\text", "\\mbox"):
        out.append(Token("func", lexicon.FUNCTIONS[name], name, spaced))
    elif _COMPOUND.fullmatch(words) and all(
        w in _UNIT_LETTERS or is_unit(w) for w in _PIECES.findall(words.replace("\\cdot", "*"))
    ):
        unit = re.sub(r"[{}\s]", "", words.replace("\\cdot", "*"))  # m/s
        out.append(Token("text", unit, unit, spaced))
    elif len(words) == 1 and words.isalpha() and words.isascii() and command != "\\text" and inside[0] not in "~ ":
        out.append(_letter(words, spaced))
    elif words[0] in "0123456789-" and ":" not in words and command not in ("\\boxed", "\\fbox"):
        _scan(_PATTERNS[grouped].findall(words), grouped, out, depth + 1)  # \text{5 cm}
    elif re.fullmatch(r"[A-Za-z][A-Za-z .'-]*", words) or _JOINS.fullmatch(words):
        out += _phrases(words, spaced)
    elif re.search(r"[A-Za-z]{2}", re.sub(r"\\[A-Za-z]+", "", words)) and command not in ("\\boxed", "\\fbox"):
        out += _phrases(re.sub(r"[${}\\]", "", words).strip(), spaced)
    else:
        at = len(out)
        _scan(_PATTERNS[grouped].findall(words), grouped, out, depth + 1)
        if len(out) > at:
            out[at] = out[at].at(spaced=True)

"""Tokens of written mathematics, LaTeX and plain alike."""

import re
from fractions import Fraction
from typing import NamedTuple

from guerdon_rewards import lexicon

LONGEST = 4096
"""Characters: a longer answer is not read."""
MOST = 800
"""Tokens of one answer."""
DIGITS = 2000
"""Digits of one number."""


class Unread(Exception):
    """The text is not mathematics that we know, or more of it than an answer holds."""


class Token(NamedTuple):
    """`kind`: num sym func const op text rel set end. A number's `value` is (Fraction, place), else a name."""

    kind: str
    value: object
    raw: str
    spaced: bool


_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])"
_THIN = r"[0-9]{1,3}(?:(?:\\[,;:\ ]|\ )[0-9]{3})++(?![0-9])"


def _pattern(grouped: bool) -> re.Pattern[str]:
    digits = f"(?:{_GROUPED}|{_THIN}|[0-9]++)" if grouped else f"(?:{_THIN}|[0-9]++)"
    return re.compile(
        rf"""(?P<space>\s+|~)
        |(?P<repeat>[0-9]*+\.[0-9]*+\\(?:overline|bar|dot)\s*+\{{?[0-9]+\}}?)
        |(?P<num>{digits}(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++(?![A-Za-z]))?+|\.[0-9]++(?:[eE][-+]?[0-9]++(?![A-Za-z]))?+)
        |(?P<cmd>\\\\|\\[A-Za-z]+\*?|\\.)
        |(?P<word>[A-Za-z]+)
        |(?P<op>\*\*|<=|>=|=<|=>|!=|<>|==|:=|\.\.\.|.)""",
        re.VERBOSE | re.DOTALL,
    )


_PATTERNS = {grouped: _pattern(grouped) for grouped in (True, False)}
_SIMPLE = re.compile(r"\{,\}|,\\!\s*+(?=[0-9])|\\!|\\q?quad(?=[a-z])")
_DOUBLED = re.compile(r"\\\\(?=left|right|frac|dfrac|text|sqrt|pi|cup|in\b|boxed|infty|cdot|times|quad|circ|%|\()")
_INTEGRAND = re.compile(r"(?<![A-Za-z\\])d\s*+([A-Za-z])(?![A-Za-z])|\\mathrm\s*\{\s*d\s*\}\s*([A-Za-z])(?![A-Za-z])")
_UNIT_NAMES = frozenset(("min", "sec", "max", "deg", "ch"))
_ARGUMENTS = frozenset("( { [ _ ^ - \\frac \\sqrt |".split())
_DOT_DOT = frozenset(("\\ldots", "\\cdots", "\\dots", "...", "\\vdots", "\\ddots", "\\dotsc", "\\dotsb"))
_WORD_FUNCTIONS = sorted((n for n in lexicon.FUNCTIONS if len(n) > 1), key=len, reverse=True)
_SPLIT = re.compile("(" + "|".join([*_WORD_FUNCTIONS, "pi"]) + ")")


def tokens(text: str, grouped: bool = True) -> list[Token]:
    """The tokens of a text, and an end token. With `grouped`, `1,234` is one number, else it is two.

    Raises:
        Unread: it is too long.
    """
    if len(text) > LONGEST:
        raise Unread("too long")
    if "\\\\" in text and "\\begin" not in text:  # written twice, as in a string of a programming language
        text = _DOUBLED.sub(r"\\", text)
    text = _SIMPLE.sub(lambda m: "," if "," in m[0] else "", text).translate(lexicon.CHARACTERS)
    if "\\int" in text:
        text = _INTEGRAND.sub(lambda m: f" \\differential {m[1] or m[2]} ", text)
    out: list[Token] = []
    _scan(text, grouped, out, 0)
    out.append(Token("end", "", "", False))
    for i, token in enumerate(out):  # 5 min, 30 sec, but min(5, 3) and sec x
        if token.kind == "func" and token.raw in _UNIT_NAMES:
            after = out[i + 1]
            if after.kind in ("end", "rel", "text", "word") or (after.kind == "op" and after.value not in _ARGUMENTS) or (
                after.kind == "num" and token.raw == "min"
            ):
                out[i] = token._replace(kind="word", value=token.raw)
    return out


def _scan(text: str, grouped: bool, out: list[Token], depth: int) -> None:
    pattern = _PATTERNS[grouped]
    at, end, spaced = 0, len(text), False
    while at < end:
        found = pattern.match(text, at)
        if found is None:
            raise Unread("odd character")
        at = found.end()
        kind, raw = found.lastgroup, found[0]
        if kind == "space":
            spaced = True
            continue
        if len(out) >= MOST:
            raise Unread("too long")
        if kind == "num":
            out.append(Token("num", _number(raw), raw, spaced))
        elif kind == "repeat":
            head, _, tail = raw.partition("\\")
            out.append(Token("repeat", (head, re.sub(r"[^0-9]", "", tail)), raw, spaced))
        elif kind == "op":
            if raw == "$":
                continue
            out.append(_operator(raw, spaced))
        elif kind == "word":
            out += _word(raw, spaced)
        elif raw in lexicon.DRESS:
            spaced = True
            continue
        elif raw in lexicon.WRAPPERS:
            inside, at = braced(text, at)
            _wrapped(raw, inside, grouped, out, spaced, depth)
        elif raw == "\\operatorname*" or raw == "\\color":
            _, at = braced(text, at)
        else:
            out.append(_command(raw, spaced))
        spaced = False


def braced(text: str, at: int) -> tuple[str, int]:
    """What stands in braces (or the one character) at a place, and the place after it."""
    while at < len(text) and text[at] in " \n\t":
        at += 1
    if at >= len(text):
        raise Unread("an argument is missing")
    if text[at] != "{":
        if text[at] == "\\":
            command = re.compile(r"\\[A-Za-z]+|\\.").match(text, at)
            return (command[0], command.end()) if command else ("", at + 1)
        return text[at], at + 1
    level = 0
    for place in range(at, len(text)):
        if text[place] == "{" and text[place - 1] != "\\":
            level += 1
        elif text[place] == "}" and text[place - 1] != "\\":
            level -= 1
            if level == 0:
                return text[at + 1 : place], place + 1
    raise Unread("a brace is not closed")


_EXACT = Fraction(0)


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
    place = Fraction(10) ** (int(exponent or 0) - len(decimals))
    value = int((whole or "0") + decimals) * place
    return value, place if decimals or int(exponent) < 0 else Fraction(0)


def _operator(raw: str, spaced: bool) -> Token:
    if raw in lexicon.RELATIONS:
        return Token("rel", lexicon.RELATIONS[raw], raw, spaced)
    if raw in _DOT_DOT:
        return Token("op", "...", raw, spaced)
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
    return Token("op", raw, raw, spaced)


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
    parts = [p for p in _SPLIT.split(raw) if p]
    if len(parts) > 1 and all(len(p) == 1 or p == "pi" or p in lexicon.FUNCTIONS for p in parts):
        pieces = [t for p in parts for t in _word(p, False)]
        return [pieces[0]._replace(spaced=spaced), *pieces[1:]]
    return [Token("word", raw, raw, spaced)]  # the parser knows whether it is a unit or a product of letters


def _letter(raw: str, spaced: bool) -> Token:
    if raw in "ei":
        return Token("const", raw, raw, spaced)
    return Token("sym", raw, raw, spaced)


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
    if name in lexicon.FUNCTIONS and name not in lexicon.PLAIN_ONLY and command not in ("\\text", "\\mbox"):
        out.append(Token("func", lexicon.FUNCTIONS[name], name, spaced))
    elif len(words) == 1 and words.isalpha() and words.isascii() and command != "\\text":
        out.append(_letter(words, spaced))
    elif re.fullmatch(r"[A-Za-z][A-Za-z .'-]*", words) or _JOINS.fullmatch(words):
        out += _phrases(words, spaced)
    elif re.search(r"[A-Za-z]{2}", re.sub(r"\\[A-Za-z]+", "", words)) and command not in ("\\boxed", "\\fbox"):
        out += _phrases(re.sub(r"[${}\\]", "", words).strip(), spaced)
    else:
        at = len(out)
        _scan(words, grouped, out, depth + 1)
        if len(out) > at:
            out[at] = out[at]._replace(spaced=True)

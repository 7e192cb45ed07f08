r"""Reading one number from text, exactly: no binary floats, no `eval`, bounded in size.

Read: signs, decimals, `1,234` and `1 234`, `1.5e3` and `1.5 x 10^3`, fractions (`3/4`, `\frac{3}{4}` and
`1 1/2`), percent, thousand to trillion, a currency before the number (`$`, `€`, `£`, `¥`, `₹`, `US$`), units
after it (up to six words: `18 dollars per day`, `60 km/h`, `25 m^2`), `x = 42`, `40 + 2 = 42`, and the
dollars, bold stars and final full stop around it.

Not read: `nan`, `inf`, `4_2`, digits outside ASCII, decimal commas (`3,5`), arithmetic, and numbers beyond
10^300.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written.

    `place` is what one unit of its last written digit is worth (1/100 in `2.50`; 0 where it is exact:
    fractions). `50%` has the value 50 and `percent` set.
    """

    value: Fraction
    place: Fraction = Fraction(0)
    percent: bool = False

    @property
    def readings(self) -> tuple["Number", ...]:
        """`50%` may be meant as 50 or as 0.5."""
        return (self, Number(self.value / 100, self.place / 100)) if self.percent else (self,)


_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]++)?+|\.[0-9]++)"

TOKEN = re.compile(
    rf"(?:(?<![\w)\].])[-+−])?(?<![\w.{{^])[$€£¥₹]?{_DECIMAL}(?:[eE][-+]?[0-9]++)?+(?:/[0-9]++)?+%?(?!_)"
)
"""A number in running text; what it finds, `parse_number` reads."""

_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:US)?[$€£¥₹]?\s*(?P<sign2>[-+]?)
    (?:(?P<whole>[0-9]++)\s+(?=[0-9]+\s*/))?+
    (?P<digits>[0-9]{{1,3}}(?:\s[0-9]{{3}})++(?![0-9/])(?:\.[0-9]++)?+|{_DECIMAL})
    (?:[eE](?P<exponent>[-+]?[0-9]++)|\s*(?:x|×|\*|\\times|\\cdot)\s*10\s*\^\s*\{{?(?P<power>[-+]?[0-9]++)\}}?)?+
    (?:\s*/\s*(?P<over>{_DIGITS}))?+
    (?P<rest>.*)""",
    re.VERBOSE | re.DOTALL,
)
_UNITS = re.compile(r"(?:[ /·*-]*+(?:[A-Za-z]++|°)(?:\^?\{?[23]\}?|[²³])?+){1,6}")
_SHORT_UNITS = frozenset("mgshlLCFK°")
_NOT_UNITS = frozenset(("pi", "and", "or", "to", "plus", "minus", "times", "over", "sqrt", "infinity"))
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LATEX = {
    "\\$": "$", "\\%": "%", "{,}": ",", "\\,": " ", "\\!": "", "\\;": " ", "\\ ": " ", "~": " ",
    "\\(": "", "\\)": "", "\\[": "", "\\]": "", "\\left": "", "\\right": "",
    "^\\circ": "°", "^{\\circ}": "°", "\\degree": "°",
    "\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
}  # fmt: skip
_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")
_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}")

LONGEST = 400
"""Characters: a longer text holds more than a number."""
LARGEST = 300
"""Decimal digits before or after the point."""


@lru_cache(1 << 12)
def parse_number(text: str) -> Number | None:
    """The number that a text is, or `None` when it is anything else.

    >>> parse_number("$1,234.50 per day").value
    Fraction(2469, 2)
    >>> parse_number("-3/4").value, parse_number("12%").percent
    (Fraction(-3, 4), True)
    >>> [parse_number(t) for t in ("nan", "4_2", "²", "1e999999999", "2pi", "5 or 6")]
    [None, None, None, None, None, None]
    """
    if len(text) > LONGEST:
        return None
    match = _NUMBER.fullmatch(_plain(text))
    if match is None or (match["sign"] and match["sign2"]):
        return None
    tail = _tail(match["rest"])
    over = _integer(match["over"] or "1")
    digits, _, decimals = re.sub(r"[,\s]", "", match["digits"]).partition(".")
    exponent = (match["exponent"] or match["power"] or "0").lstrip("+")
    if tail is None or not over or len(exponent) > 4 or (match["whole"] and not match["over"]):
        return None
    scale = tail[0] + int(exponent)
    if max(len(digits), len(match["whole"] or ""), abs(scale), len(digits) + scale, len(decimals) - scale) > LARGEST:
        return None
    power = Fraction(10) ** scale
    value = (Fraction(f"{digits or 0}.{decimals or 0}") * power / over) + int(match["whole"] or 0)
    place = Fraction(0) if match["over"] else power / 10 ** len(decimals)
    return Number(-value if "-" in (match["sign"], match["sign2"]) else value, place, tail[1])


def to_number(value: object) -> Number:
    """A reference answer as a number.

    Floats are taken at their shortest decimal form, as they were written in the data.

    Raises:
        ValueError: it is not a finite number; the task is at fault.
    """
    number: Number | None = None
    if isinstance(value, str):
        number = parse_number(value)
    elif isinstance(value, int | Fraction) and not isinstance(value, bool):
        number = Number(Fraction(value))
    elif isinstance(value, float | Decimal):
        number = parse_number(str(value))
    if number is None:
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise ValueError(f"the reference answer {shown} is not a number; map `answer` to the field that is one")
    return number


def _plain(text: str) -> str:
    r"""Without LaTeX's and Markdown's dress: `$\frac{1}{2}$` is `1/2`."""
    text = text.strip().strip("*").strip()
    for dress, plain in _LATEX.items():
        if dress in text:
            text = text.replace(dress, plain)
    text = _WORDS.sub(r" \1", text)
    text = _FRAC.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
    text = text.strip().removesuffix(".").strip()
    if text.endswith("$") and text.startswith("$"):
        text = text.strip("$").strip()
    before, equals, after = text.rpartition("=")
    if equals and (len(before.strip()) == 1 or not re.search(r"[^\W\d_]", before)):  # x = 42, 40 + 2 = 42
        text = after.strip()
    return text


def _tail(rest: str) -> tuple[int, bool] | None:
    """What follows the digits: a power of ten and whether it is percent; `None` when it is no unit."""
    word = re.match(r"\s*([A-Za-z]+)", rest)
    scale = _SCALES.get(word[1].lower(), 0) if word else 0
    if scale and word:
        rest = rest[word.end() :]
    percent = re.match(r"\s*(?:%|percent\b|per cent\b)", rest)
    if percent:
        rest = rest[percent.end() :]
    rest = rest.strip()
    if rest:
        words = re.findall(r"[A-Za-z]+|°", rest)
        if rest[0] in "-*·" or not _UNITS.fullmatch(rest) or _NOT_UNITS.intersection(w.lower() for w in words):
            return None
        if len(words[0]) == 1 and words[0] not in _SHORT_UNITS:
            return None
    return scale, bool(percent)


def _integer(digits: str) -> int:
    return int(digits.replace(",", "")) if len(digits) <= LARGEST else 0

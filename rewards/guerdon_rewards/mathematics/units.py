"""Units of measure: which words are units, and how one relates to another.

A unit phrase is read as what stands above and below its "per": an exact factor, dimensions (`length 2`, `time 1`,
`dollar 1`) and nouns that are only counted (`stuffed goats`). Two phrases are the same kind where the dimensions
agree and one's nouns are among the other's. Nothing is known about temperatures but their names: they have no factor.
Months and years are not days, a radian is not so many degrees, and currencies are not exchanged.
"""

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from guerdon_rewards.mathematics import unit_names

SYMBOL = 3
"""Letters of the longest symbol of a unit."""
LONGEST = 80
"""Characters: of a longer unit only the words are compared."""

ZERO, ONE = Fraction(0), Fraction(1)
Dims = tuple[tuple[str, int], ...]


class Side(NamedTuple):
    """What stands above or below a unit's "per"."""

    factor: Fraction = ONE
    dims: Dims = ()
    nouns: frozenset[str] = frozenset()


class Reading(NamedTuple):
    over: Side
    under: Side
    turns: frozenset[str]
    """Words that change what the number means: `below`, `less`, `half`."""


def stem(word: str) -> str:
    """A lower-case word without what plurals and the like add: `berries` and `berry` are both `berri`."""
    word = unit_names.IRREGULAR.get(word, word)
    if word.endswith("men"):
        word = word[:-3] + "man"
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "su":
        word = word[:-1]
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    if word[-1:] == "y" and len(word) > 3:
        return word[:-1] + "i"
    return word[:-1] + "f" if word[-1:] == "v" and len(word) > 3 else word


_ALSO_BY_STEM = {stem(word): other.split() for word, other in unit_names.ALSO.items()}


def _power(side: Side, exponent: int) -> Side:
    return Side(side.factor**exponent, tuple((name, n * exponent) for name, n in side.dims), side.nouns)


def _times(a: Side, b: Side) -> Side:
    if not a.dims or not b.dims:
        return Side(a.factor * b.factor, a.dims or b.dims, a.nouns | b.nouns)
    dims = dict(a.dims)
    for name, n in b.dims:
        dims[name] = dims.get(name, 0) + n
    return Side(a.factor * b.factor, tuple(sorted((k, n) for k, n in dims.items() if n)), a.nouns | b.nouns)


def _known() -> dict[str, Side]:
    known: dict[str, Side] = {}
    for line in unit_names.TABLE.strip().splitlines():
        head, _, names = line.partition(": ")
        dimension, factor = head.split(" ")
        name, _, power = dimension.partition("^")
        value = Fraction(10) ** int(factor[4:]) if factor.startswith("10**") else Fraction(factor)
        known |= dict.fromkeys(names.split(" "), Side(value, ((name, int(power or 1)),)))
    for name, symbols in unit_names.PREFIXED.items():
        for prefix, (letter, tens) in unit_names.PREFIXES.items():
            side = _times(known[symbols[0]], Side(Fraction(10) ** tens))
            known.setdefault(prefix + name, side)
            for symbol in symbols:
                known.setdefault(letter + symbol, side)
    return known | {alias: known[name] for alias, name in unit_names.ALIASES.items()}


_UNITS = _known()
_STEMS = {stem(name): side for name, side in _UNITS.items() if len(name) > 2 and name.islower()}


def _folded(names: Iterable[str]) -> dict[str, str]:
    """Names by their lower case, where case does not tell two apart: `km`, but not `mm` and `Mm`."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.lower(), []).append(name)
    return {lower: same[0] for lower, same in found.items() if len(same) == 1}


_FOLDED = _folded(_UNITS)
_TOKEN = re.compile(
    r"(?P<word>[^\W\d_²³]+(?:['’][^\W\d_²³]+)*|US\$|°C|°F|[°$€£¥₹₩¢])|(?P<power>\^\s*\{?\s*-?[1-9]\s*\}?|[²³]|(?<=[a-z])[23]\b)"
    r"|(?P<over>/)|(?P<sign>[*·×⋅-])|(?P<skip>[\s.,~]+)"
)
_JOINED = re.compile(
    r"(?P<floz>\b(?:fluid|fl)\b\.?\s*(?:ounces?|oz)\b)|(?P<nmi>\bnautical\s+miles?\b)|(?P<lightyear>\blight[\s-]years?\b)"
    r"|(?P<celsius>(?:°|\bdegrees?\b|\bdeg\b)\.?\s*(?:C|c|[Cc]elsius|[Cc]entigrade)\b)"
    r"|(?P<fahrenheit>(?:°|\bdegrees?\b|\bdeg\b)\.?\s*(?:F|[Ff]ahrenheit)\b)"
    r"|(?P<kelvin>(?:°|\bdegrees?\b)\s*(?:K|[Kk]elvin)\b)"
)
_RAISED = str.maketrans("²³", "23")
_POWERS = {"square": 2, "sq": 2, "squared": 2, "²": 2, "cubic": 3, "cu": 3, "cubed": 3, "³": 3}


def _lookup(word: str) -> Side | None:
    """Symbols as they are written where case tells (`Mg` is no `mg`), names in either case and number."""
    if word in _UNITS or len(word) < 2:
        return _UNITS.get(word)
    lower = word.lower()
    return _UNITS.get(_FOLDED.get(lower, "")) or (_STEMS.get(stem(lower)) if len(word) > 3 else None)


def _compound(word: str) -> Reading | None:
    lower = word.lower()
    return (
        _COMPOUNDS.get(word)
        or _COMPOUNDS.get(_FOLDED_COMPOUNDS.get(lower, ""))
        or (_COMPOUNDS.get(stem(lower)) if len(word) > 3 else None)
    )


def _read(phrase: str, instead: tuple[str, str] = ("", "")) -> Reading | None:
    """A unit phrase; `None` where it is none. `instead`: a word and what it is taken for."""
    text = phrase.strip()
    if text[:1] == "(" and text[-1:] == ")":
        text = text[1:-1]
    text = _JOINED.sub(lambda m: f" {m.lastgroup} ", text)
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        at = match.end()
        if match.lastgroup != "skip":
            found.append((match.lastgroup or "", match[0]))
    sides = [Side(), Side()]
    turns: set[str] = set()
    below, waiting, last, plain = 0, 1, None, False
    for i, (kind, raw) in enumerate(found):
        lower = raw.lower()
        if kind == "over" or lower in ("per", "every") or (raw in ("a", "an") and last and is_time(found[i + 1 :])):
            below, last = 1, None
        elif kind == "sign":
            if below and raw != "-":
                return None  # kg/m*s may mean either
        elif kind == "power" or (lower in _POWERS and last is not None and not _is_unit_next(found[i + 1 :])):
            exponent = _POWERS.get(lower) or int(re.sub(r"[^0-9-]", "", raw.translate(_RAISED)))
            if last is None:
                return None
            sides[below] = _times(sides[below], _power(last, max(exponent, 0) - 1))
            if exponent < 0:
                sides[1 - below] = _times(sides[1 - below], _power(last, -exponent))
            last = None
        elif lower in _POWERS:
            if waiting != 1:
                return None
            waiting = _POWERS[lower]
        elif raw in ("a", "an", "An") or (lower in unit_names.FILLERS and not (lower == "in" and _is_inch(found, i))):
            last = None
        elif lower in unit_names.NEVER:
            return None
        elif stem(lower) in unit_names.TURNS and lower != "quarters":
            turns.add(stem(lower))
            last = None
        elif lower in unit_names.SCALES or lower.rstrip("s") in unit_names.SCALES:
            if below:
                return None
            sides[0] = _times(
                sides[0], Side(Fraction(unit_names.SCALES.get(lower) or unit_names.SCALES[lower.rstrip("s")]))
            )
        else:
            word = instead[1] if instead[0] == stem(lower) else raw
            side = _compound(word)
            if side and below:
                return None
            single = _lookup(word) if not side else None
            if side:
                sides = [_times(sides[0], side.over), _times(sides[1], side.under)]
                last = None
            elif single:
                last = _power(single, waiting)
                sides[below], waiting = _times(sides[below], last), 1
                last = last if last == single else None
            elif waiting != 1 or len(lower) < 2:
                return None
            else:
                plain = plain or len(lower) > 3 or lower in unit_names.SHORT_NOUNS
                sides[below] = sides[below]._replace(nouns=sides[below].nouns | {stem(lower)})
                last = None
    if waiting != 1 or ((sides[0].nouns or sides[1].nouns) and not plain):
        return None
    return Reading(sides[0], sides[1], frozenset(turns))


def is_time(rest: list[tuple[str, str]]) -> bool:
    side = _lookup(rest[0][1]) if rest else None
    return side is not None and side.dims[:1] in ((("time", 1),), (("month", 1),))


def _is_unit_next(rest: list[tuple[str, str]]) -> bool:
    return bool(rest) and rest[0][0] == "word" and _lookup(rest[0][1]) is not None


def _is_inch(found: list[tuple[str, str]], i: int) -> bool:
    """`in` is an inch in `sq in`, `in^2`, `in per day`, and alone."""
    before = found[i - 1][1].lower() if i else ""
    after = found[i + 1] if i + 1 < len(found) else ("", "")
    alone = not i and (after[0] != "word" or after[1] in ("per", "of", "long", "squared"))
    return alone or before in _POWERS or before == "/"


def _compounds() -> dict[str, Reading]:
    known: dict[str, Reading] = {}
    for name, meaning in unit_names.COMPOUND.items():
        known[name] = known[stem(name)] = _meant(meaning)
    for name, (symbol, meaning) in unit_names.DERIVED.items():
        plain = _meant(meaning)
        for prefix, (letter, tens) in {**unit_names.PREFIXES, "": ("", 0)}.items():
            side = plain.over._replace(factor=plain.over.factor * Fraction(10) ** tens)
            known[letter + symbol] = known[prefix + name] = known[stem(prefix + name)] = plain._replace(over=side)
    return known


def _meant(phrase: str) -> Reading:
    reading = _read(phrase)
    assert reading is not None, phrase
    return reading


_COMPOUNDS: dict[str, Reading] = {}
_FOLDED_COMPOUNDS: dict[str, str] = {}
_COMPOUNDS |= _compounds()
_FOLDED_COMPOUNDS |= _folded(_COMPOUNDS)


@lru_cache(4096)
def readings(phrase: str) -> tuple[Reading, ...]:
    """What a phrase may mean; nothing where it is not understood. For phrases of bounded length only."""
    first = _read(phrase)
    if first is None:
        return ()
    out = [first]
    for word in re.findall(r"[a-z]+|[°¥]", phrase.lower()):
        for other in _ALSO_BY_STEM.get(stem(word), ()):
            reading = _read(phrase, (stem(word), other))
            if reading:
                out.append(reading)
        if len(out) > 4:
            break
    return tuple(out)


_PRODUCTS = frozenset(
    letter + symbol
    for letter, _ in unit_names.PREFIXES.values()
    for symbol in "msglLAVTFΩNJW"
    if letter + symbol not in ("cm", "mm", "km", "dm")
) - {"kg", "mg", "ml", "mL", "kN", "kJ", "kW"} | {"ha", "mo"}
"""Symbols that are rather products of letters where they stand alone."""
_NAMES = {w for w in (*_UNITS, *_COMPOUNDS) if len(w) > 1} - _PRODUCTS
_NAMES |= {"sq", "cu", "won", "lakh", "crore", "dozen", "usd", "eur"}
_LONG_NAMES = frozenset(stem(w) for w in _NAMES if len(w) > 3)


def is_unit(word: str) -> bool:
    """Whether a word of two letters or more names a unit of measure or a currency.

    Words that are rather products of letters (`nm`, `ms`, `rs`) are not taken for units.

    >>> [is_unit(w) for w in ("cm", "Feet", "dollars", "Rs", "rs", "m", "apples")]
    [True, True, True, True, False, False, False]
    """
    if word in _NAMES:
        return True
    lower = word.lower()
    if len(word) < 2 or word in _PRODUCTS or word == "rs":
        return False
    return lower in _NAMES or (len(word) > 3 and stem(lower) in _LONG_NAMES)


def same_unit(a: str, b: str) -> Fraction | None:
    """How many `b` one `a` is, exactly; `None` where they are not of one kind, or not understood and not equal.

    >>> same_unit("m", "centimetres"), same_unit("sq. cm", "cm^2"), same_unit("mph", "miles per hour")
    (Fraction(100, 1), Fraction(1, 1), Fraction(1, 1))
    >>> same_unit("feet", "square feet"), same_unit("goats", "stuffed goats"), same_unit("apples", "pears")
    (None, Fraction(1, 1), None)
    """
    if a == b:
        return ONE
    if max(len(a), len(b)) > LONGEST:
        return ONE if _same_phrase(a, b) else None
    return _same_unit(a, b)


@lru_cache(4096)
def _same_unit(a: str, b: str) -> Fraction | None:
    for one in readings(a):
        for other in readings(b):
            factor = _factor(one, other)
            if factor is not None:
                return factor
    return ONE if _same_phrase(a, b) else None


def _same_phrase(a: str, b: str) -> bool:
    """The same words; short ones may be symbols, which keep their case."""
    words, others = a.split(), b.split()
    return len(words) == len(others) and all(
        x == y or (len(x) > SYMBOL and x.lower() == y.lower()) for x, y in zip(words, others, strict=True)
    )


def _factor(a: Reading, b: Reading) -> Fraction | None:
    if a.turns != b.turns or not (a.over.nouns <= b.over.nouns or b.over.nouns <= a.over.nouns):
        return None
    if a.over.dims != b.over.dims:
        return _generic(a, b)
    a_rate, b_rate = _is_rate(a), _is_rate(b)
    if a_rate != b_rate:  # 18 dollars, 18 dollars per day; but miles are no miles per hour
        counted = all(name[0] == "$" for name, _ in a.over.dims) and (a.over.dims or (a.over.nouns and b.over.nouns))
        return a.over.factor / b.over.factor if counted else None
    if a.under.dims != b.under.dims or not (a.under.nouns <= b.under.nouns or b.under.nouns <= a.under.nouns):
        return None
    if not a.over.dims and not a_rate and bool(a.over.nouns) != bool(b.over.nouns):
        return a.over.factor / b.over.factor if _says_nothing(a) or _says_nothing(b) else None
    return a.over.factor / a.under.factor * b.under.factor / b.over.factor


def _is_rate(reading: Reading) -> bool:
    return bool(reading.under.dims or reading.under.nouns)


def _says_nothing(reading: Reading) -> bool:
    return reading == Reading(Side(reading.over.factor), Side(), reading.turns)


def _generic(a: Reading, b: Reading) -> Fraction | None:
    """`square units` may be said for `cm^2`."""
    if _is_rate(a) or _is_rate(b) or len(a.over.dims) != 1 or len(b.over.dims) != 1:
        return None
    (one, power), (other, other_power) = a.over.dims[0], b.over.dims[0]
    return ONE if power == other_power and {one, other} == {"unit", "length"} else None


def omissible(unit: str) -> bool:
    """Whether a unit may be left out, as in `64 square feet` and `64`.

    Not so a single letter, which may be a variable, nor `million`, `below zero`, `squared`, `percent`, `or more`.
    """
    if len(unit) > LONGEST:
        return False
    bare = unit.strip(" .~()")
    if bare[1:2] == "^" and bare not in ("m^2", "m^3"):
        return False
    if len(bare) < 2 and bare not in ("$", "€", "£", "¥", "₹", "°"):
        return False
    read = readings(unit)
    return bool(read) and not read[0].turns and split_scale(unit)[0] == 1


def split_scale(unit: str) -> tuple[int, str]:
    """The multiple in a unit, and the unit without it: `million dollars` is 10**6 "dollars"."""
    scale, kept = 1, []
    for word in unit.split() if len(unit) <= LONGEST else ():
        times = unit_names.SCALES.get(word.lower()) or unit_names.SCALES.get(word.lower().rstrip("s"))
        scale *= times or 1
        if not times:
            kept.append(word)
    return (scale, " ".join(kept).removeprefix("of ")) if scale > 1 else (1, unit)

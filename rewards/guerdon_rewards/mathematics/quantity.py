"""Numbers with units as they are written: `1 hr 23 min`, `Rs. 770`, `7:30 a.m.`, and which of them are the same."""

import re
from fractions import Fraction
from typing import NamedTuple

from guerdon_rewards.mathematics.units import LONGEST, ZERO, is_time, omissible, readings, same_unit, split_scale
from guerdon_rewards.mathematics.words import number_word


class Quantity(NamedTuple):
    """A number and its unit, which is that of the last of its `parts`: `5 ft 2 in` is 62 in of two parts.

    `place` is what one unit of the last written decimal is worth, 0 for integers and fractions.
    """

    value: Fraction
    unit: str
    place: Fraction
    parts: int = 1


_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?:\.[0-9]++)?+|[0-9]++(?:\.[0-9]++)?+|\.[0-9]++)"
_BARE = re.compile(rf"-?{_NUMBER}")
_PIECE = re.compile(
    rf"\s*(?P<number>{_NUMBER})(?:\s+(?P<above>[0-9]++)\s?/\s?(?P<below>[0-9]++)|\s?/\s?(?P<over>[0-9]++))?+\s*"
    r"(?P<unit>(?:[^0-9]|(?<=\^)[0-9]|(?<=\^\{)[0-9]|(?<=[a-z])[23](?![0-9.]))*+)"
)
_BEGINNINGS = frozenset("0123456789.-\u2212$€£¥₹₩RrUEGCJIAHNS\\{~(")
_MONEY = re.compile(
    r"(?P<sign>-?)\s*(?P<money>(?:US|A|C|S|HK|NT|NZ)?\$|[€£¥₹₩]|(?:Rs|rs|RS|INR|USD|EUR|GBP|CNY|RMB|JPY)(?![A-Za-z])\.?)"
    r"\s*(?P<sign2>-?)\s*(?=[.0-9])"
)
_WRAPPED = re.compile(
    r"(?P<gone>\\(?:text|mathrm|textbf|mathbf|mbox|textrm|hbox|rm|operatorname)\b\s*|[{}]|\\(?=[$%]))|\\[,;:! ]|~"
)
_DEGREES = re.compile(r"\^\s*\\circ|\^\s*∘|\\circ|\\degrees?\b|º")


def quantity(text: str) -> Quantity | None:
    """A number with its unit, of several parts or with its currency before it; `None` for all else.

    >>> quantity("1 hr 23 min")
    Quantity(value=Fraction(83, 1), unit='min', place=Fraction(0, 1), parts=2)
    >>> quantity("Rs. 770").unit, quantity("15 remainder 3"), quantity("x cm")
    ('Rs', None, None)
    """
    text = text.strip()
    if text[:1].isalpha() or text[:5] == "\\text":
        text = _spelled(text)
    if len(text) > 2 * LONGEST or text[:1] not in _BEGINNINGS or text.isdecimal():
        return None
    if len(text) > 2 and text[0] == "$" and text[-1] == "$":
        text = text[1:-1].strip()
    text = _plain(text)
    if "°" in text and "'" in text:
        text = text.replace("''", " arcsec ").replace("'", " arcmin ")
    money = _MONEY.match(text) if text and text[0] not in "0123456789" else None
    at, unit, negative = 0, "", False
    if money:
        if money["sign"] and money["sign2"]:
            return None
        at, unit, negative = money.end(), money["money"].rstrip("."), bool(money["sign"] or money["sign2"])
    elif text[:1] == "-":
        at, negative = 1, True
    parts: list[Quantity] = []
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None or len(parts) > 3 or len(match["number"]) > 40:
            return None
        at = match.end()
        part = _part(match, unit, last=at == len(text))
        if part is None:
            return None
        parts.append(part)
        unit = ""
    whole = _sum(parts)
    return whole._replace(value=-whole.value) if whole and negative else whole


_WORDS = re.compile(r"\\text\s*\{([A-Za-z -]+)\}|([A-Za-z -]+)")


def _spelled(text: str) -> str:
    """`five minutes` with its number in digits."""
    match = _WORDS.fullmatch(text) if len(text) <= LONGEST else None
    words = (match[1] or match[2]).split() if match else []
    for count in range(min(len(words) - 1, 4), 0, -1):
        value = number_word(" ".join(words[:count]))
        if value is not None:
            return f"{value} {' '.join(words[count:])}"
    return text


def _plain(text: str) -> str:
    if "\\" in text or "{" in text or "~" in text:
        text = _DEGREES.sub("°", _WRAPPED.sub(lambda m: "" if m["gone"] else " ", text)).strip()
    return text.replace("\u2212", "-")


def _part(match: re.Match[str], money: str, last: bool) -> Quantity | None:
    unit = match["unit"].strip(" .,;")
    if not last:
        unit = unit.removesuffix(" and").strip(" .,;")
    if unit[:1] == "(" and unit[-1:] == ")":
        unit = unit[1:-1]
    if money:
        doubled = unit and same_unit(unit, money)  # $5 dollars
        unit = unit if doubled else money if unit == "/-" else f"{money} {unit}".strip()
    if not unit or len(unit) > LONGEST or not readings(unit):
        return None
    whole, _, decimals = match["number"].replace(",", "").partition(".")
    ten = 10 ** len(decimals)
    value = Fraction(int(whole + decimals), ten) if decimals else Fraction(int(whole))
    below = match["below"] or match["over"]
    if below is not None:
        if decimals or len(below) > 40 or len(match["above"] or "") > 40 or not int(below):
            return None
        value = value + Fraction(int(match["above"]), int(below)) if match["below"] else value / int(below)
    scale, unit = split_scale(unit)
    return Quantity(value * scale if scale > 1 else value, unit, Fraction(scale, ten) if decimals else ZERO)


def _sum(parts: list[Quantity]) -> Quantity | None:
    """`5 feet 6 inches`: each part in a smaller unit than the one before it."""
    if len(parts) < 2:
        return parts[0] if parts else None
    units = [p.unit for p in parts]
    if "m" in units and any(is_time([("word", u)]) for u in units):
        units = ["min" if u == "m" else u for u in units]
    total, previous = ZERO, None
    for part, unit in zip(parts, units, strict=True):
        factor = same_unit(unit, units[-1])
        if factor is None or not readings(unit) or not readings(unit)[0].over.dims:
            return None
        if previous is not None and factor >= previous:
            return None
        total, previous = total + part.value * factor, factor
    return Quantity(total, units[-1], parts[-1].place, len(parts))


# times of day ---------------------------------------------------------------------------------------------------------


class Time(NamedTuple):
    """`half`: whether the half of the day is known. `named`: whether it can be nothing else: `7:30` may be a ratio."""

    minutes: Fraction
    half: bool
    named: bool


_TIME = re.compile(
    r"(?:at\s+)?(?:(?P<hour>[0-9]{1,2})(?:\s?[:.]\s?(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9]))?)?"
    r"\s*(?P<clock>o'?\s?clock)?\s*"
    r"(?P<half>a\.?\s?m\b\.?|p\.?\s?m\b\.?|noon|midnight|in the (?:morning|afternoon|evening))?"
    r"|(?P<word>noon|midnight))\s*\.?",
    re.IGNORECASE,
)


def time_of_day(text: str) -> Time | None:
    """Minutes since midnight. `7:30` may be in either half of the day, `19:30` is not.

    >>> time_of_day("08:34 P.M."), time_of_day("12 am").minutes
    (Time(minutes=Fraction(1234, 1), half=True, named=True), Fraction(0, 1))
    """
    if len(text) > LONGEST:
        return None
    text = text.strip().strip("$").strip()
    if not text or text[0] not in "0123456789nNmMaA\\{":
        return None
    match = _TIME.fullmatch(_plain(text))
    if match is None:
        return None
    if match["word"]:
        return Time(Fraction(720 if match["word"].lower() == "noon" else 0), True, True)
    if match["half"] in ("Pm", "Am"):
        return None
    half = (match["half"] or "").lower().replace(".", "").replace(" ", "")
    hour, minute = int(match["hour"]), match["minute"]
    named = bool(half or match["clock"])
    if not named and (minute is None or "." in text):
        return None
    minutes = Fraction(int(minute or 0) * 60 + int(match["second"] or 0), 60)
    if hour > 24 or (hour == 24 and minutes):
        return None
    if half in ("noon", "midnight"):
        return Time(Fraction(720 if half == "noon" else 0), True, True) if hour == 12 and not minutes else None
    if half:
        if not 1 <= hour <= 12:
            return None
        afternoon = half == "pm" or half.endswith(("afternoon", "evening"))
        return Time(hour % 12 * 60 + minutes + (720 if afternoon else 0), True, True)
    return Time(hour % 24 * 60 + minutes, not 1 <= hour <= 12, named)


def same_time(a: Time, b: Time) -> bool:
    """Whether two times are one, where one of them can be nothing else. A half of the day may be left out."""
    if not (a.named or b.named):
        return False
    return a.minutes == b.minutes if a.half and b.half else (a.minutes - b.minutes) % 720 == 0


def same_quantity(a: str, b: str, strict: bool = False) -> bool | None:
    """Whether two texts are one quantity or one time of day; `None` where that is not to be said here.

    Units are converted; a unit said on one side only is passed over where it may be left out. Two decimals that
    differ are left to whoever knows how numbers are rounded. With `strict` no unit is passed over.

    >>> same_quantity("1 hr 23 min", "83 minutes"), same_quantity("$5", "€5"), same_quantity("64 square feet", "64")
    (True, False, True)
    """
    one, other = time_of_day(a), time_of_day(b)
    if one and other and (one.named or other.named):
        return same_time(one, other)
    first, second = quantity(a), quantity(b)
    if first and second:
        factor = same_unit(first.unit, second.unit)
        if factor is None or first.value * factor == second.value:
            return factor is not None
        return _perhaps_rounded(first, second, factor)
    known = first or second
    bare = _BARE.fullmatch(b if first else a) if known and known.parts == 1 else None
    if known is None or bare is None:
        return _clock(a, b)
    if strict and known.unit:
        return False
    if not (known.unit == "" or omissible(known.unit)):
        return None
    return True if Fraction(bare[0].replace(",", "")) == known.value else None


def _perhaps_rounded(a: Quantity, b: Quantity, factor: Fraction) -> bool | None:
    """Decimals that differ: none of what `rounding` says where units do, $0.75 is not 0.75 cents."""
    coarser = max(a.place * factor, b.place)
    if factor == 1 and coarser:
        return None
    return None if coarser and abs(a.value * factor - b.value) <= coarser / 2 else False


_ON_THE_CLOCK = re.compile(r"[0-9]{1,2}:0[0-9]")


def _clock(a: str, b: str) -> bool | None:
    """`3:01` is no ratio, so it is not 3."""
    return False if (":" in a) != (":" in b) and _ON_THE_CLOCK.fullmatch(a if ":" in a else b) else None

"""`numeric`: is the answer the same number as the reference?"""

import math
import re
from fractions import Fraction
from typing import Any

from guerdon_rewards.extraction import DEFAULT_ORDER, Answer, Method, extract
from guerdon_rewards.number import Number, parse_number, to_number


def numeric(
    completion: str,
    answer: Any,
    *,
    how: tuple[Method, ...] = DEFAULT_ORDER,
    relative: float = 1e-9,
    absolute: float = 1e-12,
    compat: bool = False,
) -> float | tuple[float | None, str] | None:
    """1.0 when the completion's answer is the reference number, else 0.0; not applicable without a reference.

    An integer reference (9867630.0 too) has to be met exactly, noise of floats below 1e-6 apart. Another one
    has to be met within `absolute + relative * |reference|`. Where it has more than four decimals, so comes
    from a division, it was rounded itself: within half of its last digit will do, and so will an answer that
    rounds it correctly to three significant digits or more (2.33 for 2.3333333333). `50%` meets 50 and 0.5.

    With `compat` it is the reward of Agent Lightning's Unsloth example: the first `### answer ###` read by
    Python's `float()`, within `1e-8 + 1e-5 * |reference|`, integers too (100001 meets 100000). There `1,234`,
    `$42` and `#### 42` earn nothing, and `4_2`, `inf` and digits of other scripts are numbers.

    Args:
        how: Where to look for the answer, see `extraction`; marks compete and the last wins, guesses go in
            order.
        relative: Tolerance as a share of the reference, for references that are not integers.
        absolute: Tolerance in the reference's own unit, for references that are not integers.
        compat: Score exactly as Agent Lightning's Unsloth example does; `how`, `relative` and `absolute` must
            be left out.

    Raises:
        ValueError: the reference is not a finite number (the task is at fault), or `compat` comes with other
            settings.

    >>> numeric("So she makes 18 dollars.\\n#### 18", 18.0)
    1.0
    >>> numeric("The answer is 20.", "18")
    (0.0, '20 against 18')
    >>> numeric("### 100001 ###", 100000, compat=True)
    1.0
    """
    if answer is None:
        return None
    if compat:
        if (how, relative, absolute) != (DEFAULT_ORDER, 1e-9, 1e-12):
            raise ValueError("numeric: with `compat`, leave out `how`, `relative` and `absolute`")
        return _lightning(completion, answer)
    want = to_number(answer)
    found = extract(completion, how)
    if found is None:
        return 0.0, "no answer found"
    got = _read(found, completion, how)
    if got is None:
        return 0.0, f"{_short(found.text)!r} is not a number"
    if _meets(got, want, relative, absolute) or _same_float(got, answer):
        return 1.0
    return 0.0, f"{_short(found.text)} against {_short(str(answer))}"


def _read(found: Answer, completion: str, how: tuple[Method, ...]) -> Number | None:
    number = parse_number(found.text)
    if number is None and found.how == "sentence" and "last_number" in how:  # "the answer is about 42 in all"
        last = extract(completion, "last_number")
        return parse_number(last.text) if last else None
    return number


def _meets(got: Number, want: Number, relative: float, absolute: float) -> bool:
    if got.percent and want.percent:
        got, want = Number(got.value, got.place), Number(want.value, want.place)
    return any(_close(g, w, relative, absolute) for g in got.readings for w in want.readings)


def _close(got: Number, want: Number, relative: float, absolute: float) -> bool:
    if got.value == want.value:
        return True
    apart = abs(got.value - want.value)
    if want.value.denominator == 1:
        return apart <= Fraction(1, 10**6)
    if apart <= Fraction(absolute) + Fraction(relative) * abs(want.value):
        return True
    if (want.value * 10**4).denominator == 1:
        return False
    rounded = 0 < got.place < 1 and abs(got.value) >= 100 * got.place and apart <= got.place / 2
    return rounded or apart <= want.place / 2


def _same_float(got: Number, answer: Any) -> bool:
    """A float beyond 2^53 stands for many integers; the answer may be any of them."""
    return isinstance(answer, float) and abs(answer) >= 2**53 and float(got.value) == answer


def _lightning(completion: str, answer: Any) -> float:
    try:
        want = float(answer)
    except (TypeError, ValueError):
        raise ValueError(f"the reference answer {answer!r} is not a number") from None
    try:
        got = float(_between_hashes(completion) or "")
    except ValueError:
        return 0.0
    return float(got == want or (math.isfinite(want) and abs(got - want) <= 1e-8 + 1e-5 * abs(want)))


_BLANKS = re.compile(r"\s*+")


def _between_hashes(text: str) -> str | None:
    r"""What `###\s*(.+?)(\s*###|$)` captures first, without blanks, in linear time (it takes cubic)."""
    at = text.find("###")
    while at != -1:
        blanks = _BLANKS.match(text, at + 3)
        start = blanks.end() if blanks else at + 3
        end = text.find("###", start + 1)
        found = text[start:end].rstrip() if end != -1 else text[start:].removesuffix("\n")
        if found and "\n" not in found:
            return found
        if text.startswith("###", start) and text[at + 3 : start].strip("\n"):
            return ""  # the pattern captures a blank
        at = text.find("###", at + 1)
    return None


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."

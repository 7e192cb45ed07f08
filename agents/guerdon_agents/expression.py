"""Computes a line of arithmetic as a person or a model writes it: exactly where possible, never for long.

What is covered:
    Numbers: 12, .5, 3., 1.5e3, 1,234.5; currency signs are dropped.
    Operators: + - * / // % ** and ^ (a power, not exclusive or), also × · ÷ − ² ³; signs; parentheses; with
    Python's precedence.
    Percent: x% is x/100, so 100 + 10% is 100.1, and "a% of b" is a/100*b. A % before a number, a name or "("
    is the remainder: 7 % 3 is 1. Before a sign it is a percent: 50% - 10% is 0.4.
    Functions: sqrt, abs, round, floor, ceil, min, max, factorial, gcd, lcm, root(x, n), percent(x),
    percent(x, of). Constants: pi, e.
    Exactness: whole numbers, decimals and fractions are exact, so 0.1 + 0.2 is 0.3. Roots and powers are
    where they can be; what is irrational is a float.
    Commas: they group thousands, but between the arguments of a function of several they separate; where both
    could be meant it is an error.
    Rounding: half away from zero, as at school: round(2.5) is 3.
    Bounds: MAX_LENGTH characters, MAX_DEPTH levels, numbers of at most MAX_DIGITS digits. They bound the
    work, so no clock is needed.

What is not covered:
    Variables, equations, comparisons, strings, attributes, complex numbers, bits, trigonometry, logarithms.

Only what the grammar below names can be written at all: nothing is handed to Python's `eval` or parser.
"""

import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import NoReturn, TypeVar

Number = int | Fraction | float
T = TypeVar("T")

MAX_LENGTH = 1000
MAX_DEPTH = 50
MAX_DIGITS = 308  # any such number fits in a float

_LIMIT = 10**MAX_DIGITS
_PLACES = 30  # a decimal with at most these many places is printed exactly
_TIGHT = "grouping comma"  # the comma of "1,234" between arguments
_PLAIN = str.maketrans(
    {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "²": "^2", "³": "^3", "π": " pi ", "\u00a0": " "}
    | dict.fromkeys("$€£¥", " ")
)
_TOKEN = re.compile(
    r"((?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"  # a number
    r"|[a-z_]\w*|\*\*|//|[-+*/%^()]|,\s*)\s*",
    re.ASCII,
)


class ExpressionError(ValueError):
    """The expression has no value here; the message is short and meant for a model to read."""


def evaluate(text: str) -> str:
    """The value of an expression, as text.

    Whole numbers are printed whole, decimals of up to 30 places exactly, the rest to 12 significant digits.

    Raises:
        ExpressionError: it is not arithmetic, has no real value, or is too long, too deep or too large.

    >>> evaluate("0.1 + 0.2"), evaluate("15% of 80"), evaluate("1,234 × 2"), evaluate("1/3")
    ('0.3', '12', '2468', '0.333333333333')
    """
    value = compute(text)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Fraction) and 10**_PLACES % value.denominator == 0:
        digits = str(abs(value) * 10**_PLACES).zfill(_PLACES + 1)
        sign = "-" if value < 0 else ""
        return f"{sign}{digits[:-_PLACES]}.{digits[-_PLACES:].rstrip('0')}"
    return f"{float(value) or 0.0:.12g}"  # `or`: no negative zero


def compute(text: str) -> Number:
    """The value itself: an int, else a Fraction, else (irrational) a float. Raises as `evaluate`."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is too long (at most {MAX_LENGTH} characters)")
    return _Parser(_tokens(text.translate(_PLAIN).strip().lower())).whole()


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"unexpected {text[at]!r}; use numbers, + - * / % ^ ( ) and functions")
        found.append(match[1])
        at = match.end()
    return found


class _Parser:
    """Recursive descent that computes as it reads. `depth` counts nested parentheses, signs and powers."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.separating = False  # between the arguments of a function of several

    def whole(self) -> Number:
        value = self.sums(0)
        if self.peek():
            self.refuse()
        return value

    def sums(self, depth: int) -> Number:
        value = self.products(depth)
        while self.peek() in ("+", "-"):
            value = _apply(_OPERATORS[self.next()], value, self.products(depth))
        return value

    def products(self, depth: int) -> Number:
        value = self.signed(depth)
        while self.peek() in ("*", "/", "//", "%", "of"):
            value = _apply(_OPERATORS[self.next()], value, self.signed(depth))
        return value

    def signed(self, depth: int) -> Number:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is nested too deeply (at most {MAX_DEPTH} levels)")
        if self.peek() in ("+", "-"):
            return _apply(_OPERATORS[self.next()], 0, self.signed(depth + 1))
        value = self.percents(depth)
        if self.peek() in ("**", "^"):
            return _apply(_OPERATORS[self.next()], value, self.signed(depth + 1))
        return value

    def percents(self, depth: int) -> Number:
        value = self.operand(depth)
        while self.peek() == "%" and not _begins_operand(self.peek(1)):
            self.next()
            value = _apply(_percent, value)
        return value

    def operand(self, depth: int) -> Number:
        token = self.peek()
        if token == "(":
            return self.within(False, lambda: self.sums(depth + 1))
        if token[:1].isdigit() or token[:1] == ".":
            return self.number()
        if token in _CONSTANTS:
            return _CONSTANTS[self.next()]
        if token in _FUNCTIONS:
            return self.call(self.next(), depth)
        if token[:1].isalpha() or token[:1] == "_":
            known = ", ".join([*_CONSTANTS, *_FUNCTIONS])
            raise ExpressionError(f"unknown name {token[:20]!r}; known are {known}")
        self.refuse()

    def number(self) -> Number:
        if self.separating and "," in self.peek():
            self.split()
        token = self.next().replace(",", "")
        digits, _, exponent = token.partition("e")
        if exponent and abs(int(exponent)) > MAX_DIGITS:
            raise ExpressionError(f"{token[:20]!r} is out of range (at most {MAX_DIGITS} digits)")
        return _bounded(Fraction(digits) * Fraction(10) ** int(exponent or 0))

    def split(self) -> None:
        """Replace "1,234" by 1 and 234 with a comma between them."""
        first, *rest = self.peek().split(",")
        if any(part.startswith("0") for part in rest):
            self.ambiguous()
        self.tokens[self.at : self.at + 1] = [first, *(t for part in rest for t in (_TIGHT, part))]

    def call(self, name: str, depth: int) -> Number:
        function, least, most = _FUNCTIONS[name]
        if self.peek() != "(":
            raise ExpressionError(f"write {name} with parentheses: {name}(...)")
        arguments = self.within(most > 1, lambda: self.arguments(depth + 1))
        if not least <= len(arguments) <= most:
            raise ExpressionError(f"{name} takes {_count(least, most)}, got {len(arguments)}")
        return _apply(function, *arguments)

    def arguments(self, depth: int) -> list[Number]:
        values, commas = [self.sums(depth)], set()
        while self.separating and (self.peek().startswith(",") or self.peek() == _TIGHT):
            commas.add(self.next())
            values.append(self.sums(depth))
        if _TIGHT in commas and any(len(comma) > 1 for comma in commas - {_TIGHT}):
            self.ambiguous()
        return values

    def within(self, separating: bool, read: Callable[[], T]) -> T:
        """What stands in parentheses; outside of them commas mean again what they meant."""
        before, self.separating = self.separating, separating
        self.next()
        value = read()
        if not self.peek():
            raise ExpressionError("a closing parenthesis is missing")
        if self.peek() != ")":
            self.refuse()
        self.next()
        self.separating = before
        return value

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def refuse(self) -> NoReturn:
        token = self.peek().strip()
        if not self.tokens:
            raise ExpressionError("the expression is empty")
        if not token:
            raise ExpressionError("the expression ends too early")
        if token == ",":
            raise ExpressionError("unexpected ','; a comma groups thousands, as in 1,234")
        before = f" after {self.tokens[self.at - 1][:20]!r}" if self.at else ""
        raise ExpressionError(f"unexpected {token[:20]!r}{before}")

    def ambiguous(self) -> NoReturn:
        raise ExpressionError("ambiguous commas; between arguments write 1234, not 1,234")


def _begins_operand(token: str) -> bool:
    return token == "(" or (token[:1].isalnum() and token != "of") or token[:1] == "."


def _count(least: int, most: int) -> str:
    if least == most:
        return f"{least} argument{'s' * (least > 1)}"
    return f"{least} or more arguments" if most == _ANY else f"{least} or {most} arguments"


# The arithmetic


def _apply(function: Callable[..., Number], *arguments: Number) -> Number:
    try:
        return _bounded(function(*arguments))
    except ZeroDivisionError:
        raise ExpressionError("division by zero") from None
    except OverflowError:
        raise _too_large() from None


def _bounded(value: Number) -> Number:
    """The value in its simplest type. A fraction of too many digits becomes a float."""
    if isinstance(value, Fraction):
        if value.denominator == 1:
            value = value.numerator
        elif max(abs(value.numerator), value.denominator) >= _LIMIT:
            value = _nonzero(float(value))
    if (isinstance(value, int) and abs(value) >= _LIMIT) or not math.isfinite(value):
        raise _too_large()
    return value


def _nonzero(value: float) -> float:
    if not value:
        raise ExpressionError(f"the result is too small (at most {MAX_DIGITS} decimals)")
    return value


def _too_large() -> ExpressionError:
    return ExpressionError(f"the result is too large (at most {MAX_DIGITS} digits)")


def _not_real() -> ExpressionError:
    return ExpressionError("an even root of a negative number is not real")


def _multiply(x: Number, y: Number) -> Number:
    product = x * y
    return product if product or not x or not y else _nonzero(float(product))


def _divide(x: Number, y: Number) -> Number:
    if isinstance(x, float) or isinstance(y, float):
        return _nonzero(float(x / y)) if x else 0
    return Fraction(x) / y


def _percent(x: Number, of: Number = 1) -> Number:
    return _multiply(_divide(x, 100), of)


def _power(x: Number, n: Number) -> Number:
    if isinstance(n, Fraction):
        return _root_power(x, n.denominator, n.numerator)
    if isinstance(n, float):
        if x < 0:
            raise ExpressionError("an irrational power of a negative number is not real")
        return _float_power(x, n)
    if isinstance(x, float):
        return _float_power(x, n)
    x = Fraction(x)
    bits = max(x.numerator.bit_length(), x.denominator.bit_length())
    if abs(x) in (0, 1) or bits * abs(n) <= 2 * _LIMIT.bit_length():
        power: Number = x**n
        return power
    if x.denominator == 1 and n > 0:
        raise OverflowError
    return _float_power(x, n)


def _float_power(x: Number, n: Number) -> float:
    if x == 0 and n < 0:
        raise ZeroDivisionError
    return _nonzero(math.pow(x, n)) if x else math.pow(x, n)


def _root(x: Number, n: Number = 2) -> Number:
    if not isinstance(n, int) or n < 1:
        raise ExpressionError("root(x, n) needs a whole number n of at least 1")
    return _root_power(x, n, 1)


def _root_power(x: Number, n: int, power: int) -> Number:
    """The real nth root of x to a power, exact where the root is rational."""
    if x < 0 and n % 2 == 0:
        raise _not_real()
    size: Number = -x if x < 0 else x
    root = _rational_root(size, n)
    value = _float_power(size, power / n) if root is None else _power(root, power)
    return -value if x < 0 and power % 2 else value


def _rational_root(x: Number, n: int) -> Number | None:
    if isinstance(x, float) or n > 2 * _LIMIT.bit_length():
        return x if x in (0, 1) else None
    x = Fraction(x)
    root = Fraction(_whole_root(x.numerator, n), _whole_root(x.denominator, n))
    return root if root**n == x else None


def _whole_root(x: int, n: int) -> int:
    """The nth root of a whole number, rounded down (Newton's method)."""
    if x < 2:
        return x
    root = 1 << -(-x.bit_length() // n)
    while (better := ((n - 1) * root + x // root ** (n - 1)) // n) < root:
        root = better
    return root


def _round(x: Number, places: Number = 0) -> Number:
    if not isinstance(places, int) or abs(places) > MAX_DIGITS:
        raise ExpressionError("round(x, places) needs a whole number of places")
    scale = Fraction(10) ** places
    rounded = math.floor(abs(Fraction(x)) * scale + Fraction(1, 2)) / scale
    return -rounded if x < 0 else rounded


def _factorial(n: Number) -> Number:
    if not isinstance(n, int) or n < 0:
        raise ExpressionError("factorial needs a whole number of at least 0")
    if n > MAX_DIGITS:
        raise OverflowError
    return math.factorial(n)


def _whole(function: Callable[..., int]) -> Callable[..., int]:
    def checked(*values: Number) -> int:
        if not all(isinstance(value, int) for value in values):
            raise ExpressionError(f"{function.__name__} needs whole numbers")
        return function(*values)

    return checked


_OPERATORS: dict[str, Callable[..., Number]] = {
    "+": operator.add, "-": operator.sub, "*": _multiply, "of": _multiply, "/": _divide,
    "//": operator.floordiv, "%": operator.mod, "**": _power, "^": _power,
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "e": math.e}
_ANY = MAX_LENGTH  # arguments
_FUNCTIONS: dict[str, tuple[Callable[..., Number], int, int]] = {  # function, least and most arguments
    "sqrt": (_root, 1, 1),
    "abs": (abs, 1, 1),
    "round": (_round, 1, 2),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "min": (lambda *values: min(values), 1, _ANY),
    "max": (lambda *values: max(values), 1, _ANY),
    "factorial": (_factorial, 1, 1),
    "gcd": (_whole(math.gcd), 1, _ANY),
    "lcm": (_whole(math.lcm), 1, _ANY),
    "root": (_root, 2, 2),
    "percent": (_percent, 1, 2),
}

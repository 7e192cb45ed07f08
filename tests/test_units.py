"""Units of measure, quantities, times of day, and answers that are words."""

import time
from collections.abc import Callable
from fractions import Fraction

import pytest

from guerdon_rewards.mathematics import quantity, units, words

F = Fraction


@pytest.mark.parametrize(
    "word",
    [
        "cm",
        "mm",
        "km",
        "Feet",
        "dollars",
        "rupees",
        "Rs",
        "°C",
        "kmph",
        "hrs",
        "gallons",
        "ounces",
        "litres",
        "sq",
        "Min",
        "LBS",
    ],
)
def test_words_that_are_units(word: str) -> None:
    assert units.is_unit(word)


@pytest.mark.parametrize(
    "word", ["m", "s", "x", "rs", "nm", "ms", "ab", "apples", "pi", "sin", "percent", "am", "the", "kV"]
)
def test_words_that_are_no_units_by_themselves(word: str) -> None:
    assert not units.is_unit(word)


@pytest.mark.parametrize(
    ("a", "b", "factor"),
    [
        ("cm", "centimetres", F(1)),
        ("sq. cm", "cm^2", F(1)),
        ("square centimeters", "cm²", F(1)),
        ("cm2", "cm^{2}", F(1)),
        ("m", "cm", F(100)),
        ("h", "min", F(60)),
        ("weeks", "days", F(7)),
        ("years", "months", F(12)),
        ("in.", "feet", F(1, 12)),
        ("in^3", "cubic inches", F(1)),
        ("mph", "miles per hour", F(1)),
        ("miles an hour", "mi / h", F(1)),
        ("km / h", "m/s", F(5, 18)),
        ("kms/hr", "kmph", F(1)),
        ("m / s^2", "meters per second squared", F(1)),
        ("N", "kg m / s^2", F(1)),
        ("mL", "cm^3", F(1)),
        ("tons", "pounds", F(2000)),
        ("°", "degrees", F(1)),
        ("degrees Celsius", "°C", F(1)),
        ("units^2", "square units", F(1)),
        ("square units", "cm^2", F(1)),
        ("$", "dollars", F(1)),
        ("cents", "US dollars", F(1, 100)),
        ("Rs.", "rupees", F(1)),
        ("pounds", "£", F(1)),
        ("$ per day", "dollars a day", F(1)),
        ("dollars", "dollars per day", F(1)),
        ("problems per minute", "problems per hour", F(60)),
        ("goats", "stuffed goats", F(1)),
        ("berry", "berries", F(1)),
        ("boxes", "box", F(1)),
        ("women", "woman", F(1)),
        ("years old", "years", F(1)),
        ("liters of water", "L", F(1)),
        ("dozen eggs", "eggs", F(12)),
    ],
)
def test_units_of_one_kind(a: str, b: str, factor: Fraction) -> None:
    assert units.same_unit(a, b) == factor
    assert units.same_unit(b, a) == 1 / factor


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("m", "m^2"),
        ("feet", "square feet"),
        ("miles", "miles per hour"),
        ("meters per rotation", "meters"),
        ("hours per day", "men"),
        ("men", "hours"),
        ("apples", "pears"),
        ("men", "women"),
        ("°C", "°F"),
        ("degrees", "radians"),
        ("degrees", "degrees below zero"),
        ("dollars", "euros"),
        ("dollars", "yen"),
        ("pesos", "dollars"),
        ("days", "months"),
        ("Mg", "kB"),
        ("kg", "m"),
        ("cups", "c"),
        ("apples", "fewer apples"),
        ("miles north", "miles south"),
        ("kg", "x"),
        ("or more", "more"),
        ("cm" * 60, "cm"),
        ("eggs", "pairs of eggs"),
    ],
)
def test_units_of_different_kinds(a: str, b: str) -> None:
    assert units.same_unit(a, b) is None
    assert units.same_unit(b, a) is None


def test_what_is_not_understood_equals_itself() -> None:
    assert units.same_unit("or more", "or  More") == 1
    assert units.same_unit("feet " * 60, "Feet " * 60) == 1


@pytest.mark.parametrize(
    "unit", ["square feet", "cm", "apples", "$", "°", "miles per hour", "any text", "zoo animals", "(boxes)"]
)
def test_units_that_may_be_left_out(unit: str) -> None:
    assert units.omissible(unit)


@pytest.mark.parametrize(
    "unit",
    ["m", "x", "ab", "xyz", "million dollars", "dozen eggs", "degrees below zero", "squared",
     "percent", "pi", "sqrt", "or more", "i", "cosx", "alpha"],
)  # fmt: skip
def test_units_that_change_the_number(unit: str) -> None:
    assert not units.omissible(unit)


def test_multiples_in_a_unit() -> None:
    assert units.split_scale("million dollars") == (10**6, "dollars")
    assert units.split_scale("dozens of eggs") == (12, "eggs")
    assert units.split_scale("square feet") == (1, "square feet")


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("1 hr 23 min", 83, "minutes"),
        ("1 hour and 8 minutes", 68, "min"),
        ("5 feet 6 inches", 66, "in"),
        ("6 ft. 2 in.", 74, "inches"),
        ("1h 30m", 90, "min"),
        ("3 dollars and 50 cents", F(7, 2), "dollars"),
        (r"30^\circ 15'", F(121, 4), "degrees"),
        ("Rs. 770", 770, "rupees"),
        ("US$ 5", 5, "dollars"),
        ("€5", 5, "euros"),
        ("-$5.50", F(-11, 2), "$"),
        (r"\$3.50 each", F(7, 2), "$"),
        ("$5 dollars", 5, "$"),
        ("$2 million", 2000000, "$"),
        ("$18 per day", 18, "dollars per day"),
        (r"15\mbox{ cm}^2", 15, "square cm"),
        (r"25 \, \text{km}", 25000, "m"),
        ("9 (apples)", 9, "apples"),
        ("60 (miles per hour)", 60, "mph"),
        ("2 1/2 hours", 150, "minutes"),
        ("1/2 hour", 30, "minutes"),
        ("120,000 litres", 120000, "L"),
        ("−49°C", -49, "degrees Celsius"),
    ],
)  # fmt: skip
def test_quantities(text: str, value: int | Fraction, unit: str) -> None:
    found = quantity.quantity(text)
    assert found is not None
    factor = units.same_unit(found.unit, unit)
    assert factor is not None
    assert found.value * factor == value


@pytest.mark.parametrize(
    "text",
    [
        "5", "x cm", "15 remainder 3", "5 or more", "3 pi", "5 squared", "12.5%", "5 apples 3 pears", "5 cm 3 m",
        "5 feet 6",
        "25.3 to 44.7 minutes", "30 in. by 57 in.", "13 bars of soap for $29.51", "12 am", "2 x", "3x+5", "-$-5",
        "", "$", "1/0 m",
    ],
)  # fmt: skip
def test_no_quantities(text: str) -> None:
    assert quantity.quantity(text) is None


def test_a_quantity_knows_its_decimals_and_parts() -> None:
    assert quantity.quantity("$0.40") == (F(2, 5), "$", F(1, 100), 1)
    assert quantity.quantity("5 ft 2 in") == (62, "in", 0, 2)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("20:34", "08:34 P.M.", True),
        ("7:30", "7:30 a.m.", True),
        (r"\text{1:03 PM}", "1:03 p.m.", True),
        ("12 am", "midnight", True),
        ("12 pm", "noon", True),
        ("3 o'clock", "3:00", True),
        ("7:30 am", "7:30 pm", False),
        ("12:00", "1:00 pm", False),
        ("19:30", "7:30 am", False),
        ("10:20", "22:20", False),
    ],
)
def test_times_of_day(a: str, b: str, same: bool) -> None:
    one, other = quantity.time_of_day(a), quantity.time_of_day(b)
    assert one and other
    assert quantity.same_time(one, other) is quantity.same_time(other, one) is same


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("3 m", "300 cm", True),
        ("1 hour 12 minutes", "72 min", True),
        ("0.5 hours", "30 min", True),
        ("$5", "5 dollars", True),
        ("64 square feet", "64", True),
        ("3 million", "3,000,000", True),
        ("20:34", "08:34 P.M.", True),
        ("3 cm", "300 m", False),
        ("30 square feet", "30 feet", False),
        ("€5", "$5", False),
        ("12 am", "12 pm", False),
        ("3 million dollars", "3", None),
        ("5 m", "5", None),
        ("1 hour and 31 minutes", "91", None),
        ("$12.55", "$12.5", None),
        ("7:30", "19:30", None),
        ("5 squared", "5", None),
        ("5", "5", None),
    ],
)
def test_the_same_quantity(a: str, b: str, same: bool | None) -> None:
    assert quantity.same_quantity(a, b) is quantity.same_quantity(b, a) is same


@pytest.mark.parametrize(
    "text", ["7", "7.30", "25:00", "3:4", "13:00 pm", "12:75", "7:30 x", "12 am on the next day", "am"]
)
def test_no_times_of_day(text: str) -> None:
    assert quantity.time_of_day(text) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\text{east}", "East."),
        ("an ellipse", "ellipse"),
        (r"\textbf{(odd)}", "odd"),
        ("counter-clockwise", "anticlockwise"),
        ("infinitely many", r"\infty"),
        ("no solution", "There are no real solutions."),
        ("none", r"\emptyset"),
        ("does not exist", "DNE"),
        ("undefined", "The limit does not exist."),
        ("True", "yes"),
        ("Mon.", "Monday"),
        ("June 20", "20th of June"),
        ("June 20, 1995", "20 June 1995"),
        ("15th Day", "15th day"),
        (r"12^{\text{th}}", "twelfth"),
        ("III only", r"\text{III only}"),
        ("I and II only", "I, II only"),
        ("Exactly one", "exactly 1"),
        ("odd $n$", "odd n"),
        ("odd", "The transformed function f(x+1)-1 is odd."),
        ("neither", "neither even nor odd"),
        ("all real numbers", r"\mathbb{R}"),
        ("It can't be determined", "cannot be determined"),
    ],
)
def test_the_same_words(a: str, b: str) -> None:
    assert words.same_words(a, b)
    assert words.same_words(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("odd", "oddd"), ("odd", "f is not odd"), ("odd", "f is neither even nor odd"),
        ("even", "If n is odd, then f is even"),
        ("rectangle", "The shape is a rectangle or a square"), ("yes", "no"), ("none", "0"), ("A", "a"), ("AB", "ab"),
        ("VW", "WV"), ("a b", "b"), ("(1,2)", "[1,2]"), ("(1,2)", "1,2"), ("5!", "5"), (".5", "5"), ("f'", "f"),
        ("3.14", "314"),
        ("2^{3x}", "2^{3}x"), ("1:2", "12"), ("x-1", "x 1"), (r"-\infty", r"\infty"), ("- i", "i"),
        ("III only", "I and II only"),
        ("Exactly one", "Exactly two"), ("June 20", "July 20"), ("odd $n$", "odd $m$"),
        ("9 and 3 over 5", "3 and 5 over 9"),
        ("", ""), ("a", "the"), ("pi", "2 pi"),
    ],
)  # fmt: skip
def test_different_words(a: str, b: str) -> None:
    assert not words.same_words(a, b)
    assert not words.same_words(b, a)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("three", 3), ("Twenty-one", 21), ("a hundred", 100), ("one hundred and five", 105), ("twelve hundred", 1200),
        ("two thousand three hundred", 2300), ("one million two hundred thousand and six", 1200006), ("a dozen", 12),
        (r"\text{zero}", 0), ("negative three", -3), ("one half", F(1, 2)), ("two thirds", F(2, 3)),
        ("three and a half", F(7, 2)),
        ("one and three quarters", F(7, 4)),
    ],
)  # fmt: skip
def test_numbers_in_words(text: str, number: int | Fraction) -> None:
    assert words.number_word(text) == number


@pytest.mark.parametrize(
    "text",
    ["3", "a", "third", "three three", "twenty eleven", "one hundred one hundred", "nineteen eighty", "and three",
     "three and",
     "seven apples", "hundred", "one zero", "two thousand three million", "minus", ""],
)  # fmt: skip
def test_no_numbers_in_words(text: str) -> None:
    assert words.number_word(text) is None


def test_ordinals() -> None:
    texts = ("12th", "12^{th}", r"12^\text{th}", "twelfth", "twenty-first", "2nd.", "12", "th", "twelve")
    assert [words.ordinal(t) for t in texts] == [12, 12, 12, 12, 21, 2, None, None, None]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("C", "C"), ("(C)", "C"), ("(c)", "C"), ("C.", "C"), (r"\text{(C)}", "C"), (r"\mathrm{E}", "E"),
        ("**B**", "B"), ("[B]", "B"),
        ("C. the third one", "C"), ("D) 7", "D"), ("C Cecile", "C"), ("A Peter\nCelina", "A"), ("Option B", "B"),
        ("Answer: D", "D"),
        ("B\u3002 \u4e0d\u662f A", "B"), (r"\textbf{(B)}\ 12", "B"), ("(C) circle", "C"),
        ("D, it can't be A or B", "D"),
        ("The correct option is (C).", "C"), ("C is correct.", "C"),
    ],
)  # fmt: skip
def test_the_letter_of_a_choice(text: str, letter: str) -> None:
    assert words.choice(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "A + B", "a", "AB", "A, B, C, D", "A or B", "A circle", "A stopped clock shows", "B is wrong",
        "B is not correct", "A = 5",
        "(A)(B)", "(A)+(B)", "(a) 5 (b) 6", "A. 5 B. 6", "I and II only", r"C\sin x", "C sin x", "C e^x", "A:B",
        "A/B", "A'", "B!",
        "B_1", "K", "x", "", "F(x)", "(D)^2", "A, 5", "The answer is 5",
    ],
)  # fmt: skip
def test_no_letter_of_a_choice(text: str) -> None:
    assert words.choice(text) is None


def test_a_small_letter_counts_only_where_a_choice_is_asked_for() -> None:
    assert words.choice("c", lower=True) == "C"
    assert words.choice("c") is None


def test_several_choices() -> None:
    for text in ("A and C", "A, C", "(A), (C)", r"\text{A, C}", "C & A", "Answer: A, C"):
        assert words.choices(text) == {"A", "C"}
    for text in ("A or C", "A, 5", "A, A", "A, K", "x, y", "42"):
        assert not words.choices(text)


HOSTILE = [
    "5 " + "and " * 10**5, "9" * 10**6, "1:" * 10**5, "5 " + "cm" * 39, "(" * 10**5, "\\text{" * 10**4, "A, " * 10**5,
    "one " * 39, "is " * 130, "^{" * 200, " " * 10**5, "1," * 10**5, "$" * 10**5, "a" * 399 + "=", "\u0661" * 50,
]  # fmt: skip


@pytest.mark.parametrize(
    "read",
    [
        units.is_unit, units.omissible, units.split_scale, quantity.quantity, quantity.time_of_day, words.number_word,
        words.ordinal,
        words.choice, words.choices, lambda t: units.same_unit(t, "cm"), lambda t: words.same_words(t, "odd"),
    ],
)  # fmt: skip
def test_hostile_texts_take_no_time(read: Callable[[str], object]) -> None:
    for text in HOSTILE:
        start = time.process_time()
        read(text)
        assert time.process_time() - start < 1, text[:20]

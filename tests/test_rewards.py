"""The rewards of guerdon_rewards: the printed originals' exact values, and the versions without their faults."""

import inspect
import random
import re
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import pytest

import guerdon_rewards
from guerdon.settings import validate
from guerdon_rewards.correctness import correctness
from guerdon_rewards.equivalence import equivalence
from guerdon_rewards.extraction import extract
from guerdon_rewards.integer import integer
from guerdon_rewards.length import length
from guerdon_rewards.number import parse_number, to_number
from guerdon_rewards.numeric import numeric
from guerdon_rewards.xml_format import xml_format


def value(score: float | tuple[float | None, str] | None) -> float | None:
    return score[0] if isinstance(score, tuple) else score


def test_every_reward_is_registered_and_its_settings_are_documented() -> None:
    found: dict[str, tuple[str, str, bool]] = {}

    def register(name: str, target: Any, *, extra: str = "", inline: bool = False) -> None:
        found[name] = target, extra, inline

    guerdon_rewards.register_rewards(register)
    functions: dict[str, Callable[..., Any]] = {
        "xml_format": xml_format,
        "correctness": correctness,
        "integer": integer,
        "numeric": numeric,
        "equivalence": equivalence,
        "length": length,
    }
    assert found.keys() == functions.keys()
    for name, function in functions.items():
        target, extra, inline = found[name]
        assert target == f"{function.__module__}:{function.__name__}"
        assert (extra, inline) == (("equivalence", False) if name == "equivalence" else ("", True))
        for setting in validate(name, function, {}):
            assert f"\n    {setting}: " in (inspect.getdoc(function) or "")


# -- the Unsloth GRPO tutorial, as printed and without its faults

TEMPLATE = "<reasoning>\nr\n</reasoning>\n<answer>\n42\n</answer>\n"
TUTORIAL = {  # completion: count, soft, strict, integer, correctness
    "template": (TEMPLATE, (0.5, 0.0, 0.5, 0.5, 2.0), (0.5, 0.5, 0.5, 0.5, 2.0)),
    "no final newline": (TEMPLATE[:-1], (0.453, 0.0, 0.0, 0.5, 2.0), (0.5, 0.5, 0.5, 0.5, 2.0)),
    "two lines": (TEMPLATE.replace("r\n", "r\ns\n", 1), (0.5, 0.0, 0.0, 0.5, 2.0), (0.5, 0.5, 0.5, 0.5, 2.0)),
    "one line": (
        "<reasoning>r</reasoning><answer>42</answer>",
        (0.0, 0.5, 0.0, 0.5, 2.0),
        (0.5, 0.5, 0.0, 0.5, 2.0),
    ),
    "trailing text": (TEMPLATE + "0123456789", (0.48, 0.0, 0.0, 0.5, 2.0), (0.49, 0.5, 0.0, 0.5, 2.0)),
    "bare": ("42", (0.0, 0.0, 0.0, 0.5, 2.0), (0.0, 0.0, 0.0, 0.0, 0.0)),
}


def five(completion: str, compat: bool) -> list[float | None]:
    styles: tuple[Literal["count", "soft", "strict"], ...] = ("count", "soft", "strict")
    formats = [value(xml_format(completion, style=style, compat=compat)) for style in styles]
    return [
        *formats,
        value(integer(completion, compat=compat)),
        value(correctness(completion, "42", compat=compat)),
    ]


@pytest.mark.parametrize(("completion", "printed", "mended"), TUTORIAL.values(), ids=TUTORIAL)
def test_the_tutorials_table(completion: str, printed: tuple[float, ...], mended: tuple[float, ...]) -> None:
    assert five(completion, compat=True) == pytest.approx(printed)
    assert five(completion, compat=False) == pytest.approx(mended)


def test_a_long_answer_without_final_newline_is_negative_only_as_printed() -> None:
    completion = TEMPLATE.replace("\nr\n", "\n" + "so " * 1000 + "\n")[:-1]
    assert (value(xml_format(completion, style="count", compat=True)) or 0.0) < -2
    assert xml_format(completion, style="count") == 0.5


def test_the_printed_soft_rule_is_the_tutorials_pattern() -> None:
    original = re.compile(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")
    pieces = ["<reasoning>", "</reasoning>", "<answer>", "</answer>", " ", "\n", "x"]
    chance, seen = random.Random(0), set()
    for _ in range(5_000):
        text = "<reasoning>" + "".join(chance.choices(pieces, k=chance.randint(0, 8)))
        expected = 0.5 if original.match(text) else 0.0
        assert xml_format(text, compat=True) == expected, text
        seen.add(expected)
    assert seen == {0.0, 0.5}


@pytest.mark.parametrize(
    ("completion", "soft", "strict", "count"),
    [
        ("\n" + TEMPLATE, 0.5, 0.0, 0.5),
        ("Sure. " + TEMPLATE, 0.0, 0.0, 0.5),
        (TEMPLATE.replace("42", ""), 0.0, 0.0, 0.5),  # an empty answer is none
        (TEMPLATE * 2, 0.0, 0.0, 0.0),
        ("<answer>42</answer><reasoning>r</reasoning>", 0.0, 0.0, 0.476),
        ("", 0.0, 0.0, 0.0),
    ],
)
def test_xml_format(completion: str, soft: float, strict: float, count: float) -> None:
    assert value(xml_format(completion)) == soft
    assert value(xml_format(completion, style="strict")) == strict
    assert value(xml_format(completion, style="count")) == pytest.approx(count)


def test_xml_format_says_why() -> None:
    said = {
        "": "no <reasoning>",
        "<answer>42</answer><reasoning>r</reasoning>": "<answer> in the wrong place",
        TEMPLATE * 2: "<reasoning> more than once",
        "Sure. " + TEMPLATE: "text before <reasoning>",
        TEMPLATE.replace("42", ""): "nothing in <answer>",
    }
    assert {text: xml_format(text) for text in said} == {text: (0.0, why) for text, why in said.items()}
    assert xml_format("\n" + TEMPLATE, style="strict") == (0.0, "not the blocks alone, one after the other")
    inline = TEMPLATE.replace("\n42\n", "42")
    assert xml_format(inline, style="strict") == (0.0, "a tag without a line of its own")
    assert xml_format(TEMPLATE + "so", style="count") == (0.498, "4 of 4 tags occur once, 2 characters after the last")
    for style in ("soft", "strict", "count"):
        assert xml_format("It is 42.", style=style, compat=True) == 0.0


def test_xml_format_with_tags_of_ones_own() -> None:
    assert xml_format("<think>a</think><answer>b</answer>", tags=("think", "answer")) == 0.5
    assert xml_format("<a>1</a>", tags=("a",), style="count") == 0.5
    with pytest.raises(ValueError, match="leave out `tags`"):
        xml_format("", tags=("a",), compat=True)
    with pytest.raises(ValueError, match="empty"):
        xml_format("", tags=())


@pytest.mark.parametrize(
    ("text", "printed", "mended"),
    [("42", 0.5, 0.5), ("²", 0.5, 0.0), ("-5", 0.0, 0.5), ("3.5", 0.0, 0.0), ("1,000", 0.0, 0.5), ("4_2", 0.0, 0.0)],
)
def test_integer(text: str, printed: float, mended: float) -> None:
    completion = f"<answer>\n{text}\n</answer>"
    assert (integer(completion, compat=True), value(integer(completion))) == (printed, mended)
    assert value(integer(completion, value=1.0)) == 2 * mended


def test_integer_says_why() -> None:
    assert integer("It is 42.") == (0.0, "no marked answer")
    assert integer("\\boxed{3.5}") == (0.0, "3.5 is not an integer")


@pytest.mark.parametrize(
    ("completion", "answer", "printed", "mended"),
    [
        ("<answer>1,000</answer>", "1000", 0.0, 2.0),
        ("<answer>Paris.</answer>", "paris", 0.0, 2.0),
        ("\\boxed{$18}", 18.0, 0.0, 2.0),
        ("<answer>41</answer>", "42", 0.0, 0.0),
        ("<answer>41</answer> or <answer>42</answer>", "42", 2.0, 2.0),
        ("the answer is 42", "42", 0.0, 0.0),
    ],
)
def test_correctness(completion: str, answer: Any, printed: float, mended: float) -> None:
    assert value(correctness(completion, answer, compat=True)) == printed
    assert value(correctness(completion, answer)) == mended


def test_compat_refuses_settings_that_it_cannot_honour() -> None:
    for reward in (correctness, numeric):
        with pytest.raises(ValueError, match="leave out `how`"):
            reward("", "1", how=("boxed",), compat=True)
    with pytest.raises(ValueError, match="leave out `how`"):
        integer("", how=("boxed",), compat=True)
    with pytest.raises(ValueError, match="`relative`"):
        numeric("", 1, relative=0.1, compat=True)


# -- numeric: Agent Lightning's Unsloth example, and our own rules


@pytest.mark.parametrize(
    ("completion", "answer", "printed"),
    [
        ("### 42 ###", 42.0, 1.0),
        ("###42###", 42.0, 1.0),
        ("### 42", 42.0, 1.0),
        ("### 1,234 ###", 1234.0, 0.0),
        ("### $42 ###", 42.0, 0.0),
        ("#### 42", 42.0, 0.0),
        ("### <42> ###", 42.0, 0.0),
        ("### 42\nmore", 42.0, 0.0),
        ("### nan ###", 42.0, 0.0),
        ("### nan ###", float("nan"), 0.0),
        ("### inf ###", float("inf"), 1.0),
        ("### inf ###", 42.0, 0.0),
        ("### 42 ###", float("inf"), 0.0),
        ("### 100001 ###", 100000.0, 1.0),
        ("### 4_2 ###", 42.0, 1.0),
        ("### ٤٢ ###", 42.0, 1.0),
        ("### ² ###", 2.0, 0.0),
        ("### 41 ### no, ### 42 ###", 42.0, 0.0),
        ("42", 42.0, 0.0),
    ],
)
def test_numeric_as_agent_lightning_has_it(completion: str, answer: float, printed: float) -> None:
    assert numeric(completion, answer, compat=True) == printed


def test_numeric_compat_reads_what_the_original_pattern_captures() -> None:
    original = re.compile(r"###\s*(.+?)(\s*###|$)")
    chance, seen = random.Random(0), set()
    for _ in range(5_000):
        text = "".join(chance.choices(["###", "#", " ", "\n", "4", "a", "\t"], k=chance.randint(0, 9)))
        match = original.search(text)
        expected = 1.0 if match and match[1].strip() == "4" else 0.0
        assert numeric(text, 4, compat=True) == expected, text
        seen.add(expected)
    assert seen == {0.0, 1.0}


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("### 1,234 ###", 1234.0, 1.0),
        ("### $42 ###", 42.0, 1.0),
        ("#### 42", "42", 1.0),
        ("### 42\nmore", 42, 1.0),
        ("### 41 ### no, ### 42 ###", 42.0, 1.0),
        ("### nan ###", 42.0, 0.0),
        ("### inf ###", 42.0, 0.0),
        ("### 4_2 ###", 42.0, 0.0),
        ("### ٤٢ ###", 42.0, 0.0),
        ("### 100001 ###", 100000.0, 0.0),
        ("### 9867630 ###", 9867630.0, 1.0),
        ("### 9867631 ###", 9867630.0, 0.0),
        ("### 41.99999999999999 ###", 42.0, 1.0),
        ("### 42.5 ###", 42.0, 0.0),
        ("### 12345678901234567890123 ###", 1.2345678901234568e22, 1.0),
        ("### 12345678901234567890124 ###", "12345678901234567890123", 0.0),
        ("### 2.33 ###", 2.3333333333, 1.0),  # rounded to three digits
        ("### 2.3 ###", 2.3333333333, 0.0),  # to two
        ("### 2.34 ###", 2.3333333333, 0.0),  # wrongly
        ("### 2 ###", 2.3333333333, 0.0),
        ("### 7/3 ###", 2.3333333333, 1.0),
        ("### 0.00 ###", 0.0016791648, 0.0),
        ("### 12.7 ###", 12.74, 0.0),  # a short decimal is exact
        ("### 2/3 ###", "0.6666667", 1.0),
        ("The ratio is 50%.", 50, 1.0),
        ("The ratio is 50%.", 0.5, 1.0),
        ("The ratio is 0.5%.", "50%", 0.0),
        ("$1.5 million", 1500000, 1.0),
        ("\\boxed{\\frac{3}{4}}", 0.75, 1.0),
        ("The answer is about 42 in all.", 42, 1.0),
        ("No idea.", 42, 0.0),
        ("", 42, 0.0),
        ("### forty-two ###, that is 42", 42, 0.0),  # a mark is a commitment
    ],
)
def test_numeric(completion: str, answer: Any, expected: float) -> None:
    assert value(numeric(completion, answer)) == expected


def test_numeric_says_why() -> None:
    assert numeric("#### 18", 20) == (0.0, "18 against 20")
    assert numeric("", 20) == (0.0, "no answer found")
    assert numeric("\\boxed{x}", 20) == (0.0, "'x' is not a number")


def test_numeric_tolerance_is_for_what_is_not_an_integer() -> None:
    assert value(numeric("12.6", 12.5, relative=0.01)) == 1.0
    assert value(numeric("12.6", 12.5, absolute=0.2)) == 1.0
    assert value(numeric("101", 100, relative=0.1, absolute=5)) == 0.0


def test_numeric_holds_for_numbers_however_they_are_written() -> None:
    chance = random.Random(0)
    for _ in range(300):
        n = chance.randint(-(10**9), 10**9)
        for written in (f"{n}", f"{n:,}", f"{n}.0", f"{n}.", f"${n:,}$", f"{n:,} dollars", f"{n / 1000}e3"):
            assert value(numeric(f"So: #### {written}", n)) == 1.0, written
            assert value(numeric(f"So: #### {written}", float(n + 1))) == 0.0, written


@pytest.mark.parametrize("reward", [correctness, numeric, equivalence])
def test_no_reference_is_not_applicable(reward: Callable[..., Any]) -> None:
    assert reward("### 42 ###", None) is None


@pytest.mark.parametrize("answer", ["", "x + 1", "nan", float("nan"), float("inf"), True, [1], "2,12"])
def test_a_reference_that_is_no_number_is_the_tasks_fault(answer: object) -> None:
    with pytest.raises(ValueError, match=r"reference answer .* is not a number; map `answer`"):
        numeric("### 42 ###", answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42),
        ("+1,234,567.50", Fraction(2469135, 2)),
        ("\u22125", -5),
        ("-$5", -5),
        ("$-5", -5),
        (".5", Fraction(1, 2)),
        ("1 000 000", 1000000),
        ("1.5e3", 1500),
        ("2E-2", Fraction(1, 50)),
        ("1.5 \\times 10^{3}", 1500),
        ("-3/4", Fraction(-3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        ("1{,}234", 1234),
        ("\\$1,234.", 1234),
        ("**42**", 42),
        ("$42$", 42),
        ("x = 42", 42),
        ("40 + 2 = 42", 42),
        ("15\\mbox{ cm}^2", 15),
        ("25 m²", 25),
        ("5kg", 5),
        ("90^\\circ", 90),
        ("60 km/h", 60),
        ("18 dollars per day", 18),
        ("3 million people", 3000000),
        ("0", 0),
    ],
)
def test_parse_number(text: str, expected: Fraction | int) -> None:
    number = parse_number(text)
    assert number is not None
    assert number.value == expected


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "inf",
        "4_2",
        "²",
        "4²",
        "٤٢",
        "１２",
        "1,23",
        "12,3456",
        "3,5",
        "1/0",
        "1e999999999",
        "1e301",
        "2x",
        "2pi",
        "3 sqrt(2)",
        "5 or 6",
        "1 + 1",
        "1.2.3",
        "--5",
        "0x10",
        "5 e",
        "one",
        " ",
        "1 2",
        "10-Sep",
        "",
        "1" * 401,
    ],
)
def test_what_is_not_a_number(text: str) -> None:
    assert parse_number(text) is None


def test_references_of_python_types() -> None:
    values = [to_number(v).value for v in (7, 0.1, Decimal("0.10"), Fraction(1, 10), " 0.1 ")]
    assert values == [7, *[Fraction(1, 10)] * 4]


# -- the rest


def test_length() -> None:
    assert [value(length("word " * n)) for n in (0, 1, 200, 300, 400, 4000)] == [0.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert length("word " * 300) == (0.5, "300 words, more than 200")
    with pytest.raises(ValueError, match="at least 1"):
        length("word", max_words=0)


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("\\boxed{42}", 42, 1.0),
        ("\\boxed{\\frac{1}{2}}", "0.5", 1.0),
        ("\\boxed{x^2 - 1}", "(x-1)(x+1)", 1.0),
        ("\\boxed{2\\pi}", "2\\pi", 1.0),
        ("\\boxed{2}", "2\\pi", 0.0),
        ("\\boxed{(1, 2)}", "(2, 1)", 0.0),
        ("<answer>\\{2, 1\\}</answer>", "\\{1, 2\\}", 1.0),
        ("The answer is $\\sqrt{8}$.", "2\\sqrt{2}", 1.0),
        ("$x+1$", "1+x", 1.0),
        ("", "1", 0.0),
        ("I do not know.", "1", 0.0),
    ],
)
def test_equivalence(completion: str, answer: Any, expected: float, capfd: pytest.CaptureFixture[str]) -> None:
    assert value(equivalence(completion, answer)) == expected
    assert capfd.readouterr() == ("", "")


def test_equivalence_blames_an_empty_reference() -> None:
    with pytest.raises(ValueError, match="reference answer is empty"):
        equivalence("\\boxed{42}", " ")


def test_equivalence_says_what_it_could_not_read() -> None:
    assert equivalence("\\boxed{42}", "all of \\foo{") == (0.0, "not understood: 42 against all of \\foo{")


# -- hostile text

SIZE = 1_000_000
UNITS = ["#", "### ", "### a\n", "####\n", "#### a\n", "\\boxed{", "{", "<answer>", "</answer>", "<think>", "</think>"]
UNITS += ["answer ", "answer is ", "1", "1,", "1/", "$", " ", "\n", "\\frac{", "=", "²", "-", "</reasoning><answer>"]
HOSTILE = [unit * (SIZE // len(unit)) for unit in UNITS]
HOSTILE += ["<reasoning>" + "</reasoning><answer>" * (SIZE // 20), "### " + " " * SIZE, "\\boxed" + " " * SIZE]
HOSTILE += ["<answer>" + "9" * SIZE + "</answer>", "answer" + " " * SIZE + "is", "1" + ",111" * (SIZE // 4)]


@pytest.mark.parametrize(
    "reward",
    [
        extract,
        lambda text: numeric(text, 4),
        lambda text: numeric(text, 4, compat=True),
        lambda text: correctness(text, "4"),
        lambda text: integer(text),
        lambda text: xml_format(text, style="soft", compat=True),
        lambda text: xml_format(text, style="strict", compat=True),
        lambda text: xml_format(text, style="strict"),
    ],
)
def test_a_megabyte_of_hostile_text_takes_no_time(reward: Callable[[str], Any]) -> None:
    for text in HOSTILE:
        started = time.process_time()
        reward(text)
        assert time.process_time() - started < 1, text[:30]

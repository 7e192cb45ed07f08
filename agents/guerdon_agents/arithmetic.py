"""Arithmetic problems, endless and exact, for trying a loop out: too large to guess, easy with a calculator.

Training and held-out problems never share an expression: a fixed fifth of all pairs of numbers is kept for "eval". Some
phrasings, too, are asked in "eval" only.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

ASKED = (
    "What is {a} {o} {b}?",
    "Compute {a} {o} {b}.",
    "Calculate {a} {o} {b}",
    "How much is {a} {o} {b}?",
    "Please work out {a} {o} {b} for me.",
    "{a} {o} {b} = ?",
)
STORIES = (
    ("Tom has {a} apples and buys {b} more. How many apples does he have?", "+"),
    ("Sara had {a} coins and spent {b}. How many are left?", "-"),
    ("A box holds {a} pens. How many pens are in {b} boxes?", "*"),
)
ASKED_HELD_OUT = ("Find the value of {a} {o} {b}.", "I need the result of {a} {o} {b}, thanks.")
STORIES_HELD_OUT = (("A crate holds {a} eggs. How many eggs are in {b} crates?", "*"),)
THEN = {"+": "Then add {c}.", "-": "Then subtract {c}."}


def arithmetic(
    *, count: int = 100, seed: int = 0, steps: Literal[1, 2] = 1, split: Literal["train", "eval"] = "train"
) -> Iterator[dict[str, Any]]:
    """Arithmetic problems with two or three numbers, as plain questions and as stories.

    Each row has the `prompt`, the `answer` and `steps`, the expressions that a calculator gets one after the other.

    Args:
        count: Number of problems.
        seed: Other seeds give other problems.
        steps: Calculator calls that a problem takes.
        split: "eval" has numbers, and some phrasings, that "train" never has.
    """
    rng = random.Random(f"{seed} {steps} {split}")
    held_out = split == "eval"
    asked = [*ASKED, *(ASKED_HELD_OUT if held_out else ())]
    stories = [*STORIES, *(STORIES_HELD_OUT if held_out else ())]
    seen: set[str] = set()
    while len(seen) < count:
        row = _problem(rng, asked, stories, steps)
        expression = row["steps"][0]
        if (zlib.crc32(expression.encode()) % 5 == 0) == held_out and expression not in seen:
            seen.add(expression)
            yield row


def _problem(
    rng: random.Random, asked: Sequence[str], stories: Sequence[tuple[str, str]], steps: int
) -> dict[str, Any]:
    if rng.random() < 0.5:
        text, sign = rng.choice(asked), rng.choice("+-*")
    else:
        text, sign = rng.choice(stories)
    b, a = sorted((rng.randint(103, 989), rng.randint(12, 98) if sign == "*" else rng.randint(103, 989)))
    text, expressions = text.format(a=a, b=b, o=sign), [f"{a} {sign} {b}"]
    value = _value(a, sign, b)
    if steps == 2:
        then, c = rng.choice("+-"), rng.randint(12, 98)
        text, value = f"{text} {THEN[then].format(c=c)}", _value(value, then, c)
        expressions.append(f"{_value(a, sign, b)} {then} {c}")
    return {"prompt": text, "answer": str(value), "steps": expressions}


def _value(a: int, sign: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]

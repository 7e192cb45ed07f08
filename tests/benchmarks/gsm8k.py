"""GSM8K's test set turned into right and wrong answers in four formats, scored by `guerdon score`.

`python tests/benchmarks/gsm8k.py make gsm8k_test.jsonl pairs.jsonl` writes the rows: completion, answer, expected, and
what was done to the number; `... check scores.jsonl` reads what `guerdon score` wrote and prints the mistakes.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from mixes import Problem, read_gsm8k
from table import table

FORMATS = {
    "gsm8k": "{steps}\n#### {answer}",
    "boxed": "{steps}\nThe answer is $\\boxed{{{answer}}}$.",
    "xml": "<reasoning>\n{steps}\n</reasoning>\n<answer>\n{answer}\n</answer>",
    "sentence": "{steps}\nSo the answer is {answer}.",
}


def rows(problems: Sequence[Problem], seed: int = 0) -> Iterator[dict[str, Any]]:
    """For each problem and format a right and a wrong answer, the number written in one of several ways."""
    draw = random.Random(seed)
    for number, problem in enumerate(problems):
        for form, template in FORMATS.items():
            for expected in (True, False):
                writing, text = draw.choice(_right(problem) if expected else _wrong(problem))
                if writing == "latex" and form == "boxed":
                    text = text.strip("$")
                elif form == "boxed":
                    text = text.replace("$", "\\$").replace("%", "\\%")
                yield {
                    "id": f"{number}/{form}/{'right' if expected else 'wrong'}",
                    "completion": template.format(steps=problem.steps.strip(), answer=text),
                    "answer": problem.answer,
                    "expected": expected,
                    "format": form,
                    "writing": writing,
                }


def _right(problem: Problem) -> list[tuple[str, str]]:
    plain = problem.answer.replace(",", "")
    whole = int(plain)
    ways = [("plain", plain), ("decimal", f"{plain}.0"), ("cents", f"{plain}.00"), ("dollars", f"${whole:,}"),
            ("unit", f"{whole} miles"), ("bold", f"**{whole}**"), ("equation", f"x = {whole}"),
            ("latex", f"${whole}$"), ("plus", f"{whole} dollars per week")]  # fmt: skip
    if abs(whole) >= 1000:
        ways += [("comma", f"{whole:,}"), ("brace comma", f"{whole:,}".replace(",", "{,}"))]
    return ways


def _wrong(problem: Problem) -> list[tuple[str, str]]:
    whole = int(problem.answer.replace(",", ""))
    ways = [("one more", str(whole + 1)), ("one less", str(whole - 1)), ("ten times", str(whole * 10)),
            ("a digit more", f"{whole}7"), ("half more", f"{whole}.5"), ("negative", str(-whole)),
            ("a cent more", f"{whole}.01"), ("reciprocal", f"1/{whole}"), ("two answers", f"{whole} or {whole + 1}"),
            ("a sum", f"{whole} + 1"), ("dollars", f"${whole + 2:,}")]  # fmt: skip
    ways += [("of the steps", n) for n in problem.wrong_numbers()]
    return [(way, text) for way, text in ways if way in SURELY_WRONG or _value(text) != whole]


SURELY_WRONG = ("two answers", "a sum")
"""Written with the right number, and yet another answer."""


def _value(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", "").replace("$", ""))
    except (ValueError, ZeroDivisionError):
        return None


def report(gsm8k: Path, failures: Path | None = None) -> None:
    """Make the rows, score them with the command line, and print the mistakes."""
    with tempfile.TemporaryDirectory() as name:
        pairs, scores = Path(name, "pairs.jsonl"), Path(name, "scores.jsonl")
        make(gsm8k, pairs)
        command = [sys.executable, "-m", "guerdon", "score", str(pairs), "--reward", "equivalence",
                   "--output", str(scores)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=name)
        print((done.stdout + done.stderr).strip())
        if done.returncode == 0:
            check(scores, failures)


def make(gsm8k: Path, pairs: Path) -> None:
    with pairs.open("w", encoding="utf-8") as file:
        for row in rows(list(read_gsm8k(gsm8k))):
            file.write(json.dumps(row) + "\n")


def check(scores: Path, failures: Path | None = None) -> None:
    scored = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
    mistakes = [row for row in scored if row["scores"]["equivalence"] != float(row["expected"])]
    lines: list[list[object]] = []
    for form in FORMATS:
        of = [row for row in scored if row["format"] == form]
        kinds = [_mistake(row) for row in mistakes if row["format"] == form]
        counts = [kinds.count(kind) for kind in MISTAKES]
        lines.append([form, len(of), f"{1 - len(kinds) / len(of):.2%}", *counts])
    print(table(["format", "rows", "right", *MISTAKES], lines))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in mistakes:
        groups.setdefault((_mistake(row), row["writing"]), []).append(row)
    for (mistake, writing), some in sorted(groups.items(), key=lambda kv: -len(kv[1])):
        row = some[0]
        print(f"  {len(some)} {mistake}: {writing}: {row['completion'][-60:]!r} for {row['answer']!r}: {_said(row)}")
    if failures:
        failures.write_text("".join(json.dumps(row) + "\n" for row in mistakes), encoding="utf-8")


MISTAKES = ("wrongly accepted", "wrongly rejected", "no score")


def _mistake(row: dict[str, Any]) -> str:
    score = row["scores"]["equivalence"]
    if not isinstance(score, float):
        return "no score"
    return "wrongly accepted" if score else "wrongly rejected"


def _said(row: dict[str, Any]) -> object:
    return row.get("reasons", {}).get("equivalence") or row["scores"]["equivalence"]


if __name__ == "__main__":
    order, *paths = sys.argv[1:]
    (make if order == "make" else check)(*map(Path, paths))

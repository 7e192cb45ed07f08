"""What is scored in the throughput tables: three mixes of (reference, completion) for guerdon and for math-verify.

`gsm8k`: completions of grade school problems, four a problem: OpenAI's model solutions from the pairs, and GSM8K's own
solutions with the right or a wrong number at their end. Marked `#### 42`, `<answer>42</answer>` and `### 42 ###` in
turn; math-verify, which reads none of these, gets the same text with `\\boxed{42}`.
`math`: real completions of MATH problems, eight a problem: Qwen2.5-Math's of one problem, filled up to eight with the
same without their first lines.
`latex`: diverse LaTeX references that are no integers, each with one answer, no reference twice, in cold caches.
"""

import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairs import Pair
from peers import boxed, shown

MARKS = ("#### {}", "<answer>{}</answer>", "### {} ###")


@dataclass(frozen=True)
class Both:
    """One pair, as guerdon gets it and as math-verify does; `expected` by the source."""

    gold: str
    pred: str
    peer_gold: str
    peer_pred: str
    expected: bool


def gsm8k(pairs: Sequence[Pair], solutions: Path | None, count: int = 2000) -> list[Both]:
    draw, marks = random.Random(0), itertools.cycle(MARKS)
    made = [_marked(p.gold, p.pred.rpartition("####")[0], p.pred_bare or "", p.expected, next(marks))
            for p in pairs if p.source == "gsm8k-model-solutions" and "####" in p.pred]  # fmt: skip
    for problem in read_gsm8k(solutions) if solutions else ():
        if len(made) >= count:
            break
        wrong = problem.wrong_numbers() or [str(int(problem.answer.replace(",", "")) + 1)]
        for right in draw.sample([True, True, False, False], 4):
            made.append(_marked(problem.answer, problem.steps, problem.answer if right else draw.choice(wrong), right,
                                next(marks)))  # fmt: skip
    return made


def math(pairs: Sequence[Pair], group: int = 8, count: int = 800) -> list[Both]:
    found = [p for p in pairs if p.source == "qwen-math-cot"] or [p for p in pairs if p.source == "math-reference"]
    made = []
    for _, same in itertools.groupby(found, key=lambda p: p.gold):
        kept = list(same)
        for start in range(0, len(kept), group):
            part = kept[start : start + group]
            texts = [_without_lines(p.pred, cut) for cut in range(group) for p in part][:group]
            made += [_both(p, text) for p, text in zip(itertools.cycle(part), texts)]
    return made[:count]


def latex(pairs: Sequence[Pair], count: int = 1000) -> list[Both]:
    """Of the clean core, positives and negatives as they come."""
    seen: set[str] = set()
    made = []
    for p in pairs:
        if p.clean and p.kind != "integer" and p.gold not in seen and re.search(r"[\\^_{]", p.gold):
            seen.add(p.gold)
            made.append(_both(p, p.pred))
    random.Random(0).shuffle(made)
    return made[:count]


@dataclass(frozen=True)
class Problem:
    """A row of GSM8K: the worked steps, calculator annotations left out, and the number after `####`."""

    question: str
    steps: str
    answer: str

    def wrong_numbers(self) -> list[str]:
        """Numbers of the steps that are not the answer."""
        numbers = dict.fromkeys(re.findall(r"\d+(?:\.\d+)?", self.steps.replace(",", "")))
        return [n for n in numbers if float(n) != float(self.answer.replace(",", ""))]


def read_gsm8k(path: Path) -> Iterator[Problem]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            steps, _, answer = row["answer"].rpartition("####")
            yield Problem(row["question"], re.sub(r"<<[^>]*>>", "", steps), answer.strip())


def _marked(gold: str, steps: str, answer: str, expected: bool, mark: str) -> Both:
    return Both(gold, steps + mark.format(answer), boxed(gold), f"{steps}The answer is {boxed(answer)}", expected)


def _both(pair: Pair, pred: str) -> Both:
    gold, peer = shown(pair)
    return Both(pair.gold, pred, gold, peer if pred == pair.pred else pred, pair.expected)


def _without_lines(text: str, cut: int) -> str:
    """A completion of the same answer: without its first `cut` lines, as far as it has them to spare."""
    lines = text.split("\n")
    return "\n".join(lines[min(cut, len(lines) // 2) :])


def chunks(items: Sequence[Both], size: int) -> Iterable[Sequence[Both]]:
    return (items[i : i + size] for i in range(0, len(items), size))

"""What a reward is tested with: everyday completions of a few word problems, and texts that break what is fragile."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from guerdon.errors import TaskError
from guerdon.invoke import Item
from guerdon.task import Task, reference
from guerdon.trajectory import Trajectory, Turn

Row = Mapping[str, Any]

UNKNOWN = object()
"""No score was said to be expected, where `None` says that the reward must not apply."""


class Example(NamedTuple):
    """A completion of a task, and the score it should get where its author says so."""

    task: Task
    completion: str
    expected: Any = UNKNOWN

    @property
    def item(self) -> Item:
        return self.task, trajectory(self.task, self.completion)


def trajectory(task: Task, completion: str) -> Trajectory:
    """A rollout of one turn that ends in this completion."""
    turn = Turn(0, tuple(task.messages), {"role": "assistant", "content": completion}, "stop")
    return Trajectory(f"{task.id}-0", task.id, "train", 1, 0, "chat", "none", (turn,), completion=completion)


BUILT_IN: tuple[Row, ...] = (
    {"prompt": "A baker fills 6 trays with 7 rolls each. How many rolls are that?", "answer": "42"},
    {"prompt": "Tickets cost 1,250 dollars for 5 people. What does one cost?", "answer": "250"},
    {"prompt": "Ann has 3/4 of a litre and pours out half of it. What part of a litre is left?", "answer": "3/8"},
    {"prompt": "The temperature falls from 4 degrees to 9 degrees below zero. By how much?", "answer": "13"},
    {"prompt": "A tank of 2,400 litres leaks 0.5 percent a day. How many litres a day?", "answer": "12"},
)
WORKING = "Let me think step by step. First I write down what is given, then I do the sum, and I check it.\n"
MARKS = {
    "bare": "{}",
    "boxed": "So it is \\boxed{{{}}}.",
    "####": WORKING + "#### {}",
    "<answer>": "<answer>{}</answer>",
    "template": "<reasoning>\n" + WORKING + "</reasoning>\n<answer>\n{}\n</answer>\n",
}
"""The usual ways to mark an answer."""


def examples(rows: Iterable[Row]) -> list[Example]:
    """An example for each row with a `completion`; for one without, some everyday ones.

    Rows with the same prompt and answer are attempts at one task, as a batch reward is given them.
    """
    found: list[Example] = []
    tasks: dict[str, Task] = {}
    for row in rows:
        fields = {k: v for k, v in row.items() if k not in ("completion", "expected")}
        key = json.dumps(fields, sort_keys=True, default=repr)
        task = tasks.setdefault(key, _task(fields, len(tasks)))
        if "completion" in row:
            found.append(Example(task, str(row["completion"]), row.get("expected", UNKNOWN)))
        else:
            found += [Example(task, text) for text in everyday(task.answer)]
    return found


def _task(fields: Row, number: int) -> Task:
    prompt = next((fields[name] for name in ("prompt", "question", "problem") if fields.get(name)), "")
    return Task(str(number), prompt, reference(fields.get("answer")), dict(fields))


def everyday(answer: Any) -> list[str]:
    """Completions as models write them: right and wrong, short and long."""
    right, wrong = str(answer if is_plain(answer) else "yes"), "17"
    return [
        *(form.format(right) for form in MARKS.values()),
        *(form.format(wrong) for form in MARKS.values()),
        f"{WORKING * 12}The answer is {right}.",
        "I am sorry, I do not know.",
    ]


def is_plain(answer: Any) -> bool:
    """Whether a reference answer can be written into a completion."""
    return isinstance(answer, (str, int, float)) and not isinstance(answer, bool) and str(answer).strip() != ""


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file.

    Raises:
        TaskError: with the file and the line.
    """
    rows: list[Row] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TaskError(f"{path}, line {number}: not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise TaskError(f"{path}, line {number}: a row is a mapping of columns to values")
            rows.append(row)
    if not rows:
        raise TaskError(f"{path}: no rows in it")
    return rows


EMPTY = {
    "nothing": "",
    "a blank": " ",
    "newlines": "\n\n\n",
    "an empty box": "\\boxed{}",
    "an empty tag": "<answer></answer>",
}

MALFORMED = {
    "an open box": "so it is \\boxed{42",
    "an open fraction": "so it is $\\frac{1}{",
    "closed too often": "\\boxed{42}}}}) ] }",
    "a tag closed first": "</answer>42<answer>",
    "tags across each other": "<answer><reasoning>42</answer></reasoning>",
    "open tags": "<think><reasoning><answer>42",
    "marks alone": "#### ### ###### $$ \\( \\[ \\boxed",
    "\\left without \\right": "\\boxed{\\left( 1, 2}",
    "backslashes": "\\" * 501,
    "a null byte": "\\boxed{4\x002}\x00",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "a lone surrogate": "\\boxed{42}\ud800",
    "only surrogates": "\udfff\ud800\udc80",
    "what is no character": "\ufffe\uffff\U0010ffff",
    "right to left": "\u202e24\u202c \u0664\u0662",
    "digits of other scripts": "\\boxed{\u0664\u0662} \uff14\uff12 4\u00b2 \u2460 \u216b",
    "an emoji keycap": "4\ufe0f\u20e32\ufe0f\u20e3",
    "stacked accents": "4" + "\u0301" * 500 + "2",
    "invisible characters": "4\u200b2\u2060\ufeff\u00ad",
    "line ends of all kinds": "#### 42\r\n\x0b\x0c\x1c\x85\u2028\u2029",
    "format fields": "{} {0} {answer} %s %(answer)s %n $answer ${{answer}}",
    "not a number": "\\boxed{nan}",
    "infinity": "\\boxed{-inf} #### 1e400",
    "a division by zero": "#### 1/0",
    "a number with an underscore": "#### 4_2",
}

MEGABYTE = 1_000_000


def huge() -> dict[str, str]:
    """Completions of a megabyte."""
    pieces = {
        "words": WORKING,
        "digits": "7",
        "blanks": " ",
        "newlines": "\n",
        "open boxes": "\\boxed{",
        "open tags": "<answer>",
        "boxes": "\\boxed{42} ",
        "answers": "the answer is ",
        "marks": "#### 42 ### ",
        "open brackets": "(",
        "dollars": "$",
    }
    return {name: (piece * (MEGABYTE // len(piece) + 1))[:MEGABYTE] for name, piece in pieces.items()}


_BOMBS = {
    "a power tower": "9^{9^{9^{9}}}",
    "a power tower in Python": "9**9**9**9",
    "a plain power tower": "9^9^9^9^9",
    "ten to a billion": "10^{1000000000}",
    "a huge exponent": "1e999999999",
    "a huge factorial": "(10^9)!",
    "nested factorials": "((9!)!)!",
    "a huge binomial": "\\binom{100000000}{50000000}",
    "a long product": "\\prod_{n=1}^{100000000} n",
    "a long sum": "\\sum_{n=1}^{100000000} \\sin(n)",
    "a hard integral": "\\int_0^1 x^{x^{x}} dx",
    "an expansion": "(a+b+c+d+e)^{90}",
    "a huge shift": "1 << 10**12",
    "a huge repetition": "'a' * 10**12",
    "a hundred thousand digits": "9" * 100_000,
    "nested fractions": "\\frac{1}{1+" * 3000 + "1" + "}" * 3000,
    "nested roots": "\\sqrt{" * 5000 + "2" + "}" * 5000,
    "nested brackets": "(" * 20_000 + "1" + ")" * 20_000,
    "nested lists": "[" * 50_000 + "]" * 50_000,
    "nested JSON": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "many signs": "-" * 50_000 + "1",
    "a slow pattern": "a" * 50_000 + "!",
    "blanks and a word": "1" + " " * 50_000 + "x",
    "commas": "1," * 50_000,
}
_CODE = {
    "a call of open": "open({path!r},'w')",
    "an import": "__import__('os').system('touch {path}')",
    "an import of pathlib": "getattr(__import__('pathlib').Path({path!r}),'touch')()",
    "eval of a string": "eval(\"open({path!r},'w')\")",
    "exec in a list": "[exec(\"open({path!r},'w')\"),2][1]",
    "an unpickling": "cposix\nsystem\n(S'touch {path}'\ntR.",
    "a YAML object": "!!python/object/apply:os.system ['touch {path}']",
    "a shell command": "$(touch {path}) `touch {path}`; touch {path}",
    "a template": "{{{{ cycler.__init__.__globals__.os.system('touch {path}') }}}}",
}


def hostile(path: Path) -> Iterator[tuple[str, str]]:
    """Completions that ask for endless work, and code that would make the file `path` if it were run."""
    for name, bomb in _BOMBS.items():
        yield name, f"The answer is \\boxed{{{bomb}}}."
        yield f"{name}, bare", bomb
    for name, code in _CODE.items():
        text = code.format(path=str(path))
        yield name, f"The answer is \\boxed{{{text}}}."
        yield f"{name}, bare", text
        yield f"{name}, tagged", f"<answer>{text}</answer>"
    yield "XML entities", '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><answer>&c;</answer>'

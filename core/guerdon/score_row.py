"""One row of a file, scored: what the workers of `guerdon score FILE` do with each line.

A row is the bytes of a JSON line, or a mapping where a reader made one of something else. It becomes a task and a
trajectory, is given to the rewards, and comes back as a line of the output with the figures for the summary.
"""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from guerdon.errors import RewardError, near_miss
from guerdon.invoke import MANY, ONE, Item, Shape, shape
from guerdon.invoke import scorer as reward_scorer
from guerdon.plugins import Component
from guerdon.registry import load
from guerdon.task import Message, Task, reference
from guerdon.trajectory import Failure, Score, Trajectory, Turn

Fields = Mapping[str, Any]
Row = tuple[int | str, bytes | Fields]
"""The number of the line, or in words where the row is; and the row."""

ADDED = ("scores", "reward", "reasons")
"""The columns that an output row has beside those of the input."""


class Named(NamedTuple):
    """A reward with its settings (pickled: all of this is a key), its name in the output and its weight."""

    component: Component
    settings: bytes
    name: str
    weight: float


class Columns(NamedTuple):
    """A file, and which of its columns is what a reward asks for: pairs of that name and the column's."""

    file: str
    renamed: tuple[tuple[str, str], ...] = ()

    def place(self, at: int | str) -> str:
        """
        >>> Columns("pairs.jsonl").place(3), Columns("pairs.csv").place("line 3")
        ('pairs.jsonl, line 3', 'pairs.csv, line 3')
        """
        return f"{self.file}, {f'line {at}' if isinstance(at, int) else at}"


Scored = tuple[bytes, list[tuple[float | Failure | None, float]], float | None, tuple[str, ...]]
"""A row's output line, empty where none is wanted; of each reward its value, nothing or why there is none, and the
seconds that it took; the weighted sum; the columns of the input that guerdon's own took the place of. It is plain
because a million of them are sent."""


def scorer(rewards: Sequence[Named], columns: Columns, written: bool) -> Callable[[Row], Scored]:
    """A function that scores a row with all these rewards. `written`: its output line is wanted."""
    functions = [_on_item(reward, columns) for reward in rewards]

    def score(row: Row) -> Scored:
        try:
            fields = read(row, columns)
        except RewardError as error:
            return finished(row, {}, rewards, [_error(error)] * len(rewards), written)
        item = as_item(fields, columns, str(row[0]))
        return finished(row, fields, rewards, [one(row[0], fields, item) for one in functions], written)

    return score


def single(reward: Named, columns: Columns) -> Callable[[Row], Score]:
    """A function that scores a row with one reward alone."""
    function = _on_item(reward, columns)

    def score(row: Row) -> Score:
        fields = read(row, columns)
        return function(row[0], fields, as_item(fields, columns, str(row[0])))

    return score


def finished(row: Row, fields: Fields, rewards: Sequence[Named], scores: Sequence[Score], written: bool) -> Scored:
    """A row with its scores. `fields` are its columns, none where it cannot be read."""
    given = [r.weight * s.value for r, s in zip(rewards, scores, strict=True) if s.value is not None]
    reward = sum(given) if given else None
    figures = [(s.error or s.value, s.seconds) for s in scores]
    if not written:
        return b"", figures, reward, ()
    new = added({r.name: s for r, s in zip(rewards, scores, strict=True)}, reward)
    replaced = tuple(c for c in ADDED if c in fields and c in new and not isinstance(fields[c], Mapping))
    return _line(row[1], fields, new), figures, reward, replaced


# -- reading ----------------------------------------------------------------------------------------------------------


def read(row: Row, columns: Columns) -> Fields:
    """The row's columns.

    Raises:
        RewardError: it is not a JSON object.
    """
    at, data = row
    if not isinstance(data, bytes):
        fields: Any = data
    else:
        try:
            fields = json.loads(data.decode())
        except json.JSONDecodeError as error:
            what = f", column {error.colno}: not valid JSON: {error.msg}"
            raise RewardError(columns.place(at) + what, kind="not_json") from None
        except (ValueError, RecursionError) as error:  # not UTF-8, a number of 5,000 digits, too deep
            raise RewardError(f"{columns.place(at)}: not readable JSON: {error}", kind="not_json") from None
    if not isinstance(fields, Mapping):
        what = f"a row is an object of columns, not a {type(fields).__name__}"
        raise RewardError(f"{columns.place(at)}: {what}", kind="not_an_object")
    return fields


def _on_item(reward: Named, columns: Columns) -> Callable[[int | str, Fields, Item], Score]:
    how = shape(load(reward.component))
    given = reward_scorer(reward.component, pickle.loads(reward.settings))
    renamed = dict(columns.renamed)
    needed = {name: renamed.get(name, name) for name in _needed(how)}

    def score(at: int | str, fields: Fields, item: Item) -> Score:
        for name, column in needed.items():
            if complaint := _lacks(name, column, fields, item):
                kind, message = complaint
                return Score(None, error=Failure(kind, f"{columns.place(at)}: {message}"))
        result: Score = given(item) if how.kind == "one" else given([item])[0]  # a row is a group of its own
        return result

    return score


_FROM_MESSAGES = ("completion", "prompt")
_OF_ALL = {"task": "", "trajectory": "completion", "messages": "completion"}


def _needed(how: Shape) -> Iterator[str]:
    """What of a row a reward cannot do without."""
    for name in how.wants:
        if name in how.optional:
            continue
        name = MANY.get(name, name)
        if name in ONE:
            yield from filter(None, [_OF_ALL.get(name, name)])
        elif how.kind == "one":
            yield name


def _lacks(name: str, column: str, fields: Fields, item: Item) -> tuple[str, str] | None:
    """What is wrong with the column for what a reward asks for: a kind of error and a message."""
    renamed = name != column
    if column not in fields and not renamed and name in _FROM_MESSAGES and "messages" in fields:
        column = "messages"
    if column not in fields:
        what = f"there is no column {column!r}{f' for {name!r}' if renamed else ''}."
        hint = "" if renamed else f" Name another: --map {name}=COLUMN"
        return "missing_column", what + near_miss(column, map(str, fields)) + hint
    if name == "completion" and item[1].completion is None:
        what = "no completion: write text, or chat messages with an answer of the assistant"
        return "no_completion", f"{column}: {_shown(fields[column])} is {what}"
    return None


def as_item(fields: Fields, columns: Columns, name: str) -> Item:
    """A row as a task and a trajectory; the completion is `None` where the row has none that is text."""
    if columns.renamed:
        fields = {**fields, **{to: fields[column] for to, column in columns.renamed if column in fields}}
    talk = fields.get("messages")
    talk = talk if _is_conversation(talk) else None
    given = fields.get("completion", talk)
    prompt = fields.get("prompt")
    if prompt is None:
        prompt = talk[: _last_answer(talk)] if talk else ""
    elif not _is_conversation(prompt):
        prompt = str(prompt)
    task = Task(name, prompt, reference(fields.get("answer")), fields)
    completion = _text(given)
    if talk is None and completion is not None:
        said = given if isinstance(given, list) else [{"role": "assistant", "content": completion}]
        talk = [*task.messages, *said] if prompt else said
    return task, Trajectory(name, name, "eval", 0, 0, "", "", turns=_turns(talk or ()), completion=completion)


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(m, Mapping) and "role" in m for m in value)


def _last_answer(messages: Sequence[Message]) -> int:
    return max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=len(messages))


def _text(value: Any) -> str | None:
    """A completion as text: what the assistant said last."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not _is_conversation(value) or (last := _last_answer(value)) == len(value):
        return None
    content = value[last].get("content")
    if isinstance(content, list):  # of parts
        return "".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping))
    return "" if content is None else str(content)


def _turns(messages: Sequence[Message]) -> tuple[Turn, ...]:
    turns, start = [], 0
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            turns.append(Turn(start, tuple(messages[start:i]), message))
            start = i + 1
    return tuple(turns)


# -- writing ----------------------------------------------------------------------------------------------------------


def added(scores: Mapping[str, Score], reward: float | None) -> dict[str, Any]:
    """What an output row has beside the input's columns; the weighted sum where there are several rewards."""
    row: dict[str, Any] = {"scores": {name: score_as_json(s) for name, s in scores.items()}}
    if len(scores) > 1:
        row["reward"] = reward
    reasons = {name: s.reason for name, s in scores.items() if s.reason}
    if reasons:
        row["reasons"] = reasons
    return row


def score_as_json(score: Score) -> float | dict[str, str] | None:
    """
    >>> score_as_json(Score(0.5)), score_as_json(Score(None, error=Failure("timeout", "no score within 1 s")))
    (0.5, {'error': 'no score within 1 s', 'kind': 'timeout'})
    """
    return {"error": score.error.message, "kind": score.error.kind} if score.error else score.value


def _line(data: bytes | Fields, fields: Fields, new: dict[str, Any]) -> bytes:
    if isinstance(data, bytes) and fields and b"\r" not in data.rstrip() and not any(c in fields for c in ADDED):
        # to the letter what it was: numbers too large for a float, the order, the escapes
        return b"%s, %s\n" % (data.strip()[:-1].rstrip(), json.dumps(new)[1:].encode())
    names = set(new["scores"])
    for column in ("scores", "reasons"):  # of an earlier scoring, with other rewards
        if isinstance(fields.get(column), Mapping):
            kept = {k: v for k, v in fields[column].items() if k not in names}
            new[column] = {**kept, **new.get(column, {})}
    return json.dumps({**fields, **new}, default=str).encode() + b"\n"


def _error(error: RewardError) -> Score:
    return Score(None, error=Failure(error.kind, str(error)))


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."

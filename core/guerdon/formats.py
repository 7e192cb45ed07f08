"""One row of data, in whatever format it came, as a canonical row; and the name of the format.

Canonical rows are what trainers read (`TrainingJob.rows`): `messages` with perhaps `tools` and `learn`; `prompt` and
`completion` as plain texts; `text`; `input_ids` and `labels`.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guerdon.errors import TaskError, near_miss
from guerdon.sources import Row, kind
from guerdon.task import Message

FIELDS = ("prompt", "response", "system", "messages", "text", "tools")
"""What `fields` may name columns for; `completion` is another word for the response."""

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "input"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "output", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_response"), "tool"),
}
"""Roles of OpenAI, sharegpt and LLaMA-Factory, and what they are here."""

KEPT = ("name", "tool_call_id")
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Names of what the assistant thinks, all read as the first; the second is kept too, for templates that name it."""

WEIGHTS = ("weight", "train")
"""OpenAI's and axolotl's names of whether a message is learnt."""

PLAIN = {"role", "from", "content", "value", "tool_calls", "function_call", *KEPT}
IGNORE = -100
PROMPTS = ("question", "problem", "query", "instruction", "input", "prompt", "user")
RESPONSES = (
    "generated_solution",
    "response",
    "answer",
    "solution",
    "output",
    "completion",
    "target",
    "chosen",
    "reply",
)


@dataclass(frozen=True)
class Found:
    """A row as it was recognised: `name` of its format, the `columns` that were read, what is `unused` of these."""

    name: str
    columns: tuple[str, ...]
    row: dict[str, Any]
    unused: tuple[str, ...] = ()


@dataclass
class Reader:
    """Reads rows of one source: `fields` says which columns are what, `system` is for rows that have none."""

    fields: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None

    def __post_init__(self) -> None:
        for name in self.fields:
            if name not in (*FIELDS, "completion"):
                raise TaskError(f"fields: {name!r} is not one of {', '.join(FIELDS)}.{near_miss(name, FIELDS)}")
        self.fields = {"response" if name == "completion" else name: c for name, c in self.fields.items()}

    def __call__(self, row: Any, place: str) -> Found:
        """
        Raises:
            TaskError: the format is not known, or the row is broken; says where and what to do.
        """
        if not isinstance(row, Mapping):
            raise TaskError(f"{place}: a row is a mapping of columns to values, not {kind(row)}")
        try:
            return self._read(row)
        except ValueError as error:
            raise TaskError(f"{place}: {error}") from None

    def _read(self, row: Row) -> Found:
        named = {}
        for name, column in self.fields.items():
            if column not in row:
                raise ValueError(f"there is no column {column!r}.{near_miss(column, map(str, row))}")
            named[name] = row[column]
        own = {n: v for n, v in row.items() if v is not None}
        if {"prompt", "response"} & set(named):
            here = {n: row[n] for n in ("prompt", "response") if n in row} | named
        elif {"messages", "text"} & set(named):
            here = named
        else:
            here = own | named
        form = _form(here, named) or _form({**row, **named}, named)
        if form is None:
            raise ValueError(_unknown(row))
        name, columns, read = form
        seen = {**row, **named}
        made = read(seen)
        unused = made.pop("unused", ())
        if "messages" in made:
            own = made["messages"][0]["role"] == "system"
            made = self._chat(made, seen)
            given = {n for n in ("system", "tools") if seen.get(n)}
            unused = (*unused, *(given & {"system"} if own else ()))
            columns = (*columns, *sorted(given - set(unused)))
        columns, unused = (tuple(self.fields.get(c, c) for c in names) for names in (columns, unused))
        return Found(name, columns, made, unused)

    def _chat(self, made: dict[str, Any], row: Row) -> dict[str, Any]:
        talk, learn = made["messages"], made.get("learn")
        if talk[0]["role"] != "system":
            system = _text(row["system"], "system") if row.get("system") else self.system
            if system:
                talk = [{"role": "system", "content": system}, *talk]
                learn = learn and [i + 1 for i in learn]
        _check_order(talk)
        tools = _tools(row.get("tools"))
        return {"messages": talk} | ({"tools": tools} if tools else {}) | ({"learn": learn} if learn else {})


Form = tuple[str, tuple[str, ...], Callable[[Row], dict[str, Any]]]


def _form(row: Row, named: Mapping[str, Any]) -> Form | None:
    """The format of a row with these columns: its name, the columns that make it, how it is read."""

    def has(*names: str) -> bool:
        return all(name in row for name in names)

    if has("input_ids"):
        masks = [n for n in ("labels", "completion_mask", "assistant_masks") if n in row][:1]
        return "token ids", ("input_ids", *masks), lambda r: _token_ids(r, masks)
    talk = next((c for c in ("messages", "conversations", "conversation") if has(c)), "")
    if talk:
        return talk, (talk,), lambda r: _learning(_messages(r[talk], talk, ""), 0, talk)
    if has("prompt", "completion") and not named:
        conversational = isinstance(row["prompt"], (list, tuple))
        read = _prompt_response if conversational else _texts
        what = "prompt and completion, messages" if conversational else "prompt and completion, plain text"
        return what, ("prompt", "completion"), lambda r: read(r, "completion")
    if has("prompt", "response"):
        return "prompt and response", ("prompt", "response"), lambda r: _prompt_response(r, "response")
    if has("instruction", "output"):
        more = tuple(c for c in ("input", "history") if row.get(c))
        return "Alpaca", ("instruction", *more, "output"), _alpaca
    if has("text"):
        return "text", ("text",), lambda r: {"text": _text(r["text"], "text")}
    return None


def _unknown(row: Row) -> str:
    columns = [str(c) for c in row]
    given = {n: next((c for c in names if c in columns), "COLUMN") for n, names in _GUESSES.items()}
    if "rejected" in columns and isinstance(row.get("chosen"), list):
        given = {"messages": "chosen"}
    shown = ", ".join(f"{name}: {column}" for name, column in given.items())
    return f"its columns ({', '.join(columns)}) are no format that is known. Say which is what: fields: {{{shown}}}"


_GUESSES = {"prompt": PROMPTS, "response": RESPONSES}


# -- the formats ------------------------------------------------------------------------------------------------------


def _text(value: Any, what: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):  # pandas writes NaN where there is nothing
            raise ValueError(f"{what} is {value}, not text; mend the row or leave it out")
        return str(value)  # answers are often numbers
    if not isinstance(value, str):
        raise ValueError(f"{what} is {kind(value)}, not text; mend the row or leave it out")
    return value


def _texts(row: Row, response: str) -> dict[str, Any]:
    return {"prompt": _text(row["prompt"], "prompt"), "completion": _text(row[response], response)}


def _prompt_response(row: Row, response: str) -> dict[str, Any]:
    """Messages or texts; of a conversation that goes on in the response, the response is learnt."""
    before = _messages(row["prompt"], "prompt", "user")
    after = _messages(row[response], response, "assistant")
    return _learning([*before, *after], len(before), response)


def _alpaca(row: Row) -> dict[str, Any]:
    """The input stands on the line after the instruction, as LLaMA-Factory has it; so do the turns of `history`."""
    asked = _text(row["instruction"], "instruction")
    if row.get("input"):
        asked = f"{asked}\n{_text(row['input'], 'input')}" if asked else _text(row["input"], "input")
    history = row.get("history") or ()
    if not isinstance(history, (list, tuple)) or any(not isinstance(p, (list, tuple)) or len(p) != 2 for p in history):
        raise ValueError("history is not a list of pairs [asked, answered]; mend the row or leave it out")
    talk = [
        {"role": role, "content": _text(text, "history")}
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    answer = {"role": "assistant", "content": _text(row["output"], "output")}
    return {"messages": [*talk, {"role": "user", "content": asked}, answer]}


def _token_ids(row: Row, masks: Collection[str]) -> dict[str, Any]:
    """`labels` as given, or made from a mask, or all of the ids; padding is left out."""
    ids = _numbers(row, "input_ids")
    if min(ids) < 0:
        raise ValueError(f"input_ids holds {min(ids)}, which is no token id")
    labels = list(ids)
    for column in masks:
        marks = _numbers(row, column)
        if len(marks) != len(ids):
            raise ValueError(f"it has {len(ids)} input_ids but {len(marks)} {column}")
        if column == "labels" and any(m < 0 and m != IGNORE for m in marks):
            raise ValueError(f"labels holds {min(m for m in marks if m != IGNORE)}; what is not learnt has {IGNORE}")
        labels = marks if column == "labels" else [i if m else IGNORE for i, m in zip(ids, marks, strict=True)]
    attended = _numbers(row, "attention_mask") if row.get("attention_mask") is not None else []
    if 0 in attended:
        if len(attended) != len(ids):
            raise ValueError(f"it has {len(ids)} input_ids but an attention_mask of {len(attended)}")
        ids, labels = ([v for v, a in zip(values, attended, strict=True) if a] for values in (ids, labels))
    return {"input_ids": ids, "labels": labels}


def _numbers(row: Row, column: str) -> list[int]:
    values = row[column]
    if not isinstance(values, (list, tuple)) or not all(type(v) is int for v in values) or not values:
        raise ValueError(f"{column} is not a list of whole numbers")
    return list(values)


# -- conversations ----------------------------------------------------------------------------------------------------


@dataclass
class _Turn:
    """A message, whether it may be learnt, and what of it is not read."""

    message: Message
    learnt: bool = True
    unused: tuple[str, ...] = ()


def _learning(turns: Sequence[_Turn], start: int, column: str) -> dict[str, Any]:
    """A conversation of which the assistant's messages from `start` on are learnt, save those of weight 0."""
    talk = [turn.message for turn in turns]
    assistant = [i for i, m in enumerate(talk) if m["role"] == "assistant"]
    learn = [i for i in assistant if i >= start and turns[i].learnt]
    if not learn:
        weight = " whose weight is not 0" if assistant[-1:] >= [start] else ""
        raise ValueError(
            f"{column} has no message of the assistant{weight}: there is nothing to learn from; leave the row out"
        )
    unused = tuple(dict.fromkeys(name for turn in turns for name in turn.unused))
    return {"messages": talk, "unused": unused} | ({"learn": learn} if learn != assistant else {})


def _messages(value: Any, column: str, role: str) -> list[_Turn]:
    """The messages of a list, or of the JSON text of one; with a `role`, plain text is one message of it."""
    if isinstance(value, str):
        if role:
            return [_Turn({"role": role, "content": value})]
        value = _parsed(value, column)
    elif role and not isinstance(value, (list, tuple)):
        return [_Turn({"role": role, "content": _text(value, column)})]
    if not isinstance(value, (list, tuple)) or not value:
        shown = "an empty list" if value == [] else kind(value)
        raise ValueError(f"{column} is {shown}, not a list of messages; mend the row or leave it out")
    return [_turn(m, column, i) for i, m in enumerate(value)]


def _turn(given: Any, column: str, number: int) -> _Turn:
    where = f"{column}[{number}]"
    made = _message(given, where)
    if given.keys() <= PLAIN:
        return _Turn(made)
    for name in WEIGHTS:
        if given.get(name) not in (None, 0, 1):
            raise ValueError(
                f"{where} has the {name} {given[name]!r}: a message is learnt (1) or not (0), and nothing between; "
                "set one of these, or leave the row out"
            )
    learnt = all(given.get(name) in (None, 1) for name in WEIGHTS)
    read = {*PLAIN, *WEIGHTS, *made} | {n for n in THOUGHTS if given.get(n) == made.get("reasoning_content")}
    return _Turn(made, learnt, tuple(f"{column}.{n}" for n, v in given.items() if v is not None and n not in read))


def _message(given: Any, where: str) -> Message:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {kind(given)}, not a message like {{role: user, content: ...}}")
    role, content = ("from", "value") if "from" in given and "role" not in given else ("role", "content")
    if role not in given:
        raise ValueError(f"{where} has no role; it has {', '.join(map(str, given)) or 'nothing'}")
    said = given[role]
    if not isinstance(said, str) or said not in ROLES:
        raise ValueError(f"{where} has the role {said!r}, which is not known.{near_miss(str(said), ROLES)}")
    made: Message = {"role": ROLES[said], "content": _content(given.get(content), where)}
    calls = given.get("tool_calls")
    if said == "function_call":
        calls, made["content"] = _parsed(made["content"] or "", where), ""
        calls = calls if isinstance(calls, list) else [calls]
    elif given.get("function_call"):
        calls = [given["function_call"]]
    if isinstance(calls, str):
        calls = _parsed(calls, f"{where}.tool_calls")
    if not isinstance(calls, (list, tuple, type(None))):
        raise ValueError(f"{where}.tool_calls is {kind(calls)}, not a list of tool calls")
    if calls:
        made["tool_calls"] = [_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]
    elif made["content"] is None:
        raise ValueError(f"{where} ({made['role']}) has no content (null); mend the row or leave it out")
    made.update({k: given[k] for k in KEPT if given.get(k) is not None})
    thinks = THOUGHTS if made["role"] == "assistant" else ()
    if thoughts := {k: _text(given[k], f"{where}.{k}") for k in thinks if given.get(k) is not None}:
        made |= {"reasoning_content": next(filter(None, thoughts.values()), "")}
        made |= {k: v for k, v in thoughts.items() if k == "thinking"}
    return made


def _content(value: Any, where: str) -> str | None:
    """Text, or the texts of its parts."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        return _text(value, f"{where}'s content")
    texts = []
    for part in value:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            what = part.get("type") if isinstance(part, Mapping) else kind(part)
            raise ValueError(f"{where} has a part that is no text ({what}): only texts can be learnt here")
        texts.append(part["text"])
    return "".join(texts)


def _call(given: Any, where: str) -> dict[str, Any]:
    """A tool call in OpenAI's shape, also where it stands bare as name and arguments."""
    function = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{where} is not a tool call like {{function: {{name: ..., arguments: ...}}}}")
    arguments = function.get("arguments", function.get("parameters"))
    if not isinstance(arguments, (str, Mapping, type(None))):
        raise ValueError(f"{where}.arguments is {kind(arguments)}, not an object or its JSON text")
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}
    return {"id": given["id"], **call} if given.get("id") else call


def _tools(value: Any) -> list[dict[str, Any]]:
    """Tools as OpenAI lists them, from a list or its JSON text; bare functions are put in their frame."""
    if isinstance(value, str):
        value = _parsed(value, "tools") if value.strip() else []
    if not value:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(t, Mapping) for t in value):
        raise ValueError(f"tools is {kind(value)}, not a list of functions or its JSON text")
    made = [dict(t) if "function" in t else {"type": "function", "function": dict(t)} for t in value]
    for i, tool in enumerate(made):
        if not (isinstance(tool["function"], Mapping) and tool["function"].get("name")):
            raise ValueError(f"tools[{i}] has no name")
    return made


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is text that is not valid JSON: {error}") from None


def _check_order(talk: Sequence[Message]) -> None:
    roles = [m["role"] for m in talk]
    first = next((i for i, role in enumerate(roles) if role != "system"), len(roles))
    if first < len(roles) and roles[first] != "user":
        raise ValueError(
            f"the conversation begins with the {roles[first]}, not with the user: put the user's message before it, or "
            "leave the row out"
        )
    for i, role in enumerate(roles):
        if role == "tool" and roles[i - 1] not in ("assistant", "tool"):
            raise ValueError(f"message {i + 1} is a tool's result, but follows the {roles[i - 1]} and not a call")

"""From a job's rows to token rows: `input_ids`, and `labels` that are -100 where nothing is learnt.

Rows that carry token ids keep them. Rows that carry messages go through the tokenizer's chat template; the assistant's
messages (of these the ones in `learn`, where a row has that) are learnt, each up to its end-of-turn token: what a
server would have sampled.
"""

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from guerdon.errors import TrainingError
from guerdon.task import Message

MASKED = -100
TokenRow = dict[str, list[int]]


@dataclass(slots=True)
class TokenRows:
    """Rows ready for training; `cut` lost their end to `max_length`, `dropped` had nothing left to learn."""

    rows: list[TokenRow] = field(default_factory=list)
    cut: int = 0
    dropped: int = 0


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; raises `TrainingError` with file and line where one is malformed."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"The training rows {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TrainingError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TrainingError(f"{path}:{number}: a row is an object, this is a {type(row).__name__}")
        rows.append(row)
    return rows


def token_rows(tokenizer: Any, rows: Iterable[Mapping[str, Any]], max_length: int) -> TokenRows:
    """Token rows of at most `max_length` tokens; raises `TrainingError` when there is nothing to learn from."""
    made = TokenRows()
    count = 0
    for count, row in enumerate(rows, 1):
        tokens = _row(tokenizer, row, count)
        if len(tokens["input_ids"]) > max_length:
            made.cut += 1
            tokens = {name: ids[:max_length] for name, ids in tokens.items()}
        if any(label != MASKED for label in tokens["labels"]):
            made.rows.append(tokens)
        else:
            made.dropped += 1
    if not count:
        raise TrainingError("There are no rows to train on: no rollout was good enough, or the file is empty.")
    if not made.rows:
        why = f"{made.cut} were cut at max_length={max_length}" if made.cut else "every label is -100"
        raise TrainingError(f"None of the {count} rows has a token to learn: {why}.")
    return made


def token_row(
    tokenizer: Any,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    learn: Collection[int] | None = None,
) -> TokenRow:
    """One conversation as token ids, learnt on the assistant's messages: those with an index in `learn`, or all.

    Uses the template's `{% generation %}` marks; without them, renders the conversation message by message, and raises
    `TrainingError` if the template then rewrites what came before.
    """
    plain = [_plain(message) for message in messages]
    marked = bool(re.search(r"\{%-?\s*generation\b", _template(tokenizer)))
    chosen = {i for i, m in enumerate(plain) if m["role"] == "assistant" and (learn is None or i in learn)}
    ids, mask = (_by_marks if marked else _by_prefix)(tokenizer, plain, list(tools) or None, chosen)
    _unlearn_after_end(tokenizer, ids, mask)
    end = max((i for i, learnt in enumerate(mask, 1) if learnt), default=len(ids))
    labels = [token if learnt else MASKED for token, learnt in zip(ids, mask, strict=True)]
    return {"input_ids": ids[:end], "labels": labels[:end]}


def _row(tokenizer: Any, row: Mapping[str, Any], number: int) -> TokenRow:
    if "input_ids" in row and "labels" in row:
        ids, labels = list(row["input_ids"]), list(row["labels"])
        if len(ids) != len(labels):
            raise TrainingError(f"Training row {number} has {len(ids)} input_ids but {len(labels)} labels.")
        return {"input_ids": ids, "labels": labels}
    if "messages" in row:
        tools = row.get("tools") or ()
        tools = json.loads(tools) if isinstance(tools, str) else tools
        return token_row(tokenizer, row["messages"], tools, row.get("learn"))
    raise TrainingError(
        f"Training row {number} has neither input_ids with labels nor messages; it has {', '.join(row) or 'nothing'}."
    )


def _plain(message: Message) -> Message:
    """The message as templates expect it: text content, and tool arguments as an object (as vLLM gives them)."""
    made = dict(message)
    content = made.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    made["content"] = content or ""
    if calls := made.get("tool_calls"):
        made["tool_calls"] = [_plain_call(call) for call in calls]
    else:
        made.pop("tool_calls", None)
    return made


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    if isinstance(arguments := function.get("arguments"), str):
        with contextlib.suppress(ValueError):  # where the model wrote no JSON, templates get its text
            function["arguments"] = json.loads(arguments)
    return {**call, "function": function}


def _template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if not template:
        raise TrainingError(
            "The model's tokenizer has no chat template, so rows with messages cannot be trained on. "
            "Give the model folder a chat_template.jinja, or train an instruct model."
        )
    # several named templates: transformers picks by name
    return template if isinstance(template, str) else " ".join(template.values())


def _by_marks(tokenizer: Any, messages: list[Message], tools: Any, chosen: set[int]) -> tuple[list[int], list[int]]:
    made = tokenizer.apply_chat_template(
        messages, tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = list(made["input_ids"]), list(made["assistant_masks"])
    assistants = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if len(chosen) == len(assistants):
        return ids, mask
    edges = [i for i, (a, b) in enumerate(pairwise([0, *mask, 0])) if a != b]
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    if len(spans) != len(assistants):  # marks that are not one to a message
        _, inside = _by_prefix(tokenizer, messages, tools, chosen)
        return ids, [a & b for a, b in zip(mask, inside, strict=True)]
    for message, (start, end) in zip(assistants, spans, strict=True):
        if message not in chosen:
            mask[start:end] = [0] * (end - start)
    return ids, mask


def _by_prefix(tokenizer: Any, messages: list[Message], tools: Any, chosen: set[int]) -> tuple[list[int], list[int]]:
    def render(upto: int, prompt: bool) -> list[int]:
        if not upto:
            return []  # templates refuse an empty conversation
        made = tokenizer.apply_chat_template(
            messages[:upto], tools=tools, tokenize=True, return_dict=True, add_generation_prompt=prompt
        )
        return list(made["input_ids"])

    ids = render(len(messages), False)
    mask = [0] * len(ids)
    for i in sorted(chosen):
        start, end = render(i, True), render(i + 1, False)
        if ids[: len(end)] != end or end[: len(start)] != start:
            raise TrainingError(
                f"The model's chat template renders message {i + 1} differently once others follow it, so its tokens "
                "cannot be told apart. Use a template with {% generation %} marks, or rows with token ids."
            )
        mask[len(start) : len(end)] = [1] * (len(end) - len(start))
    return ids, mask


def _unlearn_after_end(tokenizer: Any, ids: list[int], mask: list[int]) -> None:
    """Leave out the white space that a template writes after the end-of-turn token: nobody samples it."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    after_end = False
    for i, token in enumerate(ids):
        if mask[i] and after_end and not tokenizer.decode([token]).strip():
            mask[i] = 0
        else:
            after_end = bool(mask[i]) and token in special

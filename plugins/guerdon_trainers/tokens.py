"""From a job's rows to token rows: `input_ids`, and `labels` that are -100 where nothing is learnt.

Rows that carry token ids keep them. Rows that carry messages go through the chat template; the assistant's messages (of
these the ones in `learn`, where a row has that) are learnt, each up to its end-of-turn token: what a server would have
sampled. Of plain texts the completion is learnt, or all of a `text`; both get the end-of-sequence token, as trl does.
"""

import contextlib
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, takewhile
from typing import Any, Literal

from guerdon.errors import TrainingError
from guerdon.task import Message

MASKED = -100
TokenRow = dict[str, list[int]]
Learn = Literal["assistant", "all"]


@dataclass(slots=True)
class Counts:
    """`rows` to train on; of all that were read `cut` lost their end to max_length, and `dropped` had nothing left to
    learn. `tokens` in the rows, how many of them are `trained`, and the `largest` token id."""

    rows: int = 0
    cut: int = 0
    dropped: int = 0
    tokens: int = 0
    trained: int = 0
    largest: int = 0

    def add(self, other: "Counts") -> None:
        for name in self.__slots__:
            both = getattr(self, name), getattr(other, name)
            setattr(self, name, max(both) if name == "largest" else sum(both))

    def check(self, max_length: int) -> None:
        """Raises `TrainingError` when there is nothing to learn from."""
        read = self.rows + self.dropped
        if not read:
            raise TrainingError("There are no rows to train on: no rollout was good enough, or the file is empty.")
        if not self.rows:
            why = f"{self.cut} were cut at max_length={max_length}" if self.cut else "every label is -100"
            raise TrainingError(f"None of the {read} rows has a token to learn: {why}.")


@dataclass(slots=True)
class TokenRows:
    """Rows ready for training, in memory."""

    rows: list[TokenRow] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


def token_rows(
    tokenizer: Any,
    rows: Iterable[Mapping[str, Any]],
    max_length: int,
    *,
    learn: Learn = "assistant",
    template: str | None = None,
) -> TokenRows:
    """Token rows of at most `max_length` tokens, in memory; for files there is `guerdon_trainers.token_file`.

    `template` is used in place of the tokenizer's own (`templates.prepare` says which).

    Raises:
        TrainingError: a row is malformed, or there is nothing to learn from.
    """
    made = TokenRows()
    numbered = ((f"Training row {i}", row) for i, row in enumerate(rows, 1))
    for row in short_rows(tokenizer, numbered, max_length, made.counts, learn=learn, template=template):
        made.rows.append(row)
    made.counts.check(max_length)
    return made


def short_rows(
    tokenizer: Any,
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    max_length: int,
    counts: Counts,
    *,
    learn: Learn = "assistant",
    template: str | None = None,
) -> Iterator[TokenRow]:
    """The token rows that have something to learn, cut at `max_length`, and counted. Rows come with their place."""
    for place, row in rows:
        tokens = whole_row(tokenizer, row, place, learn=learn, template=template)
        if len(tokens["input_ids"]) > max_length:
            counts.cut += 1
            tokens = {name: ids[:max_length] for name, ids in tokens.items()}
        trained = sum(label != MASKED for label in tokens["labels"])
        if not trained:
            counts.dropped += 1
            continue
        counts.rows += 1
        counts.tokens += len(tokens["input_ids"])
        counts.trained += trained
        counts.largest = max(counts.largest, *tokens["input_ids"], *tokens["labels"])
        yield tokens


def whole_row(
    tokenizer: Any, row: Mapping[str, Any], place: str, *, learn: Learn = "assistant", template: str | None = None
) -> TokenRow:
    """One canonical row as tokens, however long.

    Raises:
        TrainingError: it is malformed, or the chat template leaves out what the assistant says.
    """
    if "input_ids" in row:
        ids = list(row["input_ids"])
        labels = list(row.get("labels") or ids)
        if len(ids) != len(labels):
            raise TrainingError(f"{place} has {len(ids)} input_ids but {len(labels)} labels.")
        return {"input_ids": ids, "labels": labels}
    if "messages" in row:
        tools = row.get("tools") or ()
        tools = json.loads(tools) if isinstance(tools, str) else tools
        try:
            tokens = token_row(tokenizer, row["messages"], tools, row.get("learn"), template=template)
        except TrainingError as error:
            raise TrainingError(f"{place}: {error}") from None
        _check_answers(tokenizer, row["messages"], row.get("learn"), tokens, place)
        if learn == "all":
            ids = _ids(tokenizer, [_plain(m) for m in row["messages"]], list(tools) or None, template)
            return {"input_ids": ids, "labels": list(ids)}
        return tokens
    if "text" in row or {"prompt", "completion"} <= set(row):
        return _text_row(tokenizer, row, learn)
    raise TrainingError(
        f"{place} has none of messages, prompt with completion, text, and input_ids; it has "
        f"{', '.join(row) or 'nothing'}."
    )


def _text_row(tokenizer: Any, row: Mapping[str, Any], learn: Learn) -> TokenRow:
    """Plain text; the tokens of a completion begin where prompt and completion together part from the prompt alone.

    What a chat template wrote has its beginning and its end of sequence already.
    """
    begin, end = tokenizer.bos_token, tokenizer.eos_token or ""
    prompt, text = ("", row["text"]) if "text" in row else (row["prompt"], row["completion"])
    text = text if text.rstrip().endswith(end) else text + end
    bare = bool(begin) and (prompt + text).startswith(begin)
    ids = list(tokenizer(prompt + text, add_special_tokens=not bare)["input_ids"])
    labels = list(ids)
    if prompt and learn == "assistant":
        start = _alike(tokenizer(prompt, add_special_tokens=not bare)["input_ids"], ids)
        labels[:start] = [MASKED] * start
    return {"input_ids": ids, "labels": labels}


def _alike(one: Iterable[int], other: Iterable[int]) -> int:
    """How many tokens they begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def token_row(
    tokenizer: Any,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    learn: Collection[int] | None = None,
    *,
    template: str | None = None,
) -> TokenRow:
    """One conversation as token ids, learnt on the assistant's messages: those with an index in `learn`, or all.

    Uses the template's `{% generation %}` marks; without them, renders the conversation message by message, and raises
    `TrainingError` if the template then rewrites what came before.
    """
    plain = [_plain(message) for message in messages]
    chosen = {i for i, m in enumerate(plain) if m["role"] == "assistant" and (learn is None or i in learn)}
    render = _by_marks if is_marked(template or _template(tokenizer)) else _by_prefix
    ids, mask = render(tokenizer, plain, list(tools) or None, chosen, template)
    _unlearn_after_end(tokenizer, ids, mask)
    end = max((i for i, learnt in enumerate(mask, 1) if learnt), default=len(ids))
    labels = [token if learnt else MASKED for token, learnt in zip(ids, mask, strict=True)]
    return {"input_ids": ids[:end], "labels": labels[:end]}


def is_marked(template: str) -> bool:
    """Whether the template marks what the assistant says."""
    return bool(re.search(r"\{%-?\s*generation\b", template))


def _plain(message: Message) -> Message:
    """The message as templates expect it: text content, and tool arguments as an object (as vLLM gives them)."""
    made = dict(message)
    content = made.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    made["content"] = content or ""
    if thoughts := made.get("reasoning_content"):
        made.setdefault("thinking", thoughts)  # as gpt-oss's and LFM2.5's templates call them
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
            "Set chat_template: chatml, give the model folder a chat_template.jinja, or train an instruct model."
        )
    # several named templates: transformers picks by name
    return template if isinstance(template, str) else " ".join(template.values())


def _ids(tokenizer: Any, messages: list[Message], tools: Any, template: str | None, **more: Any) -> list[int]:
    return list(_applied(tokenizer, messages, tools, template, **more)["input_ids"])


def _applied(
    tokenizer: Any, messages: list[Message], tools: Any, template: str | None, *, tokenize: bool = True, **more: Any
) -> Any:
    try:
        return tokenizer.apply_chat_template(
            messages, tools=tools, chat_template=template, tokenize=tokenize, return_dict=tokenize, **more
        )
    except Exception as error:  # templates raise what they like: roles that do not alternate, say
        raise TrainingError(f"The chat template refuses the conversation: {type(error).__name__}: {error}") from error


def _by_marks(
    tokenizer: Any, messages: list[Message], tools: Any, chosen: set[int], template: str | None
) -> tuple[list[int], list[int]]:
    made = _applied(tokenizer, messages, tools, template, return_assistant_tokens_mask=True)
    ids, mask = list(made["input_ids"]), list(made["assistant_masks"])
    assistants = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if len(chosen) == len(assistants):
        return ids, mask
    spans = _spans(mask)
    if len(spans) != len(assistants):  # marks that are not one to a message
        _, inside = _by_prefix(tokenizer, messages, tools, chosen, template)
        return ids, [a & b for a, b in zip(mask, inside, strict=True)]
    for message, (start, end) in zip(assistants, spans, strict=True):
        if message not in chosen:
            mask[start:end] = [0] * (end - start)
    return ids, mask


def _spans(mask: Sequence[int]) -> list[tuple[int, int]]:
    edges = [i for i, (a, b) in enumerate(pairwise([0, *mask, 0])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _by_prefix(
    tokenizer: Any, messages: list[Message], tools: Any, chosen: set[int], template: str | None
) -> tuple[list[int], list[int]]:
    """Compares texts: tokens may merge where an answer begins."""

    def render(upto: int, prompt: bool) -> str:
        some = messages[:upto]  # templates refuse an empty conversation
        more = {"tokenize": False, "add_generation_prompt": prompt}
        return str(_applied(tokenizer, some, tools, template, **more)) if some else ""

    text, spans = render(len(messages), False), []
    for i in sorted(chosen):
        start, end = render(i, True), render(i + 1, False)
        if not (text.startswith(end) and end.startswith(start)):
            raise TrainingError(
                f"The model's chat template renders message {i + 1} differently once others follow it, so its tokens "
                "cannot be told apart. Use a template with {% generation %} marks (chat_template: chatml, or a file), "
                "or rows with token ids."
            )
        spans.append((len(start), len(end)))
    return _tokens_in(tokenizer, text, spans)


def _tokens_in(tokenizer: Any, text: str, spans: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The tokens of a text, and a mask of those in these spans of its characters."""
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    ids = list(made["input_ids"])
    mask = [0] * len(ids)
    offsets = made["offset_mapping"] if tokenizer.is_fast else []
    ends = [end for _, end in offsets]
    # some tokenizers leave white space out of their offsets
    starts = [min(start, before) for (start, _), before in zip(offsets, [0, *ends], strict=False)]
    for start, end in spans:
        if tokenizer.is_fast:
            first, after = bisect_right(ends, start), bisect_left(starts, end)
            # A token that begins in the prompt is not what a server samples, which is given the prompt's tokens. Words
            # would be lost without it, so it is learnt as with marks; white space is not worth it, and may belong to
            # the special token before (Phi-3's swallow what follows them).
            if first < after and starts[first] < start and not text[start : min(ends[first], end)].strip():
                first += 1
        else:
            heads = (tokenizer(text[:at], add_special_tokens=False)["input_ids"] for at in (start, end))
            first, after = (_alike(head, ids) for head in heads)
        mask[first:after] = [1] * (after - first)
    return ids, mask


def _unlearn_after_end(tokenizer: Any, ids: list[int], mask: list[int]) -> None:
    """Leave out the white space that a template writes after the end-of-turn token: nobody samples it."""
    special = _special(tokenizer)
    for start, end in _spans(mask):
        last = next((i for i in reversed(range(start, end)) if tokenizer.decode([ids[i]]).strip()), start)
        if ids[last] in special:
            mask[last + 1 : end] = [0] * (end - last - 1)


@lru_cache(maxsize=4)
def _special(tokenizer: Any) -> frozenset[int]:
    return frozenset(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)


# -- what a template leaves out ---------------------------------------------------------------------------------------


def _check_answers(
    tokenizer: Any, messages: Sequence[Message], learn: Collection[int] | None, tokens: TokenRow, place: str
) -> None:
    """That what the assistant says is among the tokens to learn: some templates drop tool calls, or thoughts."""
    heard, at = "", 0
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or not (learn is None or i in learn):
            continue
        heard = heard or _bare(tokenizer.decode([t for t in tokens["labels"] if t != MASKED]))
        start = at  # another message may have said the same; within one, some templates put calls before the text
        for what, text in _said(_plain(message), last=i == len(messages) - 1):
            bare = _bare(text)
            if (found := heard.find(bare, start)) < 0:
                bare = _bare(_there_and_back(tokenizer, text))
                found = heard.find(bare, start)
            at = max(at, found + len(bare))
            if found < 0:
                shown = text if len(text) < 60 else f"{text[:57]}..."
                number = f"{i + 1} or of one before it" if bare in heard else i + 1
                kept = ", with the thoughts in the content: <think>...</think>" if what == "the thoughts" else ""
                raise TrainingError(
                    f"{place}: the chat template drops {what} of message {number} ({shown!r}): it is not among the "
                    f"tokens to learn. Take a template that has it, e.g. chat_template: chatml{kept}."
                )


def _said(message: Message, *, last: bool) -> Iterator[tuple[str, str]]:
    """What must be found again. Thoughts before the last turn are left out by many a template on purpose."""
    *thoughts, answer = message["content"].split("</think>")
    if last:
        yield from (("the thoughts", t.replace("<think>", "")) for t in thoughts)
        if message.get("reasoning_content"):
            yield "the thoughts", message["reasoning_content"]
    yield "the text", answer
    for call in message.get("tool_calls") or ():
        yield "the tool call", call["function"]["name"]


def _bare(text: str) -> str:
    return "".join(text.split())


def _there_and_back(tokenizer: Any, text: str) -> str:
    """A tokenizer that knows no emoji, say, loses them on the way."""
    return str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)))

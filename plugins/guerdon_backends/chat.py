"""Between messages and tokens: prompts from messages, tool calls from replies, and back without a token's difference.

A conversation's next prompt has to begin with the ids that were fed and sampled before, or its turns cannot be trained
on as one row. Tokenising a reply's text again can give other ids, and a template may write a tool call with other
spaces. So replies are remembered by the conversation that they ended, and their own ids are put back where they stood.
"""

import hashlib
import inspect
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

Message = dict[str, Any]

CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
USUAL = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')
ROLES = ("system", "developer", "user", "assistant", "tool")


class Prompts:
    """Turns conversations into ids. `memory` bounds how many replies are remembered."""

    def __init__(self, tokenizer: Any, memory: int = 10_000) -> None:
        self.tokenizer = tokenizer
        self.memory = memory
        self._replies: OrderedDict[bytes, list[int]] = OrderedDict()
        template = tokenizer.get_chat_template()
        self._raw_arguments = "arguments is string" in template  # else a string would be quoted a second time
        self._reserved = set(inspect.signature(tokenizer.apply_chat_template).parameters)
        self._mark = f"reply-{secrets.token_hex(8)}-"

    def encode(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: Mapping[str, Any] | None = None
    ) -> list[int]:
        """The ids of the prompt for the next reply.

        `options` are variables for the template, as `enable_thinking`; one that does not know them ignores them.

        Raises:
            ValueError: the template refuses the messages, or an option would change something else.
        """
        options = options or {}
        if taken := self._reserved & options.keys():
            raise ValueError(f"`chat_template_kwargs` may not hold {taken.pop()!r}")
        known = {i: self._replies[key] for i, key in keys(messages) if key in self._replies}
        pieces = self._around(known, messages, tools, options)
        if pieces and [int(i) for i in pieces[1::2]] == list(known):
            parts = [known[int(p)] if n % 2 else self._ids(p) for n, p in enumerate(pieces)]
            return [token for part in parts for token in part]
        return self._ids(self._render(messages, tools, options))

    def remember(self, messages: Sequence[Message], reply: Message, ids: list[int]) -> None:
        """`ids` are those of the reply, without the end token: the template writes that one."""
        *_, (_, key) = keys([*messages, reply])
        self._replies[key] = ids
        self._replies.move_to_end(key)
        if len(self._replies) > self.memory:
            self._replies.popitem(last=False)

    def _around(
        self,
        known: Container[int],
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]],
        options: Mapping[str, Any],
    ) -> list[str]:
        """The prompt's text around the known replies, with their indices between; empty where the template refuses."""
        marked = [
            {"role": "assistant", "content": f"{self._mark}{i}."} if i in known else m for i, m in enumerate(messages)
        ]
        try:
            return re.split(rf"{self._mark}(\d+)\.", self._render(marked, tools, options))
        except ValueError:  # a mark has no tool calls, and some templates check what follows on what
            return []

    def _render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: Mapping[str, Any]) -> str:
        if not self._raw_arguments:
            messages = [with_parsed_arguments(m) for m in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages), tools=list(tools) or None, add_generation_prompt=True, tokenize=False, **options
            )
        except Exception as error:  # jinja's own, or whatever the template raises
            raise ValueError(f"the model's chat template refuses these messages: {error}") from None
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def keys(messages: Iterable[Message]) -> Iterator[tuple[int, bytes]]:
    """Of each assistant message: its index, and a digest of the conversation up to and with it.

    Some frameworks write the arguments of a call anew: what counts is what they say.
    """
    digest = hashlib.sha256()
    for i, message in enumerate(messages):
        digest.update(json.dumps(with_parsed_arguments(message), sort_keys=True).encode() + b"\n")
        if message["role"] == "assistant":
            yield i, digest.digest()


def clean(messages: Any) -> list[Message]:
    """Messages as the templates want them: text for content, nothing but what matters.

    Clients write the same message in several ways (a list of parts, null content beside tool calls). Raises ValueError.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError("`messages` must be a list with at least one message")
    return [clean_message(m, f"messages[{i}]") for i, m in enumerate(messages)]


def clean_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise ValueError(f"{where} needs a `role`, one of {', '.join(ROLES)}")
    role = "system" if message["role"] == "developer" else message["role"]
    result: Message = {"role": role, "content": flat(message.get("content"), where)}
    result |= {key: message[key] for key in ("name", "tool_call_id") if isinstance(message.get(key), str)}
    if calls := message.get("tool_calls"):
        try:
            result["tool_calls"] = [clean_call(c) for c in calls]
        except (KeyError, TypeError):
            raise ValueError(f"{where}.tool_calls needs items with `id` and `function` (`name`, `arguments`)") from None
    return result


def clean_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function.get("arguments") or "{}"
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": call.get("id", ""), "type": "function", "function": {"name": function["name"], "arguments": text}}


def flat(content: Any, where: str) -> str:
    """The text of a content: text itself, null, or a list of text parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "".join(p["text"] for p in content)
    raise ValueError(f"{where}.content must be text or a list of text parts; no images or files are taken")


def with_parsed_arguments(message: Message) -> Message:
    """For templates that write arguments as JSON themselves."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError:
            arguments = call["function"]["arguments"]
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


def parse_reply(text: str) -> Message:
    """The assistant message of a reply: Hermes tool calls are taken out of the text; what is malformed stays in it.

    >>> parse_reply("4 it is")
    {'role': 'assistant', 'content': '4 it is'}
    """
    calls: list[dict[str, Any]] = []
    rest, at = "", 0
    for match in CALL.finditer(text):
        if function := parse_call(match[1]):
            calls.append({"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function})
            rest, at = rest + text[at : match.start()], match.end()
    rest = rest + text[at:]
    if not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": rest.strip() or None, "tool_calls": calls}


def parse_call(body: str) -> dict[str, str] | None:
    """Name and arguments of one call, the arguments as the model wrote them; None when it is not one.

    >>> parse_call('{"name": "calculate", "arguments": {"expression":  "1+1"}}')
    {'name': 'calculate', 'arguments': '{"expression":  "1+1"}'}
    >>> parse_call('{"name": "calculate"')
    """
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if (
        not isinstance(call, dict)
        or not isinstance(call.get("name"), str)
        or not isinstance(call.get("arguments"), dict)
    ):
        return None
    if usual := USUAL.match(body):
        _, end = json.JSONDecoder().raw_decode(body, usual.end())
        return {"name": call["name"], "arguments": body[usual.end() : end]}
    return {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}

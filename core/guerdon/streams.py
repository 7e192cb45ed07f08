"""Streamed replies: the whole response out of its chunks, and a whole response as one chunk."""

from collections.abc import Iterable, Mapping
from typing import Any


def assembled(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The response that a stream's chunks make up, as if it had come whole: text, tool calls, token ids, usage.

    Raises KeyError, TypeError, AttributeError: they are none.

    >>> words = ({"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("Good ", "day"))
    >>> assembled(words)["choices"][0]["message"]
    {'role': 'assistant', 'content': 'Good day'}
    """
    response: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        response |= {name: value for name, value in chunk.items() if value is not None}
        for part in chunk["choices"]:
            index = part.get("index", 0)
            choice = choices.setdefault(index, {"index": index, "finish_reason": None})
            for name, value in part.items():
                if name == "delta":
                    _grow_message(choice.setdefault("message", {"role": "assistant", "content": None}), value or {})
                elif name == "logprobs":
                    for field, piece in (value or {}).items():
                        _extend(choice.setdefault(name, {}), field, piece)
                elif name in ("text", "token_ids"):
                    _extend(choice, name, value)
                elif value is not None:
                    choice[name] = value
    for choice in choices.values():
        if calls := choice.get("message", {}).get("tool_calls"):
            choice["message"]["tool_calls"] = [{k: v for k, v in c.items() if k != "index"} for c in calls]
            choice["message"]["content"] = choice["message"]["content"] or None
    kind = str(response.get("object") or "").removesuffix(".chunk")
    return {**response, "object": kind, "choices": [choices[index] for index in sorted(choices)]}


def _grow_message(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, piece in delta.items():
        if name == "tool_calls":
            _grow_calls(message.setdefault(name, []), piece or ())
        elif name != "role":
            _extend(message, name, piece)


def _grow_calls(calls: list[dict[str, Any]], pieces: Iterable[Mapping[str, Any]]) -> None:
    """A call begins with its name and id; its arguments grow. Servers that send calls whole may leave out the index."""
    for piece in pieces:
        index, function = piece.get("index"), piece.get("function") or {}
        call = next((c for c in calls if c["index"] == index is not None), None)
        if call is None:
            call = {"index": index, "id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            calls.append(call)
        call["id"] = piece.get("id") or call["id"]
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function.get("arguments") or ""


def _extend(place: dict[str, Any], name: str, piece: Any) -> None:
    """Texts and lists grow; of anything else, what came last."""
    known = place.get(name)
    if isinstance(known, list):
        known.extend(piece or ())
    elif isinstance(known, str):
        place[name] = known + (piece or "")
    elif piece is not None:
        place[name] = [*piece] if isinstance(piece, list) else piece  # a list of our own


def as_chunk(response: Mapping[str, Any]) -> dict[str, Any]:
    """A whole response as the only chunk of its stream."""
    choices = []
    for choice in response["choices"]:
        part = {name: value for name, value in choice.items() if name != "message"}
        if message := choice.get("message"):
            part["delta"] = {name: value for name, value in message.items() if value is not None}
            if calls := message.get("tool_calls"):
                part["delta"]["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
        choices.append(part)
    kind = "chat.completion.chunk" if any("delta" in c for c in choices) else "text_completion"
    return {**response, "object": kind, "choices": choices}

"""JSON as it goes over the wire, fast; what the fast library refuses, Python's own writes and reads.

A reply with the token ids and logprobs of 400 tokens is read in 0.3 ms in place of 1.1, and written in 0.1 in place of
1.8. orjson takes no half of a surrogate pair, which models do sample, no NaN and no number above 64 bits.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""
TASK_FIELD = "guerdon_task"
"""The field of a worker's request that tells the engine's gateway whose rollout asks: id, prompt, answer, fields."""


def loads(data: bytes) -> Any:
    """Raises ValueError: it is no JSON, or is nested without end."""
    try:
        return orjson.loads(data)
    except ValueError:
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def dumps(data: Any) -> bytes:
    """Raises TypeError or ValueError: it cannot be written."""
    try:
        return orjson.dumps(data)
    except TypeError:
        return json.dumps(data, separators=(",", ":")).encode()


def event(data: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + dumps(data) + b"\n\n"


class Events:
    """The data of server-sent events, out of bytes that come in any pieces; the last event, [DONE], is left out."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self, piece: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return _data(lines)

    def end(self) -> Iterator[bytes]:
        """What a server that does not end its last line had to say."""
        return _data([self._rest])


def _data(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
            yield data

"""What goes over the wire between agents, gateways and servers: server-sent events, and a field of ours."""

from collections.abc import Iterable, Iterator
from typing import Any

from guerdon.fastjson import encoded

DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""
TASK_FIELD = "guerdon_task"
"""The field of a worker's request that tells the engine's gateway whose rollout asks: id, prompt, answer, fields."""


def event(data: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + encoded(data) + b"\n\n"


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

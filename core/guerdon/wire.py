"""What goes over the wire between agents, gateways and servers: server-sent events, and a field of ours."""

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

    def read(self, piece: bytes) -> list[bytes]:
        said, start, found = self._rest + piece, 0, list[bytes]()
        while (end := said.find(b"\n", start)) >= 0:  # `split` looks at each byte, at a sixth of the speed
            if said.startswith(b"data:", start) and (data := said[start + 5 : end].strip()) != b"[DONE]":
                found.append(data)
            start = end + 1
        self._rest = said[start:]
        return found

    def end(self) -> list[bytes]:
        """What a server that does not end its last line had to say."""
        return self.read(b"\n")

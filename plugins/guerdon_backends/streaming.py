"""Replies as they grow: which of their text can be told already, and the events that tell it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guerdon_backends.generation import Engine, Job, Reply


@dataclass
class Told:
    """What the client has of a reply."""

    text: str = ""
    tokens: int = 0
    finished: bool = False


async def growing(engine: Engine, job: Job) -> AsyncGenerator[Reply, None]:
    """Run a job: its replies, each time that one has grown or finished. The job is cancelled when nobody listens.

    Raises:
        RuntimeError: generation failed.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Reply | Exception] = asyncio.Queue()

    def hear(event: Any) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    job.heard = hear
    job.done = lambda result: hear(result) if isinstance(result, Exception) else None
    engine.submit(job)
    try:
        finished = set[int]()
        while len(finished) < job.n:
            event = await events.get()
            if isinstance(event, Exception):
                raise RuntimeError(f"{type(event).__name__}: {event}")
            if event.finish:
                finished.add(event.index)
            yield event
    finally:
        job.cancelled = True


def sayable(text: str, stops: Sequence[str]) -> str:
    """The start of an unfinished reply's text that will not change: no half character, no beginning of a stop string.

    >>> sayable("Good \\ufffd", []), sayable("one END", ["ENDED"]), sayable("one", ["ENDED"])
    ('Good ', 'one ', 'one')
    """
    text = text.rstrip("\ufffd")
    longest = max(map(len, stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return text[:-length]
    return text


def event(data: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"

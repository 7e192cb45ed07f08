"""Interrupt an agent that blocks: while it does, nothing else runs, and no deadline of asyncio can fire.

A synchronous HTTP client inside an `async def` is the usual cause; asked to talk to the gateway, it would wait for
ever, as the gateway runs in the event loop that it blocks. A thread watches the loop's pulse, and a signal that nobody
else uses raises `Blocked` where the agent stands.
"""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType

INTERRUPTIBLE: ContextVar[bool] = ContextVar("INTERRUPTIBLE", default=False)
"""True in the tasks of a rollout, whose code may be interrupted; the engine's own may not."""


class Blocked(BaseException):
    """Raised in code that blocks the event loop; not an `Exception`, so that no `except Exception` goes on with it."""


@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Within this context, interruptible code that blocks the running event loop for `seconds` gets `Blocked`.

    Signals reach only the main thread: in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    ended = threading.Event()
    beat = time.monotonic()

    def pulse() -> None:
        nonlocal beat
        beat = time.monotonic()

    def watch() -> None:
        asked = 0.0
        while not ended.wait(min(seconds / 4, 1.0)):
            if time.monotonic() - max(beat, asked) > seconds:
                asked = time.monotonic()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(pulse)

    def interrupt(_: int, frame: FrameType | None) -> None:
        if INTERRUPTIBLE.get() and time.monotonic() - beat > seconds:
            raise Blocked

    before = signal.signal(signal.SIGURG, interrupt)
    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGURG, before)


__all__ = ["INTERRUPTIBLE", "Blocked", "watchdog"]

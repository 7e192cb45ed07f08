"""The event loop of processes that wait for many rollouts: uvloop, with which a model call costs a tenth less CPU."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`; on Python's own loop where there is no uvloop (Windows).

    What a subprocess or a peer that has gone is sent, asyncio drops and uvloop refuses with RuntimeError: ask
    `is_closing()` before a write.
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)

"""One call of a pool of workers: which items have no result yet, and what the loss of a worker means for them.

An item is to blame for a worker that hangs, dies or grows while it is at that item, and then has a failure for its
result. One that was not the first in its worker, and did not hang, is tried once more in a new one: what ran there
before may be the cause. Where a worker is lost elsewhere, with items that cannot be unpickled, say, all goes on with
care: each item is then sent, and its result handed over, by itself.
"""

import pickle
from collections.abc import Sequence
from typing import Any

from guerdon.trajectory import Failure
from guerdon.worker import Order, complaint

INNOCENT_LOSSES = 3
"""A call gives up when it has lost so many workers that were at no item."""


class Lost(Exception):
    """The worker is no longer of use. `place`: which item of what it was sent it was at, below 0 where at none."""

    def __init__(self, kind: str, message: str, place: int = -1, fresh: bool = False) -> None:
        super().__init__(message)
        self.kind, self.place, self.fresh = kind, place, fresh


class Call:
    """The items of one call, and which still have no result."""

    def __init__(self, key: bytes, items: Sequence[Any], timeout: float) -> None:
        self.key, self.items, self.timeout = key, items, timeout
        self.results: list[Any] = [None] * len(items)
        self.todo = list(range(len(items)))
        self.careful = False
        self.suspect: int | None = None
        self.innocent_losses = 0
        self.sent: list[int] = []

    def order(self) -> bytes:
        """The next order to a worker: all that is still to do, or a suspect alone."""
        self.sent = list(self.todo) if self.suspect is None else [self.suspect]
        if not self.careful:
            try:
                return pickle.dumps(Order(self.key, False, pickle.dumps([self.items[i] for i in self.sent])))
            except Exception:
                self.careful = True
        packed = {}
        for i in self.sent:
            try:
                packed[i] = pickle.dumps(self.items[i])
            except Exception as error:
                why = complaint(error).message
                self._settle(i, Failure("not_sendable", f"its task cannot be sent to a worker process: {why}"))
        self.sent = list(packed)
        return pickle.dumps(Order(self.key, True, list(packed.values())))

    def take(self, done: int, results: Sequence[Any]) -> None:
        """Results of what was sent, after the first `done`."""
        for i, result in zip(self.sent[done:], results, strict=False):
            self.results[i] = result

    def settle(self, done: int) -> None:
        """The first `done` of what was sent have their results."""
        finished = set(self.sent[:done])
        self.todo = [i for i in self.todo if i not in finished]
        if self.suspect in finished:
            self.suspect = None

    def lost(self, lost: Lost, how: str | None) -> None:
        """Decide what the loss of the worker means; `how` it ended, where it died by itself."""
        failure = Failure(lost.kind, f"{lost}{how or ''}")
        if lost.kind == "import":
            self._give_up(failure)
        elif lost.place < 0 or self.sent[lost.place] not in self.todo or (lost.kind == "died" and how is None):
            # at no item, or after it; or its spawner has died too
            self.careful = True
            self.innocent_losses += 1
            if self.innocent_losses >= INNOCENT_LOSSES:
                self._give_up(failure)
        elif lost.kind in ("died", "memory") and not lost.fresh:
            # what ran there before may have caused it: it is tried once more, alone in a new worker
            self.suspect = self.sent[lost.place]
        else:
            self._settle(self.sent[lost.place], failure)

    def _give_up(self, failure: Failure) -> None:
        for i in self.todo:
            self.results[i] = failure
        self.todo = []

    def _settle(self, index: int, failure: Failure) -> None:
        self.results[index] = failure
        self.todo.remove(index)
        if self.suspect == index:
            self.suspect = None

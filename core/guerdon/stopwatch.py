"""Where the time goes: seconds by what was done."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

WORDS = {
    "serve": "serve",
    "swap": "swap",
    "rollout": "roll out",
    "score": "score",
    "train": "train",
    "eval": "evaluate",
}
"""What a stage's `seconds` are by: the start of the server; giving it an adapter, and putting it to sleep and waking
it; rollouts; the rewards, which run beside rollouts; the training process; rollouts of an evaluation."""


class Stopwatch:
    """Adds up seconds until they are taken."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(what, time.perf_counter() - started)

    def add(self, what: str, seconds: float) -> None:
        self._seconds[what] = self._seconds.get(what, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """What has come together since the last time."""
        taken = {what: round(self._seconds[what], 3) for what in WORDS if what in self._seconds}
        self._seconds.clear()
        return taken


def in_words(seconds: Mapping[str, float]) -> str:
    """
    >>> in_words({"rollout": 61.2, "swap": 0.41, "train": 34.0})
    'swap 0.4 s, roll out 61 s, train 34 s'
    """
    known = {word: seconds[what] for what, word in WORDS.items() if seconds.get(what, 0.0) >= 0.05}
    return ", ".join(f"{word} {s:.0f} s" if s >= 9.95 else f"{word} {s:.1f} s" for word, s in known.items())

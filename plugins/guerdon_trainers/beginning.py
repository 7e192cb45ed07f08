"""Where the start of a training goes: a line for its log."""

import logging
import time
from typing import Any


class Beginning:
    """Adds up seconds by what was done, until the first step is through."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._parts: dict[str, float] = {}

    def past(self, part: str) -> None:
        """What was done since the last of these."""
        now = time.perf_counter()
        self._parts[part], self._last = now - self._last, now

    def callback(self) -> Any:
        """For trl's trainers: it logs the line after the first step."""
        from transformers import TrainerCallback

        beginning = self

        class FirstStep(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
            said = False

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if not self.said and state.is_world_process_zero:
                    self.said = True
                    beginning.past("first step")
                    logging.getLogger("guerdon").info(beginning)

        return FirstStep()

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self._parts.items())
        return f"start: {parts}; {self._last - self._began:.1f} s to the end of the first step"

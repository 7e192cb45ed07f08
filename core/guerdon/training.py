"""What a trainer is given, and the process of its own that it runs in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Log(Protocol):
    """Called in the training process with a step's figures; they reach the run's store and the screen."""

    def __call__(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One call of a trainer.

    `model` is a folder or a hub id; `adapter` a LoRA adapter to go on from, `None` to start a new one. `rows` is a JSONL
    file: a row has `input_ids` and `labels` (-100 where nothing is learnt; what the server sampled, not tokenised again),
    or `messages` and `tools` for the model's own chat template (learnt on the assistant's messages), and a `reward`. The
    trainer writes the new adapter, with the tokenizer, to the folder `output`.
    """

    model: str
    adapter: Path | None
    rows: Path
    output: Path
    seed: int
    log: Log


Metrics = dict[str, Any]

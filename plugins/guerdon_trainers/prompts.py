"""The tasks that GRPO trains on: their prompts, and the order in which they come.

The order is laid out for the whole training: one shuffled pass over the tasks after the other, from the seed. So a
training that goes on from a checkpoint meets the tasks that it would have met, over any number of passes, and none is
left out because it does not fill a batch.
"""

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guerdon.errors import TrainingError, counted
from guerdon.task import Message
from guerdon_trainers.batches import Batch


@dataclass(frozen=True, slots=True)
class Prompt:
    """A task's id and first messages."""

    task: str
    messages: list[Message]


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a job's `rows`."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return [Prompt(str(row["task"]), list(row["prompt"])) for row in map(json.loads, lines)]


def short_enough(
    prompts: Sequence[Prompt], tokens: Callable[[list[Message]], list[int]], limit: int, say: Callable[[str], None]
) -> list[Prompt]:
    """The prompts of at most `limit` tokens; says how many are left out. Raises `TrainingError` when none is left."""
    lengths = [len(tokens(prompt.messages)) for prompt in prompts]
    kept = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= limit]
    if not prompts:
        raise TrainingError("There are no tasks to train on.")
    if not kept:
        raise TrainingError(
            f"All of the {counted(prompts, 'task')} have prompts of more than {limit} tokens (the shortest: "
            f"{min(lengths)}). Raise max_prompt_tokens, or max_length, or lower sampling.max_tokens."
        )
    if left := len(prompts) - len(kept):
        longest = f"the longest has {max(lengths)}"
        say(f"{left} of {counted(prompts, 'task')} left out: more than {limit} tokens in the prompt ({longest})")
    return kept


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a training is: its optimizer steps, the prompts that they see, and the steps between generations."""

    steps: int
    prompts: int
    period: int

    @classmethod
    def of(cls, batch: Batch, options: Mapping[str, Any], tasks: int, epochs: float, max_steps: int) -> "Plan":
        """`options` may ask for generations of several steps (steps_per_generation), learnt on several times
        (num_iterations)."""
        passes = options.get("steps_per_generation") or batch.accumulation
        uses = passes * (options.get("num_iterations") or 1)  # forward passes until the next generation
        if uses % batch.accumulation:
            raise TrainingError(
                f"trainer.grpo.options.steps_per_generation: {passes} forward passes a generation, but a step has "
                f"{batch.accumulation} (gradient_accumulation); make it a multiple."
            )
        period = uses // batch.accumulation
        at_once = max(1, batch.batch_size * batch.world * passes // (batch.group_size or 1))
        steps = max_steps if max_steps > 0 else max(1, round(tasks // at_once * epochs) * period)
        return cls(steps, math.ceil(steps / period) * at_once, period)

    def aligned(self, save_steps: int, say: Callable[[str], None]) -> int:
        """`save_steps` so that a generation has been used up at a checkpoint: going on from it is then exact."""
        aligned = -(-save_steps // self.period) * self.period
        if aligned != save_steps:
            say(f"save_steps is {aligned} instead of {save_steps}: a generation lasts {self.period} steps")
        return aligned


def order(count: int, length: int, seed: int) -> list[int]:
    """`length` indices below `count`: shuffled passes, one after another.

    >>> chosen = order(3, 7, seed=0)
    >>> sorted(chosen[:3]), sorted(chosen[3:6]), chosen[:3] != chosen[3:6]
    ([0, 1, 2], [0, 1, 2], True)
    """
    made: list[int] = []
    passes = 0
    while len(made) < length:
        indices = list(range(count))
        random.Random(f"{seed}-{passes}").shuffle(indices)
        made += indices
        passes += 1
    return made[:length]


def dataset(prompts: Sequence[Prompt], indices: list[int]) -> Any:
    """A datasets.Dataset with the columns `prompt` and `task`; a prompt's last message has its `task` too.

    Prompts are kept as JSON and read when asked for: Arrow would give each message the keys of all.
    """
    from datasets import Dataset

    texts = [json.dumps([*p.messages[:-1], {**p.messages[-1], "task": p.task}]) for p in prompts]
    columns = Dataset.from_dict({"prompt": texts, "task": [p.task for p in prompts]})
    return columns.select(indices).with_transform(_read)


def _read(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**batch, "prompt": [json.loads(text) for text in batch["prompt"]]}

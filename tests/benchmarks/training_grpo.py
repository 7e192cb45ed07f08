"""As training.py, for GRPO: guerdon's trainer beside a bare trl script, which generate, score and learn the same.

python tests/benchmarks/training_grpo.py grpo [--steps 6] [--turns 3]
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import training
from training import LORA, SEED, Clock, bare

from guerdon_backends.models import smollm2_135m

GROUP, TOKENS = 4, 48
TASKS = [f"Write one line about the number {number}." for number in range(64)]


def length(text: str) -> float:
    return min(len(text), 100) / 100


def letters(text: str) -> float:
    return sum(c.islower() for c in text) / max(len(text), 1)


@dataclass
class Scores:
    """What the engine does, without its processes and its store: those are not the trainer's."""

    group_size: int = GROUP
    single_turn: bool = True
    rewards: tuple[tuple[str, float], ...] = (("length", 1.0), ("letters", 0.5))

    @property
    def sampling(self) -> dict[str, Any]:
        return {"temperature": 1.0, "max_tokens": TOKENS}

    def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
        texts = [item["completion"] for item in items]
        return [{"scores": {"length": length(text), "letters": letters(text)}} for text in texts]


def asked(tasks: Iterable[str]) -> list[dict[str, Any]]:
    return [{"task": text, "prompt": [{"role": "user", "content": text}]} for text in tasks]


def prompts() -> list[dict[str, Any]]:
    """In the order in which guerdon takes them."""
    from guerdon_trainers.prompts import order

    return asked(TASKS[i] for i in order(len(TASKS), len(TASKS), SEED))


def guerdon_grpo(folder: Path, steps: int) -> Clock:
    from guerdon.training import TrainingJob
    from guerdon_trainers.grpo import grpo

    clock, file = Clock(), folder / "tasks.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in asked(TASKS)))
    job = TrainingJob(smollm2_135m(), None, file, folder / "out", SEED, clock, work=folder / "work", rollouts=Scores())
    grpo(
        job,
        max_steps=steps,
        threads=1,
        backend="transformers",
        learning_rate=1e-5,
        batch_size=GROUP,
        gradient_accumulation=1,
        **LORA,  # type: ignore[arg-type]
    )
    return clock


def bare_grpo(folder: Path, steps: int) -> Clock:
    from trl import GRPOConfig, GRPOTrainer

    def long(completions: list[Any], **_: Any) -> list[float]:
        return [length(c[0]["content"]) for c in completions]

    def lower(completions: list[Any], **_: Any) -> list[float]:
        return [letters(c[0]["content"]) for c in completions]

    return bare(
        folder,
        steps,
        GRPOTrainer,
        GRPOConfig,
        prompts(),
        {"reward_funcs": [long, lower]},
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=1,
        num_generations=GROUP,
        max_completion_length=TOKENS,
        temperature=1.0,
        reward_weights=[1.0, 0.5],
        shuffle_dataset=False,
        learning_rate=1e-5,
        warmup_steps=0.1,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
    )


if __name__ == "__main__":
    training.__file__ = __file__  # which it starts again for each training
    training.RUNS["grpo"] = {"guerdon": guerdon_grpo, "bare trl": bare_grpo}
    training.main()

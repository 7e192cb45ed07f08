"""Step time and peak memory of guerdon's trainers beside a bare trl script of the same settings.

    python tests/benchmarks/training.py sft [--steps 8] [--turns 3]

Each training runs in a process of its own, in turns; a step's time is CPU seconds of that process between two of trl's
logs, so neither start-up nor a busy machine is in it. Both learn the same tokens, and so report the same losses.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from table import table

from guerdon_backends.models import smollm2_135m

STEPS = {"batch_size": 4, "gradient_accumulation": 1, "learning_rate": 2e-4, "warmup": 0.1, "max_length": 512}
LORA = {"lora_rank": 16, "lora_alpha": 32}
SEED = 7


def rows(count: int) -> list[dict[str, str]]:
    """Sums, worked out in several lines: prompts and completions of different lengths."""
    chance, made = random.Random(SEED), []
    for _ in range(count):
        numbers = [chance.randint(2, 99) for _ in range(chance.randint(2, 7))]
        lines, total = [], numbers[0]
        for number in numbers[1:]:
            lines.append(f"{total} + {number} = {total + number}")
            total += number
        made.append({"prompt": f"Add {', '.join(map(str, numbers))}.\n", "completion": "\n".join(lines) + "\nDone."})
    return made


class Clock:
    """CPU seconds at each log, and the losses."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def __call__(self, step: int, _: int, figures: Any) -> None:
        if "loss" in figures:
            self.times.append(time.process_time())
            self.losses.append(float(figures["loss"]))

    def print(self) -> None:
        each = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"each": each, "losses": self.losses, "peak": peak}))


def guerdon_sft(folder: Path, steps: int) -> Clock:
    from guerdon.training import TrainingJob
    from guerdon_trainers.sft import sft

    clock, file = Clock(), folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(4 * steps)))
    job = TrainingJob(smollm2_135m(), None, file, folder / "out", SEED, clock, work=folder / "work")
    sft(job, max_steps=steps, threads=1, backend="transformers", **STEPS, **LORA)  # type: ignore[arg-type]
    return clock


def bare(
    folder: Path, steps: int, trainer: Any, config: Any, rows: list[Any], more: dict[str, Any], **own: Any
) -> Clock:
    """A trainer of trl's, as its documentation has it: `own` settings of its config, and what `more` it takes."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    torch.set_num_threads(1)
    clock = Clock()

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            clock(state.global_step, state.max_steps, logs)

    made = trainer(
        model=AutoModelForCausalLM.from_pretrained(smollm2_135m(), dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(smollm2_135m()),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=LORA["lora_rank"], lora_alpha=LORA["lora_alpha"], target_modules="all-linear"),
        args=config(
            output_dir=str(folder),
            max_steps=steps,
            logging_steps=1,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            seed=SEED,
            data_seed=SEED,
            **own,
        ),
        callbacks=[Watch()],
        **more,
    )
    made.train()
    made.save_model(str(folder / "out"))
    return clock


def bare_sft(folder: Path, steps: int) -> Clock:
    from trl import SFTConfig, SFTTrainer

    own = {"learning_rate": STEPS["learning_rate"], "warmup_steps": STEPS["warmup"], "max_length": STEPS["max_length"]}
    own |= {"per_device_train_batch_size": STEPS["batch_size"]}
    return bare(
        folder, steps, SFTTrainer, SFTConfig, rows(4 * steps), {}, weight_decay=0.01, lr_scheduler_type="linear", **own
    )


RUNS: dict[str, dict[str, Callable[[Path, int], Clock]]] = {"sft": {"guerdon": guerdon_sft, "bare trl": bare_sft}}


def measure(kind: str, steps: int, turns: int) -> None:
    """Print both, and the ratios."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS[kind]}
    for turn in range(turns):
        for name in sorted(found, reverse=bool(turn % 2)):
            command = [sys.executable, __file__, kind, "--steps", str(steps), "--one", name]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found[name].append(one := json.loads(ran.stdout.splitlines()[-1]))
            print(f"{name}: {statistics.mean(one['each']):.3f} s a step, {one['peak']:.0f} MiB", file=sys.stderr)
    ours, bare = found.values()
    assert abs(ours[0]["losses"][0] - bare[0]["losses"][0]) < 1e-3, (ours[0]["losses"], bare[0]["losses"])
    lines = []
    for name, all_ in found.items():
        steps_ = [second for one in all_ for second in one["each"]]
        lines.append([name, statistics.mean(steps_), statistics.median(steps_), max(one["peak"] for one in all_)])
    lines.append(["ratio", *(a / b for a, b in zip(lines[0][1:], lines[1][1:], strict=True))])
    heads = [kind, "CPU s a step, mean", "median", "peak MiB"]
    print(table(heads, [[line[0], *(f"{figure:.3f}" for figure in line[1:])] for line in lines]))
    print(f"losses {ours[0]['losses'][0]:.4f} to {ours[0]['losses'][-1]:.4f}, and {bare[0]['losses'][-1]:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("kind", choices=RUNS)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if asked.one:
        with tempfile.TemporaryDirectory() as folder:
            RUNS[asked.kind][asked.one](Path(folder), asked.steps).print()
    else:
        measure(asked.kind, asked.steps, asked.turns)


if __name__ == "__main__":
    main()

"""What a training says and leaves: its figures as they come, checkpoints to go on from, the result."""

import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guerdon.errors import TrainingError
from guerdon.training import TrainingJob

WEIGHTS = ("adapter_model*", "model*.safetensors", "pytorch_model*")
UNSAID = ("total_flos", "num_tokens", "eval_num_tokens", "eval_runtime")
"""Figures of trl's that are totals, or times of little use."""


def reporter(job: TrainingJob, first: Mapping[str, float] | None = None) -> Any:
    """A callback that hands the figures of each step to the job, with tokens per second, and GPU memory in GiB.

    `first` are figures for the step before the first. It raises `TrainingError` at a loss that is not a number. At the
    end no checkpoint is written, for the result is: unless the best of all is looked for, or they are pushed to a hub.
    What goes on from a checkpoint goes on with today's settings, and a step of more or fewer rows is said.
    """
    import torch
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState

    class Reporter(TrainerCallback, ExportableState):  # type: ignore[misc]  # transformers is untyped here
        last = 0.0
        seen = 0.0
        rows = 0

        def state(self) -> dict[str, Any]:  # kept in a checkpoint's trainer_state.json
            return {"args": {}, "attributes": {"rows": self.rows}}

        def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
            self.last = time.perf_counter()
            self.rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            if state.global_step:
                _settle_anew(args, state, of["optimizer"], of["lr_scheduler"])
                had = kept_state(state.stateful_callbacks, "Reporter").get("rows", self.rows)
                if had != self.rows:
                    job.say(
                        f"a step has {self.rows} rows now, and had {had}: the {state.global_step} steps done count as "
                        "steps of today's size, so the place in the data is another. With another batch_size, change "
                        "gradient_accumulation too, or set global_batch"
                    )
            job.log(state.global_step, state.max_steps, {} if state.global_step else first or {})

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps and not (args.load_best_model_at_end or args.push_to_hub):
                control.should_save = False

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "train_runtime" in logs:  # the summary at the end
                return
            step = f"at step {state.global_step}"
            for name in ("loss", "eval_loss"):
                if not math.isfinite(logs.get(name, 0.0)):
                    raise TrainingError(f"The {name} is {logs[name]} {step}. Lower the learning_rate.")
            figures = {name: float(logs[name]) for name in logs if _worth(name, logs[name])}
            if "num_tokens" in logs:
                now, seen = time.perf_counter(), float(logs["num_tokens"])
                if seen > self.seen and "loss" in logs:
                    figures["tokens_per_second"] = (seen - self.seen) / (now - self.last)
                self.last, self.seen = now, seen
            if "loss" in logs and args.device.type == "cuda":  # GiB, the most that was held since the start
                figures["gpu_memory"] = torch.cuda.max_memory_reserved() / 2**30
            job.log(state.global_step, state.max_steps, figures)

        def _pause(self, *_: Any, **__: Any) -> None:
            self.last = time.perf_counter()

        on_evaluate = on_save = _pause  # their time is not the training's

    return Reporter()


def _settle_anew(args: Any, state: Any, optimizer: Any, scheduler: Any) -> None:
    """Put the settings over what transformers has loaded with a checkpoint: unchanged, they change nothing."""
    from torch.optim.lr_scheduler import LambdaLR

    state.compute_steps(args, state.max_steps)  # between two checkpoints, or evaluations
    scheduler = getattr(scheduler, "scheduler", scheduler)  # accelerate's wrapper has torch's own
    if not isinstance(scheduler, LambdaLR):  # DeepSpeed's own has settings of its own
        return
    groups, rates = optimizer.param_groups, scheduler.base_lrs
    peak = rates[0]
    for i, (group, course) in enumerate(zip(groups, scheduler.lr_lambdas, strict=False)):  # DeepSpeed drops empty ones
        if rates[i] == peak:  # an optimizer may have groups with a rate of their own
            rates[i] = group["initial_lr"] = args.learning_rate
        group["lr"] = rates[i] * course(scheduler.last_epoch)
        if i == 0 or group.get("weight_decay"):  # the first is what decays, by transformers; norms and biases do not
            group["weight_decay"] = args.weight_decay
    scheduler._last_lr = [group["lr"] for group in groups]


def kept_state(stateful: Mapping[str, Any], callback: str) -> dict[str, Any]:
    """What a checkpoint has of a callback, by its class's name: `stateful_callbacks` of its trainer_state.json."""
    return dict(stateful.get(callback, {}).get("attributes", {}))


def _worth(name: str, value: Any) -> bool:
    return isinstance(value, int | float) and name not in UNSAID and not name.endswith("_per_second")


def last_checkpoint(job: TrainingJob, resume_from: str | None = None) -> str | None:
    """The checkpoint to go on from: the one named, else the newest in the job's work folder, `None` without any.

    `resume_from` is a folder, or the name or the number of a checkpoint in the work folder. One whose writing was cut
    short is passed over, with a word.

    Raises:
        TrainingError: the checkpoint named is not there or not whole.
    """
    found = sorted(job.work.glob("checkpoint-*"), key=_number)
    if resume_from:
        number = re.search(r"\d+$", resume_from)
        named = [Path(resume_from), job.work / resume_from]
        named += [path for path in found if number and _number(path) == int(number[0])]
        whole = [path for path in named if path.is_dir() and not _lacks(path)]
        if whole:
            return str(whole[0])
        broken = "".join(f" {path.name} lacks {_lacks(path)}." for path in dict.fromkeys(named) if path.is_dir())
        there = ", ".join(path.name for path in found if not _lacks(path)) or "none"
        raise TrainingError(f"resume_from: no checkpoint {resume_from}.{broken} In {job.work} there are: {there}.")
    for path in reversed(found):
        if not (lacks := _lacks(path)):
            job.say(f"going on from {path.name}")
            return str(path)
        job.say(f"{path.name} was not written to its end, it lacks {lacks}: passed over")
    return None


def _number(path: Path) -> int:
    number = re.search(r"\d+$", path.name)
    return int(number[0]) if number else -1


def _lacks(path: Path) -> str:
    """What a checkpoint lacks to be gone on from, '' if nothing. trainer_state.json is written last."""
    try:
        json.loads((path / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return "a readable trainer_state.json"
    # ZeRO and FSDP keep weights and optimizer in folders
    sharded = any(child.is_dir() for child in path.iterdir())
    if not sharded and not any(file for pattern in WEIGHTS for file in path.glob(pattern)):
        return "weights"
    if not sharded and not (path / "optimizer.pt").exists():
        return "optimizer.pt"
    return "" if any(path.glob("rng_state*.pth")) else "rng_state.pth"


def save(trainer: Any, tokenizer: Any, job: TrainingJob) -> None:
    """Write the adapter, or the whole model, with the tokenizer to the job's output: in every process.

    The model's cache, which training does without, is on again in what is written.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.config.use_cache = True
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        trainer.save_model(str(job.output))  # gathers what is sharded, so all take part
        (job.output / "training_args.bin").unlink(missing_ok=True)
    elif trainer.args.should_save:
        # the vocabulary is never changed; "auto" would ask the hub
        adapter: dict[str, Any] = {}
        if hasattr(model, "peft_config"):  # beside ours trl may have put a frozen one, for reference
            adapter = {"save_embedding_layers": False, "selected_adapters": ["default"]}
        model.save_pretrained(str(job.output), **adapter)
    if trainer.args.should_save:
        tokenizer.save_pretrained(str(job.output))
    trainer.accelerator.wait_for_everyone()

"""Supervised fine-tuning of a LoRA adapter, on trl's SFTTrainer and peft.

trl is configured, never subclassed. Every value is passed explicitly: Unsloth changes trl's defaults.
"""

import dataclasses
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from guerdon.errors import TrainingError, near_miss
from guerdon.training import Log, TrainingJob
from guerdon_trainers.rows import TokenRow, TokenRows, read_rows, token_rows

OURS = {
    "learning_rate": "learning_rate",
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "schedule",
    "weight_decay": "weight_decay",
    "max_length": "max_length",
    "gradient_checkpointing": "gradient_checkpointing",
    "packing": "packing",
    "seed": "the recipe's seed",
    "output_dir": "the run's folder",
}
"""SFTConfig's names that `options` may not hold, and what to use."""

RENAMED = {
    "lr": "learning_rate",
    "lora_r": "lora_rank",
    "lr_scheduler_type": "schedule",
    "max_seq_length": "max_length",
    "micro_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
}
"""What these settings are called elsewhere, or once were."""

METRICS = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy", "epoch", "num_tokens")


def sft(
    job: TrainingJob,
    *,
    learning_rate: PositiveFloat = 2e-4,
    epochs: PositiveFloat = 1.0,
    max_steps: int = -1,
    batch_size: PositiveInt = 2,
    gradient_accumulation: PositiveInt = 4,
    warmup: NonNegativeFloat = 0.03,
    schedule: Literal["linear", "cosine", "constant", "cosine_with_min_lr"] = "linear",
    weight_decay: float = 0.01,
    max_length: PositiveInt = 4096,
    lora_rank: PositiveInt = 32,
    lora_alpha: PositiveInt = 32,
    lora_dropout: float = 0.0,
    lora_targets: str | list[str] = "all-linear",
    gradient_checkpointing: bool | None = None,
    packing: bool = False,
    threads: int | None = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Supervised fine-tuning of a LoRA adapter on the best trajectories, or on demonstrations.

    Defaults follow Agent Lightning's Unsloth example. Raises `TrainingError` when there is nothing to learn from, a
    setting cannot be honoured, the loss is not a number, or memory runs out.

    Args:
        learning_rate: Peak learning rate.
        epochs: Times that all rows are seen; ignored when max_steps is set.
        max_steps: Optimizer steps; -1 for whole epochs.
        batch_size: Rows per device and forward pass.
        gradient_accumulation: Forward passes per optimizer step.
        warmup: Steps of warm-up; below 1, their share of all steps.
        schedule: Course of the learning rate after warm-up.
        weight_decay: AdamW's weight decay.
        max_length: Longest row in tokens; the end of a longer one is cut off.
        lora_rank: Rank of the adapter.
        lora_alpha: Scale of the adapter, mostly once or twice its rank.
        lora_dropout: Dropout before the adapter.
        lora_targets: Names of the layers that get an adapter, or "all-linear".
        gradient_checkpointing: Less memory for more time; by default on a GPU only.
        packing: Join short rows up to max_length (wants flash attention).
        threads: CPU threads for torch; by default torch decides.
        options: Anything else of trl's SFTConfig, by its own name.
    """
    arguments = {
        "output_dir": str(job.output),
        "seed": job.seed,
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation,
        "warmup_steps": warmup,
        "lr_scheduler_type": schedule,
        "weight_decay": weight_decay,
        "max_length": max_length,
        "packing": packing,
    }
    lora = {
        "r": lora_rank,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "target_modules": lora_targets,
    }
    rows = read_rows(job.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _hush()
        import torch
        from transformers import AutoTokenizer

        if threads:
            torch.set_num_threads(threads)
        config = _config(arguments, gradient_checkpointing, options or {})
        tokenizer = AutoTokenizer.from_pretrained(job.model)
        tokens = token_rows(tokenizer, rows, max_length)
        model, peft_config = _model(job, lora)
        try:
            _train(job, config, model, peft_config, tokenizer, tokens)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                "Out of GPU memory. Lower batch_size and raise gradient_accumulation, lower max_length or lora_rank, "
                f"or take a smaller model. {error}"
            ) from error


sft.renamed = RENAMED  # type: ignore[attr-defined]


def _config(arguments: dict[str, Any], checkpointing: bool | None, options: Mapping[str, Any]) -> Any:
    """trl's SFTConfig for these settings and this machine."""
    import torch
    from trl import SFTConfig

    known = {f.name for f in dataclasses.fields(SFTConfig) if f.init}
    for name in options:
        if name in OURS:
            raise TrainingError(f"trainer.sft.options.{name}: use {OURS[name]} instead.")
        if name not in known:
            raise TrainingError(f"trainer.sft.options.{name}: trl's SFTConfig has no such option.{_hint(name, known)}")
    gpu = torch.cuda.is_available() and not options.get("use_cpu", False)
    bf16 = gpu and torch.cuda.is_bf16_supported()
    defaults = {
        "use_cpu": not gpu,
        "bf16": bf16,
        "fp16": gpu and not bf16,
        "gradient_checkpointing": gpu if checkpointing is None else checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_pin_memory": gpu,
        "optim": "adamw_torch",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "max_grad_norm": 1.0,
        "loss_type": "nll",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1} if "min_lr" in arguments["lr_scheduler_type"] else {},
        "data_seed": arguments["seed"],
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        # packing is the one thing left for trl to do to the rows
        "dataset_kwargs": {"skip_prepare_dataset": not arguments["packing"]},
    }
    try:
        return SFTConfig(**arguments, **{**defaults, **options})
    except (TypeError, ValueError) as error:
        raise TrainingError(f"trl refuses the trainer's settings: {error}") from error


def _hint(name: str, known: set[str]) -> str:
    hint = near_miss(name, known)
    return hint if hint.startswith(" Did") else ""  # SFTConfig has too many to list


def _model(job: TrainingJob, lora: dict[str, Any]) -> tuple[Any, Any]:
    """The model, and the config of its new adapter; or the model with the adapter to go on from, and `None`."""
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import AutoModelForCausalLM

    dtype = torch.float32
    if torch.cuda.is_available():
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype)
    if job.adapter is None:
        return model, LoraConfig(**lora, bias="none", task_type="CAUSAL_LM")
    adapted = PeftModel.from_pretrained(model, str(job.adapter), is_trainable=True)
    has = adapted.peft_config["default"]
    for name, setting in (("r", "lora_rank"), ("lora_alpha", "lora_alpha")):
        if getattr(has, name) != lora[name]:
            raise TrainingError(
                f"{setting} is {lora[name]}, but the adapter {job.adapter} was made with {getattr(has, name)}. "
                f"Set {setting} to {getattr(has, name)}, or start a new adapter."
            )
    return adapted, None


def _train(job: TrainingJob, config: Any, model: Any, peft_config: Any, tokenizer: Any, tokens: TokenRows) -> None:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(_columns(tokens.rows)),
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=[_reporter(job.log, tokens)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    # the vocabulary is never changed; "auto" would ask the hub
    trainer.model.save_pretrained(str(job.output), save_embedding_layers=False)
    tokenizer.save_pretrained(str(job.output))


def _columns(rows: list[TokenRow]) -> list[TokenRow]:
    return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]


def _reporter(log: Log, tokens: TokenRows) -> Any:
    """A callback that hands each step's figures to the job, and stops at a loss that is not a number."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        last = 0.0
        seen = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.last = time.perf_counter()
            rows = {"rows": len(tokens.rows), "rows_cut": tokens.cut, "rows_dropped": tokens.dropped}
            log(0, state.max_steps, rows)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" not in logs:  # the summary at the end
                return
            figures = {name: float(logs[name]) for name in METRICS if name in logs}
            if not math.isfinite(figures["loss"]):
                raise TrainingError(
                    f"The loss is {figures['loss']} at step {state.global_step}. Lower the learning_rate."
                )
            now, seen = time.perf_counter(), figures.pop("num_tokens", 0.0)
            figures["tokens_per_second"] = (seen - self.seen) / (now - self.last)
            self.last, self.seen = now, seen
            log(state.global_step, state.max_steps, figures)

    return Reporter()


def _hush() -> None:
    """Keep the libraries from printing: the parent process shows the progress."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # before torch is imported: threads that spin while they wait make a shared machine ten times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("trl", "peft", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)

"""From guerdon's settings to the configuration classes of trl, every value said.

trl's defaults change between releases, and Unsloth changes them again when it is imported; so nothing is left to them.
What has no setting of its own is an entry of `options`, by trl's own name.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.errors import TrainingError, near_miss
from guerdon.training import TrainingJob
from guerdon_trainers.batches import Batch

OURS = {
    "learning_rate": "learning_rate",
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "warmup_steps": "warmup",
    "warmup_ratio": "warmup",
    "lr_scheduler_type": "schedule",
    "weight_decay": "weight_decay",
    "gradient_checkpointing": "gradient_checkpointing",
    "save_steps": "save_steps",
    "save_total_limit": "save_limit",
    "resume_from_checkpoint": "resume_from",
    "report_to": "report_to",
    "seed": "the recipe's seed",
    "output_dir": "the run's folder",
    "overwrite_output_dir": "nothing: each run has a folder of its own",
    "chat_template_path": "chat_template",
    "torch_dtype": "options.model_init_kwargs: {dtype: ...}",
    "dtype": "options.model_init_kwargs: {dtype: ...}",
    "attn_implementation": "options.model_init_kwargs: {attn_implementation: ...}",
}
"""Names that `options` may not hold, and what to use."""

RENAMED = {
    "lr": "learning_rate",
    "num_train_epochs": "epochs",
    "micro_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "train_batch_size": "global_batch",
    "lr_scheduler_type": "schedule",
    "lr_scheduler": "schedule",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "max_seq_length": "max_length",
    "lora_r": "lora_rank",
    "target_modules": "lora_targets",
    "lora_target_modules": "lora_targets",
    "use_gradient_checkpointing": "gradient_checkpointing",
    "save_total_limit": "save_limit",
    "resume_from_checkpoint": "resume_from",
    "logger": "report_to",
    "chat_template_path": "chat_template",
}
"""What settings are called in trl, peft, Unsloth and verl, or once were."""

BY_OPTIONS = (
    *("bf16", "fp16", "optim", "max_grad_norm", "adam_beta1", "adam_beta2", "logging_steps", "lr_scheduler_kwargs"),
    *("gradient_checkpointing_kwargs", "use_liger_kernel", "deepspeed", "run_name"),
)
ELSEWHERE = {
    "seed": "the recipe's own `seed`",
    "output_dir": "the run's folder, chosen by `guerdon run`",
    "overwrite_output_dir": "nowhere: each run has a folder of its own, and an interrupted one is gone on with",
    "load_in_4bit": "`tuning: qlora`",
    "use_lora": "`tuning: lora`",
    "use_peft": "`tuning: lora`",
    "full_finetuning": "`tuning: full`",
    "torch_dtype": "`options: {model_init_kwargs: {dtype: bfloat16}}`",
    "dtype": "`options: {model_init_kwargs: {dtype: bfloat16}}`",
    "attn_implementation": "`options: {model_init_kwargs: {attn_implementation: ...}}`",
    "lora_dropout": "`lora_options: {lora_dropout: ...}`",
    "use_rslora": "`lora_options: {use_rslora: ...}`",
    "dataset_num_proc": "`options: {dataset_num_proc: ...}`",
    "push_to_hub": "`guerdon export RUN --push user/name`",
    "hub_model_id": "`guerdon export RUN --push user/name`",
    **{name: f"`options: {{{name}: ...}}`" for name in BY_OPTIONS},
}
"""Where in the recipe things are that users may look for among a trainer's settings."""

UNSLOTH_DECIDES = ("padding_free",)
"""Speed alone depends on these, and Unsloth finds out by itself what a model can do."""
PIP = {"wandb": "wandb", "trackio": "trackio", "tensorboard": "tensorboard"}
"""The packages of what can be reported to."""


def common(
    job: TrainingJob,
    batch: Batch,
    *,
    learning_rate: float,
    epochs: float,
    max_steps: int,
    warmup: float,
    schedule: str,
    weight_decay: float,
    gradient_checkpointing: bool | str | None,
    save_steps: int,
    save_limit: int,
    report_to: Sequence[str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The values of transformers' TrainingArguments that all trainers share, for this machine and these settings.

    Precision is bf16 on a GPU that has it, fp16 on one that has not, neither on a CPU. `options` is looked at for what
    decides over others (`use_cpu`, `bf16`, `fp16`); `config` puts all of it over these values.
    """
    gpu, bf16 = _device(options)
    return {
        "output_dir": str(job.work),
        "seed": job.seed,
        "data_seed": job.seed,
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "per_device_train_batch_size": batch.batch_size,
        "per_device_eval_batch_size": batch.eval_batch_size,
        "gradient_accumulation_steps": batch.accumulation,
        "warmup_steps": warmup,
        "lr_scheduler_type": schedule,
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1} if "min_lr" in schedule else {},
        "weight_decay": weight_decay,
        "optim": "adamw_torch_fused",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "use_cpu": not gpu,
        "bf16": bf16,
        "fp16": gpu and not bf16,
        "gradient_checkpointing": gpu if gradient_checkpointing is None else bool(gradient_checkpointing),
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "use_cache": False,
        "dataloader_pin_memory": gpu,
        "ddp_find_unused_parameters": False,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": _reports(report_to, job),
        "eval_strategy": "no",
        "save_strategy": "steps" if save_steps else "no",
        "save_steps": save_steps or 500,
        "save_total_limit": save_limit,
        "save_only_model": False,
        "torch_empty_cache_steps": None,
    }


def _device(options: Mapping[str, Any]) -> tuple[bool, bool]:
    """Is it trained on a GPU; and in bf16."""
    import torch

    gpu = torch.cuda.is_available() and not options.get("use_cpu", False)
    if options.get("bf16") is not None:
        return gpu, bool(options["bf16"])
    # a T4 emulates bf16, slower than it computes fp16
    return gpu, gpu and not options.get("fp16") and torch.cuda.is_bf16_supported(including_emulation=False)


def _reports(names: Sequence[str], job: TrainingJob) -> list[str]:
    """Raises `TrainingError` for a package that is not there; the console is always written to. TensorBoard's files
    are put beside the work folder, which is emptied in the end."""
    wanted = [name for name in names if name not in ("console", "none")]
    for name in wanted:
        if name in PIP and importlib.util.find_spec(PIP[name]) is None:
            raise TrainingError(f"report_to: {name} is not installed: pip install {PIP[name]}")
    if "tensorboard" in wanted:
        folder = os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(job.work.parent / "tensorboard" / job.work.name))
        job.say(f"tensorboard --logdir {folder}")
    return wanted or ["none"]


def config(
    cls: type,
    values: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    ours: Mapping[str, str],
    where: str,
) -> Any:
    """An instance of a trl configuration class: `options` over `values` over trl's own defaults.

    `ours` are the names, beside `OURS`, that options may not hold, and what to use. `model_init_kwargs` is left out:
    it is for `model.load`. `where` leads to the options in the recipe ("trainer.sft.options").

    Raises:
        TrainingError: an option that the class does not have or that a setting stands for, or a value it refuses.
    """
    # trl's own class, where Unsloth has put its subclass with other defaults before it
    plain = next(base for base in cls.__mro__ if base.__module__.startswith("trl."))
    fields = {field.name: field for field in dataclasses.fields(plain) if field.init}
    taken = {**OURS, **ours}
    for name in options:
        if name in taken:
            raise TrainingError(f"{where}.{name}: use {taken[name]} instead.")
        if name not in fields and name not in {field.name for field in dataclasses.fields(cls)}:
            hint = near_miss(name, fields, listing=False)
            raise TrainingError(f"{where}.{name}: trl's {plain.__name__} has no such option.{hint}")
    given = {**values, **{name: value for name, value in options.items() if name != "model_init_kwargs"}}
    if cls is not plain:
        given = {**_defaults(fields.values()), **given}
    try:
        return cls(**given)
    except (TypeError, ValueError, ImportError) as error:
        raise TrainingError(f"trl refuses the trainer's settings: {error}") from error


def _defaults(fields: Any) -> dict[str, Any]:
    made = {}
    for field in fields:
        if field.name in UNSLOTH_DECIDES:
            continue
        if field.default is not dataclasses.MISSING:
            made[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            made[field.name] = field.default_factory()
    return made

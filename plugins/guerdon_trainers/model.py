"""The model to train: all of it, a LoRA adapter, or one over a base in four bits; by transformers or by Unsloth.

Load it after the trainer's configuration was made: under ZeRO-3 transformers then shards it while it reads.
"""

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from guerdon.errors import TrainingError, near_miss
from guerdon.training import TrainingJob

Tuning = Literal["lora", "qlora", "full"]

LORA_SETTINGS = {"r": "lora_rank", "lora_alpha": "lora_alpha", "target_modules": "lora_targets"}
SHAPE = (
    *("lora_dropout", "bias", "lora_bias", "target_modules", "target_parameters", "exclude_modules", "modules_to_save"),
    *("rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "layers_to_transform", "layers_pattern"),
)
"""What makes one adapter's weights fit another."""
ABOUT_THE_HUB = ("revision", "token", "trust_remote_code", "cache_dir", "local_files_only")
"""Of `model_init_kwargs`, what the tokenizer is loaded with too."""


def lora_values(rank: int, alpha: int, targets: str | list[str], options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of peft's LoraConfig; raises `TrainingError` for an option it has not, or that has a setting."""
    from peft import LoraConfig

    known = {field.name for field in dataclasses.fields(LoraConfig)}
    for name in options or ():
        if name in LORA_SETTINGS:
            raise TrainingError(f"lora_options.{name}: use {LORA_SETTINGS[name]} instead.")
        if name not in known:
            hint = near_miss(name, known, listing=False)
            raise TrainingError(f"lora_options.{name}: peft's LoraConfig has no such option.{hint}")
    values = {"r": rank, "lora_alpha": alpha, "target_modules": targets}
    return {**values, "lora_dropout": 0.0, "bias": "none", "task_type": "CAUSAL_LM", **(options or {})}


def load_tokenizer(job: TrainingJob, init: Mapping[str, Any] | None = None) -> Any:
    """The tokenizer: that of the adapter to go on from where it has one, with its chat template, else the model's."""
    from transformers import AutoTokenizer

    adapter = job.adapter
    source = adapter if adapter and (adapter / "tokenizer_config.json").exists() else job.model
    return AutoTokenizer.from_pretrained(source, **{k: v for k, v in (init or {}).items() if k in ABOUT_THE_HUB})


def load(
    job: TrainingJob,
    backend: str,
    tuning: Tuning,
    lora: Mapping[str, Any],
    *,
    config: Any,
    max_length: int,
    init: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    gradient_checkpointing: bool | str | None = None,
    fast_inference: bool = False,
    gpu_memory: float = 0.5,
) -> tuple[Any, Any, Any]:
    """The model, its tokenizer (or the one given), and the peft config of the new adapter that trl is to add.

    The last is `None` where there is none to add: all of the model is trained, Unsloth has added it, or the job's
    adapter is gone on from.

    Args:
        lora: Made by `lora_values`.
        config: The trainer's configuration: its precision, its gradient checkpointing, its seed.
        max_length: The longest row in tokens; Unsloth wants it beforehand.
        init: What the user wants handed to `from_pretrained`, over what is chosen here.
        gradient_checkpointing: The setting; "unsloth" is Unsloth's own kind, and what it takes by default.
        fast_inference: Unsloth's, with vLLM in this process on the same weights.
        gpu_memory: The share of the GPU's memory that vLLM then takes.

    Raises:
        TrainingError: the adapter does not fit the settings, or a package is missing.
    """
    import torch

    if tuning == "full" and job.adapter:
        raise TrainingError(
            f"tuning: full trains the model's own weights, and so cannot go on from the adapter {job.adapter}. Take "
            "tuning: lora, or merge the adapter first (guerdon export --format merged_16bit) and train that model."
        )
    if job.adapter:
        _check_adapter(job.adapter, lora)
    init = {"dtype": _dtype(config, tuning), **(init or {})}
    init["dtype"] = getattr(torch, str(init["dtype"]), init["dtype"])  # a recipe has names
    for _, lacks in lacking_packages(tuning, init):
        raise TrainingError(lacks)
    tokenizer = tokenizer or load_tokenizer(job, init)
    try:
        if backend == "unsloth":
            kind = config.gradient_checkpointing and (
                "unsloth" if gradient_checkpointing is None else gradient_checkpointing
            )
            vllm = {"fast_inference": fast_inference, "gpu_memory_utilization": gpu_memory}
            model = _unsloth(job, tuning, lora, init, max_length, kind, vllm)
            return model, tokenizer, None
        model = _transformers(job, tuning, init, config)
    except ImportError as error:
        raise TrainingError(f"The model {job.model} cannot be loaded: {error}") from error
    if tuning == "full":
        return model, tokenizer, None
    from peft import LoraConfig, PeftModel

    if job.adapter:
        # as trl makes new ones: ZeRO-3 takes no mixture of types
        stage = getattr(getattr(config, "deepspeed_plugin", None), "zero_stage", 0)
        exact = {"autocast_adapter_dtype": False} if stage == 3 and tuning != "qlora" else {}
        return PeftModel.from_pretrained(model, str(job.adapter), is_trainable=True, **exact), tokenizer, None
    return model, tokenizer, LoraConfig(**lora)


def _dtype(config: Any, tuning: Tuning) -> Any:
    """The weights': what is computed in; but gradients in fp16 cannot be scaled, so what is trained is in fp32 then."""
    import torch

    if config.bf16:
        return torch.bfloat16
    return torch.float16 if config.fp16 and tuning != "full" else torch.float32


def _check_adapter(adapter: Path, lora: Mapping[str, Any]) -> None:
    from peft import PeftConfig

    has = PeftConfig.from_pretrained(str(adapter))
    for name in ("r", "lora_alpha"):
        if getattr(has, name, None) != lora[name]:
            raise TrainingError(
                f"{LORA_SETTINGS[name]} is {lora[name]}, but the adapter {adapter} was made with "
                f"{getattr(has, name, None)}. Set {LORA_SETTINGS[name]} to that, or start a new adapter."
            )


FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""What transformers imports for these; where it is not there, it asks `kernels`."""


def lacking_packages(tuning: Tuning, init: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The settings (as paths to them) that need a package which is not installed, and what to do."""
    if tuning == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
        yield (
            ("tuning",),
            "tuning: qlora needs bitsandbytes, which is not installed: pip install 'guerdon[quantize]'. Without a GPU, "
            "take tuning: lora.",
        )
    attention = str(init.get("attn_implementation"))
    own = FLASH.get(attention)
    if (own or "/" in attention) and not any(map(importlib.util.find_spec, filter(None, ["kernels", own]))):
        either = ", or flash-attn itself (--no-build-isolation)" if own == "flash_attn" else ""
        yield (
            ("options", "model_init_kwargs", "attn_implementation"),
            f"attn_implementation: {attention} needs a package that is not installed: pip install kernels, which "
            f"fetches it built{either}. Without it, leave attn_implementation out.",
        )


def _transformers(job: TrainingJob, tuning: Tuning, init: dict[str, Any], config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    if tuning != "qlora":
        return AutoModelForCausalLM.from_pretrained(job.model, **init)
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=init["dtype"],
        bnb_4bit_quant_storage=init["dtype"],  # of one type throughout, so that it can be sharded
    )
    model = AutoModelForCausalLM.from_pretrained(job.model, **{"quantization_config": four_bits, **init})
    return prepare_model_for_kbit_training(
        model,
        use_gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs=config.gradient_checkpointing_kwargs,
    )


def _unsloth(
    job: TrainingJob,
    tuning: Tuning,
    lora: Mapping[str, Any],
    init: Mapping[str, Any],
    max_length: int,
    checkpointing: bool | str,
    vllm: Mapping[str, Any],
) -> Any:
    """Everything said, for Unsloth's defaults are its own: four bits, another model of nearly the name, a seed."""
    from unsloth import FastLanguageModel  # type: ignore[import-not-found,unused-ignore]

    model, _ = FastLanguageModel.from_pretrained(
        **{
            "model_name": job.model,
            "use_exact_model_name": True,
            "max_seq_length": max_length,
            "load_in_4bit": tuning == "qlora",
            "load_in_8bit": False,
            "full_finetuning": tuning == "full",
            "use_gradient_checkpointing": checkpointing,
            "random_state": job.seed,
            "max_lora_rank": lora["r"],
            **vllm,
            **init,
        }
    )
    if tuning == "full":
        return model
    from peft import PeftConfig, load_peft_weights, set_peft_model_state_dict

    # an adapter's base is where it was trained, perhaps elsewhere; so a new one is made like it, and filled
    old = PeftConfig.from_pretrained(str(job.adapter)).to_dict() if job.adapter else {}
    model = FastLanguageModel.get_peft_model(
        model,
        **{
            "loftq_config": None,
            "use_rslora": False,
            **{name: value for name, value in lora.items() if name != "task_type"},
            **{name: value for name, value in old.items() if name in SHAPE and (value or name in lora)},
            "use_gradient_checkpointing": checkpointing,
            "random_state": job.seed,
            "temporary_location": str(job.work / "unsloth_buffers"),
        },
    )
    if job.adapter:
        found = set_peft_model_state_dict(model, load_peft_weights(str(job.adapter)))
        lost = [*found.unexpected_keys, *(key for key in found.missing_keys if "lora_" in key)]
        if lost:
            raise TrainingError(
                f"Unsloth's model does not take all of the adapter {job.adapter}: {', '.join(lost[:3])} "
                f"({len(lost)} in all). Take backend: transformers."
            )
    return model


def settle(trainer: Any) -> None:
    """What trl leaves undone once it has the model; call it before `train`.

    trl makes an adapter over four bits bf16; the gradient scaler of fp16, for cards without bf16, cannot take that.
    """
    import torch

    if trainer.args.fp16:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                parameter.data = parameter.data.float()

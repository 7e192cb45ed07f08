"""A trained model in memory: the base with its adapter, beside it or merged into it."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guerdon.export import ExportError, ExportJob


def trained(job: ExportJob) -> Any:
    """The model with its adapter, unmerged, in float32: what an export is compared with."""
    import torch

    model = load(job.model, torch.float32)
    return model if job.adapter is None else with_adapter(_ending(model, job), job.adapter)


def merged(job: ExportJob) -> Any:
    """The model with its adapter merged into it, in the type that the base is stored in."""
    model = load(job.model, "auto")
    if job.adapter is None:
        return model
    job.say("merging the adapter")
    return with_adapter(_ending(model, job), job.adapter).merge_and_unload(safe_merge=True)


def _ending(model: Any, job: ExportJob) -> Any:
    """A base that stops where the training's tokenizer ends a turn, and where it stopped before."""
    end = tokenizer_of(job).eos_token_id
    if end is not None:
        before = model.generation_config.eos_token_id
        others = before if isinstance(before, list) else [before]
        ends = list(dict.fromkeys([end, *(other for other in others if other is not None)]))
        model.config.eos_token_id = end
        model.generation_config.eos_token_id = ends if len(ends) > 1 else end
    return model


def in_16_bits(model: Any) -> Any:
    """A model in its own 16-bit type, or in bfloat16."""
    import torch

    return model if model.dtype == torch.float16 else model.to(torch.bfloat16)


def load(model: str, dtype: Any, **options: Any) -> Any:
    """A model for inference, on the CPU.

    Raises:
        ExportError: its weights are quantised already: there is nothing to merge an adapter into.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if not options and getattr(AutoConfig.from_pretrained(model), "quantization_config", None):
        raise ExportError(f"the weights of {model} are quantised: train on, and export from, the 16-bit model")
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype, **options).eval()


def with_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter)).eval()


def tokenizer_of(job: ExportJob) -> Any:
    """The tokenizer that was saved with the training, else the model's."""
    from transformers import AutoTokenizer

    own = job.adapter is not None and any((job.adapter / n).is_file() for n in ("tokenizer.json", "tokenizer.model"))
    return AutoTokenizer.from_pretrained(str(job.adapter) if own else job.model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and advice in the log."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its threads else spin while they wait
    from transformers.utils import logging as noise

    noise.set_verbosity_error()
    noise.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

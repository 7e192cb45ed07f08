"""Which libraries train: Unsloth, where there is a GPU and the package, else transformers with peft. trl on both.

Unsloth has to be imported before the libraries that it patches, and raises without a GPU; so it is looked for without
importing it, and imported in the training process only.
"""

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from guerdon.errors import TrainingError
from guerdon.training import TrainingJob

Asked = Literal["auto", "transformers", "unsloth"]
PATCHED = ("trl", "transformers", "peft")
"""What Unsloth patches, and so must be imported before."""


def choose(
    asked: Asked, *, checkpointing: bool | str | None = None, cuda: bool | None = None, world: int = 1
) -> tuple[str, str]:
    """The backend's name, and why it is that.

    `cuda` says whether there is a GPU; by default torch is asked. `checkpointing` is the setting
    `gradient_checkpointing`: "unsloth" is to be had there only. `world` is how many processes train together.

    Raises:
        TrainingError: Unsloth was asked for, by name or by its gradient checkpointing, and cannot be had.

    >>> choose("transformers")
    ('transformers', 'as the recipe says')
    """
    if checkpointing == "unsloth" and asked == "transformers":
        raise TrainingError(
            'gradient_checkpointing: "unsloth" is Unsloth\'s own, and backend is transformers. Set it to true, or '
            "backend to unsloth or auto."
        )
    if asked == "transformers":
        return "transformers", "as the recipe says"
    hindrance = _hindrance(cuda, world)
    if asked == "unsloth" and hindrance:
        raise TrainingError(f"backend: unsloth cannot be used: {hindrance}. Set backend to transformers or auto.")
    if hindrance and checkpointing == "unsloth":
        raise TrainingError(
            f'gradient_checkpointing: "unsloth" is Unsloth\'s own, which cannot be used: {hindrance}. Set it to true.'
        )
    if asked == "unsloth":
        return "unsloth", "as the recipe says"
    return ("transformers", hindrance) if hindrance else ("unsloth", "there is a GPU, and the package")


def choose_for_grpo(
    asked: Asked, *, checkpointing: bool | str | None = None, cuda: bool | None = None, world: int = 1
) -> tuple[str, str]:
    """As `choose`, but Unsloth by name alone: where it was measured it took less memory and longer steps than
    transformers (docs/benchmarks.md), and it was not run with an agent's rollouts."""
    if asked == "auto" and checkpointing != "unsloth" and not _hindrance(cuda, world):
        return "transformers", "Unsloth's GRPO is taken when it is asked for by name"
    return choose(asked, checkpointing=checkpointing, cuda=cuda, world=world)


def _hindrance(cuda: bool | None, world: int) -> str:
    """Why Unsloth cannot be used, or ''."""
    if not (_cuda() if cuda is None else cuda):
        return "no CUDA device"
    if importlib.util.find_spec("unsloth") is None:
        return "the package is not installed (pip install 'guerdon[unsloth]')"
    if world > 1:
        return f"{world} processes train together, which it does not shard a model for"
    early = [name for name in PATCHED if name in sys.modules and "unsloth" not in sys.modules]
    return f"{early[0]} was imported before it" if early else ""


def _cuda() -> bool:
    _environment()
    import torch

    return bool(torch.cuda.is_available())


def prepare(job: TrainingJob, name: str, *, threads: int | None = None, grpo: bool = False) -> None:
    """Make this process ready: the backend's patches, its caches in the job's work folder, libraries that do not print,
    `threads` CPU threads for torch, and on a CPU the loss that trl 1.15.0 lacks there. `grpo`: that is what it is
    for."""
    _environment()
    job.work.mkdir(parents=True, exist_ok=True)
    if name == "unsloth":
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(job.work.resolve() / "unsloth"))
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        if Path(job.model).is_dir():
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # else it asks the hub for a folder's name
        if grpo:
            # it unrolls the loss over four pieces a row, and compiling 256 of them took longer than the training
            os.environ.setdefault("UNSLOTH_COMPILE_DISABLE", "partial")
        import unsloth  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    import datasets
    import torch
    import transformers

    from guerdon_trainers import cpu_kernels

    if threads:
        torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for library in ("trl", "peft", "datasets", "accelerate"):
        logging.getLogger(library).setLevel(logging.ERROR)
    cpu_kernels.install()


def warm(job: TrainingJob, settings: Mapping[str, Any]) -> None:
    """Import what `sft` will need, before its rows are there; no model is loaded."""
    name, _ = choose(settings["backend"], checkpointing=settings["gradient_checkpointing"], world=job.world)
    prepare(job, name, threads=settings["threads"])
    imports()


def imports() -> None:
    """What libraries import when it is first used."""
    with guarded():
        from peft import LoraConfig, PeftModel  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
        from trl import SFTConfig, SFTTrainer  # noqa: F401


def _environment() -> None:
    """What has to be set before torch is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # threads that spin while they wait make a shared machine ten times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def guarded() -> Iterator[None]:
    """Training goes on inside: the libraries' warnings are left out, memory that runs out is a `TrainingError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                "Out of GPU memory. Lower batch_size and raise gradient_accumulation, lower max_length or lora_rank, "
                f"or take a smaller model. {error}"
            ) from error

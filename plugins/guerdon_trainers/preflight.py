"""What can be known before a training starts, from the settings and the model's files alone: the batch, the steps, the
backend, the memory; and what cannot work. Nothing here imports torch.
"""

import importlib.util
import math
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from guerdon.errors import TrainingError, counted, near_miss
from guerdon.settings import SettingError
from guerdon.training import Facts
from guerdon_trainers import grpo as grpo_trainer
from guerdon_trainers import sft as sft_trainer
from guerdon_trainers.arguments import PIP
from guerdon_trainers.backend import choose, choose_for_grpo
from guerdon_trainers.batches import Batch, solve
from guerdon_trainers.failures import savings
from guerdon_trainers.generating import sampling_values
from guerdon_trainers.launcher import check as check_launch
from guerdon_trainers.launcher import precision
from guerdon_trainers.memory import RUNTIME, cards, estimate, has_cuda, read_config, read_model
from guerdon_trainers.model import lacking_packages
from guerdon_trainers.model_files import check_adapter, check_model
from guerdon_trainers.option_names import GRPO, SFT, check_options

PROMPT_TOKENS = 512
"""Assumed of a prompt, where no setting limits it."""
VLLM_SHARE = {"transformers": 0.3, "unsloth": 0.5}
"""`vllm_gpu_memory_utilization`, where options have none."""
REPORTS = (
    *("console", "none", "all", *PIP),
    *("azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow", "mlflow", "neptune"),
    "swanlab",
)
"""What can be reported to: transformers' own names."""


def sft(settings: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    """Notes on a supervised training.

    Raises:
        SettingError: it cannot work; `path` leads to the setting.
    """
    if settings["early_stop"] and not facts.validation:
        raise SettingError(
            "early_stop watches the loss on validation rows, and there are none: give data.validation "
            "(a number of rows, a fraction, or a source)",
            ("early_stop",),
        )
    backend = yield from _start(settings, facts)
    check_options(settings, SFT, sft_trainer.OURS, backend)
    batch = _batch(settings, facts, None)
    yield from _steps(batch, settings, facts.rows if not settings["packing"] else None, "row")
    yield from _memory(settings, facts, batch, batch.batch_size * settings["max_length"])


def grpo(settings: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    """Notes on a training by GRPO.

    Raises:
        SettingError: it cannot work; `path` leads to the setting.
    """
    if facts.sampling.get("temperature") == 0:
        raise SettingError(
            "sampling.temperature is 0: the attempts at a prompt would all be the same, and GRPO learns from their "
            "differences. Set it to 1.0, or 0.7 at least",
            ("sampling", "temperature"),
        )
    if not facts.rewards:
        raise SettingError("there are no rewards to learn from: give `rewards`", ("rewards",))
    if settings["rollout"] == "trainer" and not facts.single_turn:
        raise SettingError(
            "rollout: trainer is for agents that ask the model once and have no tools; this recipe's is none: take "
            "rollout: auto or agent",
            ("rollout",),
        )
    by_agent = settings["rollout"] == "agent" or not facts.single_turn
    try:
        sampling_values(cast(Any, facts), settings["max_length"], by_agent)
    except TrainingError as error:
        raise SettingError(str(error), ("sampling", "max_tokens")) from error
    batch = _batch(settings, facts, facts.group_size)
    if facts.sampling.get("seed") is not None:
        yield "sampling.seed is set: servers that heed it make all attempts at a prompt the same"
    backend = yield from _start(settings, facts)
    check_options(settings, GRPO, grpo_trainer.OURS, backend)
    yield from _steps(batch, settings, facts.rows, "task")
    longest = settings["max_length"]
    if not by_agent:
        longest = min(longest, (settings["max_prompt_tokens"] or PROMPT_TOKENS) + facts.sampling["max_tokens"])
    share = 0.0 if by_agent else _vllm_share(settings, backend)
    plain = not by_agent and not share and settings["generation"] != "vllm-server"
    yield from _memory(
        settings,
        facts,
        batch,
        batch.batch_size * longest,
        reference=settings["tuning"] == "full" and bool((settings["options"] or {}).get("beta")),
        cached_tokens=longest * batch.total // batch.world if plain else 0,
        vllm_share=share,
        server_share=(facts.server_share or None) if by_agent else 0.0,
    )
    if by_agent:
        yield _server_note(facts.server_share)


def _start(settings: Mapping[str, Any], facts: Facts) -> Generator[str, None, str]:
    """The model's files, the launch, the backend; gives the backend's name."""
    launch = facts.launch
    _check_values(settings, facts.folder)
    check_model(Path(facts.model))
    if facts.adapter:
        yield from check_adapter(facts.adapter, settings, facts.model)
    for path, lacks in _lacking(settings):
        if not facts.checking:
            raise SettingError(lacks, path)
        yield f"on this machine it could not run: {lacks}"
    if launch.world > 1:
        try:
            check_launch(launch)
        except SettingError as error:
            if not facts.checking:
                raise
            yield f"on this machine it could not run: {error}"
        if launch.strategy == "fsdp":
            yield "launch.strategy fsdp is run as its successor, fsdp2"
    elif launch.strategy != "ddp":
        yield f"launch.strategy {launch.strategy} splits nothing: there is one process"
    name, reason = _backend(settings, launch.world)
    if facts.checking:  # the training process says it too
        yield f"backend {name}: {reason}"
    return name


def _check_values(settings: Mapping[str, Any], folder: Path) -> None:
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(f"{name} is {value}: give a finite number", (name,))
    for name in settings["report_to"] or ():
        if name not in REPORTS:
            raise SettingError(f"report_to: there is no {name!r}.{near_miss(name, REPORTS)}", ("report_to",))
    template = folder / Path(settings["chat_template"]).expanduser()
    if settings["chat_template"] not in ("auto", "chatml") and not template.is_file():
        raise SettingError(f"there is no file {template}", ("chat_template",))


def _lacking(settings: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The settings (as paths to them) that want what is not on this machine, and what to do."""
    yield from lacking_packages(settings["tuning"], (settings["options"] or {}).get("model_init_kwargs") or {})
    for name in settings["report_to"] or ():
        if name in PIP and importlib.util.find_spec(PIP[name]) is None:
            yield ("report_to",), f"report_to: {name} is not installed: pip install {PIP[name]}"
    checkpoint = Path(settings["resume_from"] or "")
    if checkpoint.is_absolute() and not checkpoint.is_dir():
        yield ("resume_from",), f"resume_from: there is no folder {checkpoint}"


def _backend(settings: Mapping[str, Any], world: int) -> tuple[str, str]:
    asked, checkpointing = settings["backend"], settings["gradient_checkpointing"]
    try:
        chosen = choose_for_grpo if "generation" in settings else choose
        return chosen(asked, checkpointing=checkpointing, cuda=has_cuda(), world=world)
    except TrainingError as error:
        at_fault = "backend" if asked == "unsloth" else "gradient_checkpointing"
        raise SettingError(str(error), (at_fault,)) from error


def _batch(settings: Mapping[str, Any], facts: Facts, group_size: int | None) -> Batch:
    return solve(
        batch_size=settings["batch_size"],
        accumulation=settings["gradient_accumulation"],
        global_batch=settings["global_batch"],
        world=facts.launch.world,
        group_size=group_size,
    )


def _steps(batch: Batch, settings: Mapping[str, Any], rows: int | None, noun: str) -> Iterator[str]:
    steps, epochs = settings["max_steps"], settings["epochs"]
    line = str(batch)
    if rows is not None:
        epoch = batch.steps(rows)
        steps = steps if steps > 0 else max(1, round(epoch * epochs))
        line += f"; {counted(rows, noun)}: {counted(epoch, 'step')} an epoch"
    if steps > 0:
        line += f", {counted(steps, 'step')} in all"
    if batch.mended:
        yield batch.mended
    yield line


def _memory(
    settings: Mapping[str, Any],
    facts: Facts,
    batch: Batch,
    tokens: int,
    *,
    reference: bool = False,
    cached_tokens: int = 0,
    vllm_share: float = 0.0,
    server_share: float | None = 0.0,
) -> Iterator[str]:
    """`server_share` is that of a server which is awake meanwhile; `None`: there is one, and its share is not known."""
    config = read_config(facts.model)
    model = read_model(config) if config else None
    if model is None:
        why = "its config.json is of a build not known here" if config else "its config.json is not on this machine yet"
        yield f"memory: no estimate for {facts.model}, {why}"
        return
    options = settings["options"] or {}
    cuda = has_cuda()
    card = cards()[0] if cards() else None
    full, checkpointing = settings["tuning"] == "full", settings["gradient_checkpointing"]
    dtype = str((options.get("model_init_kwargs") or {}).get("dtype", ""))
    wide = not cuda or dtype.endswith("float32") or (full and precision() == "fp16")
    size = (card and card.memory) or 0.0
    needed = estimate(
        model,
        tuning=settings["tuning"],
        lora_rank=settings["lora_rank"],
        lora_targets=settings["lora_targets"],
        optimizer=options.get("optim", "adamw_torch"),
        tokens=tokens,
        checkpointing=cuda if checkpointing is None else bool(checkpointing),
        strategy=facts.launch.strategy,
        world=batch.world,
        bits=32 if wide else 16,
        reference=reference,
        cached_tokens=cached_tokens,
        reserved=vllm_share * size,
        server=_server(server_share),
    )
    line = (
        f"memory{' of each process' if batch.world > 1 else ''}, roughly, were all rows as long as max_length: {needed}"
    )
    if card and size:
        line += f"; {card.name} has {size:.1f} GB"
        if needed.total > size:
            line += f", which is too little. What helps: {'; '.join(savings(settings, server_share))}"
    yield line


def _server(share: float | None) -> float:
    """GB that a server holds of the card: what CUDA takes is beside its share."""
    size = (cards()[0].memory if cards() else None) or 0.0
    return share * size + RUNTIME if share and size else 0.0


def _server_note(share: float) -> str:
    if not share:
        return "the server that rolls the agent out stays awake, and needs memory beside that if it is on the same card"
    counted_in = f"{server:.1f} GB, counted in" if (server := _server(share)) else "which is not counted in"
    return f"the server that rolls the agent out stays awake: {share:g} of the card (its gpu_memory), {counted_in}"


def _vllm_share(settings: Mapping[str, Any], backend: str) -> float:
    """The share of the card that vLLM takes in the training's own process; 0 without."""
    asked = settings["generation"]
    if asked == "vllm" or (asked == "auto" and has_cuda() and importlib.util.find_spec("vllm")):
        default = VLLM_SHARE[backend]
        return float((settings["options"] or {}).get("vllm_gpu_memory_utilization", default))
    return 0.0

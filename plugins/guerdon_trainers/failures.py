"""Why a training failed, read from the end of its log and its exit code, and which settings to change first.

The lists follow the trouble-shooting sections of Agent Lightning's Unsloth example, of verl's and of Unsloth's
tutorials. Nothing is guessed: a log that shows none of these causes gets no advice.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Settings = Mapping[str, Any]
SMALL_RANK, SHORT = 8, 512
"""An adapter's rank and a row's length below which less is hardly worth it."""


def explain(log: str, code: int | None, settings: Settings, timeout: float | None = None) -> str:
    """The cause, and what to change in which order; '' where the cause is not one of those known.

    Args:
        log: The end of what the process printed, its error included.
        code: Its exit code; negative for the signal that ended it, `None` when it was stopped for taking too long.
        settings: The trainer's.
        timeout: The seconds that it had, when it took longer.
    """
    for pattern, name, advise in CAUSES:
        if found := [match.start() for match in re.finditer(pattern, log, re.I)]:
            return _told(name, advise(settings), _line(log, found[-1]))  # the first ones are the traceback's
    if timeout is not None:
        return _told(f"it was not done after {timeout:g} s (loop.train_timeout)", _slow(settings))
    if name := SIGNALS.get(code or 0, ""):
        return _told(name, _host_memory(settings) if code in KILLED else _native(settings))
    return ""


def savings(settings: Settings, server_share: float | None = None) -> list[str]:
    """What makes a training need less of a GPU's memory, with the settings as they are now; the cheapest first.

    `server_share` is what a server takes of the card that rolls out beside it; `None`: not known.
    """
    rows, passes = settings.get("batch_size", 1), settings.get("gradient_accumulation", 1)
    length, rank = settings.get("max_length") or 0, settings.get("lora_rank", 0)
    tuning, grpo = settings.get("tuning", "lora"), "generation" in settings
    steps = []
    if rows > 1:
        more = "" if settings.get("global_batch") else f" and gradient_accumulation {rows * passes}"
        steps.append(f"batch_size 1 instead of {rows}{more}, which learns the same")
    if grpo and settings.get("rollout") != "trainer" and server_share != 0:
        least = f"below {server_share:g}, for the" if server_share else "lower, if a"
        steps.append(f"backend: {{vllm: {{gpu_memory: ...}}}} {least} vLLM server that rolls out on the same card")
    if length > SHORT:
        steps.append(f"max_length below {length}")
    if tuning == "full":
        steps.append("tuning: lora instead of full")
    if tuning != "qlora":
        steps.append("tuning: qlora (the model in 4 bits)")
    if tuning != "full" and rank > SMALL_RANK:
        steps.append(f"lora_rank {max(SMALL_RANK, rank // 2)} instead of {rank}")
    if settings.get("gradient_checkpointing") is False:
        steps.append("gradient_checkpointing: true")
    elif settings.get("gradient_checkpointing") != "unsloth" and settings.get("backend") != "transformers":
        steps.append("gradient_checkpointing: unsloth (with Unsloth)")
    if grpo:
        steps.append("a lower sampling.max_tokens, or a smaller loop.group_size")
        if settings.get("generation") in ("auto", "vllm") and not server_share:
            steps.append("vLLM's share of the card, options: {vllm_gpu_memory_utilization: 0.2}")
    return [*steps, "a smaller model, or more GPUs with launch: {strategy: fsdp2}"]


def _told(cause: str, steps: list[str], line: str = "") -> str:
    seen = f" ({line})" if line else ""
    return "\n".join(
        [f"What happened: {cause}{seen}", "What helps, in this order:", *(f"  - {step}" for step in steps)]
    )


def _line(log: str, at: int) -> str:
    """The line of the log that says it, short."""
    start, end = log.rfind("\n", 0, at) + 1, log.find("\n", at)
    line = log[start : end if end >= 0 else None].strip(" |")
    return line if len(line) <= 160 else f"{line[:157]}..."


def _vllm_memory(settings: Settings) -> list[str]:
    return [
        "give vLLM more of the card, options: {vllm_gpu_memory_utilization: ...}, and the training less by a smaller "
        "batch_size",
        "a lower sampling.max_tokens or max_prompt_tokens: vLLM keeps room for the longest",
        "end other programs on the card (nvidia-smi lists them)",
        "generation: transformers, which needs no second copy of the model",
    ]


def _host_memory(settings: Settings) -> list[str]:
    return [
        "look at the machine's memory, not the GPU's: free -h, dmesg | tail; a container's limit counts too",
        *(step for step in savings(settings) if not re.search("vLLM|qlora|Unsloth|GPUs", step)),
        "a smaller model",
    ]


def _disk(settings: Settings) -> list[str]:
    limit = settings.get("save_limit")
    return [
        "free space where the runs are (df -h), or write them elsewhere: `runs:` in the recipe",
        "save_steps: 0 writes no checkpoints on the way" if limit == 1 else f"save_limit: 1 instead of {limit}",
        "a LoRA adapter takes a hundredth of a whole model: tuning: lora",
        "TMPDIR and HF_HOME may name folders on a larger disk",
    ]


def _shared_memory(_: Settings) -> list[str]:
    return ["give the container more shared memory (docker run --shm-size=16g, or --ipc=host)", "threads: 1"]


def _diverged(settings: Settings) -> list[str]:
    rate = settings.get("learning_rate")
    return [
        f"a lower learning_rate{f' than {rate:g}: {rate / 4:.2g}' if rate else ''}, or a longer warmup",
        "options: {max_grad_norm: 0.3}",
        "look at the rows (guerdon data preview): empty ones, one of millions of tokens, another model's template",
        "in fp16 (cards before Ampere) try options: {bf16: false, fp16: false}",
    ]


def _driver(_: Settings) -> list[str]:
    return [
        "nvidia-smi has to run and show the GPU, without errors; in a container: --gpus all",
        "torch has to be built for the driver's CUDA: python -c 'import torch; print(torch.version.cuda, "
        "torch.cuda.is_available())'",
        "CUDA_VISIBLE_DEVICES must not hide the GPU",
        "after an update of the driver, restart the machine",
    ]


def _kernels(_: Settings) -> list[str]:
    return [
        "this build of torch, or of the extension named, has no code for this GPU or this torch: install matching ones",
        "backend: transformers does without Unsloth's and xformers' kernels",
        "attn_implementation: sdpa does without flash-attn (options: {model_init_kwargs: ...})",
    ]


def _assertion(_: Settings) -> list[str]:
    return [
        "token ids beyond the model's vocabulary are the usual cause: is the tokenizer the model's own?",
        "run again with CUDA_LAUNCH_BLOCKING=1 in the environment: the log then names the operation",
    ]


def _template(_: Settings) -> list[str]:
    return [
        "chat_template: chatml, or the file of a template (trainer's setting)",
        "see what the model will see: guerdon data preview RECIPE",
        "roles have to be in the order that the template wants: often system, then user and assistant in turn",
    ]


def _tokenizer(_: Settings) -> list[str]:
    return [
        "is the model's folder whole? It needs tokenizer.json and tokenizer_config.json",
        "python -c 'from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(\"MODEL\")' shows it alone",
    ]


def _hub(_: Settings) -> list[str]:
    return [
        "is `model` written as the hub has it, or the path of a folder with config.json?",
        "a gated model needs its licence accepted on the hub, and a login: hf auth login, or HF_TOKEN",
        "without network: download it elsewhere and name the folder; HF_HUB_OFFLINE=1 stops asking the hub",
    ]


def _port_taken(_: Settings) -> list[str]:
    return ["another launch.main_port", "end what is left of an earlier launch: ps -ef | grep trainer_process"]


def _collective(_: Settings) -> list[str]:
    return [
        "one process stopped or fell behind, and the others waited: look for the first error above in the log",
        "with NCCL_DEBUG=INFO the log says which; NCCL_P2P_DISABLE=1 helps on boards without peer access",
        "if one process really has more to do (an evaluation, a save): options: {ddp_timeout: 7200}",
        "on several machines: can they reach launch.main_address, and is each started with its own node_rank?",
    ]


def _slow(settings: Settings) -> list[str]:
    return [
        "if the steps came on, only slowly: raise loop.train_timeout, or lower max_steps or epochs",
        "if no step came: does the model load (path, network)? Does CUDA start (nvidia-smi, "
        "python -c 'import torch; torch.zeros(1).cuda()')? Is another program on the GPU?",
        "if it hung with several processes: NCCL_DEBUG=INFO in the environment, and look at each one's last line",
        "a shorter max_length, a larger batch_size if the GPU has room, or a GPU with Unsloth make it faster",
    ]


def _native(_: Settings) -> list[str]:
    return [
        "native code crashed: an extension that does not fit this torch (flash-attn, xformers, bitsandbytes, vllm)?",
        "backend: transformers and generation: transformers do without most of them",
        "PYTHONFAULTHANDLER=1 in the environment puts the place into the log",
    ]


KILLED = (-9, 137)
SIGNALS = {
    -9: "it was killed from outside: mostly the machine had no memory left",
    137: "it was killed from outside: mostly the machine had no memory left",
    -11: "it crashed with a segmentation fault",
    -6: "it aborted",
    -7: "it crashed with a bus error",
    -4: "the processor does not know an instruction that it used",
}
"""What exit codes mean by themselves."""

CAUSES: list[tuple[str, str, Callable[[Settings], list[str]]]] = [
    (
        r"No available memory for the cache blocks|less than desired GPU memory utilization|"
        r"GiB KV cache is needed, which is larger",
        "vLLM found too little GPU memory",
        _vllm_memory,
    ),
    (
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|Out of GPU memory|"
        r"torch\.OutOfMemoryError|cudaErrorMemoryAllocation",
        "the GPU's memory ran out",
        savings,
    ),
    (
        r"insufficient shared memory|unable to (?:open|write to).*(?:/dev/shm|</torch_)",
        "/dev/shm is full",
        _shared_memory,
    ),
    (r"No space left on device|\[Errno 28\]|StorageFull|Disk quota exceeded", "the disk is full", _disk),
    (
        r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|\[Errno 12\]|(?m:^\W*MemoryError)|"
        r"exitcode\s*:\s*-9\b|\(exitcode: -9\)",
        "the machine's memory ran out",
        _host_memory,
    ),
    (
        r"NVIDIA driver on your system is too old|driver version is insufficient|CUDA unknown error|"
        r"No CUDA GPUs are available|Found no NVIDIA driver|CUDA initialization:|0 active drivers|"
        r"libcuda\.so.{0,40}(?:cannot open|not found)|torch accelerator\? You need a GPU|"
        r"doesn't support bf16/gpu",
        "CUDA could not be started",
        _driver,
    ),
    (r"device-side assert triggered|index out of range in self", "an index was out of range", _assertion),
    (
        r"no kernel image is available|undefined symbol|operator \S+::\S+ does not exist|"
        r"PTX .{0,40}unsupported toolchain|requires? compute capability",
        "a compiled extension does not fit",
        _kernels,
    ),
    (r"The (?:eval_)?loss is (?:nan|-?inf)", "the training diverged", _diverged),
    (r"EADDRINUSE|address already in use", "the launch's port is taken", _port_taken),
    (
        r"Watchdog caught collective operation timeout|NCCL (?:error|timeout)|ncclSystemError|ncclUnhandledCudaError|"
        r"Timed out after \d+ms waiting for|Connection closed by peer|DistStoreError|RendezvousTimeoutError",
        "the processes lost each other",
        _collective,
    ),
    (
        r"chat_template is not set|chat template is not training-compatible|roles must alternate|"
        r"jinja2\.exceptions\.|tokenizer\.chat_template",
        "the chat template does not take these rows",
        _template,
    ),
    (
        r"gated repo|401 Client Error|is not a local folder and is not a valid model identifier|"
        r"RepositoryNotFoundError|LocalEntryNotFoundError|couldn't connect to 'https://",
        "the model could not be got",
        _hub,
    ),
    (
        r"Can't load tokenizer|tokenizer does not have a padding token|Couldn't instantiate the backend tokenizer|"
        r"data did not match any variant of untagged enum",
        "the tokenizer could not be used",
        _tokenizer,
    ),
]
"""By the log: a pattern, what it means, what to change. The first that is found counts."""

"""What a training will need of a GPU's memory, from the model's config.json alone: an estimate, made before anything is
loaded.

Weights, adapter, gradients and optimizer are counted; activations follow what transformers keep for the backward pass
with sdpa or flash attention and trl's loss, that never holds all logits. Decoder-only models of the usual build (Llama,
Qwen, Mistral, Gemma, SmolLM; experts too) are known. Nothing here imports torch.
"""

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

GB = 1e9
RUNTIME = 1.0
"""GB that CUDA, its libraries and torch's unused blocks take."""
LOGITS = 4096 * 32768
"""Of the logits so many (tokens x words) are held at a time."""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU: its name, memory in GB, and compute capability (8.0 and above have bf16); `None` where it does not say."""

    name: str
    memory: float | None
    capability: float | None


@cache
def cards() -> tuple[Card, ...]:
    """The GPUs that this process may use, as nvidia-smi has them; none where there is no nvidia-smi."""
    program = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not program or visible in ("", "-1"):
        return ()
    asked = ["--query-gpu=index,uuid,name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run([program, *asked], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = {}
    rows = [row for row in csv.reader(out.splitlines(), skipinitialspace=True) if len(row) == 5]  # else a complaint
    for index, uuid, name, memory, capability in rows:
        mib = _number(memory)
        found[index] = found[uuid] = Card(name, mib and mib * 2**20 / GB, _number(capability))
    if visible:
        return tuple(found[name] for name in visible.split(",") if name in found)
    return tuple(card for name, card in found.items() if name.isdigit())


def has_cuda() -> bool:
    """Whether there is a GPU to train on, as far as can be told without torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return bool(cards()) or (not hidden and any(Path("/dev").glob("nvidia[0-9]*")))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None


def read_config(model: str) -> dict[str, Any] | None:
    """The config.json of a model's folder, or of a hub id that is in the cache; nothing is downloaded."""
    place = Path(model, "config.json")
    if not place.is_file():
        try:
            from huggingface_hub import try_to_load_from_cache

            place = Path(str(try_to_load_from_cache(model, "config.json")))
        except (ImportError, ValueError):  # ValueError: not a repository's name
            return None
    try:
        config = json.loads(place.read_text())
    except (OSError, ValueError):
        return None
    return {**config, **config["text_config"]} if "text_config" in config else dict(config)


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder's sizes, and how many parameters follow from them."""

    hidden: int
    layers: int
    queries: int
    """Width of all heads' queries together."""
    keys: int
    """Width of all keys, and of all values."""
    inner: int
    """Width of the feed-forward layer; of one expert."""
    experts: int
    vocabulary: int
    tied: bool
    small: int
    """Parameters a layer has beside its matrices: norms, biases, the experts' router."""

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The matrices of a layer that an adapter can be put on: inputs and outputs."""
        h, q, kv, inner = self.hidden, self.queries, self.keys, self.inner
        attention = {"q_proj": (h, q), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (q, h)}
        feed_forward = {"gate_proj": (h, inner), "up_proj": (h, inner), "down_proj": (inner, h)}
        return attention | ({} if self.experts else feed_forward)

    @property
    def matrices(self) -> int:
        """Parameters in all layers' matrices: what 4-bit loading makes smaller."""
        attention = 2 * self.hidden * (self.queries + self.keys)
        return self.layers * (attention + max(1, self.experts) * 3 * self.hidden * self.inner)

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.matrices + self.embeddings + self.layers * self.small + self.hidden

    def adapter(self, rank: int, targets: str | Sequence[str] = "all-linear") -> int:
        """Parameters of a LoRA adapter."""
        chosen = self.linears if isinstance(targets, str) else {n: s for n, s in self.linears.items() if n in targets}
        return self.layers * rank * sum(a + b for a, b in chosen.values())


def read_model(config: Mapping[str, Any]) -> Model | None:
    """The sizes that a config.json gives, or `None` where it is of another build."""
    try:
        hidden, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
        head = config.get("head_dim") or hidden // heads
        keys = head * (config.get("num_key_value_heads") or heads)
        kind = config.get("model_type", "")
        experts = config.get("num_local_experts") or config.get("num_experts") or 0
        inner = (config.get("moe_intermediate_size") if experts else None) or config["intermediate_size"]
        norms = (4 if kind.startswith(("gemma2", "gemma3")) else 2) * hidden
        norms += 2 * head if kind.startswith(("qwen3", "gemma3")) else 0
        biases = heads * head + 2 * keys if kind == "qwen2" or config.get("attention_bias") else 0
        tied = config.get("tie_word_embeddings", kind.startswith("gemma"))
        small = norms + biases + experts * hidden
        return Model(hidden, layers, heads * head, keys, inner, experts, config["vocab_size"], tied, small)
    except (KeyError, TypeError, ZeroDivisionError):
        return None


@dataclass(frozen=True, slots=True)
class Estimate:
    """GB on each GPU."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    generation: float
    """Keys and values of the completions that are generated, or vLLM's share of the card."""
    server: float = 0.0
    """What the server holds of the card that rolls an agent out beside the training."""

    @property
    def total(self) -> float:
        return float(sum(asdict(self).values())) + RUNTIME

    def __str__(self) -> str:
        parts = [f"{name} {value:.1f}" for name, value in asdict(self).items() if value >= 0.05]
        return f"{self.total:.1f} GB = {' + '.join([*parts, f'libraries {RUNTIME:.1f}'])}"


def estimate(
    model: Model,
    *,
    tuning: str = "lora",
    lora_rank: int = 32,
    lora_targets: str | Sequence[str] = "all-linear",
    optimizer: str = "adamw_torch",
    tokens: int,
    checkpointing: bool = True,
    strategy: str = "ddp",
    world: int = 1,
    bits: int = 16,
    reference: bool = False,
    cached_tokens: int = 0,
    reserved: float = 0.0,
    server: float = 0.0,
) -> Estimate:
    """The memory of one process.

    Args:
        model: Its sizes.
        tuning: "lora", "qlora" or "full".
        lora_rank: Of the adapter.
        lora_targets: The layers that have one.
        optimizer: transformers' name; "8bit" in it makes its states smaller, "paged" may move them out.
        tokens: In one forward pass: rows x the longest row.
        checkpointing: Whether activations are computed again in the backward pass.
        strategy: What is split among the processes.
        world: How many there are.
        bits: Of a weight: 16 on a GPU, 32 without.
        reference: Whether a second, frozen model is needed (full tuning with a KL term).
        cached_tokens: Keys and values that are held while completions are generated.
        reserved: GB that vLLM takes in the same card.
        server: GB that another process's server takes there.
    """
    wide = bits / 8
    every, halves = 1 / world, strategy in ("zero3", "fsdp2", "fsdp")
    held = every if halves else 1.0
    trained_share = 1.0 if strategy == "ddp" else every
    weights = model.parameters * wide
    if tuning == "qlora":  # nf4 with doubly quantized constants; embeddings and norms stay as they are
        weights = model.matrices * 0.52 + (model.parameters - model.matrices) * wide
    weights *= 2 if reference else 1
    full = tuning == "full"
    trained = model.parameters if full else model.adapter(lora_rank, lora_targets)
    size = wide if full else 4.0  # peft keeps an adapter's weights in fp32
    states = trained * (2.0 if "8bit" in optimizer else 2 * size)
    if full and strategy.startswith("zero"):  # DeepSpeed keeps weights and states in fp32 beside the bf16 ones
        states = trained * (4.0 + (2.0 if "8bit" in optimizer else 8.0))
    return Estimate(
        weights * held / GB,
        0.0 if full else trained * size * held / GB,
        trained * size * trained_share / GB,
        states * trained_share / GB,
        _activations(model, tokens, wide, checkpointing, adapters=not full) / GB,
        reserved + cached_tokens * model.layers * 2 * model.keys * wide / GB,
        server,
    )


def _activations(model: Model, tokens: int, wide: float, checkpointing: bool, adapters: bool) -> float:
    """Bytes kept for the backward pass: of one layer what its operations need, of the others that or their input.

    Autograd itself was seen to keep about two thirds of this. The rest is for the mask of padded rows (2 bytes for each
    pair of a row's tokens), for GRPO's rows, padded to the longest prompt and the longest completion, and for what
    lives a moment: 32 rows of at most 1,536 tokens of SmolLM2-135M took more than 56 GB on an H100, of 64 estimated.
    """
    h, q, kv, inner = model.hidden, model.queries, model.keys, model.inner
    active = min(model.experts, 8) or 1
    # two norms computed in fp32, the residual, queries, keys, values and the attention's output, the gated product
    layer = 20 * h + wide * (2 * h + 4 * q + 4 * kv + 4 * inner * active)
    if adapters:  # each has a copy of its input
        layer += wide * sum(inputs for inputs, _ in model.linears.values())
    kept = layer + (model.layers - 1) * wide * h if checkpointing else layer * model.layers
    loss = min(tokens * model.vocabulary, LOGITS) * wide + tokens * h * 4
    return tokens * kept + loss

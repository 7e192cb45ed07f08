"""Write a model as a GGUF file, as llama.cpp's own converter does for these architectures.

Tensors are written one after another: beside the model in memory there is never more than one of them.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.export import ExportError
from guerdon_trainers.export.gguf_mix import MIXTURES, mixed, round_by_ggml
from guerdon_trainers.export.gguf_tokens import add_tokenizer

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""transformers' `model_type`, and gguf's name of the architecture."""

ROW = 32
"""The smallest block: rows that are no whole number of these stay in 16 bits."""


def write_gguf(model: Any, tokenizer: Any, path: Path, kind: str, name: str) -> None:
    """Write a model of transformers as f32, f16, bf16, q8_0 or one of the mixtures.

    Raises:
        ExportError: its architecture, its positions or its tokenizer have no form here.
    """
    import gguf

    config = model.config
    if config.model_type not in ARCHITECTURES:
        raise ExportError(
            f"no GGUF of a {config.model_type!r} model is made here, only of {', '.join(ARCHITECTURES)}; export it as "
            "merged_16bit and use llama.cpp's convert_hf_to_gguf.py on that folder"
        )
    arch = gguf.MODEL_ARCH[ARCHITECTURES[config.model_type]]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name(f"mistral {name}" if config.model_type == "mistral" else name)  # its reader in transformers looks
    file_type = "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _parameters(writer, config)
    add_tokenizer(writer, model, tokenizer)

    tensors = [(ours, _kind(ours, shape, kind, config), shape, load) for ours, shape, load in _tensors(model, names)]
    for ours, quant, shape, _ in tensors:
        block, size = gguf.GGML_QUANT_SIZES[quant]
        writer.add_tensor_info(ours, shape, np.dtype(np.float32), math.prod(shape) // block * size, quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, quant, _, load in tensors:
        writer.write_tensor_data(_rounded(load(), quant))
    writer.close()


def _parameters(writer: Any, config: Any) -> None:
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters or {}
    writer.add_rope_freq_base(rope["rope_theta"])
    scaling = rope.get("rope_type", "default")
    if scaling == "linear":
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif scaling not in ("default", "llama3"):
        raise ExportError(f"no GGUF is made here of a model whose positions are scaled as {scaling!r}")


Tensor = tuple[str, tuple[int, ...], Any]


def _tensors(model: Any, names: Any) -> Iterator[Tensor]:
    """GGUF's name of each tensor, its shape, and a function that gives it."""
    config = model.config
    if (config.rope_parameters or {}).get("rope_type") == "llama3":
        factors = _llama3_factors(config)
        yield "rope_freqs.weight", factors.shape, lambda: factors
    for name, tensor in model.state_dict().items():
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if ours is None:
            raise ExportError(f"GGUF has no name for the tensor {name!r} of this {config.model_type} model")
        heads = _rotated(name, config)
        yield ours, tuple(tensor.shape), lambda t=tensor, h=heads: _array(t, h)


def _array(tensor: Any, heads: int) -> Any:
    array = tensor.detach().float().cpu().numpy()
    if heads:  # llama.cpp rotates neighbours, transformers the two halves of a head
        halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
        array = halves.swapaxes(1, 2).reshape(array.shape)
    return np.ascontiguousarray(array)


def _rotated(name: str, config: Any) -> int:
    """How many heads this tensor has whose rows are ordered otherwise in a GGUF; 0 for all others."""
    if config.model_type not in ("llama", "mistral"):
        return 0
    if re.search(r"\.q_proj\.(weight|bias)$", name):
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if re.search(r"\.k_proj\.(weight|bias)$", name) else 0


def _kind(name: str, shape: tuple[int, ...], kind: str, config: Any) -> Any:
    """How a tensor is kept: vectors and norms always in 32 bits."""
    import gguf

    types = gguf.GGMLQuantizationType
    if len(shape) == 1 or name.endswith("_norm.weight"):
        return types.F32
    if shape[-1] % ROW and kind not in ("f32", "bf16"):
        return types.F16
    if kind in MIXTURES:
        return types[mixed(name, shape[-1], kind, config.num_hidden_layers, config.tie_word_embeddings)]
    return types[kind.upper()]


def _rounded(array: Any, quant: Any) -> Any:
    import gguf

    return round_by_ggml(array, quant) if quant.name.endswith("_K") else gguf.quants.quantize(array, quant)


def _llama3_factors(config: Any) -> Any:
    """What Llama 3.1's long context divides each frequency by."""
    rope = config.rope_parameters
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    wave = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, head, 2, dtype=np.float32) / head)
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    smooth = np.clip((old / wave - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)

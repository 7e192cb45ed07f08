"""K-quants: which tensor is kept in how many bits, and the rounding itself by ggml's own library.

The mixtures are llama.cpp's (`llama_tensor_get_type_impl`) for the architectures of `gguf_file`: the output layer and
some layers' values and down projections get more bits. The library is the package libggml-python.
"""

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

MIXTURES = {
    "q4_k_s": ("Q4_K", "Q5_K"),
    "q4_k_m": ("Q4_K", "Q6_K"),
    "q5_k_s": ("Q5_K", "Q5_K"),
    "q5_k_m": ("Q5_K", "Q6_K"),
    "q6_k": ("Q6_K", "Q6_K"),
}
"""The type of most tensors, and of those that get more bits."""

SHORT_ROWS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""Instead, for rows that are no whole number of blocks of 256."""


def mixed(name: str, row: int, kind: str, layers: int, tied: bool) -> str:
    """The type of a matrix in the mixture `kind`; `row` is the length of its rows, `layers` how many the model has."""
    most, more = MIXTURES[kind]
    chosen = most
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        chosen = "Q6_K"
    elif name.startswith("blk."):
        layer = int(name.split(".")[1])
        first = layer < layers // 8
        favoured = first or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
        if (name.endswith("attn_v.weight") and (favoured if kind.endswith("m") else layer < 4)) or (
            name.endswith("ffn_down.weight") and (favoured if kind.endswith("m") else first)
        ):
            chosen = more
    return SHORT_ROWS[chosen] if row % 256 else chosen


def library() -> Path | None:
    """ggml's library, where it is installed."""
    found = find_spec("libggml")
    folders = [Path(p) for p in (found.submodule_search_locations or ())] if found else []
    return next((p for f in folders for lib in ("lib64", "lib") for p in f.glob(f"{lib}/libggml-base.*")), None)


def round_by_ggml(array: Any, kind: Any) -> Any:
    """A float32 matrix in one of ggml's types, as bytes."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, row = array.shape
    out = np.empty((rows, row // block * size), np.uint8)
    pointer = ctypes.c_void_p
    _ggml()(kind.value, array.ctypes.data_as(pointer), out.ctypes.data_as(pointer), 0, rows, row, pointer(None))
    return out


@cache
def _ggml() -> Any:
    function = ctypes.CDLL(str(library())).ggml_quantize_chunk
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = [ctypes.c_int, pointer, pointer, integer, integer, integer, pointer]
    function.restype = ctypes.c_size_t
    return function

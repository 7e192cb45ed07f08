"""GGUF files, for llama.cpp and what is built on it (Ollama, LM Studio).

The 16- and 8-bit files are written here (`gguf_file`); the K-quants and their kin are llama.cpp's own doing, of a 16-bit
file: by its `llama-quantize` where that is on the PATH, else by its library in the package llama-cpp-py-sync.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from guerdon.errors import near_miss
from guerdon.export import ExportError, ExportJob, exporter

OURS = ("f32", "f16", "bf16", "q8_0")
THEIRS = {
    "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14,
    "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30,
}  # fmt: skip
"""llama.cpp's quantisations that need no importance matrix, with their numbers in its `enum llama_ftype`."""

RENAMED = {"not_quantized": "f16", "fast_quantized": "q8_0", "quantized": "q4_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
"""What Unsloth and llama.cpp call them too."""

USAGE = """
With llama.cpp: `llama-cli -m FILE.gguf`, or `llama-server -m FILE.gguf` for an OpenAI-compatible server. The chat
template is in the file.
"""


@exporter(check="guerdon_trainers.export.check:gguf", library="gguf", usage=USAGE)
def gguf(job: ExportJob, *, quantize: list[str] | None = None) -> None:
    """GGUF files for llama.cpp, one for each quantisation; Llama (SmolLM2), Mistral, Qwen2 and Qwen3 models.

    Args:
        quantize: Names of quantisations: f32, f16, bf16, q8_0 (the default), or llama.cpp's, like q4_k_m, q5_k_m, q6_k.
    """
    from guerdon_trainers.export.gguf_file import write_gguf
    from guerdon_trainers.export.loading import merged, quiet, tokenizer_of

    names = [_known(name) for name in quantize or ["q8_0"]]
    theirs = [name for name in names if name in THEIRS]
    quantiser = _quantiser() if theirs else None
    with quiet():
        model, tokenizer = merged(job), tokenizer_of(job)
        own = [name for name in names if name in OURS]
        whole = job.output / ".16bit.gguf"
        for name in own:
            job.say(f"writing {name}")
            write_gguf(model, tokenizer, _path(job, name), name, job.name)
        if quantiser:
            write_gguf(model, tokenizer, whole, "bf16" if "bfloat16" in str(model.dtype) else "f16", job.name)
        del model
    for name in theirs:
        job.say(f"writing {name}")
        assert quantiser
        quantiser(whole, _path(job, name), name)
    whole.unlink(missing_ok=True)


def bits(stem: str) -> int:
    """How many bits a weight has in the file of this name, about."""
    name = stem.rpartition("-")[2].lower()
    return 16 if name in ("f32", "f16", "bf16") else int(re.findall(r"\d", name)[0])


def _path(job: ExportJob, name: str) -> Path:
    return job.output / f"{job.name}-{name.upper()}.gguf"


def _known(name: str) -> str:
    name = RENAMED.get(name.lower(), name.lower())
    if name in OURS or name in THEIRS:
        return name
    if name.startswith("iq") or name in ("q2_k_s", "q2_k_l"):
        raise ExportError(f"quantize: {name} needs an importance matrix: make it with llama.cpp's own tools, of f16")
    raise ExportError(f"quantize: there is no {name!r}.{near_miss(name, [*OURS, *THEIRS])}")


Quantiser = Callable[[Path, Path, str], None]


def _quantiser() -> Quantiser:
    if found := shutil.which("llama-quantize"):
        return lambda source, target, name: _by_command(found, source, target, name)
    if find_spec("llama_cpp_py_sync"):
        return _by_library
    raise ExportError(
        "K-quants are made by llama.cpp: pip install 'guerdon[gguf]', or put its llama-quantize on the PATH; "
        f"without it there are {', '.join(OURS)}"
    )


def _by_command(command: str, source: Path, target: Path, name: str) -> None:
    done = subprocess.run([command, str(source), str(target), name.upper()], capture_output=True, text=True)
    if done.returncode or not target.is_file():
        raise ExportError(
            f"llama-quantize {name.upper()} failed: {' '.join((done.stderr or done.stdout).split()[-40:])}"
        )


def _by_library(source: Path, target: Path, name: str) -> None:
    bindings = import_module("llama_cpp_py_sync._cffi_bindings")
    ffi, library = bindings.get_ffi(), bindings.get_lib()
    library.llama_backend_init()
    parameters = ffi.new("llama_model_quantize_params *", library.llama_model_quantize_default_params())
    parameters.ftype = THEIRS[name]
    if library.llama_model_quantize(str(source).encode(), str(target).encode(), parameters):
        raise ExportError(f"llama.cpp could not make {name}; its reason is in the log")

"""GGUF files, for llama.cpp and what is built on it (Ollama, LM Studio).

They are written here (`gguf_file`), the K-quants with ggml's library; a `llama-quantize` on the PATH is taken for what
it alone can do.
"""

import re
import shutil
import subprocess
from pathlib import Path

from guerdon.errors import near_miss
from guerdon.export import ExportError, ExportJob, exporter
from guerdon_trainers.export.gguf_mix import MIXTURES, library

PLAIN = ("f32", "f16", "bf16", "q8_0")
THEIRS = ("q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "iq4_nl", "iq4_xs")
"""llama.cpp's other quantisations that need no importance matrix."""

RENAMED = {"not_quantized": "f16", "fast_quantized": "q8_0", "quantized": "q4_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
"""What Unsloth and llama.cpp call them too."""

USAGE = """
With llama.cpp: `llama-cli -m FILE.gguf`, or `llama-server -m FILE.gguf` for an OpenAI-compatible server. The chat
template is in the file.
"""


@exporter(check="guerdon_trainers.export.check:gguf", library="gguf", usage=USAGE)
def gguf(job: ExportJob, *, quantize: list[str] | None = None) -> None:
    """GGUF files for llama.cpp, one for each quantisation; of Llama (SmolLM2), Mistral, Qwen2 and Qwen3 models.

    Args:
        quantize: Names of quantisations: f32, f16, bf16, q8_0 (the default), q6_k, q5_k_m, q4_k_m; others of llama.cpp.
    """
    from guerdon_trainers.export.gguf_file import write_gguf
    from guerdon_trainers.export.loading import merged, quiet, tokenizer_of

    names = list(dict.fromkeys(map(_known, quantize or ["q8_0"])))
    theirs = [name for name in names if name in THEIRS]
    command = shutil.which("llama-quantize")
    if theirs and not command:
        raise ExportError(
            f"quantize: {', '.join(theirs)}: only llama-quantize of llama.cpp does it; put it on the PATH"
        )
    if library() is None and (mixtures := [name for name in names if name in MIXTURES]):
        raise ExportError(f"quantize: {', '.join(mixtures)} needs ggml's library: pip install 'guerdon[gguf]'")
    whole = job.output / ".whole.gguf"
    with quiet():
        model, tokenizer = merged(job), tokenizer_of(job)
        for name in names:
            job.say(f"writing {name}")
            if name not in THEIRS:
                write_gguf(model, tokenizer, _path(job, name), name, job.name)
                continue
            if not whole.exists():
                write_gguf(model, tokenizer, whole, "bf16" if "bfloat16" in str(model.dtype) else "f16", job.name)
            _by_command(str(command), whole, _path(job, name), name)
    whole.unlink(missing_ok=True)


def bits(stem: str) -> int:
    """How many bits a weight has in the file of this name, about.

    >>> bits("model-Q4_K_M"), bits("model-BF16")
    (4, 16)
    """
    name = stem.rpartition("-")[2].lower()
    return 16 if name in ("f32", "f16", "bf16") else int(re.findall(r"\d", name)[0])


def _path(job: ExportJob, name: str) -> Path:
    return job.output / f"{job.name}-{name.upper()}.gguf"


def _known(name: str) -> str:
    name = RENAMED.get(name.lower(), name.lower())
    known = (*PLAIN, *MIXTURES, *THEIRS)
    if name in known:
        return name
    if name.startswith("iq") or name == "q2_k_s":
        raise ExportError(f"quantize: {name} needs an importance matrix: make it with llama.cpp's own tools, of f16")
    raise ExportError(f"quantize: there is no {name!r}.{near_miss(name, known)}")


def _by_command(command: str, source: Path, target: Path, name: str) -> None:
    done = subprocess.run([command, str(source), str(target), name.upper()], capture_output=True, text=True)
    if done.returncode or not target.is_file():
        said = " ".join((done.stderr or done.stdout).split()[-40:])
        raise ExportError(f"llama-quantize {name.upper()} failed: {said}")

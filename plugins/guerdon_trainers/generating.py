"""How answers are sampled while GRPO trains: the recipe's sampling by trl's names, and what generates.

Without a GPU it is transformers' plain generation; with one vLLM, in the trainer's process or as a server.
"""

import importlib.util
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal

from guerdon.errors import TrainingError
from guerdon.training import Rollouts, TrainingJob

CORRECTION = "vllm_importance_sampling_correction"
Say = Callable[[str], None]
Generation = Literal["auto", "transformers", "vllm", "vllm-server"]


def sampling_values(rollouts: Rollouts, max_length: int, by_agent: bool) -> dict[str, Any]:
    """The recipe's sampling by trl's names."""
    asked = rollouts.sampling
    temperature = asked.get("temperature")
    if temperature == 0:
        raise TrainingError("sampling.temperature is 0: all answers of a group would be the same. Set it to about 1.")
    longest = asked.get("max_tokens")
    if by_agent:
        longest = max_length
    elif longest is None:
        raise TrainingError("sampling.max_tokens is not set: answers need a bound while the trainer generates.")
    elif longest >= max_length:
        raise TrainingError(
            f"sampling.max_tokens is {longest} and trainer.grpo.max_length {max_length}, prompt included: there is no "
            "room for a prompt. Raise max_length or lower max_tokens."
        )
    return {
        "temperature": temperature or 1.0,
        "top_p": asked.get("top_p") or 1.0,
        "top_k": asked.get("top_k") or 0,
        "max_completion_length": longest,
    }


def choose_generation(asked: Generation, url: str | None, backend: str, job: TrainingJob) -> str:
    """How the trainer generates: "transformers", "vllm" or "vllm-server"; said with the reason."""
    import torch

    assert job.rollouts
    lacks = "" if torch.cuda.is_available() else "no CUDA device"
    slow = ""
    if not lacks and importlib.util.find_spec("vllm") is None:
        lacks, slow = "vLLM is not installed", ", with which a GPU generates many times as much"
    if asked in ("vllm", "vllm-server") and lacks:
        raise TrainingError(f"generation: {asked} cannot be used: {lacks}. Set it to transformers or auto.")
    if asked == "vllm-server" and backend == "unsloth":
        raise TrainingError("generation: vllm-server wants backend: transformers; Unsloth has vLLM in its own process.")
    if (asked == "vllm-server") != (url is not None):
        raise TrainingError("generation: vllm-server and vllm_url go together: the server's address is needed for it.")
    how = ("transformers" if lacks else "vllm") if asked == "auto" else asked
    if how == "transformers" and job.rollouts.sampling.get("stop"):
        raise TrainingError(
            "sampling.stop: transformers' plain generation in the trainer knows no stop texts. Leave them out, set "
            "rollout: agent, or generate with vLLM."
        )
    job.say(f"generation {how}" + (f": {lacks}{slow}" if lacks and asked == "auto" else ""))
    return how


def refuse_stored_bits(model: Any, how: str) -> None:
    """vLLM would load quantized weights as they are stored, and could then take no plain ones."""
    quantizer = getattr(model, "hf_quantizer", None)
    if how.startswith("vllm") and quantizer is not None and quantizer.pre_quantized:
        raise TrainingError(
            f"The model {model.name_or_path} is stored quantized; vLLM cannot be given trained weights for it. Name "
            "the plain model (tuning: qlora puts it into four bits), or take backend: unsloth, or generation: "
            "transformers."
        )


def vllm_environment(backend: str, world: int) -> None:
    """What vLLM in this process wants set before anything is imported."""
    if backend == "transformers" and world == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in alone.items():
            os.environ.setdefault(name, str(value))


def vllm_values(
    how: str, url: str | None, max_length: int, sampling: Mapping[str, Any], options: Mapping[str, Any], say: Say
) -> dict[str, Any]:
    """By trl's names; memory and the like are options."""
    if not how.startswith("vllm"):
        return {"use_vllm": False}
    mode: dict[str, Any] = {"vllm_mode": "colocate"}
    if how == "vllm-server":
        mode = {"vllm_mode": "server", "vllm_server_base_url": url}
    if (sampling["top_p"] < 1 or sampling["top_k"] or options.get("min_p")) and CORRECTION not in options:
        # what is sampled is likelier by the mass cut off, at each token: weights of e^-42 for an answer of 1,000
        say(f"{CORRECTION} is off: with top_p, top_k or min_p it would weigh long answers down to nothing")
        mode |= {CORRECTION: False}
    return {"use_vllm": True, "vllm_max_model_length": max_length, **mode}


def stop_values(how: str, rollouts: Rollouts, end: int | None) -> dict[str, Any]:
    """Of trl's `generation_kwargs`: `end` is the token that ends a turn, which vLLM would look up in the base alone."""
    if not how.startswith("vllm"):
        return {}
    stop = rollouts.sampling.get("stop")
    return ({"stop": list(stop)} if stop else {}) | ({"stop_token_ids": [end]} if end is not None else {})

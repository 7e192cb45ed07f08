"""What vLLM gets of an adapter while trl's GRPO trains: each layer merged into a copy, the base left as it is.

trl (1.14 to 1.16) adds the adapter to the base in place, hands out references, and takes it off again once the last is
handed out. A server's transfer copies what it was handed by the gigabyte, the last of it only then: it got the end of a
model, or all of a small one, without the adapter. In bf16 to add and subtract does not give back the same numbers: the
base wanders, while the adapter is saved for the base as it was. And four bits, merged, are no weights that vLLM takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from guerdon.errors import TrainingError


@contextmanager
def plain_vllm() -> Iterator[None]:
    """trl's vLLM holds plain weights where the trained model's are in four bits: the adapter goes onto plain ones."""
    from trl.generation import vllm_generation

    found = vllm_generation.is_bitsandbytes_available
    vllm_generation.is_bitsandbytes_available = lambda: False
    try:
        yield
    finally:
        vllm_generation.is_bitsandbytes_available = found


def merge_into_copies(trainer: Any) -> None:
    """Call it before `train`. Sharded by FSDP, weights are left to trl.

    Raises:
        TrainingError: vLLM would have other weights than those that are trained.
    """
    from peft import PeftModel

    vllm = getattr(trainer, "vllm_generation", None)
    if vllm is None or not isinstance(vllm.model, PeftModel):
        return
    _refuse_half_of_tied(vllm.model)
    if not vllm._dist.is_fsdp:
        vllm._iter_named_params = partial(merged_parameters, vllm)


def _refuse_half_of_tied(model: Any) -> None:
    ends = [name for name, _ in model.named_parameters() if model.prefix in name or ".modules_to_save." in name]
    trained = [name for name in ends if any(end in name for end in ("embed_tokens", "wte", "lm_head"))]
    kept = any(getattr(settings, "ensure_weight_tying", False) for settings in model.peft_config.values())
    if trained and not kept and getattr(model.config, "tie_word_embeddings", False):
        raise TrainingError(
            "This model's input and output embeddings are one. An adapter on one of them parts them, and vLLM would "
            f"use it for both ({trained[0]}). Leave them out of lora_targets and modules_to_save, set lora_options: "
            "{ensure_weight_tying: true}, or take generation: transformers."
        )


def merged_parameters(vllm: Any) -> Iterator[tuple[str, Any]]:
    """Pairs of the name that vLLM expects and the tensor; those that the adapter changes are copies."""
    model = vllm.model
    with vllm._dist.gather_params(list(model.parameters())):
        merged: dict[str, Any] = {}
        for name, parameter in model.named_parameters():
            of_another = ".modules_to_save." in name and ".modules_to_save.default." not in name
            if model.prefix in name or "original_module" in name or of_another:
                continue
            layer, inside, own = name.partition(".base_layer.")
            own = own.removeprefix("base_layer.")
            if inside and own not in merged:
                merged = _merge(model.get_submodule(layer))
            tensor = merged.pop(own) if inside else _plain(model.get_submodule(name.rpartition(".")[0]), parameter)
            bare = name.removeprefix("base_model.model.").replace(".base_layer", "")
            yield vllm._fix_param_name_to_vllm(bare, extra_prefixes=["modules_to_save.default."]), tensor


def _plain(module: Any, parameter: Any) -> Any:
    from peft.utils.integrations import dequantize_module_weight

    return dequantize_module_weight(module).data if _in_four_bits(parameter) else parameter.data


def _in_four_bits(parameter: Any) -> bool:
    return type(parameter).__name__ == "Params4bit"


def _merge(layer: Any) -> dict[str, Any]:
    """The layer's own parameters, by name."""
    from peft.tuners.lora.layer import Linear
    from torch.nn import Parameter

    layers = [layer]  # experts that are one parameter have a wrapper around a wrapper for the next
    while hasattr(layers[-1].base_layer, "merge"):
        layers.append(layers[-1].base_layer)
    base = layer.get_base_layer()
    weight = getattr(base, "weight", None)
    four_bits = _in_four_bits(weight)  # peft would put what is merged into four bits again
    if four_bits:
        base.weight = Parameter(_plain(base, weight), requires_grad=False)
    kept = {name: parameter.data for name, parameter in base.named_parameters()}
    for one in layers:  # puts a copy in the base's place
        Linear.merge(one, safe_merge=True) if four_bits else one.merge(safe_merge=True)
    merged = {name: parameter.data for name, parameter in base.named_parameters()}
    for name, parameter in base.named_parameters():
        parameter.data = kept[name]
    if four_bits:
        base.weight = weight
    for one in layers:
        one.merged_adapters.clear()
    return merged

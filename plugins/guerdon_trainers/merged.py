"""What vLLM gets of an adapter while trl's GRPO trains: each layer merged into a copy, the base left as it is.

trl (1.14 to 1.16) adds the adapter to the base in place, hands out references, and takes it off again once the last is
handed out. A server's transfer copies what it was handed by the gigabyte, the last of it only then: it got the end of a
model, or all of a small one, without the adapter. And in bf16 to add and subtract does not give back the same numbers:
the base wanders, while the adapter is saved for the base as it was.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any


def merge_into_copies(trainer: Any) -> None:
    """Call it before `train`. Sharded by FSDP, or in four bits, it is left to trl."""
    vllm = getattr(trainer, "vllm_generation", None)
    if vllm is not None and _can_copy(vllm):
        vllm._iter_named_params = partial(merged_parameters, vllm)


def _can_copy(vllm: Any) -> bool:
    from peft import PeftModel

    whole = isinstance(vllm.model, PeftModel) and not vllm._dist.is_fsdp
    return whole and all(parameter.is_floating_point() for parameter in vllm.model.parameters())


def merged_parameters(vllm: Any) -> Iterator[tuple[str, Any]]:
    """Pairs of the name that vLLM expects and the tensor; those that the adapter changes are copies."""
    model = vllm.model
    with vllm._dist.gather_params(list(model.parameters())):
        merged: dict[str, Any] = {}
        for name, parameter in model.named_parameters():
            if model.prefix in name or "original_module" in name:
                continue
            layer, inside, own = name.partition(".base_layer.")
            if inside and own not in merged:
                merged = _merge(model.get_submodule(layer))
            tensor = merged.pop(own) if inside else parameter.data
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            yield vllm._fix_param_name_to_vllm(plain, extra_prefixes=["modules_to_save.default."]), tensor


def _merge(layer: Any) -> dict[str, Any]:
    base = dict(layer.get_base_layer().named_parameters())
    kept = {name: parameter.data for name, parameter in base.items()}
    layer.merge(safe_merge=True)  # puts a copy in the base's place
    merged = {name: parameter.data for name, parameter in base.items()}
    for name, parameter in base.items():
        parameter.data = kept[name]
    layer.merged_adapters.clear()
    return merged

"""LoRA adapters, merged into a model's weights while they are in use and taken out again without a trace.

Merged weights cost nothing per token; peft's extra layers would be two more small products for each of a step's many.
The base weights are kept aside and copied back, never subtracted: the base stays what it was, bit for bit.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

PREFIX = "base_model.model."
PLAIN = {"use_dora": False, "fan_in_fan_out": False, "bias": "none", "modules_to_save": None}


@dataclass(frozen=True, eq=False)
class Adapter:
    """Per weight matrix (by module name) the two factors, the scale folded into the second."""

    name: str
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]]


def read_adapter(name: str, folder: Path) -> Adapter:
    """A peft LoRA checkpoint. Raises FileNotFoundError, or ValueError where it is not plain LoRA."""
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{folder} holds a {config.get('peft_type')} adapter; this server knows LoRA")
    odd = [key for key, plain in PLAIN.items() if config.get(key, plain) not in (plain, [], None)]
    odd += [key for key in ("rank_pattern", "alpha_pattern") if config.get(key)]
    if odd:
        raise ValueError(f"{folder} uses {', '.join(odd)}; this server knows plain LoRA")
    weights = load_file(folder / "adapter_model.safetensors")
    rank, alpha = config["r"], config["lora_alpha"]
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    factors = {}
    for key, down in weights.items():
        module = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        if key.endswith(".lora_A.weight"):
            up = weights[key.replace(".lora_A.", ".lora_B.")]
            factors[module] = (down.float(), up.float() * scale)
        elif not key.endswith(".lora_B.weight"):
            raise ValueError(f"{folder} holds {key}, which is no LoRA matrix")
    return Adapter(name, factors)


class Swapper:
    """Puts one adapter, or none, into a model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.active: Adapter | None = None
        self._base: dict[str, torch.Tensor] = {}

    def check(self, adapter: Adapter) -> None:
        """Raises ValueError where the adapter was made for another model."""
        for name, (down, up) in adapter.factors.items():
            try:
                shape = tuple(self.model.get_parameter(name + ".weight").shape)
            except AttributeError:
                raise ValueError(f"the adapter changes {name}, which this model does not have") from None
            if shape != (up.shape[0], down.shape[1]):
                raise ValueError(f"the adapter fits {name} of {up.shape[0]}x{down.shape[1]}; this model's is {shape}")

    def use(self, adapter: Adapter | None) -> None:
        if adapter is self.active:
            return
        with torch.no_grad():
            for name in self.active.factors if self.active else ():
                self.model.get_parameter(name + ".weight").copy_(self._base[name])
            self.active = None
            for name, (down, up) in adapter.factors.items() if adapter else ():
                weight = self.model.get_parameter(name + ".weight")
                base = self._base.setdefault(name, weight.detach().clone())
                weight.copy_(base.float() + up.to(weight.device) @ down.to(weight.device))
        self.active = adapter

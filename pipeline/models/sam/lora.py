"""LoRA in an image encoder: a few weights are trained, the encoder's own are frozen.

Hu et al., "LoRA", ICLR 2022. After training they are added to the weights, so that the tuned
encoder costs nothing more and exports like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn import functional


class LoRALinear(nn.Module):
    """A linear layer plus `up @ down`. Only these two are trained; before, it equals the layer."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        low = functional.linear(functional.linear(values, self.down), self.up)
        output: torch.Tensor = self.layer(values) + low
        return output


def add_lora(network: nn.Module, rank: int) -> list[nn.Parameter]:
    """Add LoRA to every linear layer, in place; returns the parameters to train."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parent, name, layer in list(_linear_layers(network)):
        setattr(parent, name, LoRALinear(layer, rank))
    return [
        parameter
        for module in network.modules()
        if isinstance(module, LoRALinear)
        for parameter in (module.down, module.up)
    ]


def lora_state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """`<layer>.down` and `<layer>.up` of every layer with LoRA, by the layer's own name."""
    return {
        f"{name}.{part}": getattr(module, part).detach()
        for name, module in network.named_modules()
        if isinstance(module, LoRALinear)
        for part in ("down", "up")
    }


def merge_lora(network: nn.Module, lora: Mapping[str, torch.Tensor]) -> None:
    """Add trained LoRA to the weights of a network without it, in place. Raises ValueError for a
    name that is no linear layer."""
    for key in [key for key in lora if key.endswith(".down")]:
        name = key.removesuffix(".down")
        layer = network.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is no linear layer")
        with torch.no_grad():
            layer.weight += lora[f"{name}.up"].float() @ lora[key].float()


def _linear_layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in network.modules():
        if isinstance(parent, LoRALinear):
            continue
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                yield parent, name, child

"""Frozen weights kept in bfloat16, half the bytes, and computed with in the precision of what they are applied to."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

KEPT = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
"""Layers whose weights are kept in bfloat16, unless they compute in a way of their own; norms, biases and tables are
small and stay as they are."""


def packed(network: Module) -> Module:
    """The network with the weights of its layers in bfloat16, rounded in place: whoever shares them keeps sharing them,
    and is made to read them by its own `packed`."""
    past = {id(part) for attention in _of(network, nn.MultiheadAttention) for part in attention.modules()}
    for layer in (layer for kind in KEPT for layer in _of(network, kind)):
        usual = any(type(layer).forward is kind.forward for kind in KEPT) and id(layer) not in past
        if usual and not layer.weight.requires_grad:
            layer.weight.data = layer.weight.data.to(torch.bfloat16)
            layer.__class__ = _reading(type(layer))  # type: ignore[arg-type]
    return network


def unpacked(network: Module) -> Module:
    """The network with all weights in float32 and layers as they were."""
    for layer in network.modules():
        if isinstance(layer, _Packed):
            layer.__class__ = type(layer).__mro__[1]
            layer.weight.data = layer.weight.data.float()
    return network


def _of(network: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kind)]


class _Packed:
    """Marks layers whose weights are kept in bfloat16."""


@cache
def _reading(kind: type[nn.Module]) -> type[nn.Module]:
    """A kind of layer whose weights are converted where they are used. A class, since a copy must read its own."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if isinstance(self, nn.Embedding):
            return F.embedding(x, self.weight, self.padding_idx).to(torch.get_default_dtype())
        device = x.device.type
        autocast = device != "meta" and torch.is_autocast_enabled(device)  # shapes alone know no autocast
        weight = self.weight if autocast else self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(weight.dtype)
        return F.linear(x, weight, bias) if isinstance(self, nn.Linear) else self._conv_forward(x, weight, bias)

    return type(kind.__name__, (kind, _Packed), {"forward": forward, "__module__": kind.__module__})

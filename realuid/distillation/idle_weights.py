"""Frozen weights that wait in the host's memory while no pass asks for them."""

from __future__ import annotations

import torch
from torch import nn


class IdleWeights:
    """The weights of a frozen network on a device, with a copy on the host that they can be made of again.

    Args:
        network: frozen, on the device.
        device: where it is used.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.device, self.weights = device, list(network.parameters())
        host = [weight.detach().cpu() for weight in self.weights]
        self.host = [copy.pin_memory() for copy in host] if device.type == "cuda" else host

    def leave(self) -> None:
        """Frees the device; nothing is copied, for the weights do not change."""
        for weight, host in zip(self.weights, self.host, strict=True):
            weight.data = host

    def come_back(self) -> None:
        """Puts the weights on the device again."""
        for weight, host in zip(self.weights, self.host, strict=True):
            weight.data = host.to(self.device, non_blocking=True)

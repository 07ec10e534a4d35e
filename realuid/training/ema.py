"""Exponential moving averages of the generator's weights, several decays at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from realuid.checkpoints.sharded import joined, split
from realuid.training.distribution import Distribution, Sharded, carrying, whole
from realuid.training.world import World

__all__ = ["EMA"]


class EMA:
    """Averages w <- d w + (1 - d) weights after every step, one set a decay, in float32.

    Early on d is min(decay, (1 + n) / (10 + n)) after n updates, so that the average forgets the initial weights; runs
    of the usual length do not notice.

    Args:
        decays: the decays; the first is the one that is evaluated and exported.
        device: where the averages are kept: None for beside the weights, `cpu` for the host's memory, which spares the
            device four bytes a weight and average and costs a copy of the weights after every step.

    Raises:
        ValueError: if `decays` is empty or leaves [0, 1), or `device` is another one.
    """

    free_on_resume = frozenset({"device"})

    def __init__(self, *, decays: Sequence[float] = (0.999,), device: Literal["cpu"] | None = None) -> None:
        if not decays or not all(0 <= decay < 1 for decay in decays):
            raise ValueError(f"decays must be one or more numbers in [0, 1), got {tuple(decays)}")
        if device not in (None, "cpu"):
            raise ValueError(f"device must be None or 'cpu', got {device!r}")
        self.decays = {str(decay): decay for decay in decays}
        self.device, self.updates = device, 0

    @property
    def names(self) -> list[str]:
        """Names of the averages, the decays as text; the first is the default."""
        return list(self.decays)

    def check(self, distribution: Distribution, world: World) -> None:
        """Makes sure that averages can be kept where they are wanted.

        Raises:
            ValueError: if weights are sharded and averages are not to lie beside them.
        """
        if self.device is not None and world.size > 1 and isinstance(distribution, Sharded):
            raise ValueError("EMA.device: averages of sharded weights stay beside them, shared out as they are")

    def attach(self, module: nn.Module, template: nn.Module | None = None) -> None:
        """Starts all averages at the weights of `module`, which is the one followed from now on. Where it is sharded,
        so are they, and copies are made from `template` (`Distribution.template`)."""
        self.module, self.template = module, template or module
        self.weights: dict[str, list[Tensor]] = {name: [p.clone() for p in self._current()] for name in self.decays}

    @torch.no_grad()
    def update(self) -> None:
        """One step of every average."""
        warm = (1 + self.updates) / (10 + self.updates)
        current = self._current()
        for name, decay in self.decays.items():
            torch._foreach_lerp_(self.weights[name], current, 1 - min(decay, warm))
        self.updates += 1

    def _current(self) -> list[Tensor]:
        """The module's weights where the averages are, in float32; they may be the very tensors."""
        return [p.detach().to(self.device or p.device, torch.float32) for p in self.module.parameters()]

    def averaged(self, name: str | None = None) -> nn.Module:
        """A copy of the module, in evaluation mode, that carries the average `name` (default: the first). Where it is
        sharded, each process gets a whole copy, and all must ask for it.

        Raises:
            KeyError: if there is no such average.
        """
        weights = zip(self.weights[name or self.names[0]], self.module.parameters(), strict=True)
        copy = carrying(self.template, [whole(w).to(p.device) for w, p in weights])
        copy.load_state_dict(self._buffers, strict=False)
        return copy

    def state_dict(self) -> dict:
        """Number of updates, and for every average its weights by name: averages of parameters, and buffers as they are
        (random frequencies of a time embedding, for instance)."""
        names = [n for n, _ in self.module.named_parameters()]
        sets = {name: dict(zip(names, weights, strict=True)) | self._buffers for name, weights in self.weights.items()}
        return {"updates": self.updates, "weights": sets}

    def whole_state_dict(self) -> dict:
        """`state_dict` with whole tensors; where they are sharded, all processes must ask for it."""
        tensors, rest = split(self.state_dict())
        return joined(rest, {place: whole(value) for place, value in tensors.items()})

    @property
    def _buffers(self) -> dict[str, Tensor]:
        """The module's buffers that belong to its state."""
        parameters = {name for name, _ in self.module.named_parameters()}
        return {name: value for name, value in self.module.state_dict().items() if name not in parameters}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Restores `state_dict`; the decays must be the same."""
        self.updates = state["updates"]
        names = [n for n, _ in self.module.named_parameters()]
        for name, weights in self.weights.items():
            saved = state["weights"][name]
            for weight, value in zip(weights, (saved[n] for n in names), strict=True):
                weight.copy_(value)
            for buffer, value in self._buffers.items():
                value.copy_(saved[buffer])

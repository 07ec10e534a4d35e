"""Sums and lists that batches are added to on every rank, and that can be seen as those of all ranks together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Accumulator", "gathered"]


class Accumulator:
    """Holds named states.

    Attributes:
        states: by name a tensor, or a list of tensors `[n, ...]`, on `device`.
        device: where the states lie.
        together: whether the states are now those of all ranks.

    torchmetrics has a class like it, but importing any part of torchmetrics takes seconds.
    """

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.states: dict[str, Any] = {}
        self.together = False
        self._defaults: dict[str, Tensor | None] = {}

    def add_state(self, name: str, default: Tensor | None = None) -> None:
        """Declares a state: a list of tensors to be joined along their first dimension, or with a `default` a tensor
        to be summed over ranks."""
        self._defaults[name] = default
        self._restart(name)

    def _restart(self, name: str) -> None:
        default = self._defaults[name]
        self.states[name] = [] if default is None else default.to(self.device, copy=True)

    def to(self, device: torch.device | str) -> None:
        """Moves all states."""
        self.device = torch.device(device)
        for name, state in self.states.items():
            self.states[name] = [x.to(device) for x in state] if isinstance(state, list) else state.to(device)

    def reset(self) -> None:
        """Forgets everything that was added."""
        for name in self._defaults:
            self._restart(name)

    @contextmanager
    def sync_context(self) -> Iterator[None]:
        """Within it, the states are those of all ranks together; all ranks must enter it."""
        own = self.states
        self.states = {
            name: _joined(state) if isinstance(state, list) else torch.stack(gathered(state)).sum(0)
            for name, state in own.items()
        }
        self.together = True
        try:
            yield
        finally:
            self.states, self.together = own, False


def _joined(state: list[Tensor]) -> list[Tensor]:
    """The tensors of all ranks, in the order of the ranks."""
    whole = torch.cat(state) if state else torch.empty(0)
    return [part for part in gathered(whole) if part.numel()]


def gathered(tensor: Tensor) -> list[Tensor]:
    """The tensors of all ranks, which may differ in shape and type, on the device of this rank's; all must ask."""
    forms: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(forms, (tensor.shape, tensor.dtype, tensor.nbytes))
    longest = max(count for _, _, count in forms)
    padded = torch.zeros(longest, dtype=torch.uint8, device=tensor.device)  # ranks exchange equally many bytes
    padded[: tensor.nbytes] = tensor.contiguous().flatten().view(torch.uint8)
    parts = [torch.empty_like(padded) for _ in forms]
    dist.all_gather(parts, padded)
    return [part[:n].view(dtype).view(shape) for part, (shape, dtype, n) in zip(parts, forms, strict=True)]

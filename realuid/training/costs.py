"""What a step costs, before a single one is taken: arithmetic and memory, counted on shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from realuid.training.procedure import Context, Procedure

BYTES = 4
"""Bytes of a float32 number."""


@dataclass(frozen=True)
class Costs:
    """Costs of one step, of one kind of pass each and together."""

    parameters: dict[str, int]
    """Parameters of every network, by role."""
    passes: dict[str, tuple[int, int]]
    """Kind of pass: how many in one step, and floating-point operations of one (forward and backward)."""
    weights: int
    """Bytes of networks, gradients, optimiser state and averages, on the device."""
    activations: int
    """Bytes saved for the backward pass, in the kind of pass that saves most."""

    @property
    def flops(self) -> int:
        """Floating-point operations of one step."""
        return sum(count * flops for count, flops in self.passes.values())


def costs(procedure: Procedure, context: Context) -> Costs:
    """Counts a step of the procedure on torch's meta device; the networks end up there, without their weights.

    Args:
        procedure: assembled, not started.
        context: on the meta device.
    """
    for network in procedure.networks().values():
        network.to("meta")
    passes, saved = {}, 0
    for kind, (count, loss) in procedure.passes(context).items():
        memory = _SavedBytes(procedure.networks())
        with memory, FlopCounterMode(display=False) as counter:
            loss().backward()
        passes[kind] = count, counter.get_total_flops()
        saved = max(saved, memory.total)
    parameters = {role: sum(p.numel() for p in net.parameters()) for role, net in procedure.networks().items()}
    trained = sum(n for role, n in parameters.items() if role in procedure.trained)
    averages = 0 if procedure.ema.device else len(procedure.ema.names) * parameters[next(iter(parameters))]
    weights = BYTES * (sum(parameters.values()) + 3 * trained + averages)
    return Costs(parameters=parameters, passes=passes, weights=weights, activations=saved)


class _SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Bytes that autograd keeps for the backward pass, parameters not counted, shared storages counted once."""

    def __init__(self, networks: dict[str, nn.Module]) -> None:
        self.total = 0
        self._seen = {p.untyped_storage()._cdata for net in networks.values() for p in net.parameters()}
        self._kept: list[Tensor] = []  # keeps storages alive, so that none is counted under another's address
        super().__init__(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._kept.append(tensor)
            self.total += storage.nbytes()
        return tensor

"""What a step costs, before a single one is taken: arithmetic and memory, counted on shapes alone, or on zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realuid.networks.blocks import blocks
from realuid.networks.lora import own_parameters
from realuid.training.flops import FlopCounter
from realuid.training.fused_attention import FusedAttention
from realuid.training.method import Context, Method
from realuid.training.saved_bytes import SavedBytes

BYTES = 4
"""Bytes of a float32 number."""
GPUS = (1, 8, 64)
"""Numbers of devices for which memory is stated."""
QUICK = 4e10
"""Operations that any CPU does in a second or two."""


@dataclass(frozen=True)
class Costs:
    """Costs of one step, of one kind of pass each and together."""

    parameters: dict[str, int]
    """Parameters of every network, by role; those that it shares count in the role that they come from."""
    passes: dict[str, tuple[int, int]]
    """Kind of pass: how many in one step, and floating-point operations of one (forward and backward)."""
    memory: dict[str, int]
    """Bytes on the device by role: its weights and, where it is trained, gradients and optimiser state; `averages`."""
    largest_block: int
    """Bytes of the largest part that is gathered at once where weights are sharded."""
    activations: int
    """Bytes saved for the backward pass, in the kind of pass that saves most."""

    @property
    def weights(self) -> int:
        """Bytes of networks, gradients, optimiser state and averages, on the device."""
        return sum(self.memory.values())

    @property
    def flops(self) -> int:
        """Floating-point operations of one step."""
        return sum(count * flops for count, flops in self.passes.values())


def counted_on(method: Method, batch: int, shape: tuple[int, ...]) -> torch.device:
    """Where the passes of a step are counted soonest: on torch's meta device, where nothing is computed, or on the CPU,
    where a small pass of each kind is done before torch has imported its formulas for shapes, which takes seconds. An
    estimate decides: each weight meets every entry of a channel once forward and twice backward.

    Args:
        method: assembled, not started.
        batch: samples in a step.
        shape: of one.
    """
    weights = sum(p.numel() for network in method.networks().values() for p in network.parameters())
    return torch.device("cpu" if 6 * weights * batch * math.prod(shape[1:]) < QUICK else "meta")


def costs(method: Method, context: Context) -> Costs:
    """Counts a step of the method, on either device of `counted_on` alike. The networks lose their weights.

    Args:
        method: assembled, not started.
        context: on that device.
    """
    method.pack()
    parameters, memory = held(method)
    gathered = max(_block_bytes(network) for network in method.networks().values())
    networks = list(method.networks().values())
    for network in networks:
        network._apply(lambda tensor: _moved(tensor, context.device))
    passes, saved = {}, 0
    for kind, (count, loss) in method.passes(context).items():
        kept = SavedBytes(networks)
        with kept, FlopCounter() as counter:
            repeated = kept.recomputing(networks if context.compute.recompute else (), counter)
            with repeated, FusedAttention():
                value = loss()
            value.backward()
        passes[kind] = count, counter.total + kept.again
        saved = max(saved, kept.total)
    return Costs(parameters=parameters, passes=passes, memory=memory, largest_block=gathered, activations=saved)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device, where it has no numbers: zeros."""
    if tensor.is_meta and device.type != "meta":
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
    return tensor.to(device)


def held(method: Method) -> tuple[dict[str, int], dict[str, int]]:
    """Parameters of a method's networks, and the bytes that they take, by role; see `Costs`."""
    networks, optimizers = method.networks(), method.optimizers()
    parameters, memory = {}, {}
    for role, network in networks.items():
        own = own_parameters(network)
        parameters[role] = sum(p.numel() for p in own)
        memory[role] = sum(p.nbytes for p in own)
        if role in method.trained:
            optimizer = optimizers.get(role, next(reversed(optimizers.values())))  # a head learns with the fake network
            memory[role] += int(parameters[role] * (BYTES + optimizer.bytes_a_weight))
    averages = 0 if method.ema.device else len(method.ema.names)
    memory["averages"] = BYTES * averages * parameters[next(iter(networks))]
    return parameters, memory


def _block_bytes(network: nn.Module) -> int:
    """Bytes of a network's largest block, or of all that is in none."""
    sizes = [sum(p.nbytes for p in block.parameters()) for block in blocks(network)]
    return max([*sizes, sum(p.nbytes for p in network.parameters()) - sum(sizes)])

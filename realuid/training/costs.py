"""What a step costs, before a single one is taken: arithmetic and memory, counted on shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from realuid.networks.blocks import blocks
from realuid.networks.lora import own_parameters
from realuid.training.fused_attention import FusedAttention
from realuid.training.method import Context, Method
from realuid.training.saved_bytes import SavedBytes

BYTES = 4
"""Bytes of a float32 number."""
GPUS = (1, 8, 64)
"""Numbers of devices for which memory is stated."""


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


def costs(method: Method, context: Context) -> Costs:
    """Counts a step of the method on torch's meta device; the networks end up there, without their weights.

    Args:
        method: assembled, not started.
        context: on the meta device.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imported where needed: it brings Triton

    method.pack()
    parameters, memory = held(method)
    gathered = max(_block_bytes(network) for network in method.networks().values())
    networks = list(method.networks().values())
    for network in networks:
        network.to("meta")
    passes, saved = {}, 0
    for kind, (count, loss) in method.passes(context).items():
        kept = SavedBytes(networks)
        with kept, FlopCounterMode(display=False) as counter:
            repeated = kept.recomputing(networks if context.compute.recompute else (), counter.get_total_flops)
            with repeated, FusedAttention():
                value = loss()
            value.backward()
        passes[kind] = count, counter.get_total_flops() + kept.again
        saved = max(saved, kept.total)
    return Costs(parameters=parameters, passes=passes, memory=memory, largest_block=gathered, activations=saved)


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

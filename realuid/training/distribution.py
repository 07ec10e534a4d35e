"""How networks are spread over the processes of a run: whole copies, or shards.

Either way each process works on its own lanes of the global batch and the gradients are averaged. In one process
nothing is spread.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from realuid.matching import PosteriorMean, matching_model_of
from realuid.networks.blocks import blocks
from realuid.students import Student
from realuid.training.world import World

__all__ = ["Replicated", "Sharded"]

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
"""A loss, whose gradient is taken, and scalars to be averaged."""


class Objective:
    """A loss whose backward pass leaves gradients averaged over processes; this one is for a single process."""

    def __init__(self, loss: Loss) -> None:
        self.loss: Callable = loss

    def __call__(self, *arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(*arguments)

    @contextmanager
    def summing(self, last: bool) -> Iterator[None]:
        """Around the passes of one micro-batch; gradients are exchanged with the `last`."""
        yield


class Distribution(ABC):
    """Spreads networks over processes."""

    def place(self, world: World, networks: Sequence[nn.Module]) -> None:
        """Spreads networks that are initialised and on the device; weights keep their names."""
        self.world = world

    def objective(self, trained: Sequence[nn.Module], loss: Loss) -> Objective:
        """The loss with gradients of the `trained` networks averaged over processes."""
        return Objective(loss) if self.world.size == 1 else self._averaging(trained, loss)

    @abstractmethod
    def _averaging(self, trained: Sequence[nn.Module], loss: Loss) -> Objective: ...

    @abstractmethod
    def settle(self, modules: Sequence[nn.Module]) -> None:
        """Brings modules of placed networks into their state between passes, in which their weights can be frozen."""

    def template(self, module: nn.Module) -> nn.Module:
        """What `carrying` makes whole copies of a placed network from."""
        return module

    def alone(self, module: nn.Module) -> nn.Module:
        """The placed network, or a copy, such that this process can call it without the others; all must ask for it."""
        return module


class Replicated(Distribution):
    """Every process holds all weights (torch's DistributedDataParallel): for networks that fit a device together with
    gradients, optimiser state and averages."""

    def settle(self, modules: Sequence[nn.Module]) -> None:
        """Copies are in it all the time."""

    def _averaging(self, trained: Sequence[nn.Module], loss: Loss) -> Objective:
        owner = _Owner(trained, loss)  # gradients lie where they are summed, not in a copy
        return _Replicas(DistributedDataParallel(owner, broadcast_buffers=False, gradient_as_bucket_view=True))


class _Owner(nn.Module):
    """A loss as a module that owns the networks it trains and no others, called once a pass: all that
    DistributedDataParallel needs to see, whatever is called inside, and how often."""

    def __init__(self, trained: Sequence[nn.Module], loss: Loss) -> None:
        super().__init__()
        self.trained = nn.ModuleList(trained)
        self.loss = loss

    def forward(self, *arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(*arguments)


class _Replicas(Objective):
    def __init__(self, replicas: DistributedDataParallel) -> None:
        super().__init__(replicas)
        self.replicas = replicas

    @contextmanager
    def summing(self, last: bool) -> Iterator[None]:
        if last:
            yield
            return
        with self.replicas.no_sync():
            yield


class Sharded(Distribution):
    """Every process holds a share of all weights (the frozen teacher's, too), gradients, optimiser state and averages,
    and gathers the weights of one block at a time (torch's FSDP2).

    Args:
        reshard: whether a block's weights are dropped again after its forward pass: less memory, more communication.
    """

    free_on_resume = frozenset({"reshard"})

    def __init__(self, *, reshard: bool = True) -> None:
        self.reshard = reshard
        self._templates: dict[nn.Module, nn.Module] = {}

    def place(self, world: World, networks: Sequence[nn.Module]) -> None:
        super().place(world, networks)
        if world.size == 1:
            return
        mesh = init_device_mesh(world.device.type, (world.size,))
        for network in networks:
            self._templates[network] = carrying(network, [p.to("meta") for p in network.parameters()])
            inner = _inner(network)
            for part in (*blocks(inner), inner):
                if next(part.parameters(), None) is not None:
                    fully_shard(part, mesh=mesh, reshard_after_forward=self.reshard)
            if hasattr(inner, "encode"):
                register_fsdp_forward_method(inner, "encode")

    def _averaging(self, trained: Sequence[nn.Module], loss: Loss) -> Objective:
        return _Shards(loss, [m for network in trained for m in network.modules() if isinstance(m, FSDPModule)])

    def settle(self, modules: Sequence[nn.Module]) -> None:
        for module in modules:
            if isinstance(module, FSDPModule):
                module.reshard()  # whole weights that a pass has left would keep whether they are trained

    def template(self, module: nn.Module) -> nn.Module:
        return self._templates.get(module, module)

    def alone(self, module: nn.Module) -> nn.Module:
        template = self.template(module)
        return module if template is module else carrying(template, [whole(p) for p in module.parameters()])


class _Shards(Objective):
    def __init__(self, loss: Loss, shards: Sequence[FSDPModule]) -> None:
        super().__init__(loss)
        self.shards = shards

    @contextmanager
    def summing(self, last: bool) -> Iterator[None]:
        for module in self.shards:
            module.set_requires_gradient_sync(last, recurse=False)
        yield


def _inner(network: nn.Module) -> nn.Module:
    """The network proper, of which the scalings around it know nothing."""
    posterior = network.model if isinstance(network, Student) else network
    model = matching_model_of(posterior) if isinstance(posterior, PosteriorMean) else None
    return network if model is None else model.network


def whole(value: Tensor) -> Tensor:
    """All of a tensor that may be sharded; if it is, all processes must ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def carrying(module: nn.Module, weights: Sequence[Tensor]) -> nn.Module:
    """A frozen copy of a network, in evaluation mode, that carries these weights, in the order of `parameters()`, in
    place of its own, which are not copied."""
    own = {
        id(p): nn.Parameter(w.detach().to(p.dtype, copy=True), requires_grad=False)
        for p, w in zip(module.parameters(), weights, strict=True)
    }
    return copy.deepcopy(module, own).eval().requires_grad_(False)

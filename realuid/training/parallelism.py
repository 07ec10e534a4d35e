"""How networks are spread over the processes of a run: whole copies, or shards.

Either way each process works on its own lanes of the global batch and the gradients are averaged. In one process
nothing is spread.

torch's FSDP and its sharded tensors are slow to import, so the functions that use them do that.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from realuid.networks.base import Network
from realuid.networks.blocks import blocks
from realuid.training.world import World
from realuid.utils.errors import RunError

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

__all__ = ["DDP", "FSDP"]

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


class Parallelism(ABC):
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

    def shards(self, world: World) -> bool:
        """Whether the weights are cut into shards over the processes of this world."""
        return False

    def shares_of(self, processes: int) -> int:
        """Into how many shares the weights are cut in a run of so many processes."""
        return 1

    def template(self, module: nn.Module) -> nn.Module:
        """What `carrying` makes whole copies of a placed network from."""
        return module

    def alone(self, module: nn.Module) -> nn.Module:
        """The placed network, or a copy, such that this process can call it without the others; all must ask for it."""
        return module


class DDP(Parallelism):
    """Every process holds all weights (torch's DistributedDataParallel): for networks that fit a device together with
    gradients, optimiser state and averages."""

    def settle(self, modules: Sequence[nn.Module]) -> None:
        """Copies are in it all the time."""

    def _averaging(self, trained: Sequence[nn.Module], loss: Loss) -> Objective:
        owner = _Owner(trained, loss)
        with warnings.catch_warnings():  # the argument that is to replace broadcast_buffers sends them at the start
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            # gradients lie where they are summed, not in a copy
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


class FSDP(Parallelism):
    """Every process holds a share of all weights (the frozen teacher's, too), gradients, optimiser state and averages,
    and gathers the weights of one block at a time (torch's FSDP2).

    Args:
        reshard: whether a block's weights are dropped again after its forward pass: less memory, more communication.
        shards: number of the shares; None for as many as there are processes. With fewer, groups of so many processes
            hold all weights, and the groups exchange gradients alone (HSDP): bind it to the GPUs of one machine.

    Raises:
        ValueError: if `shards` is less than one.
    """

    free_on_resume = frozenset({"reshard", "shards"})

    def __init__(self, *, reshard: bool = True, shards: int | None = None) -> None:
        if shards is not None and shards < 1:
            raise ValueError(f"shards must be at least 1, got {shards}")
        self.reshard, self.shares = reshard, shards
        self._templates: dict[nn.Module, nn.Module] = {}

    def shards(self, world: World) -> bool:
        return world.size > 1

    def shares_of(self, processes: int) -> int:
        return min(processes, self.shares or processes)

    def place(self, world: World, networks: Sequence[nn.Module]) -> None:
        super().place(world, networks)
        if not self.shards(world):
            return
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = self._mesh(world)
        shared = _shared(networks)
        for network in networks:
            self._templates[network] = carrying(network, [p.to("meta") for p in network.parameters()])
            inner = _inner(network)
            for part in (*blocks(inner), inner):
                if next(part.parameters(), None) is not None:
                    fully_shard(part, mesh=mesh, reshard_after_forward=self.reshard)
            if isinstance(inner, Network) and inner.middle_channels is not None:
                register_fsdp_forward_method(inner, "encode")
        for (first, name), *others in shared:
            for module, other in others:  # FSDP2 takes in what it finds in its modules before their first pass
                module._parameters[other] = first._parameters[name]

    def _mesh(self, world: World) -> DeviceMesh:
        if self.shares is None or self.shares == world.size:
            return init_device_mesh(world.device.type, (world.size,))
        groups, rest = divmod(world.size, self.shares)
        if rest:
            raise RunError(f"FSDP.shards = {self.shares} does not divide the {world.size} processes: bind another")
        return init_device_mesh(world.device.type, (groups, self.shares), mesh_dim_names=("copies", "shards"))

    def _averaging(self, trained: Sequence[nn.Module], loss: Loss) -> Objective:
        from torch.distributed.fsdp import FSDPModule

        return _Shards(loss, [m for network in trained for m in network.modules() if isinstance(m, FSDPModule)])

    def settle(self, modules: Sequence[nn.Module]) -> None:
        from torch.distributed.fsdp import FSDPModule

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


def _shared(networks: Sequence[nn.Module]) -> list[list[tuple[nn.Module, str]]]:
    """The places of each weight that several networks share: modules, and what it is called there."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for network in networks:
        for module in network.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    places.setdefault(id(parameter), []).append((module, name))
    return [found for found in places.values() if len(found) > 1]


def _inner(network: nn.Module) -> nn.Module:
    """The network proper, of which the scalings around it know nothing."""
    return next((part for part in network.modules() if isinstance(part, Network)), network)


def whole(value: Tensor) -> Tensor:
    """All of a tensor that may be sharded; if it is, all processes must ask for it."""
    if not may_be_sharded(value):
        return value
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def own_part(value: Tensor) -> Tensor:
    """This process's part of a tensor that may be sharded."""
    if not may_be_sharded(value):
        return value
    from torch.distributed.tensor import DTensor

    return value.to_local() if isinstance(value, DTensor) else value


def may_be_sharded(value: Tensor) -> bool:
    """False for plain tensors, of which there are most: only for others DTensor is worth its import."""
    return type(value) not in (Tensor, nn.Parameter)


def carrying(module: nn.Module, weights: Sequence[Tensor]) -> nn.Module:
    """A frozen copy of a network, in evaluation mode, that carries these weights, in the order of `parameters()`, in
    place of its own, which are not copied. One of its own that is given, a frozen one, it goes on to share."""
    own = {
        id(p): p if w is p else nn.Parameter(w.detach().to(p.dtype, copy=True), requires_grad=False)
        for p, w in zip(module.parameters(), weights, strict=True)
    }
    return copy.deepcopy(module, own).eval().requires_grad_(False)

"""Exponential moving averages of the generator's weights, several decays at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from realuid.checkpoints.nested import joined, split
from realuid.networks.lora import own_names, own_parameters
from realuid.training.parallelism import Parallelism, carrying, whole
from realuid.training.world import World
from realuid.utils.errors import CheckpointError
from realuid.utils.limits import check_at_most

__all__ = ["EMA"]


class EMA:
    """Averages w <- d w + (1 - d) weights after every step, one set a decay, in float32.

    Averages are corrected for their start as Adam's moments are (Kingma & Ba 1412.6980, section 3): after n updates
    they are the weights' mean with factors d^(n - i), i = 1 to n, in which the initial weights have no part. Of a
    network that adapts another one (`LoRA`), only the adapters are averaged and saved.

    Args:
        decays: the decays; the first is the one that is evaluated and exported.
        device: where the averages are kept: None for beside the weights, `cpu` for the host's memory, which spares the
            device four bytes a weight and average and costs a copy of the weights after every step.

    Raises:
        ValueError: if `decays` is empty, leaves [0, 1) or has one twice, or `device` is another one.
    """

    free_on_resume = frozenset({"device"})

    def __init__(self, *, decays: Sequence[float] = (0.999,), device: Literal["cpu"] | None = None) -> None:
        if not decays or not all(0 <= decay < 1 for decay in decays):
            raise ValueError(f"decays must be one or more numbers in [0, 1), got {tuple(decays)}")
        check_at_most(64, **{"the number of decays": len(decays)})
        if len(set(decays)) < len(decays):
            raise ValueError(f"decays must differ, got {tuple(decays)}")
        if device not in (None, "cpu"):
            raise ValueError(f"device must be None or 'cpu', got {device!r}")
        self.decays = {str(decay): decay for decay in decays}
        self.device, self.updates = device, 0

    @property
    def names(self) -> list[str]:
        """Names of the averages, the decays as text; the first is the default."""
        return list(self.decays)

    def check(self, parallelism: Parallelism, world: World) -> None:
        """Makes sure that averages can be kept where they are wanted.

        Raises:
            ValueError: if weights are sharded and averages are not to lie beside them.
        """
        if self.device is not None and parallelism.shards(world):
            raise ValueError("EMA.device: averages of sharded weights stay beside them, shared out as they are")

    def attach(self, module: nn.Module, template: nn.Module | None = None, base: str | None = None) -> None:
        """Starts all averages at the weights of `module`, which is the one followed from now on. Where it is sharded,
        so are they, and copies are made from `template` (`Parallelism.template`). `base` is the checksum of the weights
        that it shares with another network, if it does."""
        self.module, self.template, self.base = module, template or module, base
        self.updates = 0
        self.parameters = own_parameters(module)
        self.weights: dict[str, list[Tensor]] = {name: [p.clone() for p in self._current()] for name in self.decays}

    @torch.no_grad()
    def update(self) -> None:
        """One step of every average."""
        self.updates += 1
        current = self._current()
        for name, decay in self.decays.items():
            torch._foreach_lerp_(self.weights[name], current, (1 - decay) / (1 - decay**self.updates))

    def _current(self) -> list[Tensor]:
        """The module's weights where the averages are, in float32; they may be the very tensors."""
        return [p.detach().to(self.device or p.device, torch.float32) for p in self.parameters]

    def averaged(self, name: str | None = None) -> nn.Module:
        """A copy of the module, in evaluation mode, that carries the average `name` (default: the first). Where it is
        sharded, each process gets a whole copy, and all must ask for it.

        Raises:
            KeyError: if there is no such average.
        """
        own = dict(zip(map(id, self.parameters), self.weights[name or self.names[0]], strict=True))
        weights = [whole(own[id(p)]).to(p.device) if id(p) in own else whole(p) for p in self.module.parameters()]
        copy = carrying(self.template, weights)
        copy.load_state_dict(self._buffers, strict=False)
        return copy

    def state_dict(self) -> dict:
        """Number of updates, and for every average its weights by name: averages of parameters, also under the second
        name of a tied one, and buffers as they are (random frequencies of a time embedding, for instance)."""
        places = self._places
        sets = {
            name: {n: weights[place] for n, place in places.items()} | self._buffers
            for name, weights in self.weights.items()
        }
        return {"updates": self.updates, "weights": sets, **({} if self.base is None else {"base": self.base})}

    def whole_state_dict(self) -> dict:
        """`state_dict` with whole tensors; where they are sharded, all processes must ask for it."""
        tensors, rest = split(self.state_dict())
        return joined(rest, {place: whole(value) for place, value in tensors.items()})

    @property
    def _buffers(self) -> dict[str, Tensor]:
        """The module's buffers that belong to its state."""
        places, own = self._places, own_names(self.module)
        return {n: value for n, value in self.module.state_dict().items() if n in own and n not in places}

    @property
    def _places(self) -> dict[str, int]:
        """The names of the parameters and where each stands among `parameters()`; a tied one has several names."""
        places = {id(parameter): place for place, parameter in enumerate(self.parameters)}
        named = self.module.named_parameters(remove_duplicate=False)
        return {name: places[id(p)] for name, p in named if id(p) in places}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Restores `state_dict`; the decays must be the same.

        Raises:
            CheckpointError: if it holds the averages of another network, or of adapters of another one.
        """
        if state.get("base") != self.base:
            raise CheckpointError("the averages are of adapters of another teacher than the one that is bound")
        self.updates = state["updates"]
        places = self._places
        for name, weights in self.weights.items():
            saved = state["weights"][name]
            own = {n: weights[place] for n, place in places.items()} | self._buffers
            if different := sorted(saved.keys() ^ own.keys()):
                raise CheckpointError(f"the average {name} is of another network: {different[0]} is on one side only")
            for key, value in own.items():  # `copy_` would repeat a smaller one
                if saved[key].shape != value.shape:
                    raise CheckpointError(
                        f"the average {name} is of another network: {key} is {list(saved[key].shape)}, not "
                        f"{list(value.shape)}"
                    )
                value.copy_(saved[key])

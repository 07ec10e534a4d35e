"""Low-rank adapters (LoRA, Hu et al. 2106.09685) of a network that others share.

A role of its own does not need weights of its own. `LoRA` stands for the teacher's network with an adapter beside each
of its layers: the modules are copies, the teacher's weights in them are the very same tensors, frozen, and only the
adapters are trained, averaged and saved. Each role runs its own modules, so there is no adapter to be switched on or
off, and nothing that a recomputed, compiled or sharded pass could find switched otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from realuid.conditions import Condition
from realuid.networks.base import Network
from realuid.networks.storage import unpacked
from realuid.utils.limits import check_at_most

__all__ = ["LoRA"]

ADAPTER = "lora_"
"""How peft names what belongs to an adapter."""
ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LoRA(Network):
    r"""The teacher's network with low-rank adapters: every adapted layer computes

    .. math:: W x + \frac{\alpha}{r}\, B A x, \qquad A \in R^{r \times in},\ B \in R^{out \times r},

    with the teacher's frozen W. B starts at zero, so that the network starts as the teacher. Needs the package peft.

    Args:
        rank: r.
        alpha: numerator of the adapters' factor; None for `rank`, a factor of one.
        targets: names of the layers with adapters, or their ends (`to_q`, `attn.qkv`), as peft has them; None for every
            linear layer and convolution that computes as torch's own do.

    Raises:
        ValueError: if `rank` or `alpha` is not positive, or beyond reason, or peft is not installed.
    """

    def __init__(self, *, rank: int, alpha: float | None = None, targets: Sequence[str] | None = None) -> None:
        super().__init__()
        if rank < 1 or (alpha is not None and alpha <= 0):
            raise ValueError(f"rank and alpha must be positive, got {rank} and {alpha}")
        check_at_most(16_384, rank=rank)
        _peft()
        self.rank, self.alpha = rank, float(rank if alpha is None else alpha)
        self.targets = None if targets is None else tuple(targets)
        self.model: Network | None = None

    def adapt(self, base: Network) -> None:
        """Makes this an adapter of `base`, whose weights are frozen from now on.

        Raises:
            ValueError: if the base has no layer of the names in `targets`, or none that can be adapted.
        """
        shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
        model = copy.deepcopy(base, shared)
        peft = _peft()
        config = peft.LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=self._targets(model))
        with _of_torch(model):
            peft.inject_adapter_in_model(config, model)
        self.model = model
        self.shape, self.conditions, self.null_remedy = base.shape, base.conditions, base.null_remedy
        self.in_multiplier, self.out_multiplier = base.in_multiplier, base.out_multiplier
        self.middle_channels = base.middle_channels

    def unfit(self, shape: tuple[int, ...]) -> str | None:
        return super().unfit(shape) if self.model is None else self.model.unfit(shape)

    def _targets(self, model: Network) -> list[str]:
        """Names of the layers that get an adapter."""
        layers = list(_adaptable(model))
        if self.targets is None:
            if not layers:
                raise ValueError(f"{type(model).__name__} has no linear layer or convolution that LoRA could adapt")
            return layers
        for target in self.targets:
            if not any(name == target or name.endswith(f".{target}") for name in layers):
                raise ValueError(
                    f"LoRA.targets: {type(model).__name__} has no linear layer or convolution called {target!r}; "
                    f"it has {', '.join(layers[:4])}{', ...' if len(layers) > 4 else ''}"
                )
        return list(self.targets)

    def reset_adapters(self) -> None:
        """Draws the adapters anew: A at random, B zero."""
        for layer in self.layers().values():
            layer.reset_lora_parameters("default", True)

    def layers(self) -> dict[str, Any]:
        """The adapted layers (peft's) by their names in the base."""
        kind = _peft().tuners.lora.LoraLayer
        return {name: layer for name, layer in self._adapted.named_modules() if isinstance(layer, kind)}

    @torch.no_grad()
    def merged(self) -> Network:
        """The base as a network of its own, in float32, with the adapters added to its weights."""
        network = copy.deepcopy(self._adapted)
        adapted = self.layers()
        for name, layer in [(n, m) for n, m in network.named_modules() if n in adapted]:
            plain = unpacked(layer.get_base_layer())
            plain.weight.add_(layer.get_delta_weight("default").to(plain.weight))
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, plain)
        vars(network).pop("peft_config", None)  # peft's note on a model that it has adapted
        return unpacked(network)

    @property
    def _adapted(self) -> Network:
        assert self.model is not None, "an adapter is used once it has a base"
        return self.model

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return self._adapted(x, time, condition)

    @property
    def has_null(self) -> bool:
        return self.model is not None and self.model.has_null

    def null(self, condition: Condition) -> Condition:
        return self._adapted.null(condition)

    def encode(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return self._adapted.encode(x, time, condition)


def own_names(module: nn.Module) -> set[str]:
    """Names of the weights and buffers that a network does not share: all, or those of its adapters."""
    adapted = [name for name, part in module.named_modules() if isinstance(part, LoRA)]
    return {
        name
        for name in module.state_dict()
        if not any(name.startswith(f"{place}." if place else "") for place in adapted)
        or any(part.startswith(ADAPTER) for part in name.split("."))
    }


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The weights that a network does not share, in the order of `parameters()`: what is trained and averaged."""
    names = own_names(module)
    return [parameter for name, parameter in module.named_parameters() if name in names]


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """The part of a network's state that it does not share: what is saved."""
    names = own_names(module)
    return {name: value for name, value in module.state_dict().items() if name in names}


def load_own(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Restores `own_state`.

    Raises:
        RuntimeError: if it is the state of another network.
    """
    if different := sorted(own_names(module) ^ state.keys()):
        raise RuntimeError(f"the weights are of another network: {different[0]} is on one side only")
    module.load_state_dict(state, strict=False)


def _adaptable(model: nn.Module) -> Iterator[str]:
    """Names of the layers that peft can adapt: those that compute as torch's own do, but not inside torch's attention,
    which reads weights past their layers."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            inside = (*inside, f"{name}.")
        usual = any(type(module).forward is kind.forward for kind in ADAPTABLE)
        grouped = isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and module.groups > 1
        if usual and not name.startswith(inside) and not grouped:
            yield name


@contextmanager
def _of_torch(model: nn.Module) -> Iterator[None]:
    """Convolutions are torch's own for a while: peft makes the adapters of the class of the layer."""
    own = [(module, type(module), kind) for module in model.modules() for kind in ADAPTABLE if isinstance(module, kind)]
    for module, _, kind in own:
        module.__class__ = kind
    yield
    for module, before, _ in own:
        module.__class__ = before


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ValueError("LoRA needs `pip install realuid[lora]`") from None
    return peft

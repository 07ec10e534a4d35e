"""How the arithmetic of a run is done: precision, memory format, compilation, recomputation.

Of a network only its blocks (`realuid.networks.blocks`) and convolutions are touched. Their weights keep names and
layout, so that what copies, shards, averages or saves a network need not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import chain
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from realuid.networks.blocks import blocks

__all__ = ["Compute"]

Kind = Literal["regression", "generator"]
"""Kinds of updates: of a network that regresses (a fake network, a teacher in training), or of the generator."""
Precision = Literal["float32", "tf32", "bfloat16"]

FASTEST = "fastest"
VARIANTS = 16
"""How often a block may be compiled for one size of images: trained or frozen, with and without gradient, by batch size
and precision."""


class Compute:
    """How the arithmetic is done. What is not bound is decided by the device: in brackets the default for CUDA.

    Args:
        regression: precision of the fake network's updates and of a teacher's training: float32 (bfloat16). `tf32` and
            `float32` differ on CUDA only. `bfloat16` is torch's autocast: weights, gradients and all that is computed
            from predictions stay in float32. `fastest` is bfloat16 where the machine computes faster in it, which is
            measured when a run begins and kept with the run (`realuid.training.precision`).
        generator: precision of the generator's updates: float32 (tf32). Their gradient is a difference of two nearly
            equal predictions, which bfloat16 gets wrong by a third once the fake network is close to the teacher.
        compile: mode of `torch.compile` for the blocks, which takes minutes at the start and pays in long runs on
            CUDA. `reduce-overhead` replays CUDA graphs, for small batches.
        recompute: whether a block keeps nothing but its input for the backward pass and is computed again there: much
            less memory, about a third more arithmetic.
        channels_last: whether blocks and convolutions work on images with channels innermost: no (yes).
    """

    free_on_resume = frozenset({"compile", "recompute", "channels_last"})

    def __init__(
        self,
        *,
        regression: Precision | Literal["fastest"] | None = None,
        generator: Precision | None = None,
        compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none",
        recompute: bool = False,
        channels_last: bool | None = None,
    ) -> None:
        self.regression, self.generator = regression, generator
        self.chosen: Precision | None = None
        """What `fastest` is in this run, once it is known."""
        self.compile, self.recompute, self.channels_last = compile, recompute, channels_last

    def prepare(self, networks: Sequence[nn.Module], device: torch.device, sizes: int = 1) -> None:
        """Prepares the blocks of networks on the device, before they are spread over processes.

        Args:
            networks: initialised.
            device: that they are on.
            sizes: how many sizes of images they see; a block is compiled anew for each.
        """
        parts = list(dict.fromkeys(chain.from_iterable(map(blocks, networks))))
        channels_last = device.type == "cuda" if self.channels_last is None else self.channels_last
        if channels_last or self.recompute:
            for block in parts:
                block.__class__ = _adapted(type(block), channels_last, self.recompute)  # type: ignore[arg-type]
        if channels_last:
            for network in networks:
                _keep_channels_last(network)
        if self.compile != "none":
            _allow_compilations(VARIANTS * len(parts) * sizes)
            for block in (block for block in parts if "compiled_forward" not in vars(block)):
                run = torch.compile(MethodType(type(block).forward, block), mode=self.compile, dynamic=False)
                block.__class__ = _compilable(type(block))  # type: ignore[arg-type]
                vars(block)["compiled_forward"] = run

    def arithmetic(self, kind: Kind, device: torch.device) -> Arithmetic:
        """The precision of a kind of update on a device."""
        cuda = device.type == "cuda"
        usual: dict[Kind, Precision] = {
            "regression": "bfloat16" if cuda else "float32",
            "generator": "tf32" if cuda else "float32",
        }
        regression = self.chosen if self.regression == "fastest" else self.regression  # FASTEST, which mypy narrows
        bound: dict[Kind, Precision | None] = {"regression": regression, "generator": self.generator}
        graphs = self.compile in ("reduce-overhead", "max-autotune")
        return Arithmetic(bound[kind] or usual[kind], device, graphs)


class Arithmetic:
    """One precision on one device, with CUDA graphs or without."""

    def __init__(self, precision: Precision, device: torch.device, graphs: bool) -> None:
        self.precision, self.device, self.graphs = precision, device, graphs

    def forward(self) -> AbstractContextManager:
        """Around a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()

    @contextmanager
    def update(self) -> Iterator[None]:
        """Around a forward and a backward pass."""
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = self.precision != "float32"
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before


@cache
def _adapted(kind: type[nn.Module], channels_last: bool, recompute: bool) -> type[nn.Module]:
    """A kind of block with another forward pass. A class rather than a hook or an attribute, since a copy of a block
    must run its own weights."""

    def forward(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        if channels_last:
            inputs = tuple(_channels_last(value) for value in inputs)
            named = {name: _channels_last(value) for name, value in named.items()}
        run = super(adapted, self).forward  # type: ignore[arg-type]
        return checkpoint(run, *inputs, use_reentrant=False, **named) if recompute else run(*inputs, **named)

    adapted = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return adapted


@cache
def _compilable(kind: type[nn.Module]) -> type[nn.Module]:
    """A kind of block that runs its `compiled_forward`. The forward pass alone is compiled, and not the call as
    `nn.Module.compile` does: hooks around it, FSDP's, would keep everything from being compiled. A copy has none: it
    must run its own weights."""

    def forward(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        run = vars(self).get("compiled_forward") or super(compilable, self).forward  # type: ignore[arg-type]
        return run(*inputs, **named)

    def getstate(self: nn.Module) -> dict[str, Any]:
        state = super(compilable, self).__getstate__()  # type: ignore[arg-type]
        return {name: value for name, value in state.items() if name != "compiled_forward"}

    members = {"forward": forward, "__getstate__": getstate, "__module__": kind.__module__}
    compilable = type(kind.__name__, (kind,), members)
    return compilable


def _channels_last(value: Any) -> Any:
    """Images with channels innermost, anything else as it is."""
    if isinstance(value, Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _keep_channels_last(network: nn.Module) -> None:
    """Has every convolution see channels innermost: on CUDA, group normalisation gives them outermost."""
    for layer in network.modules():
        weight = layer._parameters.get("weight")
        if weight is not None and weight.ndim == 4 and _before_convolution not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_before_convolution)


def _before_convolution(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_channels_last(value) for value in inputs)


def _allow_compilations(count: int) -> None:
    """torch counts compilations of all blocks of one class together, and gives up beyond a limit meant for one."""
    import torch._dynamo.config as dynamo  # seconds, for those who compile

    dynamo.recompile_limit = max(dynamo.recompile_limit, count)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, count)

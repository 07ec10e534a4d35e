"""Counts the floating-point operations of what is computed, without torch's compiler.

torch's own `FlopCounterMode` gives the same numbers. It imports Triton to look for its kernels, and is kept out of what
torch's compiler compiles, for which the whole compiler is imported: two seconds together, where nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Shape = Sequence[int]
aten = torch.ops.aten
COMPOSITE = "CompositeImplicitAutograd"
"""What torch calls operations that are made of others, which are counted in their place."""


class FlopCounter(TorchDispatchMode):
    """Counts matrix products, convolutions and attention in fused kernels while it is entered, forward and backward, on
    any device; a multiplication and its addition are two operations. The rest is not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's switch for the import of the compiler in the first operation."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        formula, kwargs = FORMULAS.get(func._overloadpacket), kwargs or {}
        if formula is None and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(result, *args)
        return result


def _product(a: Shape, b: Shape) -> int:
    """Of matrices `[..., m, k]` and `[..., k, n]`."""
    return 2 * prod(a) * b[-1]


def _matrices(result: Tensor, a: Tensor, b: Tensor, *_: Any) -> int:
    return _product(a.shape, b.shape)


def _added_matrices(result: Tensor, bias: Tensor, a: Tensor, b: Tensor, *_: Any) -> int:
    return _product(a.shape, b.shape)


def _convolution(
    result: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *_: Any,
) -> int:
    return _convolved(x.shape if transposed else result.shape, weight.shape)


def _convolved(places: Shape, weight: Shape) -> int:
    """Every place `[B, C, ...]` at which the kernel is laid meets all of it."""
    return 2 * places[0] * prod(places[2:]) * prod(weight)


def _convolution_backward(
    result: Sequence[Tensor | None],
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    wanted: Sequence[bool],
) -> int:
    places = x.shape if transposed else gradient.shape
    of_input = _convolved(places, weight.shape)
    of_weight = _convolved(places, (x.shape[1], gradient.shape[1], *weight.shape[2:]))
    return wanted[0] * of_input + wanted[1] * of_weight


def _attention(result: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    """Scores, and their means of the values."""
    batch, heads, length, width = query.shape
    scores = batch * heads, length, key.shape[2]
    return 2 * prod(scores) * (width + value.shape[3])


def _attention_backward(result: Any, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    """The scores again, and two products each for them and for the values."""
    batch, heads, length, width = query.shape
    scores = batch * heads, length, key.shape[2]
    return 2 * prod(scores) * (3 * width + 2 * value.shape[3])


FORMULAS: dict[Any, Callable[..., int]] = {
    aten.mm: _matrices,
    aten.bmm: _matrices,
    aten.addmm: _added_matrices,
    aten.baddbmm: _added_matrices,
    aten.convolution: _convolution,
    aten._convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
    aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    aten._scaled_dot_product_cudnn_attention_backward: _attention_backward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""Operations of `aten`: how many operations one call is, from its result and its arguments."""

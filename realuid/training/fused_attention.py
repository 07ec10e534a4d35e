"""Attention by a fused kernel, where costs are counted on torch's meta device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class FusedAttention(TorchFunctionMode):
    """Within it, attention on the meta device is that of the fused kernels, as torch chooses them on others. They keep
    queries, keys, values and the result for the backward pass, and compute the weights of all pairs of tokens again.
    The meta device would take the formula, which keeps those weights: of 4096 tokens in float32, 64 MiB a head, and
    more than once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        fused = func is F.scaled_dot_product_attention and any(x.is_meta for x in args if isinstance(x, Tensor))
        return (_fused if fused else func)(*args, **(kwargs or {}))


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Arguments of `scaled_dot_product_attention`, on the meta device."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    bias = attn_mask
    if bias is not None:
        bias = torch.zeros_like(bias, dtype=query.dtype) if bias.dtype == torch.bool else bias
        bias = bias.expand(*query.shape[:-1], key.shape[-2])
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    result: Tensor = kernel(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]
    return result

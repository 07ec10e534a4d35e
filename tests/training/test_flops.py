"""The count of operations against torch's own, and the compiler that it does without."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from realuid.conditions import Condition
from realuid.networks.dit import DiT
from realuid.networks.unet import UNet
from realuid.training.flops import FORMULAS, FlopCounter

aten = torch.ops.aten
BELOW = {
    aten._slow_conv2d_forward,
    aten.convolution_overrideable,
    aten.cudnn_convolution,
    aten._flash_attention_forward,
    aten._flash_attention_backward,
    aten._efficient_attention_forward,
    aten._efficient_attention_backward,
}
"""What torch runs inside operations that are counted."""
NOT_USED = {"_scaled_mm", "flex_attention", "flex_attention_backward"}
"""Products in eight bits, and attention that is written for the compiler."""


def zeros(*shape):
    return torch.zeros(shape, device="meta", requires_grad=True)


def network(kind, **arguments):
    with torch.device("meta"):
        made = kind(shape=(3, 16, 16), **arguments)
    return made(zeros(2, 3, 16, 16), torch.zeros(2, device="meta"), Condition())


def attention(forward, backward):
    """A fused kernel and its backward pass, on queries of other number and values of other width than keys."""
    query, key, value = zeros(2, 4, 10, 8), zeros(2, 4, 6, 8), zeros(2, 4, 6, 8)
    with torch.no_grad():
        out, *_ = forward(query, key, value, *(() if "flash" in str(forward) else (None, True)))
        rest = {
            "flash": (out, out[..., 0], None, None, 10, 6, 0.0, False, out, out),
            "efficient": (None, out, out[..., 0], out, out, 0.0, [True, True, True, False]),
        }
        backward(out, query, key, value, *rest["flash" if "flash" in str(forward) else "efficient"])
    return zeros(1)


WORK = {
    "a linear layer": lambda: F.linear(zeros(5, 3), zeros(4, 3), zeros(4)),
    "products": lambda: zeros(2, 5, 3) @ zeros(2, 3, 4),
    "added products": lambda: torch.baddbmm(zeros(2, 5, 4), zeros(2, 5, 3), zeros(2, 3, 4)),
    "a convolution": lambda: F.conv2d(zeros(2, 4, 9, 7), zeros(6, 4, 3, 2), zeros(6), stride=2, padding=1),
    "of sequences": lambda: F.conv1d(zeros(2, 4, 9), zeros(6, 4, 3), dilation=2),
    "of data": lambda: F.conv2d(zeros(2, 4, 9, 7).detach(), zeros(6, 4, 3, 2)),
    "in groups": lambda: F.conv2d(zeros(2, 4, 9, 7), zeros(6, 2, 3, 3), groups=2),
    "transposed": lambda: F.conv_transpose2d(zeros(2, 4, 9, 7), zeros(4, 6, 3, 3), stride=2),
    "attention by products": lambda: F.scaled_dot_product_attention(
        zeros(2, 4, 10, 8), zeros(2, 4, 6, 8), zeros(2, 4, 6, 8)
    ),
    "attention, flash": lambda: attention(
        aten._scaled_dot_product_flash_attention, aten._scaled_dot_product_flash_attention_backward
    ),
    "attention, efficient": lambda: attention(
        aten._scaled_dot_product_efficient_attention, aten._scaled_dot_product_efficient_attention_backward
    ),
    "a U-Net": lambda: network(UNet, width=32, multipliers=(1, 2), blocks=1),
    "a transformer": lambda: network(DiT, width=64, depth=2, heads=4, patch=2),
}


@pytest.mark.parametrize("name", WORK)
def test_the_count_is_that_of_torch(name):
    counts = []
    for counter in (FlopCounter(), FlopCounterMode(display=False)):
        with counter:
            WORK[name]().sum().backward()
        counts.append(counter.total if isinstance(counter, FlopCounter) else counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_on_a_device_it_is_the_same():
    x, weight = torch.randn(2, 4, 9, 7), torch.randn(6, 4, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as theirs, FlopCounter() as ours:
        F.conv2d(x, weight).square().sum().backward()
        F.linear(x, torch.randn(3, 7))
    assert ours.total == theirs.get_total_flops() > 0


def test_every_formula_of_torch_is_here_or_not_needed():
    missing = {operation for operation in flop_registry if operation not in FORMULAS} - BELOW
    assert {getattr(operation, "__name__", str(operation)).removeprefix("aten.") for operation in missing} == NOT_USED

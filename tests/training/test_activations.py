"""The dry run's bytes of activations beside what is really allocated on a CPU."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from realuid.networks.dit import DiT
from realuid.networks.unet import UNet
from realuid.training.compute import Compute
from realuid.training.costs import costs
from realuid.training.fused_attention import FusedAttention
from tests.training.test_costs import META, context, distillation

CPU, SIDE, BATCH = torch.device("cpu"), 16, 16
NETWORKS = {
    "transformer": lambda: DiT(shape=(3, SIDE, SIDE), patch=2, width=32, depth=6, heads=4),
    "unet": lambda: UNet(shape=(3, SIDE, SIDE), width=32, multipliers=(1, 2), blocks=1, attention=()),
}


def at(device, recompute):
    return replace(context(device, side=SIDE), batch=BATCH, compute=Compute(recompute=recompute))


def allocated(work) -> tuple[int, int]:
    """Bytes in use at most meanwhile, and after it, beyond those before, as the allocator tells them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = work()
    events = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    del kept
    return most, now


def measured(network, recompute) -> int:
    """Of the kind of pass that takes most, without the gradients that it leaves, which are counted with the weights."""
    found = []
    for kind in ("fake", "generator"):
        made, place = distillation(network, 0.92, 0.94, real_batch=BATCH, fake_init="teacher"), at(CPU, recompute)
        passes, networks = made.passes(place), list(made.networks().values())
        place.compute.prepare(networks, CPU)
        step = passes[kind][1]
        step().backward()  # what is kept from one step to the next
        for one in networks:
            one.zero_grad(set_to_none=False)
        loss = []
        forward, left = allocated(lambda step=step, loss=loss: loss.append(step()))
        backward, _ = allocated(lambda loss=loss: loss[0].backward())
        found.append(max(forward, left + backward))
    return max(found)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_estimated_is_what_is_allocated(name, recompute):
    network = NETWORKS[name]
    bill = costs(distillation(network, 0.92, 0.94, real_batch=BATCH, fake_init="teacher"), at(META, recompute))
    assert bill.activations == pytest.approx(measured(network, recompute), rel=0.25 if recompute else 0.1)


@pytest.mark.parametrize("mask", [None, torch.bool, torch.float32])
def test_attention_keeps_no_weights_of_pairs_of_tokens(mask):
    """Queries, keys, values, the result and a number for each query; its operations are those of the fused kernels."""
    query, key = (torch.empty(2, heads, 512, 8, device="meta", requires_grad=True) for heads in (4, 2))
    bias = None if mask is None else torch.ones(2, 1, 1, 512, device="meta", dtype=mask)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        FusedAttention(),
    ):
        result = F.scaled_dot_product_attention(query, key, key, attn_mask=bias, enable_gqa=True)
    product = 2 * 2 * 4 * 512 * 512 * 8
    assert counter.get_total_flops() == 2 * product
    assert result.shape == query.shape
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert size < 6 * query.nbytes
    with FlopCounterMode(display=False) as counter:
        result.sum().backward()
    assert counter.get_total_flops() == 5 * product
    assert key.grad.shape == key.shape

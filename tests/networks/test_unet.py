"""The U-Net against explicit attention, guided-diffusion's names and counts, and what a zero-initialised network is."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from realuid.conditions import LABEL, labelled
from realuid.networks.embedding import sinusoidal
from realuid.networks.unet import UNet
from realuid.networks.unet_layers import AttentionBlock, ResBlock


def small(**changes):
    torch.manual_seed(0)
    settings = {
        "shape": (2, 8, 8),
        "width": 8,
        "multipliers": (1, 2),
        "blocks": 1,
        "head_channels": 4,
        "group_channels": 4,
    }
    return UNet(**(settings | changes))


def batch(shape=(2, 8, 8)):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *shape, generator=generator)
    return x, torch.rand(3, generator=generator), labelled(torch.tensor([0, 1, 2]))


def backwards(condition):
    return condition.map(lambda labels: labels.flip(0))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def awake(network):
    """All parameters random: at initialisation the zeros hide most of the network."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("changes", [{}, {"classes": 3}, {"multipliers": (1, 1, 3)}, {"attention": (0, 1)}])
def test_encode_is_what_the_middle_block_hands_to_the_way_up(changes):
    network, seen = awake(small(**changes)), []
    network.middle_block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x, time, condition = batch()
    network(x, time, condition)
    found = network.encode(x.requires_grad_(), time, condition)
    assert torch.equal(found, seen[0])
    side = 8 // 2 ** (len(changes.get("multipliers", (1, 2))) - 1)
    assert found.shape == (3, network.middle_channels, side, side)
    found.sum().backward()
    assert bool(x.grad.any())
    assert all(parameter.grad is None for parameter in network.output_blocks.parameters())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 8)])
@pytest.mark.parametrize("out_multiplier", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"classes": 3}, {"attention": (0, 1)}, {"attention": (), "blocks": 2}])
@pytest.mark.parametrize("conditioning", ["add", "scale_shift"])
def test_shapes_and_use_of_every_input(shape, out_multiplier, changes, conditioning):
    network = awake(small(shape=shape, out_multiplier=out_multiplier, conditioning=conditioning, **changes))
    x, time, condition = batch(shape)
    answer = network(x, time, condition)
    assert answer.shape == (3, out_multiplier * shape[0], *shape[1:])
    assert not torch.allclose(answer, network(x + 1, time, condition))
    assert not torch.allclose(answer, network(x, time + 1, condition))
    assert torch.allclose(answer, network(x, time, backwards(condition))) is ("classes" not in changes)
    answer.square().sum().backward()
    assert all(bool((parameter.grad != 0).any()) for parameter in network.parameters())


def test_a_new_network_answers_zero():
    network = small(classes=3, out_multiplier=2)
    x, time, condition = batch()
    assert torch.equal(network(x, time, condition), torch.zeros(3, 4, 8, 8))
    zeros = {name for name, value in network.named_parameters() if not value.any() and name.endswith("weight")}
    assert zeros == {
        *(name for name in network.state_dict() if name.endswith(("out_layers.3.weight", "proj_out.weight"))),
        "out.2.weight",
    }


def test_labels_and_times_count_after_steps_of_training():
    network = small(classes=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, time, condition = batch()
    for _ in range(3):  # the zero layers wake one behind another
        optimizer.zero_grad()
        (network(x, time, condition) - condition[LABEL].view(-1, 1, 1, 1)).square().mean().backward()
        optimizer.step()
    answer = network(x, time, condition)
    assert not torch.equal(answer, network(x, time, backwards(condition)))
    assert not torch.equal(answer, network(x, 1 - time, condition))


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_is_softmax_of_queries_and_keys(heads):
    """The channels of `qkv` lie head by head, queries, keys and values within each, as in guided-diffusion."""
    width = 4
    block = awake(AttentionBlock(channels=heads * width, head_channels=width, group_channels=4))
    x = torch.randn(2, heads * width, 3, 5, generator=torch.Generator().manual_seed(3))
    tokens = block.norm(x).flatten(2)  # [B, C, L]
    qkv = torch.einsum("oc,bcl->bol", block.qkv.weight[:, :, 0], tokens) + block.qkv.bias[:, None]
    heard = []
    for head in qkv.split(3 * width, dim=1):
        q, k, v = head.split(width, dim=1)
        attention = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(width), dim=-1)
        heard.append(torch.einsum("bij,bcj->bci", attention, v))
    out = torch.einsum("oc,bcl->bol", block.proj_out.weight[:, :, 0], torch.cat(heard, dim=1))
    expected = x + (out + block.proj_out.bias[:, None]).view_as(x)
    torch.testing.assert_close(block(x, torch.zeros(2, 1)), expected)


@pytest.mark.parametrize("train", [False, True])
def test_attention_runs_in_a_fused_kernel(train):
    network = small(attention=(0, 1))
    with profile(activities=[ProfilerActivity.CPU]) as profiler, torch.set_grad_enabled(train):
        network(*batch())
    counts = {event.key: event.count for event in profiler.key_averages()}
    blocks = sum(isinstance(module, AttentionBlock) for module in network.modules())
    assert blocks == 7  # one in the middle; a block on the way down and two on the way up at either depth
    fused = [count for key, count in counts.items() if "_scaled_dot_product_flash_attention" in key]
    assert fused == [blocks], counts


@pytest.mark.parametrize("channels", [(8, 8), (8, 16)])
def test_residual_blocks(channels):
    """Features normalised, SiLU, convolved; the embedding added before the second norm, or scaling and shifting it."""
    ins, outs = channels
    settings = {"channels": ins, "out_channels": outs, "embedding": 6, "dropout": 0.0, "group_channels": 4}
    add, scale = (awake(ResBlock(**settings, scale_shift=flag)) for flag in (False, True))
    assert parameters(scale) - parameters(add) == outs * (6 + 1)
    assert parameters(add.skip_connection) == (0 if ins == outs else ins * outs + outs)
    x, e = torch.randn(2, ins, 4, 4), torch.randn(2, 6)
    for block in (add, scale):
        h = block.in_layers[2](F.silu(block.in_layers[0](x)))
        shift = (F.silu(e) @ block.emb_layers[1].weight.T + block.emb_layers[1].bias)[:, :, None, None]
        norm, *_, convolution = block.out_layers
        h = norm(h + shift) if block is add else norm(h) * (1 + shift[:, :outs]) + shift[:, outs:]
        torch.testing.assert_close(block(x, e), block.skip_connection(x) + convolution(F.silu(h)))


def test_time_embedding_is_guided_diffusions():
    """cos(t w_i), then sin(t w_i), w_i = 10000^(-i / half): 2006.11239 with cosines first."""
    time = torch.tensor([0.0, 0.5, 3.0])
    expected = [
        [*(math.cos(t * 10_000 ** (-i / 4)) for i in range(4)), *(math.sin(t * 10_000 ** (-i / 4)) for i in range(4))]
        for t in time.tolist()
    ]
    torch.testing.assert_close(sinusoidal(time, 8), torch.tensor(expected))
    network = awake(small(time_scale=1000.0))
    plain = awake(small())
    x, time, condition = batch()
    torch.testing.assert_close(network(x, time, condition), plain(x, 1000 * time, condition))


def test_names_and_size_of_the_cifar_network():
    """The network of TorchCFM and of RealUID's authors: count, names and shapes as in guided-diffusion's code."""
    with torch.device("meta"):
        network = UNet(shape=(3, 32, 32))
        conditional = UNet(shape=(3, 32, 32), classes=10)
    assert parameters(network) == 35_746_307
    assert parameters(conditional) - parameters(network) == 10 * 512
    shapes = {name: tuple(value.shape) for name, value in conditional.state_dict().items()}
    assert len(network.input_blocks) == len(network.output_blocks) == 12
    expected = {
        "time_embed.0.weight": (512, 128),
        "time_embed.2.bias": (512,),
        "label_emb.weight": (10, 512),
        "input_blocks.0.0.weight": (128, 3, 3, 3),
        "input_blocks.1.0.in_layers.0.weight": (128,),
        "input_blocks.1.0.in_layers.2.weight": (128, 128, 3, 3),
        "input_blocks.1.0.emb_layers.1.weight": (128, 512),
        "input_blocks.1.0.out_layers.0.weight": (128,),
        "input_blocks.1.0.out_layers.3.weight": (128, 128, 3, 3),
        "input_blocks.3.0.op.weight": (128, 128, 3, 3),
        "input_blocks.4.0.skip_connection.weight": (256, 128, 1, 1),
        "input_blocks.4.1.norm.weight": (256,),
        "input_blocks.4.1.qkv.weight": (768, 256, 1),
        "input_blocks.4.1.proj_out.weight": (256, 256, 1),
        "middle_block.0.in_layers.2.weight": (256, 256, 3, 3),
        "middle_block.1.qkv.weight": (768, 256, 1),
        "middle_block.2.out_layers.3.bias": (256,),
        "output_blocks.2.1.conv.weight": (256, 256, 3, 3),
        "output_blocks.8.2.conv.weight": (256, 256, 3, 3),
        "output_blocks.11.0.skip_connection.weight": (128, 256, 1, 1),
        "out.0.weight": (128,),
        "out.2.weight": (3, 128, 3, 3),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    attentive = {name.rsplit(".", 2)[0] for name in shapes if name.endswith("qkv.weight")}
    assert attentive == {
        "middle_block.1",
        *(f"input_blocks.{i}.1" for i in (4, 5)),
        *(f"output_blocks.{i}.1" for i in (6, 7, 8)),
    }
    norms = {module.num_groups for module in network.modules() if isinstance(module, torch.nn.GroupNorm)}
    assert norms == {32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (1, 7, 8)}, "divisible by 2"),
        ({"shape": (1, 8, 6), "multipliers": (1, 1, 1)}, "divisible by 4"),
        ({"attention": (2,)}, r"must lie in 0..1"),
        ({"attention": (-1,)}, r"must lie in 0..1"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("channels", "group_channels", "groups"), [(64, 1, 32), (128, 1, 32), (192, 1, 32), (16, 4, 4), (48, 4, 4)]
)
def test_groups_are_guided_diffusions_unless_bound_otherwise(channels, group_channels, groups):
    assert AttentionBlock(channels=channels, head_channels=16, group_channels=group_channels).norm.num_groups == groups


@pytest.mark.parametrize("changes", [{"width": 9}, {"width": 6}, {"width": 24, "head_channels": 9}])
def test_channels_that_do_not_divide_are_refused(changes):
    with pytest.raises(ValueError, match=r"divide|multiple"):
        small(**changes)


def test_several_images_lie_beside_each_other_in_the_channels():
    """in_multiplier = 3 takes [B, 3 C, H, W] and still answers for one image; only the first convolution is wider."""
    network, one = awake(small(in_multiplier=3, out_multiplier=2)), small(out_multiplier=2)
    x, time, condition = batch((6, 8, 8))
    x.requires_grad_()
    answer = network(x, time, condition)
    assert answer.shape == (3, 4, 8, 8)
    assert network.encode(x, time, condition).shape[1] == network.middle_channels
    answer.square().sum().backward()
    assert bool((x.grad.flatten(2).abs().sum(2) > 0).all())
    shapes, others = ({name: value.shape for name, value in n.state_dict().items()} for n in (network, one))
    assert {name for name in shapes if shapes[name] != others[name]} == {"input_blocks.0.0.weight"}


def test_a_null_label_is_one_class_more():
    """The label `classes` means none; without `null_label` there is no such label."""
    network = awake(small(classes=3, null_label=True))
    x, time, condition = batch()
    none = network.null(condition)
    assert none[LABEL].tolist() == [3, 3, 3]
    assert network.label_emb.weight.shape[0] == 4
    assert not torch.allclose(network(x, time, condition), network(x, time, none))
    network(x, time, none).square().sum().backward()
    used = network.label_emb.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [False, False, False, True]
    with pytest.raises(IndexError):
        awake(small(classes=3))(x, time, none)
    assert small(classes=0, null_label=True).label_emb is None

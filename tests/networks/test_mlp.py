"""The perceptron: shapes, use of every input, labels, and its layers written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from realuid.conditions import LABEL, labelled
from realuid.networks.embedding import sinusoidal
from realuid.networks.mlp import MLP


def make(**changes):
    torch.manual_seed(0)
    return MLP(**{"shape": (2, 3), "width": 16, "depth": 2, **changes})


def batch(shape=(2, 3)):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(4, *shape, generator=generator),
        torch.rand(4, generator=generator),
        labelled(torch.tensor([0, 1, 2, 0])),
    )


def backwards(condition):
    return condition.map(lambda labels: labels.flip(0))


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)], ids=["vectors", "images"])
@pytest.mark.parametrize("out_multiplier", [1, 2])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("depth", [1, 3])
def test_shapes_and_use_of_every_input(shape, out_multiplier, classes, depth):
    network = make(shape=shape, out_multiplier=out_multiplier, classes=classes, depth=depth)
    x, time, condition = batch(shape)
    answer = network(x, time, condition)
    assert answer.shape == (4, out_multiplier * shape[0], *shape[1:])
    assert not torch.allclose(answer, network(x + 1, time, condition))
    assert not torch.allclose(answer, network(x, time + 1, condition))
    assert torch.allclose(answer, network(x, time, backwards(condition))) is not bool(classes)
    answer.square().sum().backward()
    assert all(bool((parameter.grad != 0).any()) for parameter in network.parameters())


def test_layers():
    """h <- h + W SiLU(norm(h) + embedding) for each hidden layer, between two linear maps; time in its own scale."""
    network = make(classes=3, time_scale=10.0, out_multiplier=2)
    x, time, condition = batch()
    e = (
        sinusoidal(10 * time, 16) @ network.time_embed.weight.T
        + network.time_embed.bias
        + network.label_emb.weight[condition[LABEL]]
    )
    h = x.flatten(1) @ network.into.weight.T + network.into.bias
    for norm, layer in zip(network.norms, network.hidden, strict=True):
        centred = h - h.mean(1, keepdim=True)
        normal = centred / (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()
        h = h + F.silu(normal + e) @ layer.weight.T + layer.bias  # norms start at weight 1 and bias 0
    rows = (h @ network.out.weight.T + network.out.bias).view(4, 2, 2, 3)  # a row holds all entries of a sample
    torch.testing.assert_close(network(x, time, condition), torch.cat([rows[:, 0], rows[:, 1]], dim=1))


def test_it_learns_from_labels():
    network = make(classes=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, time, condition = batch()
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (network(x, time, condition) - condition[LABEL].view(-1, 1, 1)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


def test_refusals():
    with pytest.raises(ValueError, match="depth must be at least 1"):
        make(depth=0)


def test_several_samples_lie_beside_each_other_in_the_channels():
    """in_multiplier = 2 takes [B, 2 C, ...] and still answers for one sample; every entry counts."""
    network = make(shape=(2, 2, 2), in_multiplier=2, out_multiplier=3)
    x, time, condition = batch((4, 2, 2))
    x.requires_grad_()
    answer = network(x, time, condition)
    assert answer.shape == (4, 6, 2, 2)
    answer.square().sum().backward()
    assert bool((x.grad != 0).all())
    assert network.into.in_features == 16

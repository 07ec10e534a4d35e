"""The blocks of every kind of network: disjoint, callable, and nearly all of its weights."""

import pytest
import torch
from torch import nn

from realuid.conditions import Condition
from realuid.networks.adapter import TorchModule
from realuid.networks.blocks import blocks
from realuid.networks.dit import DiT
from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import DhariwalUNet, SongUNet
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet

SHAPE = (3, 16, 16)
NETWORKS = {
    "unet": lambda: UNet(shape=SHAPE, width=32, head_channels=16),
    "dit": lambda: DiT(shape=SHAPE, width=32, depth=2, heads=2),
    "song": lambda: SongUNet(shape=SHAPE, width=32),
    "dhariwal": lambda: DhariwalUNet(shape=SHAPE, width=32),
    "edm2": lambda: EDM2UNet(shape=SHAPE, width=32),
    "mlp": lambda: MLP(shape=(3, 4, 4), width=64, depth=4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_disjoint_and_hold_most_weights(name):
    network = NETWORKS[name]()
    parts = blocks(network)
    held = [p for part in parts for p in part.parameters()]
    assert len({id(p) for p in held}) == len(held)
    share = sum(p.numel() for p in held) / sum(p.numel() for p in network.parameters())
    assert share > 0.5
    called = []
    for part in parts:
        part.register_forward_hook(lambda part, inputs, output: called.append(id(part)))
    network.eval()(torch.randn(2, *network.shape), torch.rand(2), Condition())
    assert set(called) == {id(part) for part in parts}


def test_networks_of_others():
    assert len(blocks(TorchModule(factory="torch.nn:Identity"))) == 0
    stack = nn.Module()
    stack.inner = nn.Module()
    stack.inner.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(blocks(stack)) == 3

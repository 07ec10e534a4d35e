"""Which sizes networks take: what they say of a size is what happens when they are given it."""

import pytest
import torch

from realuid.conditions import Condition
from realuid.networks.dit import DiT
from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import SongUNet
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet

SMALL = {"width": 16, "multipliers": (1, 2), "attention": (1,)}
NETWORKS = {
    "UNet": (lambda: UNet(shape=(2, 8, 8), **SMALL), (2, 6, 10), (2, 7, 8)),
    "SongUNet": (lambda: SongUNet(shape=(2, 8, 8), **SMALL), (2, 6, 10), (2, 8, 5)),
    "EDM2UNet": (lambda: EDM2UNet(shape=(2, 8, 8), head_channels=16, **SMALL), (2, 6, 10), (2, 8, 5)),
    "DiT": (lambda: DiT(shape=(2, 8, 8), width=16, depth=1, heads=2), (2, 8, 8), (2, 6, 10)),
    "MLP": (lambda: MLP(shape=(2, 4, 4), width=8, depth=1), (2, 4, 4), (2, 6, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_network_says_is_what_it_takes(name):
    made, fits, not_this = NETWORKS[name]
    network = made()
    assert network.unfit(network.shape) is None
    assert network.unfit(fits) is None
    answer = network(torch.randn(2, *fits), torch.rand(2), Condition())
    assert answer.shape == (2, *fits)
    assert "takes samples of" in network.unfit(not_this)
    with pytest.raises(RuntimeError):
        network(torch.randn(2, *not_this), torch.rand(2), Condition())
    assert network.unfit((3, *fits[1:])) is not None

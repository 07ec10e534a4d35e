"""Images that are not square: a network turned on its side answers a turned image by the turned answer."""

from __future__ import annotations

import re

import pytest
import torch
from einops import rearrange

from realuid.conditions import Condition
from realuid.networks.dit import DiT
from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import DhariwalUNet, SongUNet
from realuid.networks.unet import UNet

SMALL = {"width": 16, "multipliers": (1, 2), "blocks": 1, "attention": (0, 1), "classes": 3}
NETWORKS = {
    "UNet": lambda shape: UNet(shape=shape, head_channels=8, image_channels=1, **SMALL),
    "UNet, resampled in blocks": lambda shape: UNet(shape=shape, head_channels=8, resampling="block", **SMALL),
    "UNet, text": lambda shape: UNet(shape=shape, head_channels=8, context=6, **SMALL),
    "DDPM++": lambda shape: SongUNet(shape=shape, **SMALL),
    "NCSN++": lambda shape: SongUNet(
        shape=shape, waves="random", time_width=2, residual_input=True, taps=(1, 3, 3, 1), **SMALL
    ),
    "ADM": lambda shape: DhariwalUNet(shape=shape, head_channels=8, **SMALL),
    "EDM2": lambda shape: EDM2UNet(shape=shape, head_channels=8, **SMALL),
    "DiT": lambda shape: DiT(shape=shape, width=16, depth=2, heads=2, classes=3),
    "DiT, text": lambda shape: DiT(shape=shape, width=16, depth=2, heads=2, context=6),
}
SHAPE, TURNED = (2, 8, 16), (2, 16, 8)


def awake(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.double().eval()


def turned(network, make):
    """The network for images on their side: kernels transposed, resolutions renamed, a DiT's places exchanged."""
    weights = {}
    for name, value in network.state_dict().items():
        name = re.sub(r"(\d+)x(\d+)_", r"\2x\1_", name)
        if name.startswith("final_layer.linear"):
            value = rearrange(value, "(p q c) ... -> (q p c) ...", p=2, q=2)
        weights[name] = value.mT if value.ndim == 4 else value
    other = make(TURNED).double().eval()
    other.load_state_dict(weights)
    if isinstance(network, DiT):
        rows, columns = SHAPE[1] // 2, SHAPE[2] // 2
        other.positions = rearrange(network.positions, "(h w) c -> (w h) c", h=rows, w=columns)
    return other


def condition(image):
    generator = torch.Generator().manual_seed(2)
    return {
        "label": torch.tensor([0, 1, 2]),
        "text": torch.randn(3, 4, 6, generator=generator, dtype=torch.float64),
        "mask": torch.tensor([[True, False, True, True]] * 3),
        "image": image,
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_turning_image_and_network(name):
    make = NETWORKS[name]
    network = awake(make(SHAPE))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    image = torch.randn(3, 1, *SHAPE[1:], generator=generator, dtype=torch.float64)
    time = torch.rand(3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        answer = network(x, time, Condition(condition(image)))
    assert answer.shape == x.shape
    assert float(answer.std(0).min()) > 1e-3
    found = turned(network, make)(x.mT, time, Condition(condition(image.mT)))
    torch.testing.assert_close(found, answer.mT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["DDPM++", "ADM", "EDM2"])
def test_weights_are_named_by_height_and_width(name):
    """For square images as in EDM's files; no network of another shape takes them by mistake."""
    square, wide = NETWORKS[name]((2, 8, 8)), NETWORKS[name](SHAPE)
    assert {key.split("_")[0] for key in square.enc} == {"8x8", "4x4"}
    assert {key.split("_")[0] for key in wide.dec} == {"8x16", "4x8"}
    with pytest.raises(RuntimeError, match="Missing key"):
        wide.load_state_dict(square.state_dict())


@pytest.mark.parametrize("name", ["DDPM++", "ADM", "EDM2", "UNet"])
@pytest.mark.parametrize("shape", [(2, 7, 8), (2, 8, 7)])
def test_sides_that_do_not_divide_are_refused(name, shape):
    with pytest.raises(ValueError, match="must be divisible by 2"):
        NETWORKS[name](shape)

"""A size of nothing, or of more than there is, is one line at assembly, whatever network is asked for it."""

import pytest

from realuid.networks.dit import DiT
from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import DhariwalUNet, SongUNet
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet

UNETS = (UNet, DhariwalUNet, SongUNet, EDM2UNet)
WRONG = [
    *[(unet, {"multipliers": ()}, "multipliers") for unet in UNETS],
    *[(unet, {"multipliers": (1, 0)}, "multipliers") for unet in UNETS],
    *[(unet, {"blocks": 0}, "blocks") for unet in UNETS],
    *[(unet, {"width": 0}, "width") for unet in UNETS],
    *[(unet, {"width": -8}, "width") for unet in (*UNETS, DiT)],
    *[(network, {"shape": (1, 1 << 20, 1 << 20)}, "shape") for network in (*UNETS, DiT, MLP)],
    (UNet, {"head_channels": 0}, "head_channels"),
    (DiT, {"depth": 0}, "depth"),
    (DiT, {"patch": 0}, "patch"),
    (DiT, {"heads": 0}, "heads"),
]


@pytest.mark.parametrize(("network", "arguments", "name"), WRONG)
def test_sizes_that_cannot_be_are_refused_by_name(network, arguments, name):
    with pytest.raises(ValueError, match=rf"^{name} must be ") as refusal:
        network(**({"shape": (1, 8, 8)} | arguments))
    assert "\n" not in str(refusal.value)

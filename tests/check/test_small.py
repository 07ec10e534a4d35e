"""The rehearsal's small network is told the time as the bound network is."""

import pytest

from realuid.check.small import network_like
from realuid.networks.base import Network
from realuid.networks.lora import LoRA
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Velocity
from tests.training.stand_ins import matching_model


def like(network: Network) -> UNet:
    return network_like(matching_model(network, LinearInterpolant(), Velocity()), 0)


def test_adapters_have_the_time_scale_of_their_base():
    pytest.importorskip("peft")
    base, adapted = UNet(shape=(1, 8, 8), width=16, multipliers=(1, 2), time_scale=1000.0), LoRA(rank=1)
    adapted.adapt(base)
    assert like(adapted).time_scale == like(base).time_scale == 1000.0
    assert like(MLP(shape=(2,))).time_scale == 1.0


@pytest.mark.parametrize(("name", "time_scale"), [("SanaPipeline", 1000.0), ("FluxPipeline", 1.0)])
def test_pipelines_count_time_in_thousandths_in_their_network_or_before_it(name, time_scale):
    pytest.importorskip("diffusers")
    from realuid.pretrained.pipelines.network import PipelineNetwork
    from tests.pretrained.pipelines.cases import CASES
    from tests.pretrained.pipelines.configs import CONFIGS

    case = CASES[name]
    network = PipelineNetwork(
        pipeline=name,
        config=CONFIGS[name],
        shape=case.shape,
        tokens=case.tokens,
        time_scale=time_scale,
        guidance=case.embedded,
    )
    assert like(network).time_scale == pytest.approx(1000.0)

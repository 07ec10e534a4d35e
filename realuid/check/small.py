"""The digits and a small network in the place of what is bound, for the rehearsal."""

from __future__ import annotations

from realuid.data.dataset import Dataset
from realuid.data.degradations import DownUp
from realuid.data.memory import InMemory
from realuid.data.pairs import Degraded
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.networks.lora import LoRA
from realuid.networks.unet import UNet
from realuid.paths.couplings import Coupling
from realuid.pretrained.pipelines.network import PipelineNetwork

SHAPE, CLASSES = (1, 8, 8), 10


def small_data(bound: Dataset, coupling: Coupling) -> Dataset:
    """The digits, in pairs with their low resolutions where the coupling takes its source from data; those of the run
    itself where it trains on such pairs already."""
    if coupling.gaussian_source:
        return InMemory(path="digits", shape=SHAPE, classes=CLASSES)
    if isinstance(bound, Degraded) and bound.shape == SHAPE and bound.classes == CLASSES:
        return bound
    return Degraded(data=InMemory(path="digits", shape=SHAPE, classes=CLASSES), degradation=DownUp(factor=2))


def network_like(model: MatchingModel, noise: int) -> UNet:
    """A small U-Net in the place of the model's network: told the label where that is told anything.

    Args:
        model: whose target and inputs it serves.
        noise: images of noise that it is given beside them.
    """
    network = model.network
    return UNet(
        shape=SHAPE,
        classes=CLASSES if network.conditions else 0,
        width=16,
        multipliers=(1, 2),
        blocks=1,
        attention=(),
        head_channels=32,
        group_channels=4,
        conditioning="scale_shift",
        time_scale=_time_scale(network),
        in_multiplier=1 + model.source_conditioned + noise,
        out_multiplier=model.target.out_multiplier,
        null_label=network.has_null and bool(network.conditions),
    )


def _time_scale(network: Network) -> float:
    """By what a U-Net multiplies its time, to be told what the network is told: of adapters, what their base is."""
    if isinstance(network, LoRA) and network.model is not None:
        return _time_scale(network.model)
    if isinstance(network, PipelineNetwork):
        return network.time_scale / network.family.per_step(network.model.config)
    return network.time_scale if isinstance(network, UNet) else 1.0

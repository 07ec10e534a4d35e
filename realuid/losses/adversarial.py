r"""A GAN head on the fake network: the way to real data that RealUID does without, as the baseline to compare it with.

A small head reads the middle features of the fake network and tells generated from real samples, both lightly noised
(DMD2, 2405.14867, section 4.3; as UID + GAN in 2509.22459, table 1). With D its logit, high for real samples,

.. math::
    L_{fake} \mathrel{+}= w_{fake}\, [E_{gen}\, softplus(D) + E_{real}\, softplus(-D)], \qquad
    L_{generator} \mathrel{+}= w_{generator}\, E_{gen}\, softplus(-D).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from realuid.paths.time_samplers import TimeSampler

__all__ = ["Adversary", "Discriminator"]

GROUPS = 32
GROUP_CHANNELS = 8
"""Least channels of a normalisation group: the last map may be a single pixel, and a group of one number keeps none."""


class _Halve(nn.Conv2d):
    """2x2 convolution of stride 2; an odd side is first lengthened by its edge, so that any map will do."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return super().forward(F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"))


class Discriminator(nn.Module):
    """The head: `[B, channels, h, w] -> logits [B, ceil(h / 4), ceil(w / 4)]`, float32 or wider.

    Twice a 2x2 convolution of stride 2, group norm (at most 32 groups of at least 8 channels) and SiLU; then a 1x1
    convolution to one channel. On 4x4 maps of 256 channels it is the head of the RealUID authors' code.

    Args:
        channels: of the features: `UNet.middle_channels`, which is width times the last multiplier.

    Raises:
        ValueError: if `channels` is less than 8, too few to normalise a single pixel.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        if channels < GROUP_CHANNELS:
            raise ValueError(f"channels must be at least {GROUP_CHANNELS}, got {channels}")
        self.channels = channels
        groups = max(n for n in range(1, GROUPS + 1) if channels % n == 0 and channels // n >= GROUP_CHANNELS)
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [_Halve(channels), nn.GroupNorm(groups, channels), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        logits = self.layers(features).squeeze(1)
        return logits.float() if logits.element_size() < 4 else logits


class Adversary:
    """The GAN term beside a distillation loss: head, times and weights.

    The head belongs to the fake network: it is trained with it and frozen, but differentiated, in the generator's step.
    Logits are `head(network.encode(...))` at x_t on the path, at times drawn from this sampler and not the loss's;
    generated and real samples may share times and noise. Real samples are needed even if the loss uses none.

    Args:
        head: the discriminator.
        time_sampler: noise levels of what it sees: the paper draws them uniformly from [0, 0.2].
        fake_weight: of its own loss, added to the fake network's, positive.
        generator_weight: of what it adds to the generator's loss, positive. The paper keeps fake_weight at about three
            times that: (1, 0.3) on CIFAR-10 from scratch, (75, 25) in fine-tuning, beside losses summed over pixels.

    Raises:
        ValueError: if a weight is not positive.
    """

    def __init__(
        self, *, head: Discriminator, time_sampler: TimeSampler, fake_weight: float, generator_weight: float
    ) -> None:
        for name, value in (("fake_weight", fake_weight), ("generator_weight", generator_weight)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive, got {value}")
        self.head, self.time_sampler = head, time_sampler
        self.fake_weight, self.generator_weight = fake_weight, generator_weight

    def fake_loss(self, generated: Tensor, real: Tensor) -> Tensor:
        """To be added to the fake network's loss; logits of any shape, either averaged over its own; a scalar."""
        return self.fake_weight * (F.softplus(generated).mean() + F.softplus(-real).mean())

    def generator_loss(self, generated: Tensor) -> Tensor:
        """To be added to the generator's loss; logits of any shape, averaged; a scalar."""
        return self.generator_weight * F.softplus(-generated).mean()

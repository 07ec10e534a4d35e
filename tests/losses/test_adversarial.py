"""The GAN head against the published layers and binary cross-entropy; it learns, and pulls samples towards the data."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from realuid.conditions import Condition
from realuid.losses.adversarial import Adversary, Discriminator
from realuid.networks.unet import UNet
from realuid.paths.time_samplers import UniformTime


def adversary(channels=32, fake_weight=3.0, generator_weight=0.5):
    torch.manual_seed(0)
    times = UniformTime(low=0.0, high=0.2)
    head = Discriminator(channels=channels)
    return Adversary(head=head, time_sampler=times, fake_weight=fake_weight, generator_weight=generator_weight)


@pytest.mark.parametrize("size", [(4, 4), (2, 2), (1, 1), (8, 8), (3, 5)])
@pytest.mark.parametrize("channels", [8, 32, 48, 96])
def test_any_map_will_do(size, channels):
    """One logit for each 4x4 region, and every parameter has a say."""
    torch.manual_seed(0)
    head = Discriminator(channels=channels)
    features = torch.randn(5, channels, *size)
    logits = head(features)
    assert logits.shape == (5, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    logits.square().sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in head.parameters())


def test_odd_sides_are_lengthened_by_their_edge():
    """So a single pixel is to the head what four equal ones are."""
    head, pixel = adversary().head, torch.randn(4, 32, 1, 1)
    torch.testing.assert_close(head(pixel), head(pixel.expand(-1, -1, 2, 2)))


def test_the_authors_head():
    """On 256 channels it is theirs: kernels of 2, strides of 2, 32 groups, a 1x1 convolution."""
    torch.manual_seed(0)
    head = Discriminator(channels=256)
    theirs = nn.Sequential(
        *(nn.Conv2d(256, 256, 2, stride=2), nn.GroupNorm(32, 256), nn.SiLU()),
        *(nn.Conv2d(256, 256, 2, stride=2), nn.GroupNorm(32, 256), nn.SiLU()),
        nn.Conv2d(256, 1, 1),
    )
    theirs.load_state_dict(dict(zip(theirs.state_dict(), head.state_dict().values(), strict=True)))
    for side in (4, 8):
        features = torch.randn(3, 256, side, side)
        torch.testing.assert_close(head(features), theirs(features)[:, 0])


def test_a_single_pixel_is_not_normalised_away():
    """With a group of one or two numbers the logits of all samples would be one or few values."""
    torch.manual_seed(0)
    head = Discriminator(channels=32)
    logits = head(torch.randn(64, 32, 1, 1)).flatten()
    assert len(logits.unique()) == 64
    assert float(logits.detach().std()) > 1e-2


def test_losses_are_cross_entropy():
    torch.manual_seed(0)
    part, generated, real = adversary(), *torch.randn(2, 6, 2, 2).requires_grad_().unbind()
    entropy = F.binary_cross_entropy_with_logits
    fake = entropy(generated, torch.zeros_like(generated)) + entropy(real, torch.ones_like(real))
    torch.testing.assert_close(part.fake_loss(generated, real), 3.0 * fake)
    torch.testing.assert_close(part.generator_loss(generated), 0.5 * entropy(generated, torch.ones_like(generated)))
    found = torch.autograd.grad(part.fake_loss(generated, real), (generated, real))
    assert bool((found[0] > 0).all() & (found[1] < 0).all())
    (found,) = torch.autograd.grad(part.generator_loss(generated), generated)
    assert bool((found < 0).all())
    halves = (part.fake_loss(generated, real[:3]) + part.fake_loss(generated, real[3:])) / 2
    torch.testing.assert_close(halves, part.fake_loss(generated, real))  # unequal numbers average over their own


def test_it_learns_and_pulls_generated_samples_towards_the_data():
    """Real images around +0.4, generated ones around -0.4: head and encoder learn it, and then lend a gradient."""
    part = adversary()
    network = UNet(shape=(1, 8, 8), width=16, multipliers=(1, 2), blocks=1, attention=(), group_channels=4)
    head, time = part.head, torch.zeros(64)
    assert network.middle_channels == head.channels

    def logits(shift):
        x = (torch.randn(64, 1, 8, 8) + shift).requires_grad_()
        return x, head(network.encode(x, time, Condition()))

    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        part.fake_loss(logits(-0.4)[1], logits(0.4)[1]).backward()
        optimizer.step()
    optimizer.zero_grad()
    for module in (network, head):
        module.requires_grad_(False)
    (x, generated), (_, real) = logits(-0.4), logits(0.4)
    right = torch.cat([generated < 0, real > 0]).float().mean()
    assert float(right) > 0.9
    part.generator_loss(generated).backward()
    assert float(x.grad.mean()) < 0  # descent raises the pixels
    assert all(parameter.grad is None for parameter in [*network.parameters(), *head.parameters()])


def test_logits_are_single_precision_at_least():
    head = Discriminator(channels=8)
    assert head.bfloat16()(torch.randn(2, 8, 4, 4, dtype=torch.bfloat16)).dtype == torch.float32
    assert head.double()(torch.randn(2, 8, 4, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"fake_weight": 0.0}, "fake_weight must be positive, got 0.0"),
        ({"generator_weight": -1.0}, "generator_weight must be positive"),
        ({"generator_weight": math.nan}, "generator_weight must be positive"),
        ({"channels": 4}, "channels must be at least 8, got 4"),
    ],
)
def test_refusals(numbers, message):
    with pytest.raises(ValueError, match=message):
        adversary(**numbers)

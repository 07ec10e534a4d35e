"""Classifier-free guidance against its formula, and one pass of the network for both branches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from realuid.couplings import IndependentCoupling, PairedCoupling
from realuid.guidance import GuidedModel
from realuid.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.matching import MatchingModel, matching_model_of
from realuid.networks.unet import UNet
from realuid.preconditioning import NoPreconditioning
from realuid.samplers import Euler, UniformGrid
from realuid.targets import Data, Noise, Score, Stack, Velocity

CLASSES = 3


class Labelled(nn.Module):
    """A function of everything it is given; the last label means none."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(CLASSES + 1, 2, dtype=torch.float64)
        self.calls = []

    def forward(self, x, time, labels):
        self.calls.append((x, labels))
        own = x[:, :2] * (1 + time[:, None]) + self.table(labels)
        return own if x.shape[1] == 2 else own + x[:, 2:] ** 2


def model(path=None, conditioned=False):
    torch.manual_seed(0)
    return MatchingModel(
        network=Labelled(),
        interpolant=path or LinearInterpolant(),
        coupling=PairedCoupling() if conditioned else IndependentCoupling(),
        target=Velocity(),
        preconditioning=NoPreconditioning(),
        conditioned=conditioned,
    )


def guided(inner, **changes):
    return GuidedModel(**{"model": inner, "classes": CLASSES, "scale": 2.5, **changes})


def batch():
    generator = torch.Generator().manual_seed(1)
    x, x0 = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    return x, torch.linspace(0.1, 0.9, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0]), x0


@pytest.mark.parametrize("target", [Velocity(), Data(), Stack((Noise(), Data()))], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_the_formula(target, scale):
    """f_null + w (f_label - f_null): 0 is the unconditional model, 1 the conditional one."""
    inner = model()
    x, t, labels, _ = batch()
    conditional = inner.predict(x, t, labels, target)
    null = inner.predict(x, t, torch.full_like(labels, CLASSES), target)
    found = guided(inner, scale=scale).predict(x, t, labels, target)
    torch.testing.assert_close(found, null + scale * (conditional - null))
    torch.testing.assert_close(found, conditional + (scale - 1) * (conditional - null))


def test_both_branches_go_through_the_network_in_one_pass():
    inner = model()
    x, t, labels, _ = batch()
    guided(inner).predict(x, t, labels, Data())
    ((shown, told),) = inner.network.calls
    assert shown.shape == (10, 2)
    assert told.tolist() == [*labels.tolist(), *[CLASSES] * 5]


@pytest.mark.parametrize("path", [LinearInterpolant(), EDMInterpolant(sigma_max=1.0)], ids=["linear", "edm"])
def test_it_acts_between_two_noise_levels(path):
    """Noise level 1 is the source, whichever way time runs."""
    inner = model(path)
    x, _, labels, _ = batch()
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    t = path.time(levels)
    found = guided(inner, low=0.25, high=0.6).predict(x, t, labels, Velocity())
    conditional, everywhere = inner.predict(x, t, labels, Velocity()), guided(inner).predict(x, t, labels, Velocity())
    expected = torch.where(((levels > 0.25) & (levels < 0.6))[:, None], everywhere, conditional)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(everywhere, conditional)


def test_both_branches_are_told_the_source():
    inner = model(BrownianInterpolant(), conditioned=True)
    x, t, labels, x0 = batch()
    assert guided(inner).conditioned
    conditional = inner.predict(x, t, labels, Data(), x0)
    null = inner.predict(x, t, torch.full_like(labels, CLASSES), Data(), x0)
    found = guided(inner).predict(x, t, labels, Data(), x0)
    torch.testing.assert_close(found, null + 2.5 * (conditional - null))


def test_it_is_a_model_as_any_other():
    """It is sampled, differentiated in x, checked as the model within, and shows the network that is loaded."""
    inner = model()
    ours = guided(inner)
    x, t, labels, _ = batch()
    assert matching_model_of(ours) is inner
    assert (ours.interpolant, ours.coupling) == (inner.interpolant, inner.coupling)
    sample = Euler(steps=1, grid=UniformGrid())(ours, x, labels, None)
    torch.testing.assert_close(sample, x + ours.predict(x, torch.zeros(5).double(), labels, Velocity()))
    assert torch.autograd.gradcheck(lambda x: ours.predict(x, t, labels, Data()), x.clone().requires_grad_())
    with pytest.raises(ValueError, match="Score from Velocity is unbounded"):
        ours.check(Score(), torch.tensor([1.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 0}, "guidance needs classes, got 0"),
        ({"low": 0.5, "high": 0.5}, "0 <= low < high <= 1 is needed, got low = 0.5, high = 0.5"),
        ({"low": -0.1}, "0 <= low < high <= 1"),
        ({"high": 1.1}, "0 <= low < high <= 1"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        guided(model(), **changes)


@pytest.mark.parametrize(
    ("classes", "null_label", "message"),
    [
        (CLASSES, False, "label 3, which means none: bind UNet.null_label = True"),
        (CLASSES + 1, True, r"classes = 3, but UNet.classes = 4"),
    ],
)
def test_the_network_must_have_the_label_that_means_none(classes, null_label, message):
    inner = model()
    inner.network = UNet(
        shape=(1, 4, 4),
        width=8,
        multipliers=(1,),
        blocks=1,
        attention=(),
        group_channels=4,
        classes=classes,
        null_label=null_label,
    )
    with pytest.raises(ValueError, match=message):
        guided(inner)

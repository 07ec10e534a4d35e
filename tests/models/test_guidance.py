"""Classifier-free guidance against its formula, and one pass of the network for both branches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from realuid.conditions import LABEL, Condition, Field, class_label, labelled
from realuid.models.guidance import GuidedModel
from realuid.models.matching import MatchingModel, matching_model_of
from realuid.models.reexpression import ReexpressedModel
from realuid.networks.base import Network
from realuid.networks.unet import UNet
from realuid.paths.couplings import IndependentCoupling, PairedCoupling
from realuid.paths.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data, Noise, Score, Stack, Velocity
from realuid.samplers import Euler, UniformGrid

CLASSES = 3


class Labelled(Network):
    """A function of everything it is given; the last label means none."""

    conditions = class_label(CLASSES)
    has_null = True

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(CLASSES + 1, 2, dtype=torch.float64)
        self.calls = []

    def forward(self, x, time, condition):
        self.calls.append((x, condition[LABEL]))
        own = x[:, :2] * (1 + time[:, None]) + self.table(condition[LABEL])
        return own if x.shape[1] == 2 else own + x[:, 2:] ** 2


def model(path=None, source_conditioned=False):
    torch.manual_seed(0)
    return MatchingModel(
        network=Labelled(),
        interpolant=path or LinearInterpolant(),
        coupling=PairedCoupling() if source_conditioned else IndependentCoupling(),
        target=Velocity(),
        preconditioning=NoPreconditioning(),
        source_conditioned=source_conditioned,
    )


def guided(inner, **changes):
    return GuidedModel(**{"model": inner, "scale": 2.5, **changes})


def batch():
    generator = torch.Generator().manual_seed(1)
    x, x0 = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    return x, torch.linspace(0.1, 0.9, 5, dtype=torch.float64), labelled(torch.tensor([0, 1, 2, 1, 0])), x0


NULL = labelled(torch.full((5,), CLASSES))


@pytest.mark.parametrize("target", [Velocity(), Data(), Stack((Noise(), Data()))], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_the_formula(target, scale):
    """f_null + w (f_condition - f_null): 0 is the unconditional model, 1 the conditional one."""
    inner = model()
    x, t, condition, _ = batch()
    conditional = inner.predict(x, t, condition, target)
    null = inner.predict(x, t, NULL, target)
    found = guided(inner, scale=scale).predict(x, t, condition, target)
    torch.testing.assert_close(found, null + scale * (conditional - null))
    torch.testing.assert_close(found, conditional + (scale - 1) * (conditional - null))


def test_both_branches_go_through_the_network_in_one_pass():
    inner = model()
    x, t, condition, _ = batch()
    guided(inner).predict(x, t, condition, Data())
    ((shown, told),) = inner.network.calls
    assert shown.shape == (10, 2)
    assert told.tolist() == [*condition[LABEL].tolist(), *[CLASSES] * 5]


@pytest.mark.parametrize("path", [LinearInterpolant(), EDMInterpolant(sigma_max=1.0)], ids=["linear", "edm"])
def test_it_acts_between_two_noise_levels(path):
    """Noise level 1 is the source, whichever way time runs."""
    inner = model(path)
    x, _, condition, _ = batch()
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    t = path.time(levels)
    found = guided(inner, low=0.25, high=0.6).predict(x, t, condition, Velocity())
    conditional, everywhere = (
        inner.predict(x, t, condition, Velocity()),
        guided(inner).predict(x, t, condition, Velocity()),
    )
    expected = torch.where(((levels > 0.25) & (levels < 0.6))[:, None], everywhere, conditional)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(everywhere, conditional)


def test_both_branches_are_told_the_source():
    inner = model(BrownianInterpolant(), source_conditioned=True)
    x, t, condition, x0 = batch()
    assert guided(inner).source_conditioned
    conditional = inner.predict(x, t, condition, Data(), x0)
    null = inner.predict(x, t, NULL, Data(), x0)
    found = guided(inner).predict(x, t, condition, Data(), x0)
    torch.testing.assert_close(found, null + 2.5 * (conditional - null))


def test_the_network_says_what_its_null_condition_is():
    """An embedding of texts is nothing at zero; a field that the network does not read stays as it is."""

    class Told(Network):
        conditions = (Field("text", (2,), "float64"),)
        has_null = True

        def forward(self, x, time, condition):
            return x + condition["text"] + 0 * condition["other"]

    inner = model()
    inner.network = Told()
    x, t, _, text = batch()
    condition = Condition({"text": text, "other": torch.ones(5, 1, dtype=torch.float64)})
    torch.testing.assert_close(guided(inner).predict(x, t, condition, Velocity()), x + 2.5 * text)


def test_guidance_and_another_path_commute():
    """Either way round the network is asked once, and its answers are combined linearly."""
    inner, path = model(EDMInterpolant(sigma_max=9.0)), LinearInterpolant()
    x, t, condition, _ = batch()
    guided_there = guided(ReexpressedModel(model=inner, interpolant=path))
    found = guided_there.predict(x, t, condition, Velocity())
    assert len(inner.network.calls) == 1
    assert matching_model_of(guided_there) is inner
    other = ReexpressedModel(model=guided(inner), interpolant=path)
    torch.testing.assert_close(found, other.predict(x, t, condition, Velocity()))
    assert torch.equal(other.null(condition)[LABEL], torch.full((5,), CLASSES))


def test_it_is_a_model_as_any_other():
    """It is sampled, differentiated in x, checked as the model within, and shows the network that is loaded."""
    inner = model()
    ours = guided(inner)
    x, t, condition, _ = batch()
    assert matching_model_of(ours) is inner
    assert (ours.interpolant, ours.coupling) == (inner.interpolant, inner.coupling)
    sample = Euler(steps=1, grid=UniformGrid())(ours, x, condition, None)
    torch.testing.assert_close(sample, x + ours.predict(x, torch.zeros(5).double(), condition, Velocity()))
    assert torch.autograd.gradcheck(lambda x: ours.predict(x, t, condition, Data()), x.clone().requires_grad_())
    with pytest.raises(ValueError, match="Score from Velocity is unbounded"):
        ours.check(Score(), torch.tensor([1.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 0.5, "high": 0.5}, "0 <= low < high <= 1 is needed, got low = 0.5, high = 0.5"),
        ({"low": -0.1}, "0 <= low < high <= 1"),
        ({"high": 1.1}, "0 <= low < high <= 1"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        guided(model(), **changes)


@pytest.mark.parametrize(("classes", "null_label"), [(CLASSES, False), (0, True), (0, False)])
def test_the_network_must_have_a_null_condition(classes, null_label):
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
    with pytest.raises(ValueError, match=r"null condition, which this UNet lacks: bind UNet\.null_label = True"):
        guided(inner)

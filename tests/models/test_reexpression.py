"""A model on another path against the exact model of that path: the data are the same, so is their posterior mean."""

from __future__ import annotations

import math

import pytest
import torch

from realuid.conditions import Condition
from realuid.models.exact import GaussianMixture
from realuid.models.matching import MatchingModel, matching_model_of
from realuid.models.reexpression import ReexpressedModel
from realuid.networks.base import Network
from realuid.paths.conversions import UndeterminedError
from realuid.paths.couplings import IndependentCoupling, MinibatchOT, PairedCoupling
from realuid.paths.interpolants import (
    BrownianInterpolant,
    CosineInterpolant,
    EDMInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
    LipmanInterpolant,
    TrigFlowInterpolant,
    VPInterpolant,
)
from realuid.paths.preconditioning import EDMPreconditioning, NoPreconditioning
from realuid.paths.targets import Data, ForwardDrift, Noise, Score, Stack, Velocity, VPrediction
from realuid.samplers import Heun, KarrasGrid, UniformGrid

UNCONDITIONAL = Condition()
TARGETS = (Velocity(), Data(), Noise(), Score(), VPrediction(), Stack((Velocity(), Data()), weights=(2.0, 1.0)))


def mixture(path):
    return GaussianMixture(
        interpolant=path,
        means=[[0.5, -1.0], [-1.5, 0.3]],
        covariances=[[[0.5, 0.3], [0.3, 0.4]], [[1.2, -0.5], [-0.5, 0.6]]],
        weights=[1, 2],
    )


class Exact(Network):
    """A network that answers exactly, whatever its scalings."""

    def __init__(self, path, target):
        super().__init__()
        self.truth, self.target, self.seen = mixture(path), target, []

    def forward(self, x, time, condition):
        self.seen.append((time, condition))
        return self.truth.predict(x, time, condition, self.target)


class ExactInScalings(Exact):
    """What is left of the denoiser for EDM's network F(c_in x, ln(sigma) / 4)."""

    def forward(self, x, time, condition):
        sigma = torch.exp(4 * time)
        into, root = 1 / (sigma**2 + 0.25).sqrt(), (sigma**2 + 0.25).sqrt()
        x = x / into[:, None]
        denoised = self.truth.predict(x, sigma, condition, Data())
        return (denoised - (0.25 / (sigma**2 + 0.25))[:, None] * x) / (0.5 * sigma / root)[:, None]


def native(path=None, target=None, network=None, coupling=None, preconditioning=None):
    path, target = path or EDMInterpolant(sigma_max=80.0), target or Data()
    return MatchingModel(
        network=network or Exact(path, target),
        interpolant=path,
        coupling=coupling or IndependentCoupling(),
        target=target,
        preconditioning=preconditioning or NoPreconditioning(),
    )


PATHS = {
    "linear": LinearInterpolant(),
    "cosine": CosineInterpolant(),
    "VP": VPInterpolant(),
    "TrigFlow": TrigFlowInterpolant(sigma_data=0.7),
    "two-sided": BrownianInterpolant(scale=0.7),
    "VE": EDMInterpolant(sigma_max=40.0),
}
NATIVE = {
    "EDM denoiser": native(),
    "EDM denoiser in its scalings": native(
        network=ExactInScalings(EDMInterpolant(), Data()), preconditioning=EDMPreconditioning(sigma_data=0.5)
    ),
    "flow matching": native(LinearInterpolant(), Velocity()),
    "VP noise": native(VPInterpolant(), Noise()),
}


def points(path):
    generator = torch.Generator().manual_seed(0)
    t = path.time(torch.linspace(0.03, 0.93, 19, dtype=torch.float64))
    k = path.at(t)
    scale = (k.a**2 + k.b**2 + k.g_squared).sqrt()
    return torch.randn(19, 2, generator=generator, dtype=torch.float64) * scale[:, None], t


@pytest.mark.parametrize("model", NATIVE.values(), ids=NATIVE.keys())
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_inside_the_common_range_it_is_the_exact_model_of_the_other_path(model, path, target):
    x, t = points(path)
    ours = ReexpressedModel(model=model, interpolant=path)
    ours.check(target, t)
    torch.testing.assert_close(
        ours.predict(x, t, UNCONDITIONAL, target),
        mixture(path).predict(x, t, UNCONDITIONAL, target),
        rtol=1e-6,
        atol=1e-6,
    )


def test_on_a_two_sided_path_the_drift_of_the_bridge_is_known_too():
    path = PATHS["two-sided"]
    x, t = points(path)
    found = ReexpressedModel(model=native(), interpolant=path).predict(x, t, UNCONDITIONAL, ForwardDrift())
    torch.testing.assert_close(found, mixture(path).predict(x, t, UNCONDITIONAL, ForwardDrift()), rtol=1e-7, atol=1e-7)


def test_the_model_is_asked_at_the_time_of_equal_noise_over_data():
    model = native()
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    ReexpressedModel(model=model, interpolant=LinearInterpolant()).predict(torch.zeros(3, 2), t, UNCONDITIONAL, Data())
    torch.testing.assert_close(model.network.seen[-1][0].double(), (1 - t) / t)


def test_noisier_than_the_model_knows_it_is_asked_for_as_much_noise_as_it_knows():
    """Flow matching's t = 0 is sigma = infinity: x0 is shown as sigma_max x0, all but free of data."""
    model = native(EDMInterpolant(sigma_max=5.0))
    ours = ReexpressedModel(model=model, interpolant=LinearInterpolant())
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([0.0, 0.05, 0.1, 1 / 6], dtype=torch.float64)  # sigma = infinity, 19, 9, 5
    five = torch.full_like(t, 5.0)
    shown = 5 * x / (1 - t)[:, None]  # noise alone: x_t = (1 - t) x0 + ...
    expected = mixture(model.interpolant).predict(shown, five, UNCONDITIONAL, Data())
    torch.testing.assert_close(ours.predict(x, t, UNCONDITIONAL, Data()), expected)
    noise = mixture(model.interpolant).predict(shown, five, UNCONDITIONAL, Noise())
    torch.testing.assert_close(ours.predict(x, t, UNCONDITIONAL, Velocity()), expected - noise)
    ours.check(Velocity(), t)


def test_cleaner_than_the_model_knows_it_is_asked_for_as_little_noise_as_it_knows():
    """Lipman's path ends with noise sigma_min over the data; the data are shown in its scale."""
    path = LipmanInterpolant(sigma_min=0.1)
    model = native(path, Velocity())
    ours = ReexpressedModel(model=model, interpolant=TrigFlowInterpolant(sigma_data=1.0))
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([1e-6, 0.03, math.atan(0.1)], dtype=torch.float64)  # tan t is sigma: at most 0.1
    end = torch.ones_like(t)
    expected = mixture(path).predict(x / torch.cos(t)[:, None], end, UNCONDITIONAL, Data())
    torch.testing.assert_close(ours.predict(x, t, UNCONDITIONAL, Data()), expected)


def test_an_edm_denoiser_is_sampled_as_a_flow():
    """Heun on EDM's path and on the linear one end at the same samples, up to their steps."""
    model, x0 = native(), torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edm = Heun(steps=60, grid=KarrasGrid())(model, x0, UNCONDITIONAL, None)
    ours = ReexpressedModel(model=model, interpolant=LinearInterpolant())
    flow = Heun(steps=60, grid=UniformGrid())(ours, x0, UNCONDITIONAL, None)
    torch.testing.assert_close(flow, edm, rtol=0, atol=0.05)


def test_it_is_differentiable_in_x_as_the_exact_model_is():
    path = PATHS["two-sided"]
    ours = ReexpressedModel(model=native(), interpolant=path)
    x, t = points(path)
    gradients = []
    for model in (ours, mixture(path)):
        y = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.predict(y, t, UNCONDITIONAL, Velocity()).square().sum(), y)
        gradients.append(gradient)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_the_network_behind_it_is_found():
    model = native()
    ours = ReexpressedModel(model=model, interpolant=LinearInterpolant())
    assert matching_model_of(ours) is model
    assert ours.coupling is model.coupling
    assert dict(ours.named_modules())["model.network"] is model.network


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: native(coupling=MinibatchOT(size=2)), "only a model with an independent Gaussian source"),
        (
            lambda: native(I2SBInterpolant(), coupling=PairedCoupling()),
            "only a model with an independent Gaussian source",
        ),
        (
            lambda: native(LinearInterpolant(), Velocity(), coupling=IndependentCoupling(source="data")),
            "only a model with an independent Gaussian source",
        ),
        (lambda: native(BrownianInterpolant(scale=0.7)), "the native path BrownianInterpolant has noise z"),
    ],
)
def test_models_that_cannot_be_moved_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        ReexpressedModel(model=model(), interpolant=CosineInterpolant())


def test_times_at_which_a_target_is_unbounded_are_refused():
    ours = ReexpressedModel(model=native(), interpolant=LinearInterpolant())
    ours.check(Score(), torch.tensor([0.0, 0.5], dtype=torch.float64))
    with pytest.raises(UndeterminedError, match="Score is unbounded at time 1 of LinearInterpolant"):
        ReexpressedModel(
            model=native(LipmanInterpolant(sigma_min=0.1), Velocity()), interpolant=LinearInterpolant()
        ).check(Score(), torch.tensor([0.5, 1.0], dtype=torch.float64))
    with pytest.raises(
        UndeterminedError, match=r"Noise.* unbounded at time 0 of EDMInterpolant|from Data is unbounded"
    ):
        ours.check(Velocity(), torch.tensor([0.5, 1.0], dtype=torch.float64))

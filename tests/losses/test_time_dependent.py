"""A loss that depends on time, as a user writes one, against the same weights bound as a `Weight`."""

from dataclasses import replace

import pytest
import torch

from realuid.check.game import loss_rows
from realuid.check.gaussian import GaussianPairs, Moments
from realuid.check.table import failed
from realuid.conditions import Condition
from realuid.distillation.step_inputs import PathPoints
from realuid.losses import RealUID
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import BrownianInterpolant, LinearInterpolant
from realuid.paths.targets import Velocity
from realuid.paths.weights import ExpressionWeight, UnitWeight
from tests.losses.scenes import SCENES


def weighted(terms):
    """Errors count by the share of noise, n / (n + b)."""
    noise = terms.k.noise_std
    return replace(terms, weight=terms.weight * noise / (noise + terms.k.b))


class NoiseWeightedRealUID(RealUID):
    def fake_loss(self, generated, real):
        return super().fake_loss(weighted(generated), None if real is None else weighted(real))

    def generator_loss(self, generated):
        return super().generator_loss(weighted(generated))


SETTINGS = {"target": Velocity(), "alpha": 0.92, "beta": 0.94}
WEIGHT = ExpressionWeight(weight="sqrt(a**2 + g**2) / (sqrt(a**2 + g**2) + b)")


@pytest.mark.parametrize("path", [LinearInterpolant(), BrownianInterpolant()], ids=["linear", "brownian"])
def test_it_is_the_loss_with_the_weight_bound(path):
    """Generated and real samples of one batch have their own times."""
    generator = torch.Generator().manual_seed(0)
    x0, x1, z, fake, teacher = torch.randn(5, 7, 2, 3, 4, generator=generator, dtype=torch.float64)
    k = path.at(torch.rand(7, generator=generator, dtype=torch.float64))
    target = Velocity()

    def losses(loss, weight):
        points = PathPoints(
            x_t=path.interpolate(k, x0, x1, z),
            k=k,
            condition=Condition(),
            x0=x0,
            target=target.sample(k, x0, x1, z),
            weight=weight(k),
            sizes=[4, 3],
        )
        generated, real = points.terms(fake, teacher.split(points.sizes))
        assert torch.equal(torch.cat([generated.k.t, real.k.t]), k.t)
        assert torch.equal(torch.cat([generated.x_t, real.x_t]), points.x_t)
        return torch.stack([loss.fake_loss(generated, real), loss.generator_loss(generated)])

    inside, bound = losses(NoiseWeightedRealUID(**SETTINGS), UnitWeight()), losses(RealUID(**SETTINGS), WEIGHT)
    torch.testing.assert_close(inside, bound)
    assert not torch.allclose(bound, losses(RealUID(**SETTINGS), UnitWeight()))


def test_its_value_at_the_optimal_fake_is_the_weighted_distance():
    """In expectation, over all times of the scene: the optimum f at each time is RealUID's, eq. 18 is weighted."""
    s = SCENES["1-D over t"]
    alpha, beta = SETTINGS["alpha"], SETTINGS["beta"]
    fake = ((1 - beta) * s.p * s.teacher + beta * s.q * s.own) / ((1 - alpha) * s.p + alpha * s.q)
    fake.requires_grad_()
    loss = NoiseWeightedRealUID(**SETTINGS)
    value = loss.fake_loss(s.generated(s.teacher), s.real(s.teacher)) - loss.fake_loss(s.generated(fake), s.real(fake))
    weight = WEIGHT(s.k)[:, None]
    gap = beta * (s.p * s.teacher - s.q * s.own) + alpha * (s.q - s.p) * s.teacher
    expected = (weight * gap.square() / ((1 - alpha) * s.p + alpha * s.q)).sum()
    torch.testing.assert_close(value, expected)
    (slope,) = torch.autograd.grad(value, fake)
    torch.testing.assert_close(slope, torch.zeros_like(slope))


def test_tools_check_holds_for_it():
    moments = Moments(mean0=0.0, mean1=0.2, variance0=1.0, variance1=0.25, covariance=0.0)
    data = GaussianPairs(interpolant=LinearInterpolant(), coupling=IndependentCoupling(), moments=moments)
    rows = loss_rows(NoiseWeightedRealUID(**SETTINGS), data, torch.tensor([0.2, 0.6], dtype=torch.float64))
    assert len(rows) == 4
    assert not failed(rows)

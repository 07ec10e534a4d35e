"""Diff-Instruct and DMD against Kullback-Leibler divergences of Gaussians and against DMD2's form of the gradient."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from realuid.losses import DMD, DiffInstruct, RealUID
from realuid.paths.interpolants import EDMInterpolant, LinearInterpolant
from realuid.paths.targets import Data, Velocity
from tests.losses.scenes import gradients, images, leaves, line_law, timeless

BOTH = pytest.mark.parametrize("kind", [DiffInstruct, DMD])


@pytest.mark.parametrize(("path", "t"), [(LinearInterpolant(), 0.4), (EDMInterpolant(), 0.7)])
@pytest.mark.parametrize("alpha", [1.0, 0.7])
@pytest.mark.parametrize("law", [(0.6, 0.8), (-0.3, 0.5)], ids=["elsewhere", "at the data"])
def test_diff_instruct_descends_the_divergence(path, t, alpha, law):
    """a^2 / b^2 KL(alpha q + (1 - alpha) p || p) at one time, with the fake network at its optimum, frozen."""
    centre, spread = -0.3, 0.5
    line = torch.linspace(-7.5, 7.5, 161, dtype=torch.float64)
    parameters = torch.tensor(law, dtype=torch.float64, requires_grad=True)
    k = path.at(torch.tensor([t], dtype=torch.float64))
    p, teacher = line_law(path, Data(), t, centre, spread)

    x = 1.5 * line[:, None]
    q, _ = line_law(path, Data(), t, *parameters)
    mixture = alpha * q(x) + (1 - alpha) * p(x)
    divergence = (mixture * (mixture / p(x)).log()).sum() * (x[1, 0] - x[0, 0])
    if alpha == 1:
        laws = [Normal(k.b * m, (k.b**2 * s**2 + k.a**2).sqrt()) for m, s in (parameters, (centre, spread))]
        torch.testing.assert_close(divergence, kl_divergence(*laws).sum())
    (expected,) = torch.autograd.grad(divergence * (k.a / k.b).square().sum(), parameters)

    grid = torch.cartesian_prod(line, line)  # x0 and the generator's noise
    weight = torch.exp(-grid.square().sum(1) / 2) / (2 * math.pi) * (line[1] - line[0]) ** 2 * len(grid)
    x0, x1 = grid[:, :1], parameters[0] + parameters[1] * grid[:, 1:]
    x_t = path.interpolate(path.at(torch.full((len(grid),), t, dtype=torch.float64)), x0, x1, None)
    q, own = line_law(path, Data(), t, *parameters.tolist())
    densities = alpha * q(x_t), (1 - alpha) * p(x_t)
    fake = (densities[0] * own(x_t) + densities[1] * teacher(x_t)) / sum(densities)
    terms = timeless(fake, x1, weight, teacher(x_t))
    (found,) = torch.autograd.grad(DiffInstruct(target=Data(), alpha=alpha).generator_loss(terms), parameters)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert (float(found.abs().max()) < 1e-9) is (law == (centre, spread))


@BOTH
@pytest.mark.parametrize("alpha", [1.0, 0.9])
def test_the_gradient_is_that_of_dmd2s_code(kind, alpha):
    """Of 1/2 ||x - sg(x - g)||^2 with g = f - f*, DMD's over mean |x - f*|; none through the networks."""
    terms = leaves(images()[0])
    expected = 0
    for f, x, teacher, w in zip(terms.fake, terms.target, terms.teacher, terms.weight, strict=True):
        p_real, p_fake = (x - teacher).detach(), (x - f).detach()
        g = (p_real - p_fake) / (p_real.abs().mean() if kind is DMD else 1)
        expected = expected + alpha * w / len(terms.weight) * 0.5 * (x - (x - g).detach()).square().sum()
    found = gradients(kind(target=Data(), alpha=alpha).generator_loss(terms), terms)
    assert float(found[1].abs().min()) > 0
    torch.testing.assert_close(found, gradients(expected, terms))
    assert not found[0].any()
    assert not found[2].any()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_counts_nothing(broken):
    terms = leaves(images()[0])
    terms.fake.data[1, 0, 2, 3] = broken
    teacher = terms.teacher.detach().clone()
    teacher[2] = broken
    terms.target.data[3] = teacher[3]  # 0 / 0 where f = f* too
    terms.fake.data[3] = teacher[3]
    terms = replace(terms, teacher=teacher.requires_grad_())
    gradient = gradients(DMD(target=Data()).generator_loss(terms), terms)[1]
    assert bool(torch.isfinite(gradient).all())
    assert [int((g == 0).sum()) for g in gradient] == [0, 1, 75, 75]


@BOTH
def test_the_fake_network_learns_as_realuids_with_alpha_equal_to_beta(kind):
    generated, real = images()
    assert not kind(target=Data()).uses_real_data
    uid, mixed = RealUID(target=Data(), alpha=1, beta=1), RealUID(target=Data(), alpha=0.9, beta=0.9)
    assert torch.equal(kind(target=Data()).fake_loss(generated, None), uid.fake_loss(generated, None))
    assert kind(target=Data(), alpha=0.9).uses_real_data
    assert torch.equal(kind(target=Data(), alpha=0.9).fake_loss(generated, real), mixed.fake_loss(generated, real))


@BOTH
def test_refusals(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__} is written in the data prediction"):
        kind(target=Velocity())
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\]"):
        kind(target=Data(), alpha=1.5)

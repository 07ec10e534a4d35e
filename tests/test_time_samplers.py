"""Time samplers against scipy's distributions, and EDM's weight against the preconditioning that it was chosen for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logit
from scipy.stats import norm, truncnorm, uniform
from torch import nn

from realuid.couplings import IndependentCoupling
from realuid.interpolants import EDMInterpolant, LinearInterpolant
from realuid.matching import MatchingModel, regression_loss
from realuid.preconditioning import EDMPreconditioning
from realuid.targets import Data
from realuid.time_samplers import EDMWeight, LogitNormalTime, LogNormalTime, UniformTime, UnitWeight

LINEAR, EDM = LinearInterpolant(), EDMInterpolant()


def level(path, t):
    """The noise level s at native times, by hand: 1 - t on the linear path, sigma / 80 on EDM's."""
    return 1 - t if path is LINEAR else t / 80


def edges(mean, std, low, high):
    return {"a": (math.log(low) - mean) / std, "b": (math.log(high) - mean) / std, "loc": mean, "scale": std}


# sampler, path, distribution function of what is distributed, what that is as a function of time
CASES = {
    "uniform": (UniformTime(), LINEAR, uniform(0, 1).cdf, lambda t: level(LINEAR, t)),
    "part": (UniformTime(low=0.2, high=0.7), LINEAR, uniform(0.2, 0.5).cdf, lambda t: level(LINEAR, t)),
    "uniform-edm": (UniformTime(high=0.9), EDM, uniform(0, 0.9).cdf, lambda t: level(EDM, t)),
    "logit-normal": (LogitNormalTime(), LINEAR, norm(0, 1).cdf, lambda t: logit(level(LINEAR, t))),
    "meanflow": (LogitNormalTime(mean=-0.6, std=1.6), LINEAR, norm(-0.6, 1.6).cdf, lambda t: logit(level(LINEAR, t))),
    "logit-normal-edm": (LogitNormalTime(std=0.5), EDM, norm(0, 0.5).cdf, lambda t: logit(level(EDM, t))),
    "edm": (LogNormalTime(), EDM, truncnorm(**edges(-1.2, 1.2, 0.002, 80)).cdf, np.log),
    "cut": (
        LogNormalTime(mean=0.5, std=2, low=0.1, high=9),
        *(EDM, truncnorm(**edges(0.5, 2, 0.1, 9)).cdf, np.log),
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantiles_invert_the_distribution_function(case, dtype):
    sampler, path, cdf, quantity = case
    u = torch.linspace(0.001, 0.999, 101, dtype=dtype)
    t = sampler.quantile(u, path)
    assert t.dtype == torch.float64
    np.testing.assert_allclose(cdf(quantity(t.numpy())), u.double().numpy(), rtol=1e-9)


@EACH
def test_quantiles_are_monotone_and_inside_the_path(case):
    sampler, path, *_ = case
    tails = torch.logspace(-12, -3, 10, dtype=torch.float64)
    t = sampler.quantile(torch.cat([tails, torch.linspace(0.01, 0.99, 50), 1 - tails.flip(0)]), path)
    steps = t.diff()
    assert bool((steps > 0).all() or (steps < 0).all())
    assert float(t.min()) > min(path.t_source, path.t_data)
    assert float(t.max()) < max(path.t_source, path.t_data)
    assert not isinstance(sampler, LogNormalTime) or bool((t > 0.002).all())
    span = sampler.span(path)
    assert span.shape == (33,)
    assert float(span.min()) < float(span.max())
    torch.testing.assert_close(span[[0, -1]].sort().values, t[[0, -1]].sort().values, rtol=0.2, atol=1e-9)


def test_a_large_probability_is_noisy():
    """Monotone in the noise level, whichever way time runs."""
    high, low = torch.tensor([0.99]), torch.tensor([0.01])
    for sampler, path in ((UniformTime(), LINEAR), (LogitNormalTime(), LINEAR), (UniformTime(), EDM)):
        assert level(path, sampler.quantile(high, path)) > 0.9 > 0.1 > level(path, sampler.quantile(low, path))
    assert LogNormalTime().quantile(high, EDM) > LogNormalTime().quantile(low, EDM)


def test_unit_weight():
    assert UnitWeight()(torch.tensor([0.1, 3.0])).tolist() == [1, 1]
    assert UnitWeight()(torch.tensor([1], dtype=torch.float32)).dtype == torch.float64


class Recorder(nn.Module):
    """F = constant; keeps what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, time, labels):
        self.x, self.time = x, time
        return torch.full_like(x, self.answer)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 0.5, 80.0])
@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_asks_for_unit_variance_of_unit_variance(sigma, sigma_data):
    """Karras et al. 2206.00364, appendix B.6: the network's input and its effective target have variance one.

    Both are linear in the independent x1 = sigma_data u and x0 = v with unit variances; their variances are the sums
    of the squares of what (u, v) = (1, 0) and (0, 1) give. The loss of F = 0 is the square of the effective target.
    """
    model = MatchingModel(
        network=Recorder(0.0),
        interpolant=EDM,
        coupling=IndependentCoupling(),
        target=Data(),
        preconditioning=EDMPreconditioning(sigma_data=sigma_data),
    )
    x1 = torch.tensor([[sigma_data], [0.0]], dtype=torch.float64)
    x0 = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    t = torch.full((2,), sigma, dtype=torch.float64)
    batch = {"x0": x0, "x1": x1, "z": None, "t": t, "labels": torch.zeros(2, dtype=torch.int64)}
    weight = EDMWeight(sigma_data=sigma_data)
    assert 2 * regression_loss(model, **batch, weight=weight).item() == pytest.approx(1, rel=1e-9)
    assert model.network.x.square().sum().item() == pytest.approx(1, rel=1e-12)
    assert model.network.time.tolist() == pytest.approx([math.log(sigma) / 4] * 2, rel=1e-12)
    # every noise level weighs the same: an error of 0.1 in F costs 0.01, as w c_out^2 = 1
    exact = regression_loss(model, **batch, weight=weight)
    model.network.answer = 0.1
    up = regression_loss(model, **batch, weight=weight)
    model.network.answer = -0.1
    down = regression_loss(model, **batch, weight=weight)
    assert (up + down - 2 * exact).item() / 2 == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformTime(low=0.5, high=0.5), "0 <= low < high <= 1"),
        (lambda: UniformTime(low=-0.1), "0 <= low < high <= 1"),
        (lambda: UniformTime(high=1.1), "0 <= low < high <= 1"),
        (lambda: LogitNormalTime(std=0.0), "std must be positive"),
        (lambda: LogNormalTime(std=-1.0), "std must be positive"),
        (lambda: LogNormalTime(low=0.0), "0 < low < high"),
        (lambda: LogNormalTime(low=2.0, high=1.0), "0 < low < high"),
        (lambda: EDMWeight(sigma_data=0.0), "sigma_data must be positive"),
        (lambda: EDMPreconditioning(sigma_data=0.0), "sigma_data must be positive"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("path", [LinearInterpolant(), EDMInterpolant(sigma_max=10.0)])
def test_times_outside_the_path_are_refused(path):
    with pytest.raises(ValueError, match=r"LogNormalTime draws times from .* outside the path"):
        LogNormalTime().span(path)

"""Samplers against the exact flow of Gaussian data, and their order of convergence measured.

For x1 ~ N(m, C) the law of x_t is N(b m, S_t) with S_t = b^2 C + (a^2 + g^2) I. All S_t commute, so the probability
flow carries x_t to b m + S_t^{1/2} S_s^{-1/2} (x_s - b_s m): affine and monotone.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from realuid.conditions import Condition
from realuid.models.exact import GaussianMixture
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.paths.conversions import UndeterminedError
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data, Noise
from realuid.samplers import Euler, Heun, KarrasGrid, UniformGrid

PATHS = {
    "linear": LinearInterpolant(),
    "edm": EDMInterpolant(sigma_max=3.0),
    "brownian": BrownianInterpolant(scale=0.7),
    "two-sided": BrownianInterpolant(scale=math.sqrt(2)),
}
MEAN = np.array([1.5, -0.5])
COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])
UNCONDITIONAL = Condition()


def silence(k):
    pytest.fail("a deterministic sampler drew noise")


class Counted(GaussianMixture):
    evaluations = 0

    def predict_at(self, k, x_t, condition, target, x0=None):
        self.evaluations += 1
        self.times = [*getattr(self, "times", []), float(k.t[0])]
        return super().predict_at(k, x_t, condition, target, x0)


def model(path, dimension):
    part = slice(dimension)
    return Counted(interpolant=path, means=[MEAN[part].tolist()], covariances=[COVARIANCE[part, part].tolist()])


def sources(dimension):
    return torch.randn(32, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def flow(name, x0):
    """Where the exact flow carries a(t_source) x0; the data term of the path's start is dropped."""
    dimension = x0.shape[1]
    m, eigen = MEAN[:dimension], np.linalg.eigh(COVARIANCE[:dimension, :dimension])
    stds = np.sqrt(eigen.eigenvalues)
    if name == "edm":
        start, scale = 3 * x0 - m, stds / np.sqrt(stds**2 + 9)
    else:
        start, scale = x0, stds
    return m + start @ (eigen.eigenvectors * scale) @ eigen.eigenvectors.T


def error(sampler, name, dimension):
    x0 = sources(dimension)
    return float(
        np.abs(
            sampler(model(PATHS[name], dimension), x0, UNCONDITIONAL, silence).numpy() - flow(name, x0.numpy())
        ).max()
    )


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("method", "order"), [(Euler, 1), (Heun, 2)])
@pytest.mark.parametrize("dimension", [1, 2])
def test_order_of_convergence(name, method, order, dimension):
    """Half the step, an error smaller by 2^order."""
    errors = [error(method(steps=steps, grid=UniformGrid()), name, dimension) for steps in (32, 64, 128)]
    slopes = -np.diff(np.log2(errors))
    assert slopes[-1] == pytest.approx(order, abs=0.15), errors
    assert errors[-1] < {1: 4e-2, 2: 2e-3}[order]


@pytest.mark.parametrize("name", ["linear", "brownian", "two-sided"])
def test_noise_becomes_data(name):
    """N(0, 1) to N(m, s^2) by the monotone map, hence with the data's moments."""
    x0 = sources(1).sort(dim=0).values
    x1 = Heun(steps=64, grid=UniformGrid())(model(PATHS[name], 1), x0, UNCONDITIONAL, silence)
    assert bool((x1.diff(dim=0) > 0).all())
    torch.testing.assert_close(x1, 1.5 + math.sqrt(0.5) * x0, rtol=0, atol=2e-3)


def test_karras_grid_at_full_scale():
    """sigma from 80 to 0.002 as in EDM: of second order, where as many equal steps of sigma are hopeless."""
    path, x0 = EDMInterpolant(), sources(1)
    std = math.sqrt(0.5)
    exact = 1.5 + std / math.sqrt(std**2 + 80**2) * (80 * x0 - 1.5)

    def worst(steps, grid):
        return float((Heun(steps=steps, grid=grid)(model(path, 1), x0, UNCONDITIONAL, silence) - exact).abs().max())

    fine = worst(72, KarrasGrid())
    assert fine < 0.01
    assert math.log2(worst(36, KarrasGrid()) / fine) == pytest.approx(2, abs=0.15)
    assert worst(72, UniformGrid()) > 50 * fine


def test_grids():
    for path in (LinearInterpolant(), EDMInterpolant(sigma_max=3.0)):
        times = UniformGrid()(path, 4)
        assert times.dtype == torch.float64
        np.testing.assert_allclose(times, np.linspace(path.t_source, path.t_data, 5))
    times = KarrasGrid(sigma_min=0.01, rho=5.0)(EDMInterpolant(sigma_max=20.0), 6)
    i = np.arange(6)
    expected = (20 ** (1 / 5) + i / 5 * (0.01 ** (1 / 5) - 20 ** (1 / 5))) ** 5  # Karras et al. 2206.00364, eq. 5
    np.testing.assert_allclose(times, [*expected, 0])
    assert KarrasGrid()(EDMInterpolant(), 1).tolist() == pytest.approx([80, 0])


@pytest.mark.parametrize(("method", "evaluations"), [(Euler, 7), (Heun, 13)])
@pytest.mark.parametrize(("name", "grid"), [("linear", UniformGrid()), ("edm", KarrasGrid())])
def test_number_and_times_of_evaluations(method, evaluations, name, grid):
    """Heun takes two a step but one in the last; nothing is evaluated at the data end, where velocities may diverge."""
    counted = model(PATHS[name], 1)
    sampler = method(steps=7, grid=grid)
    sampler(counted, sources(1), UNCONDITIONAL, silence)
    assert counted.evaluations == evaluations
    assert sorted(set(counted.times)) == sorted(grid(PATHS[name], 7)[:-1].tolist())
    assert sampler.name.startswith(f"{method.__name__}-7 {type(grid).__name__}(")


def test_one_step_of_euler():
    """x0 + v(x0, 0) on the linear path: the mean of the data, whatever the noise."""
    x1 = Euler(steps=1, grid=UniformGrid())(model(PATHS["linear"], 2), sources(2), UNCONDITIONAL, silence)
    torch.testing.assert_close(x1, torch.tensor(MEAN).expand(32, 2))


class Exact(Network):
    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x, time, condition):
        return model(PATHS["linear"], 1).predict(x, time, condition, self.target)


def predictor(target):
    return MatchingModel(
        network=Exact(target),
        interpolant=PATHS["linear"],
        coupling=IndependentCoupling(),
        target=target,
        preconditioning=NoPreconditioning(),
    )


@pytest.mark.parametrize("method", [Euler, Heun])
def test_a_denoiser_is_sampled_although_its_velocity_is_unbounded_at_the_data(method):
    sampler = method(steps=5, grid=UniformGrid())
    expected = sampler(model(PATHS["linear"], 1), sources(1), UNCONDITIONAL, silence)
    torch.testing.assert_close(sampler(predictor(Data()), sources(1), UNCONDITIONAL, silence), expected)


def test_a_model_without_a_velocity_is_refused():
    """Noise prediction on the linear path says nothing of the velocity at the source."""
    with pytest.raises(UndeterminedError, match="Velocity from Noise is unbounded at time 0 of"):
        Euler(steps=3, grid=UniformGrid())(predictor(Noise()), sources(1), UNCONDITIONAL, silence)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Euler(steps=0, grid=UniformGrid()), "steps must be at least 1"),
        (lambda: KarrasGrid(sigma_min=0.0), "must be positive"),
        (lambda: KarrasGrid(rho=-1.0), "must be positive"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_grid_of_another_path_is_refused():
    with pytest.raises(ValueError, match=r"KarrasGrid .* does not fit LinearInterpolant"):
        Euler(steps=5, grid=KarrasGrid()).times(model(LinearInterpolant(), 1))

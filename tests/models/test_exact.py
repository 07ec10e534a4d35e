"""The exact teacher against joint-Gaussian conditioning and quadrature in numpy, which know nothing of its algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from realuid.conditions import Condition
from realuid.models.exact import GaussianMixture
from realuid.paths.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.targets import Data, Noise, PathNoise, Score, Stack, Velocity

SCALE = 0.7
# path; a, b, g by hand; the coefficients of x0, x1, z in the velocity by hand; a time inside
CASES = {
    "linear": (LinearInterpolant(), lambda t: (1 - t, t, 0.0), lambda t: (-1, 1, 0), 0.3),
    "edm": (EDMInterpolant(sigma_max=4.0), lambda t: (t, 1.0, 0.0), lambda t: (1, 0, 0), 1.7),
    "brownian": (
        BrownianInterpolant(scale=SCALE),
        lambda t: (1 - t, t, SCALE * math.sqrt(t * (1 - t))),
        lambda t: (-1, 1, SCALE * (1 - 2 * t) / (2 * math.sqrt(t * (1 - t)))),
        0.3,
    ),
}
EACH = pytest.mark.parametrize("name", CASES)
MEANS = [[0.5, -1.0], [-1.5, 0.3], [2.0, 1.0]]
COVARIANCES = [[[0.5, 0.3], [0.3, 0.4]], [[1.2, -0.5], [-0.5, 0.6]], [[0.2, 0.0], [0.0, 0.0]]]  # the last is singular
WEIGHTS = [1.0, 3.0, 2.0]
UNCONDITIONAL = Condition()


def model(path, components=3):
    one = slice(components)
    return GaussianMixture(
        interpolant=path,
        means=MEANS[one],
        covariances=COVARIANCES[one],
        weights=WEIGHTS[one] if components > 1 else None,
    )


def ask(teacher, x, t, target):
    """The answer `[N, ...]` in numpy at points x `[N, ...]`, all at time t."""
    x = torch.as_tensor(x)
    return teacher.predict(x, torch.full((len(x),), t, dtype=torch.float64), UNCONDITIONAL, target).numpy()


@EACH
@pytest.mark.parametrize("components", [1, 3])
def test_joint_gaussian_conditioning(name, components):
    """(x0, x1, z) is jointly Gaussian given the component, and x_t = [aI bI gI] (x0, x1, z): condition on it."""
    path, schedules, velocity, t = CASES[name]
    a, b, g = schedules(t)
    matrix = np.kron([[a, b, g]], np.eye(2))  # [2, 6]
    points = np.random.default_rng(0).normal(size=(9, 2)) * 2
    means, likelihoods = [], []
    for m, covariance in zip(MEANS[:components], COVARIANCES, strict=False):
        prior_mean = np.concatenate([[0, 0], m, [0, 0]])
        prior = np.eye(6)
        prior[2:4, 2:4] = covariance
        evidence = matrix @ prior @ matrix.T
        gain = prior @ matrix.T @ np.linalg.inv(evidence)
        means.append(prior_mean + (points - matrix @ prior_mean) @ gain.T)
        likelihoods.append(multivariate_normal(matrix @ prior_mean, evidence).pdf(points))
    joint = np.array(likelihoods) * np.array(WEIGHTS)[:components, None] / sum(WEIGHTS[:components])  # [K, N]
    mean = np.einsum("kn,knd->nd", joint / joint.sum(0), np.array(means))
    x0, x1, z = mean[:, :2], mean[:, 2:4], mean[:, 4:]

    teacher = model(path, components)
    c0, c1, cz = velocity(t)
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(ask(teacher, points, t, Noise()), x0, **close)
    np.testing.assert_allclose(ask(teacher, points, t, Data()), x1, **close)
    np.testing.assert_allclose(ask(teacher, points, t, PathNoise()), z, **close)
    np.testing.assert_allclose(ask(teacher, points, t, Velocity()), c0 * x0 + c1 * x1 + cz * z, **close)
    stacked = ask(teacher, points, t, Stack((PathNoise(), Data())))
    np.testing.assert_allclose(stacked, np.concatenate([z, x1], axis=1), **close)
    log_density = teacher.log_density(torch.tensor(points), torch.full((9,), t, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(log_density, np.log(joint.sum(0)), **close)


@EACH
def test_quadrature_of_the_posterior(name):
    """E[x1 | x_t] = INT x1 p(x1) N(x_t; b x1, a^2 + g^2) dx1 / p_t(x_t) for two components in one dimension."""
    path, schedules, _, t = CASES[name]
    a, b, g = schedules(t)
    weights, means, stds = np.array([0.3, 0.7]), np.array([-1.0, 1.5]), np.array([0.4, 0.8])
    teacher = GaussianMixture(
        interpolant=path, means=means[:, None].tolist(), covariances=(stds**2)[:, None, None].tolist(), weights=[3, 7]
    )
    x1 = np.linspace(-12, 12, 20001)
    data = (weights * norm(means, stds).pdf(x1[:, None])).sum(1)
    points = np.linspace(-3, 4, 15)
    joint = data * norm(b * x1, math.hypot(a, g)).pdf(points[:, None])  # [N, x1]
    density = np.trapezoid(joint, x1, axis=1)
    expected = np.trapezoid(joint * x1, x1, axis=1) / density
    np.testing.assert_allclose(ask(teacher, points[:, None], t, Data())[:, 0], expected, rtol=1e-9)
    times = torch.full((15,), t, dtype=torch.float64)
    found = teacher.log_density(torch.tensor(points)[:, None], times).exp().numpy()
    np.testing.assert_allclose(found, density, rtol=1e-9)


@EACH
def test_score_is_the_gradient_of_the_log_density(name):
    path, *_, t = CASES[name]
    teacher = model(path)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64).mul(2).requires_grad_()
    times = torch.full((8,), t, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(teacher.log_density(x, times).sum(), x)
    torch.testing.assert_close(teacher.predict(x, times, UNCONDITIONAL, Score()), gradient)


@EACH
def test_the_density_integrates_to_one(name):
    path, *_, t = CASES[name]
    line = torch.linspace(-16, 16, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    total = model(path).log_density(grid, torch.full((len(grid),), t, dtype=torch.float64)).exp().sum()
    assert float(total * (line[1] - line[0]) ** 2) == pytest.approx(1, abs=1e-9)


def test_predictions_are_differentiable_in_x():
    """The generator's gradient flows through the x_t in f*."""
    teacher = model(LinearInterpolant())
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    times = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: teacher.predict(x, times, UNCONDITIONAL, Velocity()), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_with_a_time_for_each(dtype):
    """x `[B, C, H, W]` is flattened in the order of its memory; a stack's rows lie in the channels; dtype is x's."""
    generator = torch.Generator().manual_seed(4)
    root = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    mean = torch.randn(8, generator=generator, dtype=torch.float64)
    teacher = GaussianMixture(
        interpolant=BrownianInterpolant(), means=[mean.tolist()], covariances=[(root @ root.T / 8).tolist()]
    )
    x = torch.randn(5, 2, 2, 2, generator=generator, dtype=torch.float64).to(dtype)
    times = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    answer = teacher.predict(x, times, UNCONDITIONAL, Stack((Data(), Velocity())))
    assert answer.shape == (5, 4, 2, 2)
    assert answer.dtype == dtype
    for i, t in enumerate(times):
        covariance = t**2 * (root @ root.T / 8) + (1 - t) * torch.eye(8)  # (1 - t)^2 + t (1 - t) = 1 - t
        data = mean + t * (root @ root.T / 8) @ torch.linalg.solve(covariance, x[i].double().flatten() - t * mean)
        torch.testing.assert_close(answer[i, :2].flatten().double(), data, rtol=1e-5, atol=1e-6)
    assert teacher.log_density(x, times).dtype == torch.float64


@pytest.mark.parametrize(
    ("means", "covariances", "weights", "message"),
    [
        ([0.0, 1.0], [[[1.0]]], None, r"means \[K, D\]"),
        ([[0.0], [1.0]], [[[1.0]]], None, r"means \[K, D\]"),
        ([[0.0, 1.0]], [[[1.0]]], None, r"means \[K, D\]"),
        ([[0.0], [1.0]], [[[1.0]], [[1.0]]], [1.0], r"means \[K, D\]"),
        ([[0.0], [1.0]], [[[1.0]], [[1.0]]], [1.0, 0.0], "weights must be positive"),
        ([[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]], None, "symmetric"),
        ([[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]], None, "semi-definite"),
    ],
)
def test_refusals(means, covariances, weights, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(interpolant=LinearInterpolant(), means=means, covariances=covariances, weights=weights)

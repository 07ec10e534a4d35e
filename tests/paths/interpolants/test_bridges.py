"""Bridges against the processes that they condition: sums and integrals of the noise, and products of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from realuid.paths.interpolants import DDBMVEInterpolant, DDBMVPInterpolant, I2SBInterpolant, Interpolant


def source_conditioned(variance_to_data: np.ndarray, variance_to_source: np.ndarray) -> tuple[np.ndarray, ...]:
    """Brownian motion pinned at both sides: N(x1, v) times N(x0, w) is N((w x1 + v x0) / (v + w), v w / (v + w))."""
    total = variance_to_data + variance_to_source
    return variance_to_data / total, variance_to_source / total, variance_to_data * variance_to_source / total


def assert_coefficients(path: Interpolant, t: np.ndarray, expected: tuple[np.ndarray, ...], **tolerance: float) -> None:
    k = path.at(torch.as_tensor(t))
    for found, value in zip((k.a, k.b, k.g_squared), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), value, **tolerance)


@pytest.mark.parametrize("beta_max", [0.3, 1.0, 0.1])
def test_i2sb_is_the_limit_of_its_thousand_steps(beta_max):
    """The published schedule, step by step: 1000 squares of a linear ramp, the first half mirrored."""
    ramp = np.linspace(np.sqrt(1e-4), np.sqrt(beta_max / 1000), 1000) ** 2
    betas = np.concatenate([ramp[:500], ramp[:500][::-1]])
    before = np.concatenate([[0], np.cumsum(betas)])
    expected = source_conditioned(before, before[-1] - before)
    path = I2SBInterpolant(beta_max=beta_max)
    assert_coefficients(path, np.linspace(0, 1, 1001), expected, rtol=4e-3, atol=1e-4)


@pytest.mark.parametrize("beta_max", [0.3, 1.0])
def test_i2sb_by_quadrature(beta_max):
    def beta(t):
        u = min(t, 1 - t)
        return (np.sqrt(0.1) * (1 - u) + np.sqrt(beta_max) * u) ** 2

    times = np.array([0.01, 0.2, 0.5, 0.7, 0.99])
    before = np.array([quad(beta, 0, t, points=[0.5], epsabs=1e-13)[0] for t in times])
    after = np.array([quad(beta, t, 1, points=[0.5], epsabs=1e-13)[0] for t in times])
    path = I2SBInterpolant(beta_max=beta_max)
    assert_coefficients(path, times, source_conditioned(before, after), rtol=1e-11)
    rates = np.array([beta(t) for t in times]) / (before + after)  # a' = -b', in the middle as well
    k = path.at(torch.as_tensor(times))
    np.testing.assert_allclose(torch.stack([k.a_dot, -k.b_dot]).numpy(), [rates, rates], rtol=1e-11)


def test_ddbm_is_the_diffusion_pinned_at_the_source():
    """q(x_t | x1) q(x_T | x_t) of the VP process with beta(t) = beta_min + beta_d t, integrated numerically."""
    low, growth = 0.3, 1.5
    times = np.array([0.02, 0.3, 0.6, 0.95])
    total = quad(lambda u: low + growth * u, 0, 1)[0]
    decay = np.array([quad(lambda u: low + growth * u, 0, t)[0] for t in times])
    alpha, rest = np.exp(-decay / 2), np.exp(-(total - decay) / 2)  # x_t = alpha x1 + ...; x_T = rest x_t + ...
    forward, onward = 1 - alpha**2, 1 - rest**2
    precision = 1 / forward + rest**2 / onward
    expected = rest / onward / precision, alpha / forward / precision, 1 / precision
    assert_coefficients(DDBMVPInterpolant(beta_min=low, beta_d=growth), times, expected, rtol=1e-11)


def test_ddbm_ve_is_brownian_motion_with_variance_sigma_squared():
    times = np.array([0.1, 3.0, 11.0, 19.5])
    assert_coefficients(
        DDBMVEInterpolant(sigma_max=20.0), times, source_conditioned(times**2, 400 - times**2), rtol=1e-12
    )

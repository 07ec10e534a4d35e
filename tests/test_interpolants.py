"""Interpolants against schedules written out by hand here, whose derivatives come from central differences in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from realuid.interpolants import BrownianInterpolant, EDMInterpolant, Interpolant, LinearInterpolant, combine


class TrigonometricInterpolant(Interpolant):
    """A user's own path: curved schedules, decreasing time, latent noise whose square vanishes to second order."""

    t_source, t_data = 2.0, 0.0

    def a(self, t):
        return torch.sin(math.pi / 4 * t)

    def b(self, t):
        return torch.cos(math.pi / 4 * t)

    def g_squared(self, t):
        return (t * (2 - t)) ** 2


# path; a, b and g of t by hand; (a, b) at the source end; (a, b) at the data end; a latent is needed
CASES = {
    "linear": (LinearInterpolant(), lambda t: 1 - t, lambda t: t, lambda t: 0 * t, (1, 0), (0, 1), False),
    "edm": (EDMInterpolant(sigma_max=3.0), lambda t: t, lambda t: 1 + 0 * t, lambda t: 0 * t, (3, 1), (0, 1), False),
    "brownian": (
        *(BrownianInterpolant(scale=0.7), lambda t: 1 - t, lambda t: t, lambda t: 0.7 * np.sqrt(t - t * t)),
        *((1, 0), (0, 1), True),
    ),
    "two-sided": (
        *(BrownianInterpolant(scale=math.sqrt(2)), lambda t: 1 - t, lambda t: t, lambda t: np.sqrt(2 * t * (1 - t))),
        *((1, 0), (0, 1), True),
    ),
    "trigonometric": (
        *(TrigonometricInterpolant(), lambda t: np.sin(np.pi / 4 * t), lambda t: np.cos(np.pi / 4 * t)),
        *(lambda t: t * (2 - t), (1, 0), (0, 1), True),
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
NAMES = list(CASES)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_schedules_and_derivatives(case, dtype):
    path, a, b, g, *_ = case
    t = path.time(torch.linspace(0.05, 0.95, 13, dtype=dtype)).requires_grad_()
    k = path.at(t)
    times, h = t.detach().double().numpy(), 1e-5

    def derivative(f):
        return (f(times + h) - f(times - h)) / (2 * h)

    for name, value in {
        "a": a(times),
        "b": b(times),
        "g": g(times),
        "g_squared": g(times) ** 2,
        "a_dot": derivative(a),
        "b_dot": derivative(b),
        "g_dot": derivative(g),
        "gg_dot": g(times) * derivative(g),
    }.items():
        found = getattr(k, name)
        assert found.dtype == torch.float64, name
        assert not found.requires_grad, name
        np.testing.assert_allclose(found.numpy(), value, rtol=1e-8, atol=1e-9, err_msg=name)


@EACH
def test_ends_of_the_path(case):
    path, *_, source, data, _ = case
    k = path.at(torch.tensor([path.t_source, path.t_data]))
    np.testing.assert_allclose(torch.stack([k.a, k.b], dim=1).numpy(), [source, data], atol=1e-15)
    assert k.g.tolist() == [0, 0]


@pytest.mark.parametrize("scale", [0.7, math.sqrt(2)])
def test_gg_dot_is_finite_where_g_dot_is_not(scale):
    """(g^2)' / 2 = scale^2 (1 - 2t) / 2, while g' = scale (1 - 2t) / (2 sqrt(t (1 - t))) diverges."""
    k = BrownianInterpolant(scale=scale).at(torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64))
    assert k.gg_dot.tolist() == pytest.approx([scale**2 / 2, scale**2 / 4, 0, -(scale**2) / 2])
    assert k.g_dot.tolist() == pytest.approx([math.inf, scale / math.sqrt(3), 0, -math.inf], rel=1e-6)


def test_g_dot_is_zero_without_latent_noise():
    assert LinearInterpolant().at(torch.tensor([0.0, 0.3, 1.0])).g_dot.tolist() == [0, 0, 0]


@EACH
def test_time_runs_from_the_data_at_level_0_to_the_source_at_level_1(case):
    path = case[0]
    levels = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    quarter = 0.75 * path.t_data + 0.25 * path.t_source
    assert path.time(levels).tolist() == pytest.approx([path.t_data, quarter, path.t_source], abs=1e-15)


@EACH
def test_needs_latent(case):
    assert case[0].needs_latent is case[-1]


@EACH
def test_draw(case):
    """x_t = a x0 + b x1 + g z, sample by sample."""
    path, a, b, g, *_ = case
    generator = torch.Generator().manual_seed(0)
    x0, x1, z = torch.randn(3, 6, 2, 5, generator=generator, dtype=torch.float64)
    t = path.time(torch.linspace(0.1, 0.9, 6, dtype=torch.float64))
    expected = [a(s) * u + b(s) * v + g(s) * w for s, u, v, w in zip(t.numpy(), x0, x1, z, strict=True)]
    torch.testing.assert_close(path.draw(path.at(t), x0, x1, z), torch.stack(expected))
    if not path.needs_latent:
        torch.testing.assert_close(path.draw(path.at(t), x0, x1, None), torch.stack(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 6)], ids=["[B]", "[B, D]", "[B, C, H, W]"])
def test_combine_takes_the_shape_and_dtype_of_the_terms(shape, dtype):
    coefficients = torch.tensor([[2.0, -1.0, 0.5], [4.0, 0.0, 8.0]], dtype=torch.float64)
    x, y = torch.arange(1, 2 * 3 * math.prod(shape) + 1).view(2, 3, *shape).to(dtype)
    total = combine(list(coefficients), [x, y])
    assert total.dtype == dtype
    assert total.shape == (3, *shape)
    for i, (c, d) in enumerate(coefficients.T.tolist()):
        torch.testing.assert_close(total[i], c * x[i] + d * y[i])


def test_combine_refuses_nothing_and_unequal_numbers():
    with pytest.raises(ValueError, match="at least one term"):
        combine([], [])
    with pytest.raises(ValueError, match="zip"):
        combine([torch.ones(2)], [torch.ones(2), torch.ones(2)])


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_refusals(value):
    with pytest.raises(ValueError, match="sigma_max must be positive"):
        EDMInterpolant(sigma_max=value)
    with pytest.raises(ValueError, match="scale must be positive"):
        BrownianInterpolant(scale=value)

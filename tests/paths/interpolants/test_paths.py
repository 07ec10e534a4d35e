"""Every path against schedules written out by hand here, in the papers' own form, differentiated by complex steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

from realuid.paths.interpolants import (
    BrownianGamma,
    BrownianInterpolant,
    CosineInterpolant,
    DDBMVEInterpolant,
    DDBMVPInterpolant,
    EDMInterpolant,
    EncoderDecoderInterpolant,
    ExpressionInterpolant,
    I2SBInterpolant,
    Interpolant,
    LinearInterpolant,
    LinearVPInterpolant,
    LipmanInterpolant,
    MirrorInterpolant,
    PolynomialInterpolant,
    QuadraticGamma,
    SigmoidGamma,
    SineSquaredGamma,
    TrigFlowInterpolant,
    TrigonometricInterpolant,
    TwoSidedInterpolant,
    VEInterpolant,
    VPInterpolant,
    combine,
)


class OwnInterpolant(Interpolant):
    """A user's own path: curved schedules, decreasing time, noise z whose square vanishes to second order."""

    t_source, t_data = 2.0, 0.0

    def a(self, t):
        return torch.sin(math.pi / 4 * t)

    def b(self, t):
        return torch.cos(math.pi / 4 * t)

    def g_squared(self, t):
        return (t * (2 - t)) ** 2


class Case(NamedTuple):
    """A path, its schedules written out in numpy for complex times, and (a, b) at its ends."""

    path: Interpolant
    a: Callable
    b: Callable
    g: Callable | None = None
    source: tuple[float, float] = (1, 0)
    data: tuple[float, float] = (0, 1)

    def noise(self, t):
        return 0 * t if self.g is None else self.g(t)


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def bump(t):
    u = 10 * (t - 0.5)
    return sigmoid(u + 1) - sigmoid(u - 1) - sigmoid(-4) + sigmoid(-6)


def vp(t, low=0.1, high=20.0):
    return 0.5 * t**2 * (high - low) + t * low


def i2sb(t):
    """s(t) by the antiderivative of (p + d t)^2, mirrored."""
    p, d = math.sqrt(0.1), math.sqrt(0.3) - math.sqrt(0.1)

    def rising(u):
        return ((p + d * u) ** 3 - p**3) / (3 * d)

    return np.where(np.real(t) < 0.5, rising(t), 2 * rising(0.5) - rising(1 - t)) / (2 * rising(0.5)), 2 * rising(0.5)


def ddbm_vp(t, end=None):
    """alpha and sigma of the process under the bridge, and its signal-to-noise ratio, all as in the paper."""
    alpha = np.exp(-0.5 * 0.1 * t - 0.25 * 2 * t**2)
    sigma = np.sqrt(1 - alpha**2)
    return alpha, sigma, alpha**2 / sigma**2


ALPHA_T, _, SNR_T = ddbm_vp(1.0)


def one(t):
    return 1 + 0 * t


def rise(t):
    return np.sin(np.pi / 2 * t)


def fall(t):
    return np.cos(np.pi / 2 * t)


CASES = {
    "linear": Case(LinearInterpolant(), lambda t: 1 - t, lambda t: t),
    "lipman": Case(LipmanInterpolant(sigma_min=0.1), lambda t: 1 - 0.9 * t, lambda t: t, data=(0.1, 1)),
    "polynomial": Case(PolynomialInterpolant(power=2.5), lambda t: 1 - t**2.5, lambda t: t**2.5),
    "cosine": Case(CosineInterpolant(), fall, rise),
    "linear vp": Case(LinearVPInterpolant(), lambda t: np.sqrt(1 - t**2), lambda t: t),
    "trigflow": Case(TrigFlowInterpolant(sigma_data=0.7), lambda t: 0.7 * np.sin(t), np.cos, source=(0.7, 0)),
    "vp": Case(
        *(VPInterpolant(), lambda t: np.sqrt(1 - np.exp(-vp(t))), lambda t: np.exp(-0.5 * vp(t))),
        source=(math.sqrt(1 - math.exp(-10.05)), math.exp(-5.025)),
    ),
    "ve": Case(VEInterpolant(), lambda t: 0.02 * 5000**t, one, source=(100, 1), data=(0.02, 1)),
    "edm": Case(EDMInterpolant(sigma_max=3.0), lambda t: t, one, source=(3, 1)),
    "brownian": Case(BrownianInterpolant(scale=0.7), lambda t: 1 - t, lambda t: t, lambda t: 0.7 * np.sqrt(t - t * t)),
    "i2sb": Case(
        *(I2SBInterpolant(), lambda t: i2sb(t)[0], lambda t: 1 - i2sb(t)[0]),
        lambda t: np.sqrt(i2sb(t)[0] * (1 - i2sb(t)[0]) * i2sb(t)[1]),
    ),
    "ddbm vp": Case(
        DDBMVPInterpolant(),
        lambda t: ddbm_vp(t)[0] / ALPHA_T * SNR_T / ddbm_vp(t)[2],
        lambda t: ddbm_vp(t)[0] * (1 - SNR_T / ddbm_vp(t)[2]),
        lambda t: ddbm_vp(t)[1] * np.sqrt(1 - SNR_T / ddbm_vp(t)[2]),
    ),
    "ddbm ve": Case(
        *(DDBMVEInterpolant(sigma_max=20.0), lambda t: t**2 / 400, lambda t: 1 - t**2 / 400),
        lambda t: t * np.sqrt(1 - t**2 / 400),
    ),
    "two-sided, quadratic": Case(
        *(TwoSidedInterpolant(path=CosineInterpolant(), gamma=QuadraticGamma(scale=3.0)), fall, rise),
        lambda t: 3 * t * (1 - t),
    ),
    "two-sided, sine squared": Case(
        *(TwoSidedInterpolant(path=LinearInterpolant(), gamma=SineSquaredGamma()), lambda t: 1 - t, lambda t: t),
        lambda t: np.sin(np.pi * t) ** 2,
    ),
    "two-sided, sigmoid": Case(
        *(TwoSidedInterpolant(path=LinearInterpolant(), gamma=SigmoidGamma()), lambda t: 1 - t, lambda t: t, bump)
    ),
    "two-sided, decreasing time": Case(
        TwoSidedInterpolant(path=VPInterpolant(), gamma=BrownianGamma(scale=0.5)),
        *(lambda t: np.sqrt(1 - np.exp(-vp(t))), lambda t: np.exp(-0.5 * vp(t)), lambda t: 0.5 * np.sqrt(t * (1 - t))),
        source=(math.sqrt(1 - math.exp(-10.05)), math.exp(-5.025)),
    ),
    "trigonometric": Case(
        TrigonometricInterpolant(gamma=BrownianGamma()),
        *(lambda t: np.sqrt(1 - t * (1 - t)) * fall(t), lambda t: np.sqrt(1 - t * (1 - t)) * rise(t)),
        lambda t: np.sqrt(t * (1 - t)),
    ),
    "encoder-decoder": Case(
        EncoderDecoderInterpolant(),
        lambda t: np.where(np.real(t) < 0.5, np.cos(np.pi * t) ** 2, 0),
        lambda t: np.where(np.real(t) < 0.5, 0, np.cos(np.pi * t) ** 2),
        lambda t: np.sin(np.pi * t) ** 2,
    ),
    "mirror": Case(
        MirrorInterpolant(gamma=BrownianGamma()), lambda t: 0 * t, one, lambda t: np.sqrt(t * (1 - t)), source=(0, 1)
    ),
    "expression": Case(
        ExpressionInterpolant(a="sin(t)**2", b="cos(t)", g="0.3 * sqrt(t * (pi/2 - t))", t_source=np.pi / 2, t_data=0),
        *(lambda t: np.sin(t) ** 2, np.cos, lambda t: 0.3 * np.sqrt(t * (np.pi / 2 - t))),
    ),
    "own": Case(
        OwnInterpolant(), lambda t: np.sin(np.pi / 4 * t), lambda t: np.cos(np.pi / 4 * t), lambda t: t * (2 - t)
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_schedules_and_derivatives(case, dtype):
    t = case.path.time(torch.linspace(0.05, 0.95, 14, dtype=dtype)).requires_grad_()
    k = case.path.at(t)
    times = t.detach().double().numpy()

    def derivative(f):
        return np.imag(f(times + 1e-30j)) / 1e-30  # exact to rounding for an analytic f

    a, b, g = case.a, case.b, case.noise
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
        np.testing.assert_allclose(found.numpy(), value, rtol=1e-11, atol=1e-13, err_msg=name)


@EACH
def test_ends_of_the_path(case):
    k = case.path.at(torch.tensor([case.path.t_source, case.path.t_data], dtype=torch.float64))
    np.testing.assert_allclose(torch.stack([k.a, k.b], dim=1).numpy(), [case.source, case.data], rtol=1e-14, atol=1e-15)
    assert k.g.tolist() == pytest.approx([0, 0], abs=1e-15)
    assert torch.isfinite(k.gg_dot).all()  # also where g' is infinite


@pytest.mark.parametrize("scale", [0.7, math.sqrt(2)])
def test_gg_dot_is_finite_where_g_dot_is_not(scale):
    """(g^2)' / 2 = scale^2 (1 - 2t) / 2, while g' = scale (1 - 2t) / (2 sqrt(t (1 - t))) diverges."""
    k = BrownianInterpolant(scale=scale).at(torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64))
    assert k.gg_dot.tolist() == pytest.approx([scale**2 / 2, scale**2 / 4, 0, -(scale**2) / 2])
    assert k.g_dot.tolist() == pytest.approx([math.inf, scale / math.sqrt(3), 0, -math.inf], rel=1e-6)


def test_g_dot_is_zero_without_path_noise():
    assert LinearInterpolant().at(torch.tensor([0.0, 0.3, 1.0])).g_dot.tolist() == [0, 0, 0]


@EACH
def test_time_runs_from_the_data_at_level_0_to_the_source_at_level_1(case):
    path = case.path
    levels = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    quarter = 0.75 * path.t_data + 0.25 * path.t_source
    assert path.time(levels).tolist() == pytest.approx([path.t_data, quarter, path.t_source], abs=1e-15)


@EACH
def test_needs_z(case):
    assert case.path.needs_z is (case.g is not None)


@EACH
def test_draw(case):
    """x_t = a x0 + b x1 + g z, sample by sample."""
    path, a, b, g = case.path, case.a, case.b, case.noise
    generator = torch.Generator().manual_seed(0)
    x0, x1, z = torch.randn(3, 6, 2, 5, generator=generator, dtype=torch.float64)
    t = path.time(torch.linspace(0.1, 0.9, 6, dtype=torch.float64))
    expected = [
        float(a(s)) * u + float(b(s)) * v + float(g(s)) * w for s, u, v, w in zip(t.numpy(), x0, x1, z, strict=True)
    ]
    torch.testing.assert_close(path.interpolate(path.at(t), x0, x1, z), torch.stack(expected))
    if not path.needs_z:
        torch.testing.assert_close(path.interpolate(path.at(t), x0, x1, None), torch.stack(expected))


INVERTIBLE = {name: case for name, case in CASES.items() if name != "mirror"}


@pytest.mark.parametrize("case", INVERTIBLE.values(), ids=INVERTIBLE.keys())
def test_sigma_and_its_inverse(case):
    path, inside = case.path, torch.linspace(0.51, 0.03, 9, dtype=torch.float64)  # beyond the encoder's half
    times = path.time(torch.cat([inside, torch.tensor([0.49])]) if path.t_data == 0 else inside * 0.98)
    ratio = path.sigma_at(times)
    t = times.numpy()
    np.testing.assert_allclose(ratio.numpy(), np.sqrt(case.a(t) ** 2 + case.noise(t) ** 2) / case.b(t), rtol=1e-11)
    found = path.time_at(ratio)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, times, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(Interpolant._invert(path, ratio), found, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", INVERTIBLE.values(), ids=INVERTIBLE.keys())
def test_noise_beyond_the_ends_gives_the_ends(case):
    path = case.path
    ratio = path.sigma_at(torch.tensor([path.t_source, path.t_data], dtype=torch.float64))
    beyond = torch.tensor([math.inf, 0.0], dtype=torch.float64)
    for asked in (ratio, beyond, beyond.float()):
        assert path.time_at(asked).tolist() == [path.t_source, path.t_data]


def test_no_time_where_sigma_rises_and_falls():
    path = MirrorInterpolant(gamma=BrownianGamma())
    assert path.sigma_at(torch.tensor([0.2])).item() == pytest.approx(0.4)
    with pytest.raises(ValueError, match=r"does not fall all the way from source to data on MirrorInterpolant"):
        path.time_at(torch.tensor([0.1]))


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


WRONG = [0.0, -1.0, math.nan, math.inf]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (BrownianInterpolant, "scale"),
        (EDMInterpolant, "sigma_max"),
        (PolynomialInterpolant, "power"),
        (TrigFlowInterpolant, "sigma_data"),
        (I2SBInterpolant, "beta_max"),
        (DDBMVPInterpolant, "beta_min"),
        (DDBMVPInterpolant, "beta_d"),
        (DDBMVEInterpolant, "sigma_max"),
        (BrownianGamma, "scale"),
        (QuadraticGamma, "scale"),
        (SineSquaredGamma, "scale"),
        (SigmoidGamma, "scale"),
    ],
)
def test_arguments_that_must_be_positive(kind, name, value):
    with pytest.raises(ValueError, match=f"{name} must be positive, got {value}"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (LipmanInterpolant, {"sigma_min": 0.0}, "0 < sigma_min < 1 is needed, got 0.0; for zero use LinearInterpolant"),
        (LipmanInterpolant, {"sigma_min": 1.0}, "0 < sigma_min < 1 is needed, got 1.0"),
        (VPInterpolant, {"beta_min": 0.0}, "0 < beta_min <= beta_max is needed, got 0.0 and 20.0"),
        (VPInterpolant, {"beta_max": 0.05}, "0 < beta_min <= beta_max is needed, got 0.1 and 0.05"),
        (VEInterpolant, {"sigma_min": 0.0}, "0 < sigma_min < sigma_max is needed, got 0.0 and 100.0"),
        (VEInterpolant, {"sigma_max": 0.02}, "0 < sigma_min < sigma_max is needed, got 0.02 and 0.02"),
        (SigmoidGamma, {"steepness": 0.0}, "0 < steepness <= 1000 is needed, got 0.0"),
        (SigmoidGamma, {"steepness": 2000.0}, "0 < steepness <= 1000 is needed, got 2000.0"),
    ],
)
def test_refusals(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_beta_may_be_constant():
    path, t = VPInterpolant(beta_min=3.0, beta_max=3.0), torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    torch.testing.assert_close(path.b(t), torch.exp(-1.5 * t))
    torch.testing.assert_close(path.time_at(path.sigma_at(t)), t)


def test_infinite_slope_of_linear_vp():
    assert LinearVPInterpolant().at(torch.ones(1)).a_dot.item() == -math.inf


def test_coefficients_are_asked_for_under_inference_mode():
    """Derivatives are taken, and nothing is made that a later training step could not use."""
    path, t = LinearInterpolant(), torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    with torch.inference_mode():
        k = path.at(t + 0)
    assert k.a_dot.tolist() == path.at(t).a_dot.tolist() != [0.0] * 5
    assert not any(value.is_inference() for value in vars(k).values())


def test_times_have_one_dimension():
    with pytest.raises(ValueError, match=r"times must be \[B\], got the shape \[\]"):
        LinearInterpolant().at(torch.tensor(0.5))

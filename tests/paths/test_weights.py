"""Weights against published formulas, and against the losses of other predictions that they stand for."""

from __future__ import annotations

import pytest
import torch

from realuid.paths.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.preconditioning import DDBMPreconditioning, EDMPreconditioning
from realuid.paths.targets import Data
from realuid.paths.time_samplers import LogNormalTime, UniformTime
from realuid.paths.weights import DDBMWeight, EDMWeight, ExpressionWeight, MinSNRWeight, SNRWeight, UnitWeight
from tests.example_paths import DDBMVEPath, DDBMVPPath, TrigPath, VPPath

EDM, LINEAR, BROWNIAN = EDMInterpolant(), LinearInterpolant(), BrownianInterpolant(scale=0.7)
SIGMAS = torch.tensor([0.002, 0.3, 0.5, 2.0, 80.0], dtype=torch.float64)


def near(actual, expected, rtol=1e-12):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=0)


def test_unit_weight():
    w = UnitWeight()(LINEAR.at(torch.tensor([0.1, 0.7], dtype=torch.float32)))
    assert w.tolist() == [1, 1]
    assert w.dtype == torch.float64


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_weight_on_its_own_path(sigma_data):
    expected = (SIGMAS**2 + sigma_data**2) / (SIGMAS * sigma_data) ** 2
    near(EDMWeight(sigma_data=sigma_data)(EDM.at(SIGMAS)), expected)


def times_of(sigma):
    """Times at which paths with a Gaussian source have the noise level sigma, by hand."""
    exponent = torch.log1p(sigma**2)
    return {
        LINEAR: 1 / (1 + sigma),
        VPPath(): (-0.1 + (0.01 + 2 * 19.9 * exponent).sqrt()) / 19.9,
        TrigPath(): torch.atan(sigma / 0.5),
        # ((1-t)^2 + 0.49 t (1-t)) / t^2 = sigma^2 is a quadratic in 1/t
        BROWNIAN: 2 * 1 / (1.51 + (1.51**2 - 4 * (0.51 - sigma**2)).sqrt()),
    }


@pytest.mark.parametrize(
    "weight", [EDMWeight(sigma_data=0.7), SNRWeight(), MinSNRWeight()], ids=lambda w: type(w).__name__
)
def test_weights_of_the_noise_level_are_the_same_on_every_gaussian_path(weight):
    expected = weight(EDM.at(SIGMAS))
    for path, t in times_of(SIGMAS).items():
        near(weight(path.at(t)), expected, rtol=1e-9)


def test_snr_weight_is_the_unweighted_loss_of_a_noise_prediction():
    """D = (x_t - a F) / b: an error e of F is an error a e / b of D."""
    for path in (VPPath(), LINEAR, EDM):
        k = path.at(path.time(torch.linspace(0.1, 0.9, 9, dtype=torch.float64)))
        error, x_t, x0 = 0.3, 1.7, -0.4
        exact, wrong = (x_t - k.a * x0) / k.b, (x_t - k.a * (x0 + error)) / k.b
        near(SNRWeight()(k) * (wrong - exact) ** 2, torch.full_like(k.t, error**2))


def test_min_snr():
    near(MinSNRWeight(gamma=4.0)(EDM.at(SIGMAS)), torch.tensor([4, 4, 4, 0.25, 1 / 6400], dtype=torch.float64))
    near(MinSNRWeight()(EDM.at(torch.tensor([0.1, 1.0]))), torch.tensor([5.0, 1.0], dtype=torch.float64))


MOMENTS = [(0.5, 0.5, 0.0), (0.5, 0.5, 0.2), (0.8, 0.3, -0.1)]


@pytest.mark.parametrize(("sd", "sT", "cov"), MOMENTS)
def test_ddbm_weight_as_published(sd, sT, cov):
    """`bridge_karras` of DDBM's code: A / (a^2 (sd_T^2 sd^2 - cov^2) + sd^2 c^2)."""
    weight = DDBMWeight(sigma_data=sd, sigma_source=sT, covariance=cov)
    t = torch.tensor([0.01, 1.0, 30.0, 79.0], dtype=torch.float64)
    a, b, c2 = t**2 / 6400, 1 - t**2 / 6400, t**2 * (1 - t**2 / 6400)
    big = a**2 * sT**2 + b**2 * sd**2 + 2 * a * b * cov + c2
    near(weight(DDBMVEPath().at(t)), big / (a**2 * (sT**2 * sd**2 - cov**2) + sd**2 * c2))
    t = torch.tensor([0.001, 0.2, 0.9], dtype=torch.float64)
    one = torch.ones_like(t)

    def snr(t):  # alpha^2 / sigma^2 = 1 / (e^(beta_d t^2 / 2 + beta_min t) - 1)
        return 1 / torch.expm1(t**2 + 0.1 * t)

    def alpha(t):
        return torch.exp(-(t**2) / 2 - 0.05 * t)

    a = alpha(t) / alpha(one) * snr(one) / snr(t)
    b = alpha(t) * (1 - snr(one) / snr(t))
    c2 = alpha(t) ** 2 / snr(t) * (1 - snr(one) / snr(t))
    big = a**2 * sT**2 + b**2 * sd**2 + 2 * a * b * cov + c2
    near(weight(DDBMVPPath().at(t)), big / (a**2 * (sT**2 * sd**2 - cov**2) + sd**2 * c2))


def test_published_weights_make_every_time_weigh_the_same():
    """w c_out^2 = 1, so that an error of F costs the same at every time."""
    k = EDM.at(SIGMAS)
    near(
        EDMWeight(sigma_data=0.4)(k) * EDMPreconditioning(sigma_data=0.4)(k, Data()).c_out[0] ** 2, torch.ones_like(k.t)
    )
    for sd, s_source, cov in MOMENTS:
        moments = {"sigma_data": sd, "sigma_source": s_source, "covariance": cov}
        k = DDBMVPPath().at(torch.linspace(0.01, 0.99, 9))
        near(DDBMWeight(**moments)(k) * DDBMPreconditioning(**moments)(k, Data()).c_out[0] ** 2, torch.ones_like(k.t))


def test_formulas_see_time_and_coefficients():
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    k = BROWNIAN.at(t)
    near(
        ExpressionWeight(weight="t + 10*a + 100*b + 1000*g")(k), t + 10 * (1 - t) + 100 * t + 700 * (t * (1 - t)).sqrt()
    )
    near(ExpressionWeight(weight="b**2 / (a**2 + g**2)")(k), SNRWeight()(k))
    assert ExpressionWeight(weight="2").__call__(k).tolist() == [2, 2, 2]
    ExpressionWeight(weight="1 / t").check(k)


@pytest.mark.parametrize(
    "weight", [UnitWeight(), EDMWeight(), SNRWeight(), MinSNRWeight(), DDBMWeight(), ExpressionWeight(weight="1/(a+g)")]
)
def test_weights_are_usable_wherever_times_are_drawn(weight):
    for path in (VPPath(), TrigPath(), BROWNIAN, DDBMVEPath(), DDBMVPPath()):
        weight.check(path.at(UniformTime().span(path)))
    weight.check(EDM.at(LogNormalTime().span(EDM)))
    assert weight(LINEAR.at(torch.tensor([0.5]))).dtype == torch.float64


def test_at_the_source_end_the_weights_are_finite():
    """sigma is infinite there."""
    k = LINEAR.at(torch.tensor([0.0]))
    assert EDMWeight(sigma_data=0.5)(k).tolist() == [4]
    assert DDBMWeight(sigma_data=0.5, sigma_source=1.0)(k).tolist() == [4]
    assert SNRWeight()(k).tolist() == MinSNRWeight()(k).tolist() == [0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EDMWeight(sigma_data=0.0), "sigma_data must be positive"),
        (lambda: MinSNRWeight(gamma=0.0), "gamma must be positive"),
        (lambda: DDBMWeight(sigma_data=-1.0), "sigma_data must be positive"),
        (lambda: DDBMWeight(sigma_source=0.0), "sigma_source must be positive"),
        (lambda: DDBMWeight(covariance=0.25), r"\|covariance\| < sigma_source sigma_data = 0.25 is needed, got 0.25"),
        (lambda: DDBMWeight(covariance=-0.3), r"\|covariance\| <"),
        (lambda: ExpressionWeight(weight="1 +"), "not a formula"),
        (lambda: ExpressionWeight(weight="sigma"), "there is no variable 'sigma'"),
        (
            lambda: ExpressionWeight(weight="t - 0.5").check(LINEAR.at(torch.tensor([0.9, 0.25, 0.1]))),
            "ExpressionWeight is -0.25 at time 0.25: weights must be finite and positive",
        ),
        (lambda: SNRWeight().check(LINEAR.at(torch.tensor([0.5, 1.0]))), "SNRWeight is inf at time 1: weights"),
        (lambda: SNRWeight().check(LINEAR.at(torch.tensor([0.0]))), "SNRWeight is 0 at time 0: weights"),
        (lambda: ExpressionWeight(weight="sqrt(t - 1)").check(LINEAR.at(torch.tensor([0.5]))), "Weight is nan at"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()

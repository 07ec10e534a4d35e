"""Scalings against published tables, against exact arithmetic near the ends, and against samples."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from realuid.paths.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant, VPInterpolant
from realuid.paths.preconditioning import (
    DDBMPreconditioning,
    EDMPreconditioning,
    I2SBPreconditioning,
    IDDPMPreconditioning,
    NoPreconditioning,
    UnitVariancePreconditioning,
    VEPreconditioning,
    VPPreconditioning,
)
from realuid.paths.targets import Data, Noise, PathNoise, Score, Stack, Velocity
from realuid.paths.time_samplers import LogNormalTime, UniformTime
from tests.example_paths import DDBMVEPath, DDBMVPPath, DeterministicI2SBPath, I2SBPath, RandomPath, TrigPath, VPPath

EDM, LINEAR, BROWNIAN = EDMInterpolant(), LinearInterpolant(), BrownianInterpolant(scale=0.7)
SIGMAS = torch.tensor([0.002, 0.3, 0.5, 2.0, 80.0], dtype=torch.float64)
INSIDE = torch.linspace(0.01, 0.99, 13, dtype=torch.float64)


def near(actual, expected, rtol=1e-12, atol=1e-14):
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=torch.float64).expand_as(actual), rtol=rtol, atol=atol
    )


def flat(scalings):
    (c_skip,), (c_out,) = scalings.c_skip, scalings.c_out
    return c_skip, c_out, scalings.c_in, scalings.c_noise


@pytest.mark.parametrize("sd", [0.5, 1.3])
def test_edm_as_published(sd):
    """Karras et al. 2206.00364, table 1, last column."""
    c_skip, c_out, c_in, c_noise = flat(EDMPreconditioning(sigma_data=sd)(EDM.at(SIGMAS), Data()))
    near(c_skip, sd**2 / (SIGMAS**2 + sd**2))
    near(c_out, SIGMAS * sd / (sd**2 + SIGMAS**2).sqrt())
    near(c_in, 1 / (sd**2 + SIGMAS**2).sqrt())
    near(c_noise, SIGMAS.log() / 4)


@pytest.mark.parametrize("path", [VPPath(), LINEAR, TrigPath(), BROWNIAN], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("make", [EDMPreconditioning, VPPreconditioning, VEPreconditioning])
def test_a_denoiser_is_the_same_function_on_every_gaussian_path(make, path):
    """D(x_t / b; sigma) with sigma the ratio of noise to data, here from independent noises of the two kinds."""
    k = path.at(path.time(INSIDE))
    sigma = (k.a**2 + k.g**2).sqrt() / k.b
    here, there = flat(make()(k, Data())), flat(make()(EDM.at(sigma), Data()))
    for ours, theirs, scale in zip(here, there, (k.b, 1, k.b, 1), strict=True):
        near(ours * scale, theirs, rtol=1e-9)


def test_vp_as_published():
    """Karras et al. 2206.00364, table 1, first column, with sigma^-1 as in their code."""
    c_skip, c_out, c_in, c_noise = flat(VPPreconditioning()(EDM.at(SIGMAS), Data()))
    near(c_skip, 1.0)
    near(c_out, -SIGMAS)
    near(c_in, 1 / (SIGMAS**2 + 1).sqrt())
    near(c_noise, 999 * ((0.1**2 + 2 * 19.9 * (1 + SIGMAS**2).log()).sqrt() - 0.1) / 19.9, rtol=1e-9)


def test_vp_on_its_own_path_predicts_noise_from_what_it_sees():
    k = VPPath().at(torch.tensor([1e-5, 0.1, 0.7, 1.0], dtype=torch.float64))
    c_skip, c_out, c_in, c_noise = flat(VPPreconditioning()(k, Data()))
    near(c_skip, 1 / k.b)
    near(c_out, -k.a / k.b)
    near(c_in, 1.0)
    near(c_noise, 999 * k.t, rtol=1e-9)
    other = VPPreconditioning(beta_d=2.0, beta_min=0.3)(EDM.at(torch.tensor([2.0]).double()), Data())
    near(torch.exp((other.c_noise / 999) ** 2 + 0.3 * other.c_noise / 999) - 1, 4.0)


def test_ve_as_published():
    """Karras et al. 2206.00364, table 1, second column."""
    c_skip, c_out, c_in, c_noise = flat(VEPreconditioning()(EDM.at(SIGMAS), Data()))
    near(c_skip, 1.0)
    near(c_out, SIGMAS)
    near(c_in, 1.0)
    near(c_noise, (SIGMAS / 2).log())


MOMENTS = [(0.5, 0.5, 0.0), (0.5, 0.5, 0.2), (0.8, 0.3, -0.1)]


@pytest.mark.parametrize(("sd", "sT", "cov"), MOMENTS)
@pytest.mark.parametrize("path", [DDBMVEPath(), DDBMVPPath()], ids=["VE", "VP"])
def test_ddbm_as_published(path, sd, sT, cov):
    """Zhou et al. 2309.16948; time from the data, 1000 * 0.25 * ln t as in their code."""
    t = path.time(INSIDE)
    k = path.at(t)
    a, b, c2 = path.a(t), path.b(t), path.g_squared(t)
    big = a**2 * sT**2 + b**2 * sd**2 + 2 * a * b * cov + c2
    made = DDBMPreconditioning(sigma_data=sd, sigma_source=sT, covariance=cov)
    c_skip, c_out, c_in, c_noise = flat(made(k, Data()))
    near(c_skip, (b * sd**2 + a * cov) / big)
    near(c_out, (a**2 * (sT**2 * sd**2 - cov**2) + sd**2 * c2).sqrt() / big.sqrt())
    near(c_in, big.rsqrt())
    near(c_noise, 1000 * 0.25 * t.log())
    assert made.unit_variance


def test_ddbm_counts_time_from_the_data():
    k = BROWNIAN.at(torch.tensor([0.0, 0.75, 1.0], dtype=torch.float64))
    noise = DDBMPreconditioning(t_data=1.0)(k, Data()).c_noise.tolist()
    assert noise == [0, pytest.approx(250 * math.log(0.25)), pytest.approx(250 * math.log(1e-12))]
    assert I2SBPreconditioning(t_data=1.0)(k, Data()).c_noise.tolist() == [1000, 250, 0]


@pytest.mark.parametrize("sd", [0.5, 1.3])
def test_flow_matching_by_hand(sd):
    """x_t = (1-t) x0 + t x1, f = x1 - x0, x0 ~ N(0, 1): two lines of algebra."""
    t = torch.tensor([0.0, 1e-9, 0.3, 1 - 1e-9, 1.0], dtype=torch.float64)
    made = UnitVariancePreconditioning(sigma_data=sd, time_scale=1000.0)(LINEAR.at(t), Velocity())
    c_skip, c_out, c_in, c_noise = flat(made)
    variance = (1 - t) ** 2 + t**2 * sd**2
    near(c_skip, (t * sd**2 - (1 - t)) / variance)
    near(c_out, sd / variance.sqrt())
    near(c_in, variance.rsqrt())
    near(c_noise, 1000 * t)


def test_trigflow():
    """Lu and Song 2410.11081: with sigma_data in the noise, F(x / sigma_data) sigma_data is the velocity itself."""
    c_skip, c_out, c_in, c_noise = flat(UnitVariancePreconditioning(sigma_data=0.5)(TrigPath().at(INSIDE), Velocity()))
    near(c_skip, 0.0)
    near(c_out, 0.5)
    near(c_in, 2.0)
    near(c_noise, INSIDE)


TARGETS = [Velocity(), Data(), Noise(), PathNoise(), Score(), Stack(targets=(Velocity(), Data(), PathNoise()))]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
@pytest.mark.parametrize("seed", range(4))
def test_any_path_and_target_by_covariance_matrices(seed, target):
    """The effective target (f - c_skip x) / c_out has variance one, the input too, and nothing linear is left in it."""
    numbers = np.random.default_rng(seed)
    s0, s1 = numbers.uniform(0.2, 2, 2)
    c01 = numbers.uniform(-0.9, 0.9) * s0 * s1
    moments = np.array([[s0**2, c01, 0], [c01, s1**2, 0], [0, 0, 1]])
    k = RandomPath(seed).at(torch.linspace(0, 1, 7))
    made = UnitVariancePreconditioning(sigma_data=s1, sigma_source=s0, covariance=c01)
    scalings = made(k, target)
    assert len(scalings.c_skip) == len(scalings.c_out) == target.out_multiplier
    for i in range(7):
        x = np.array([k.a[i], k.b[i], k.g[i]])
        c_in = float(scalings.c_in[i])
        assert c_in**2 * x @ moments @ x == pytest.approx(1, rel=1e-12)
        for row, c_skip, c_out in zip(target.rows(k), scalings.c_skip, scalings.c_out, strict=True):
            rest = (np.array([float(c[i]) for c in row.sampled]) - float(c_skip[i]) * x) / float(c_out[i])
            assert rest @ moments @ rest == pytest.approx(1, rel=1e-9)
            assert rest @ moments @ x == pytest.approx(0, abs=1e-9)
            assert float(c_out[i]) > 0
    made.check(k, target)


@pytest.mark.parametrize(
    "preconditioning",
    [
        EDMPreconditioning(sigma_data=0.6),
        DDBMPreconditioning(sigma_data=0.6, sigma_source=0.9, covariance=0.3),
        UnitVariancePreconditioning(sigma_data=0.6, sigma_source=0.9, covariance=-0.4),
    ],
    ids=lambda p: type(p).__name__,
)
def test_unit_variance_of_samples(preconditioning):
    """What `unit_variance` claims, on a stack and a path with noise z, for what `Target.sample` gives."""
    assert preconditioning.unit_variance
    gaussian = isinstance(preconditioning, EDMPreconditioning)
    s0, c01 = (1.0, 0.0) if gaussian else (0.9, preconditioning.statistics.r * 0.9 * 0.6)
    n, generator = 100_000, torch.Generator().manual_seed(0)
    draw = torch.randn(3, n, 1, dtype=torch.float64, generator=generator)
    lower = np.linalg.cholesky([[s0**2, c01], [c01, 0.36]])
    x0, x1, z = lower[0, 0] * draw[0], lower[1, 0] * draw[0] + lower[1, 1] * draw[1], draw[2]
    target = Stack(targets=(Velocity(), Data(), PathNoise()))
    for t in (0.05, 0.5, 0.9):
        k = BROWNIAN.at(torch.full((n,), t))
        x, f = BROWNIAN.interpolate(k, x0, x1, z), target.sample(k, x0, x1, z)
        scalings = preconditioning(k, target)
        inputs = torch.cat(
            [
                scalings.c_in.unsqueeze(1) * x,
                *[
                    (f[:, i : i + 1] - c_skip.unsqueeze(1) * x) / c_out.unsqueeze(1)
                    for i, (c_skip, c_out) in enumerate(zip(scalings.c_skip, scalings.c_out, strict=True))
                ],
            ],
            dim=1,
        )
        near(inputs.var(0), 1.0, atol=0.02)
        near(torch.corrcoef(inputs.T)[0, 1:], 0.0, atol=0.02)


def test_a_stack_is_scaled_row_by_row():
    k = BROWNIAN.at(INSIDE)
    made = UnitVariancePreconditioning(sigma_data=0.5, covariance=0.1)
    both, velocity, data = (made(k, target) for target in (Stack(targets=(Velocity(), Data())), Velocity(), Data()))
    for name in ("c_skip", "c_out"):
        near(torch.stack(getattr(both, name)), torch.stack([*getattr(velocity, name), *getattr(data, name)]), rtol=0)


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.999999])
@pytest.mark.parametrize("target", [Velocity(), Data(), Noise(), PathNoise()], ids=lambda target: type(target).__name__)
def test_nothing_cancels_near_the_ends(target, correlation, end, distance):
    """Var(f) - Cov(f, x)^2 / Var(x) in 60 digits, from the coefficients at exactly the same times."""
    mpmath.mp.dps = 60
    t = torch.tensor([abs(end - distance)], dtype=torch.float64)
    k = BROWNIAN.at(t)
    (row,) = target.rows(k)
    s0, s1 = mpmath.mpf(0.9), mpmath.mpf(0.6)
    c01 = 0.9 * 0.6 * correlation
    # the coefficients of the path itself in 60 digits, not their float64 values: a = 1 - t and so on
    time, scale = mpmath.mpf(float(t)), mpmath.mpf(0.7)
    g = scale * mpmath.sqrt(time * (1 - time))
    x = [1 - time, time, g]
    exact = {
        Velocity: [-1, 1, scale**2 * (1 - 2 * time) / (2 * g)],
        Data: [0, 1, 0],
        Noise: [1, 0, 0],
        PathNoise: [0, 0, 1],
    }[type(target)]

    def cov(u, v):
        return s0**2 * u[0] * v[0] + s1**2 * u[1] * v[1] + mpmath.mpf(c01) * (u[0] * v[1] + u[1] * v[0]) + u[2] * v[2]

    expected = mpmath.sqrt(cov(exact, exact) - cov(exact, x) ** 2 / cov(x, x))
    made = UnitVariancePreconditioning(sigma_data=0.6, sigma_source=0.9, covariance=c01)(k, target)
    assert len(row.sampled) == 3
    assert float(made.c_out[0]) == pytest.approx(float(expected), rel=1e-8)
    assert float(made.c_skip[0]) == pytest.approx(float(cov(exact, x) / cov(x, x)), rel=1e-8)


@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize(
    ("preconditioning", "path", "targets"),
    [
        (EDMPreconditioning(), EDM, (Data(), Noise(), Velocity())),
        (EDMPreconditioning(), LINEAR, (Data(), Noise(), Velocity())),
        (DDBMPreconditioning(), DDBMVEPath(), (Data(), Noise(), PathNoise())),
        (DDBMPreconditioning(covariance=0.1), DDBMVPPath(), (Data(), Noise(), PathNoise())),
        (UnitVariancePreconditioning(), BROWNIAN, (Data(), Noise(), PathNoise())),
        (UnitVariancePreconditioning(), VPPath(), (Data(), Noise())),
        (VPPreconditioning(), VPPath(), (Data(),)),
        (VEPreconditioning(), EDM, (Data(),)),
        (I2SBPreconditioning(), I2SBPath(), (Data(),)),
    ],
    ids=lambda case: type(case).__name__ if not isinstance(case, tuple) else "",
)
def test_both_ends_are_finite(preconditioning, path, targets, s):
    k = path.at(path.time(torch.tensor([s], dtype=torch.float64)))
    for target in targets:
        scalings = preconditioning(k, target)
        assert bool(torch.stack([*scalings.c_skip, *scalings.c_out, scalings.c_in, scalings.c_noise]).isfinite().all())


def test_i2sb_reads_the_gathered_variance_off_the_path():
    path = I2SBPath()
    t = torch.tensor([0.0, 1e-9, 0.1, 0.4, 0.6, 0.8, 0.99, 1 - 1e-6, 1 - 1e-9, 1.0], dtype=torch.float64)
    k = path.at(t)
    sigma = path.gathered(t).sqrt()
    for made in (I2SBPreconditioning(), I2SBPreconditioning(total=path.total)):
        c_skip, c_out, c_in, c_noise = flat(made(k, Data()))
        near(c_out, -sigma, rtol=1e-9)
        near(c_skip, 1.0)
        near(c_in, 1.0)
        near(c_noise, 1000 * t)
        assert not made.unit_variance
    # its network regresses on (x_t - x1) / sigma_t (Liu et al. 2302.05872, eq. 12)
    x_t, x1 = 0.7, -0.2
    near((c_skip * x_t + c_out * (x_t - x1) / sigma)[1:], x1, rtol=1e-9)
    # a Brownian bridge of scale s has gathered s^2 (1 - t)
    t = torch.tensor([0.0, 1e-12, 0.2, 0.9, 1.0], dtype=torch.float64)
    (c_out,) = I2SBPreconditioning(t_data=1.0)(BROWNIAN.at(t), Data()).c_out
    near(c_out, -0.7 * (1 - t).sqrt(), rtol=1e-9)


def test_i2sb_without_path_noise_needs_its_total():
    path = DeterministicI2SBPath()
    k = path.at(INSIDE)
    (c_out,) = I2SBPreconditioning(total=path.total)(k, Data()).c_out
    near(c_out, -path.gathered(INSIDE).sqrt())
    I2SBPreconditioning(total=path.total).check(k, Data())
    with pytest.raises(ValueError, match="I2SBPreconditioning gives the network no say"):
        I2SBPreconditioning().check(k, Data())


def test_published_parametrisations_are_those_of_noise():
    """VP's network answers the noise, VE's minus the noise: D is then the data, whatever the data."""
    generator = torch.Generator().manual_seed(1)
    x0, x1 = torch.randn(2, 13, dtype=torch.float64, generator=generator)
    for path in (VPPath(), LINEAR, EDM):
        k = path.at(path.time(INSIDE))
        x_t = k.a * x0 + k.b * x1
        for made, answer in ((VPPreconditioning(), x0), (VEPreconditioning(), -x0)):
            c_skip, c_out, *_ = flat(made(k, Data()))
            near(c_skip * x_t + c_out * answer, x1, rtol=1e-9)
            assert not made.unit_variance


def test_no_preconditioning():
    assert NoPreconditioning()(LINEAR.at(INSIDE), Velocity()) is None
    NoPreconditioning().check(LINEAR.at(INSIDE), Velocity())
    assert not NoPreconditioning().unit_variance


@pytest.mark.parametrize("path", [VPPath(), LINEAR, TrigPath(), BROWNIAN, DDBMVPPath()], ids=lambda p: type(p).__name__)
def test_scalings_are_usable_wherever_times_are_drawn(path):
    k = path.at(UniformTime().span(path))
    for made in (EDMPreconditioning(), UnitVariancePreconditioning(), DDBMPreconditioning()):
        for target in (Velocity(), Data(), Noise()):
            made.check(k, target)
    k = EDM.at(LogNormalTime().span(EDM))
    for made in (EDMPreconditioning(), VPPreconditioning(), VEPreconditioning()):
        made.check(k, Data())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EDMPreconditioning(sigma_data=0.0), "sigma_data must be positive"),
        (lambda: DDBMPreconditioning(sigma_source=-0.5), "sigma_source must be positive"),
        (lambda: DDBMPreconditioning(covariance=0.25), r"\|covariance\| < sigma_source sigma_data = 0.25 is needed"),
        (lambda: UnitVariancePreconditioning(sigma_data=0.0), "sigma_data must be positive"),
        (lambda: UnitVariancePreconditioning(covariance=-0.5), r"\|covariance\| < .* = 0.5 is needed, got -0.5"),
        (lambda: VPPreconditioning(beta_d=0.0), "beta_d and beta_min must be positive"),
        (lambda: VPPreconditioning(beta_min=0.0), "beta_d and beta_min must be positive"),
        (lambda: I2SBPreconditioning(total=0.0), "total must be positive"),
        (
            lambda: VPPreconditioning()(LINEAR.at(INSIDE), Velocity()),
            r"VPPreconditioning predicts Data, not Velocity\(\)",
        ),
        (lambda: VEPreconditioning()(LINEAR.at(INSIDE), Noise()), "predicts Data, not Noise"),
        (
            lambda: I2SBPreconditioning().check(BROWNIAN.at(INSIDE), Stack(targets=(Data(),))),
            "predicts Data, not Stack",
        ),
        (
            lambda: UnitVariancePreconditioning().check(BROWNIAN.at(torch.tensor([0.5, 0.0])), Velocity()),
            r"UnitVariancePreconditioning is not finite for Velocity\(\) at time 0",
        ),
        (
            lambda: UnitVariancePreconditioning().check(LINEAR.at(torch.tensor([1.0])), Data()),
            r"gives the network no say for Data\(\) at time 1",
        ),
        (lambda: VPPreconditioning().check(LINEAR.at(torch.tensor([0.0])), Data()), "VPPreconditioning is not finite"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_iddpm_is_edms_table_written_out():
    """u by the recursion, the nearest level by exhaustive search (Karras et al. 2206.00364, table 1)."""
    m, c1, c2 = 1000, 0.001, 0.008
    abar = [math.sin(0.5 * math.pi * j / m / (c2 + 1)) ** 2 for j in range(m + 1)]
    u = [0.0] * (m + 1)
    for j in range(m, 0, -1):
        u[j - 1] = ((u[j] ** 2 + 1) / max(abar[j - 1] / abar[j], c1) - 1) ** 0.5
    sigma = torch.tensor([0.002, 0.01, 0.5, 2.5, 17.3, 80.0], dtype=torch.float64)
    scalings = IDDPMPreconditioning()(EDMInterpolant().at(sigma), Data())
    nearest = [min(range(m + 1), key=lambda j, s=s: abs(u[j] - s)) for s in sigma.tolist()]
    assert scalings.c_noise.tolist() == [m - 1 - j for j in nearest]
    assert torch.equal(scalings.c_skip[0], torch.ones(6, dtype=torch.float64))
    assert torch.equal(scalings.c_out[0], -sigma)
    assert torch.allclose(scalings.c_in, (1 + sigma**2).rsqrt())
    assert float(IDDPMPreconditioning()(EDMInterpolant().at(torch.zeros(1)), Data()).c_noise) == -1  # u_M = 0


def test_iddpm_on_another_path_shows_the_same_input():
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    edm, vp = EDMInterpolant(), VPInterpolant()
    k, j = edm.at(sigma), vp.at(vp.time_at(sigma))
    one, other = IDDPMPreconditioning()(k, Data()), IDDPMPreconditioning()(j, Data())
    assert torch.allclose(one.c_in * k.b, other.c_in * j.b)
    assert torch.equal(one.c_noise, other.c_noise)


def test_iddpm_refusals():
    with pytest.raises(ValueError, match="must be positive"):
        IDDPMPreconditioning(steps=0)
    with pytest.raises(ValueError, match="predicts Data"):
        IDDPMPreconditioning()(EDMInterpolant().at(torch.ones(1)), Noise())

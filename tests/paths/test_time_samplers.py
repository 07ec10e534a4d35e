"""Time samplers against scipy's distributions, published densities, and the formulas of other people's code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logit
from scipy.stats import kstest, norm, truncnorm, uniform

from realuid.paths.interpolants import (
    BrownianGamma,
    BrownianInterpolant,
    CosineInterpolant,
    EDMInterpolant,
    Interpolant,
    LinearInterpolant,
    MirrorInterpolant,
    VPInterpolant,
)
from realuid.paths.time_samplers import (
    CosMapTime,
    ExpressionTime,
    KarrasTime,
    LogitNormalTime,
    LogNormalTime,
    ModeTime,
    ShiftedTime,
    TimeSampler,
    TruncatedTime,
    UniformTime,
    UShapedTime,
)


class Backwards(Interpolant):
    """A path whose time falls from 3 (source) to 1 (data)."""

    t_source, t_data = 3.0, 1.0

    def a(self, t):
        return (t - 1) / 2

    def b(self, t):
        return (3 - t) / 2


LINEAR, EDM, BACKWARDS = LinearInterpolant(), EDMInterpolant(), Backwards()
PATHS = (LINEAR, EDM, BACKWARDS)


def level(path, t):
    """The noise level s at native times, by hand."""
    return {LINEAR: 1 - t, EDM: t / 80, BACKWARDS: (t - 1) / 2}[path]


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
    "karras": (
        KarrasTime(),
        EDM,
        uniform(0.002 ** (1 / 7), 80 ** (1 / 7) - 0.002 ** (1 / 7)).cdf,
        lambda t: t ** (1 / 7),
    ),
    "karras-part": (
        KarrasTime(rho=3, sigma_min=0.1, sigma_max=27, low=0.25, high=0.75),
        *(EDM, uniform(0.1 ** (1 / 3) + (3 - 0.1 ** (1 / 3)) / 4, (3 - 0.1 ** (1 / 3)) / 2).cdf, np.cbrt),
    ),
    # a shift by c adds ln c to the logit of the noise level
    "shifted": (
        ShiftedTime(base=LogitNormalTime(), shift=3.0),
        LINEAR,
        norm(math.log(3), 1).cdf,
        lambda t: logit(1 - t),
    ),
    "shifted-edm": (
        ShiftedTime(base=LogitNormalTime(mean=1.0), shift=0.2),
        *(EDM, norm(1 + math.log(0.2), 1).cdf, lambda t: logit(level(EDM, t))),
    ),
    "truncated": (
        TruncatedTime(base=LogitNormalTime(std=2.0), low=0.3, high=0.9),
        *(LINEAR, truncnorm(logit(0.3) / 2, logit(0.9) / 2, 0, 2).cdf, lambda t: logit(1 - t)),
    ),
    "truncated-backwards": (
        TruncatedTime(base=UniformTime(), low=0.3, high=0.9),
        *(BACKWARDS, uniform(0.3, 0.6).cdf, lambda t: level(BACKWARDS, t)),
    ),
    "truncated-native": (  # the base's law is on native time, the cut on the noise level sigma / 80
        TruncatedTime(base=LogNormalTime(), low=0.001, high=0.1),
        *(EDM, truncnorm(**edges(-1.2, 1.2, 0.08, 8)).cdf, np.log),
    ),
    "truncated-falling": (
        TruncatedTime(base=ExpressionTime(quantile="1 - u**2"), low=0.19, high=0.75),
        *(LINEAR, lambda s: 1 - uniform(0.5, 0.4).cdf(np.sqrt(1 - s)), lambda t: 1 - t),
    ),
    "formula": (
        ExpressionTime(quantile="sigmoid(0.5 + 1.2 * n)"),
        *(LINEAR, norm(0.5, 1.2).cdf, lambda t: logit(1 - t)),
    ),
    "root": (
        ExpressionTime(quantile="0.1 + 0.8 * sqrt(u)"),
        *(BACKWARDS, uniform(0, 1).cdf, lambda t: ((level(BACKWARDS, t) - 0.1) / 0.8) ** 2),
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
FALLING = "truncated-falling"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantiles_invert_the_distribution_function(name, dtype):
    sampler, path, cdf, quantity = CASES[name]
    u = torch.linspace(0.001, 0.999, 101, dtype=dtype)
    t = sampler.quantile(u, path)
    assert t.dtype == torch.float64
    expected = u.double().numpy()
    np.testing.assert_allclose(cdf(quantity(t.numpy())), 1 - expected if name == FALLING else expected, rtol=1e-9)


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


def logit_normal(mean, std):
    return lambda s: norm(mean, std).pdf(logit(s)) / (s * (1 - s))


def mode(scale):
    """SD3's density |df/du|^-1 at u = f^-1(s), f by bisection (Esser et al. 2403.03206, section 3.1)."""

    def f(u):
        return 1 - u - scale * (np.cos(np.pi / 2 * u) ** 2 - 1 + u)

    def density(s):
        low, high = np.zeros_like(s), np.ones_like(s)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = np.where(f(middle) > s, middle, low), np.where(f(middle) > s, high, middle)
        return 1 / np.abs(-1 - scale * (-np.pi / 2 * np.sin(np.pi * low) + 1))

    return density


def u_shaped(a):
    """The mixture that rfpp draws: half of the times from a e^(a t) / (e^a - 1), half mirrored."""
    return lambda s: 0.5 * a * (np.exp(a * s) + np.exp(a * (1 - s))) / np.expm1(a)


DENSITIES = {
    "uniform": (UniformTime(low=0.25, high=0.75), lambda s: np.where(abs(s - 0.5) < 0.25, 2.0, 0.0)),
    "logit-normal": (LogitNormalTime(mean=0.3, std=0.7), logit_normal(0.3, 0.7)),
    "mode": (ModeTime(), mode(1.29)),
    "mode-ends": (ModeTime(scale=-0.8), mode(-0.8)),
    "mode-none": (ModeTime(scale=0.0), np.ones_like),
    "cosmap": (CosMapTime(), lambda s: 2 / (math.pi - 2 * math.pi * s + 2 * math.pi * s**2)),
    "u-shaped": (UShapedTime(), u_shaped(4.0)),
    "u-shaped-steep": (UShapedTime(a=9.0), u_shaped(9.0)),
    "shifted": (ShiftedTime(base=CosMapTime(), shift=0.5), None),
    "truncated": (TruncatedTime(base=UShapedTime(), low=0.1, high=0.6), None),
    "formula": (ExpressionTime(quantile="1 - u**2"), lambda s: 0.5 / np.sqrt(1 - s)),
}


def shifted_cosmap(s):
    """The density of s' = g(s) is p(g^-1(s')) |dg^-1/ds'|."""
    base = s / (s + 0.5 * (1 - s))
    slope = 0.5 / (s + 0.5 * (1 - s)) ** 2
    return DENSITIES["cosmap"][1](base) * slope


def truncated_u_shaped(s):
    mass, _ = quad(u_shaped(4.0), 0.1, 0.6)
    return np.where((s > 0.1) & (s < 0.6), u_shaped(4.0)(s) / mass, 0)


EXTRA = {"shifted": shifted_cosmap, "truncated": truncated_u_shaped}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("name", DENSITIES)
def test_densities_of_the_noise_level(name, path):
    """p(s) = 1 / |ds/du|, the slope of the quantile function by central differences."""
    sampler, density = DENSITIES[name]
    density = density or EXTRA[name]
    u, h = torch.linspace(0.01, 0.99, 99, dtype=torch.float64), 1e-5
    s, up, down = (level(path, sampler.quantile(v, path)).numpy() for v in (u, u + h, u - h))
    np.testing.assert_allclose(2 * h / np.abs(up - down), density(s), rtol=1e-6)


@pytest.mark.parametrize("scale", [-1.0, -0.5, 0.8, 1.29, 2 / (math.pi - 2)])
def test_mode_stays_monotone_up_to_its_bounds(scale):
    s = level(LINEAR, ModeTime(scale=scale).quantile(torch.linspace(0, 1, 100_001, dtype=torch.float64), LINEAR))
    assert float(s.diff().min()) > -1e-15
    assert (float(s[0]), float(s[-1])) == (0, pytest.approx(1, abs=1e-15))


@pytest.mark.parametrize(
    ("scheme", "sampler"),
    [
        ("logit_normal", LogitNormalTime(mean=0.2, std=0.9)),
        ("mode", ModeTime(scale=1.29)),
        ("none", UniformTime()),
    ],
)
def test_the_laws_of_diffusers(scheme, sampler):
    """diffusers' training scripts of SD3 draw noise levels from the same laws."""
    draw = pytest.importorskip("diffusers.training_utils").compute_density_for_timestep_sampling
    theirs = draw(scheme, 4000, 0.2, 0.9, 1.29, generator=torch.Generator().manual_seed(0))
    grid = level(LINEAR, sampler.quantile(torch.linspace(0, 1, 4001, dtype=torch.float64)[1:-1], LINEAR)).numpy()
    assert kstest(theirs.numpy(), lambda s: np.interp(s, grid, np.linspace(0, 1, 4001)[1:-1])).pvalue > 0.01


def test_sid_draws_the_first_four_fifths_of_the_karras_index():
    """SiD's generator loss: sigma from u in [0, tmax / 1000), tmax = 800, with the roots of 80 and 0.002 swapped."""
    u = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    r = u * 800 / 1000
    expected = (80 ** (1 / 7) + (1 - r) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    t = KarrasTime(high=0.8).quantile(u, EDM)
    torch.testing.assert_close(t, expected, rtol=1e-12, atol=0)
    ends = KarrasTime(high=0.8).quantile(torch.tensor([0.0, 1.0]), EDM).tolist()
    assert ends == [pytest.approx(0.002), pytest.approx(24.4, abs=0.05)]


def test_dmd2_draws_from_a_table_of_a_thousand_levels():
    """DMD2's guidance: `karras_sigmas[randint(int(0.02 * 1000), int(0.98 * 1000) + 1)]`, the table rising."""
    ramp = np.linspace(0, 1, 1000)
    table = ((80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)[::-1][20:981]
    sampler = KarrasTime(low=0.02, high=0.98, levels=1000)
    u = (torch.arange(961, dtype=torch.float64) + 0.5) / 961  # the middle of every step
    np.testing.assert_allclose(sampler.quantile(u, EDM).numpy(), table, rtol=1e-12)
    # every level has the same probability
    t = sampler.quantile((torch.arange(96_100, dtype=torch.float64) + 0.5) / 96_100, EDM)
    assert set(t.unique(return_counts=True)[1].tolist()) == {100}
    assert sampler.quantile(torch.tensor([0.0, 1.0]), EDM).tolist() == pytest.approx([table[0], table[-1]], rel=1e-12)
    everything = KarrasTime(levels=1000)  # DMD2's fake network
    assert len(everything.quantile(torch.linspace(0, 1, 20_000, dtype=torch.float64), EDM).unique()) == 1000
    assert everything.quantile(torch.tensor([0.0, 1.0]), EDM).tolist() == pytest.approx([0.002, 80.0], rel=1e-14)
    # 0.29 * 100 is a little less than 29
    part = KarrasTime(rho=1.0, sigma_min=1.0, sigma_max=100.0, low=0.29, high=0.57, levels=100)
    drawn = part.quantile(torch.linspace(0, 1, 1000, dtype=torch.float64), EDM).unique()
    torch.testing.assert_close(drawn, torch.arange(30.0, 59.0, dtype=torch.float64))


@pytest.mark.parametrize("levels", [None, 2, 7, 1000])
@pytest.mark.parametrize("rho", [1.0, 5.0, 7.0])
def test_karras_levels_reach_the_ends_of_the_path_and_never_leave_it(rho, levels):
    sampler = KarrasTime(rho=rho, levels=levels)
    assert sampler.quantile(torch.tensor([0.0, 1.0]), EDM).tolist() == pytest.approx([0.002, 80.0], rel=1e-14)
    span = sampler.span(EDM)
    assert bool((span.diff() >= 0).all())


def test_a_discrete_law_is_cut_to_the_levels_inside():
    levels = KarrasTime(levels=11)
    u = (torch.arange(11, dtype=torch.float64) + 0.5) / 11
    every = levels.quantile(u, EDM)
    for low, high in ((0.0, 0.5), (0.01, 0.4), (float(every[4]) / 80, float(every[8]) / 80)):
        inside = every[(every / 80 >= low) & (every / 80 <= high)]
        cut = TruncatedTime(base=levels, low=low, high=high)
        drawn = cut.quantile(torch.linspace(0.0001, 0.9999, 9000, dtype=torch.float64), EDM)
        values, counts = drawn.unique(return_counts=True)
        assert torch.equal(values, inside)
        assert float(counts.max()) == pytest.approx(float(counts.min()), abs=3)


def test_a_cut_is_made_once_for_each_path():
    calls = []

    class Counting(TimeSampler):
        def quantile(self, u, interpolant):
            calls.append(len(u))
            return UniformTime().quantile(u, interpolant)

    sampler, u = TruncatedTime(base=Counting(), low=0.5, high=0.75), torch.tensor([0.5, 0.5])
    assert sampler.quantile(u, LINEAR).tolist() == pytest.approx([0.375] * 2, abs=1e-9)
    assert sampler.quantile(u, BACKWARDS).tolist() == pytest.approx([2.25] * 2, abs=1e-9)
    first = len(calls)
    for _ in range(3):
        assert sampler.quantile(u, LINEAR).tolist() == pytest.approx([0.375] * 2, abs=1e-9)
    assert len(calls) == first + 3


def test_samplers_nest():
    """A shift of a cut: uniform on [1/4, 1/2], then s' = 2 s / (1 + s)."""
    sampler = ShiftedTime(base=TruncatedTime(base=UniformTime(), low=0.25, high=0.5), shift=2.0)
    u = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    s, t = 0.25 + 0.25 * u, sampler.quantile(u, LINEAR)
    torch.testing.assert_close(t, 1 - 2 * s / (1 + s), rtol=1e-9, atol=0)
    again = TruncatedTime(base=sampler, low=0.5, high=0.6)
    drawn = 1 - again.quantile(torch.linspace(0, 1, 100), LINEAR)
    assert (float(drawn.min()), float(drawn.max())) == (pytest.approx(0.5), pytest.approx(0.6))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_a_large_probability_is_noisy(path):
    """Monotone in the noise level, whichever way time runs."""
    high, low = torch.tensor([0.99]), torch.tensor([0.01])
    noisy = [
        *(UniformTime(), LogitNormalTime(), ModeTime(), CosMapTime(), UShapedTime()),
        *(ExpressionTime(quantile="u"), ShiftedTime(base=UniformTime(), shift=1.0), TruncatedTime(base=UniformTime())),
    ]
    for sampler in noisy:
        assert level(path, sampler.quantile(high, path)) > 0.9 > 0.1 > level(path, sampler.quantile(low, path))
    for sampler in (LogNormalTime(), KarrasTime(), KarrasTime(levels=100)):
        assert sampler.quantile(high, EDM) > sampler.quantile(low, EDM)


@pytest.mark.parametrize("formula", ["u", "1 - u", "sigmoid(n)", "0.25", "minimum(u, 0.7)", "where(u < 0.5, 0.1, 0.9)"])
def test_formulas_that_are_laws(formula):
    """Falling, constant and discrete ones, too."""
    sampler = ExpressionTime(quantile=formula)
    s = level(LINEAR, sampler.span(LINEAR))
    assert bool((s.diff() >= 0).all() or (s.diff() <= 0).all())


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
        (lambda: ModeTime(scale=1.76), r"scale <= 2 / \(pi - 2\) = 1.752 is needed, got 1.76: s\(u\) is not monotone"),
        (lambda: ModeTime(scale=-1.01), "is not monotone"),
        (lambda: UShapedTime(a=0.0), "0 < a <= 500"),
        (lambda: UShapedTime(a=501.0), "0 < a <= 500"),
        (lambda: KarrasTime(rho=0.0), "rho must be positive"),
        (lambda: KarrasTime(sigma_min=0.0), "0 < sigma_min < sigma_max"),
        (lambda: KarrasTime(sigma_min=80.0), "0 < sigma_min < sigma_max"),
        (lambda: KarrasTime(low=0.9, high=0.8), "0 <= low < high <= 1"),
        (lambda: KarrasTime(high=1.5), "0 <= low < high <= 1"),
        (lambda: KarrasTime(levels=1), "levels must be at least 2"),
        (lambda: ShiftedTime(base=UniformTime(), shift=0.0), "shift must be positive"),
        (lambda: TruncatedTime(base=UniformTime(), low=0.5, high=0.4), "0 <= low < high <= 1"),
        (
            lambda: TruncatedTime(base=UniformTime(high=0.5), low=0.6).span(LINEAR),
            r"UniformTime draws no noise levels in \[0.6, 1.0\] on LinearInterpolant",
        ),
        (
            lambda: TruncatedTime(base=UniformTime(low=0.5), high=0.4).span(EDM),
            r"draws no noise levels in \[0.0, 0.4\] on EDM",
        ),
        (
            lambda: TruncatedTime(base=KarrasTime(levels=2), low=0.1, high=0.9).span(EDM),
            r"KarrasTime draws no noise levels in \[0.1, 0.9\]",
        ),
        (
            lambda: TruncatedTime(base=ExpressionTime(quantile="1 - u / 2"), high=0.3).span(LINEAR),
            "draws no noise levels",
        ),
        (lambda: ExpressionTime(quantile="2 * u"), r"must lie in \[0, 1\], but '2 \* u' is 2 at u = 1"),
        (lambda: ExpressionTime(quantile="n"), r"must lie in \[0, 1\], but 'n' is -7"),
        (lambda: ExpressionTime(quantile="log(u - 0.5)"), r"must lie in \[0, 1\], but .* is nan at u = 9.*e-13"),
        (lambda: ExpressionTime(quantile="1.5"), r"must lie in \[0, 1\]"),
        (
            lambda: ExpressionTime(quantile="sin(2 * u)"),
            r"must be monotone in u, but 'sin\(2 \* u\)' turns near u = 0.78",
        ),
        (lambda: ExpressionTime(quantile="(u - 0.25)**2"), "turns near u = 0.25"),
        (lambda: ExpressionTime(quantile="u +"), "not a formula"),
        (lambda: ExpressionTime(quantile="t"), "there is no variable 't'"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sigmas_outside_the_path_are_refused():
    """A law of noise levels stays inside every path; a law of sigma, or a native time of one's own, may not."""
    path = EDMInterpolant(sigma_max=10.0)
    with pytest.raises(
        ValueError, match=r"LogNormalTime draws sigma from 0.002 to 80, outside the path of EDMInterp.* 0 to 10$"
    ):
        LogNormalTime().span(path)
    with pytest.raises(
        ValueError, match=r"KarrasTime draws sigma from 0.002 to 80, outside the path of EDMInterp.* 0 to 10$"
    ):
        KarrasTime().span(path)


class Late(TimeSampler):
    """A law of native times that knows nothing of the path."""

    def quantile(self, u, interpolant):
        return 0.5 + u


def test_native_times_outside_the_path_are_refused():
    with pytest.raises(ValueError, match=r"Late draws times from 0.5 to 1.5, outside the path of LinearInterpolant"):
        Late().span(LinearInterpolant())


SIGMA_OF = {  # noise over data by hand
    "linear": (LinearInterpolant(), lambda t: (1 - t) / t),
    "cosine": (CosineInterpolant(), lambda t: 1 / np.tan(np.pi / 2 * t)),
    "VP": (VPInterpolant(), lambda t: np.sqrt(np.expm1(0.1 * t + 19.9 * t**2 / 2))),
    "two-sided": (BrownianInterpolant(scale=0.7), lambda t: np.sqrt((1 - t) ** 2 + 0.49 * t * (1 - t)) / t),
}


@pytest.mark.parametrize("name", SIGMA_OF)
def test_a_law_of_sigma_is_the_same_law_on_every_gaussian_path(name):
    path, sigma = SIGMA_OF[name]
    law = LogNormalTime(mean=-0.4, std=1.0, low=0.01, high=50.0)
    u = torch.linspace(1e-4, 1 - 1e-4, 401, dtype=torch.float64)
    low, high = (np.log([0.01, 50.0]) + 0.4) / 1.0
    expected = np.exp(truncnorm(low, high, loc=-0.4, scale=1.0).ppf(u.numpy()))
    np.testing.assert_allclose(sigma(law.quantile(u, path).numpy()), expected, rtol=1e-9)
    assert bool((law.span(path).diff() * (path.t_source - path.t_data) >= 0).all())


def test_a_law_of_sigma_needs_a_path_on_which_noise_over_data_falls():
    """The mirror path comes back to the data: every noise level occurs twice."""
    with pytest.raises(ValueError, match="noise over data does not fall all the way"):
        KarrasTime().quantile(torch.tensor([0.5]), MirrorInterpolant(gamma=BrownianGamma()))

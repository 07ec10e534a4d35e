"""The posterior step against DDIM, DDPM, I2SB and DBIM as published, diffusers, and the laws that it must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from realuid.conditions import Condition
from realuid.config.registry import find, register_components
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.paths.conversions import UndeterminedError
from realuid.paths.couplings import IndependentCoupling, MinibatchOT, PairedCoupling
from realuid.paths.interpolants import (
    BrownianInterpolant,
    CosineInterpolant,
    DDBMVEInterpolant,
    DDBMVPInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
    VPInterpolant,
)
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data
from realuid.samplers import DDIM, Ancestral, Posterior, UniformGrid
from realuid.samplers.posterior import PosteriorStep
from tests.gaussian_pairs import GaussianPairs, pairs, schroedinger
from tests.samplers.test_stochastic_samplers import assert_first_order, errors

VP = VPInterpolant()
BRIDGES = {
    "brownian": BrownianInterpolant(scale=0.7),
    "I2SB": I2SBInterpolant(),
    "DDBM-VP": DDBMVPInterpolant(),
    "DDBM-VE": DDBMVEInterpolant(sigma_max=2.0),
}
GAUSSIAN = {
    "linear": LinearInterpolant(),
    "cosine": CosineInterpolant(),
    "two-sided": BrownianInterpolant(scale=0.7),
}
SHAPE = (6, 3)


def posterior(redraw):
    return lambda steps: Posterior(steps=steps, grid=UniformGrid(), redraw=redraw)


def drawn(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)


def moments(path, t):
    """The path at one time, `[6]`, and its a, b, g as numbers."""
    k = path.at(torch.full((6,), t, dtype=torch.float64))
    return k, float(k.a[0]), float(k.b[0]), float(k.g[0])


def step(coupling, redraw):
    return PosteriorStep(coupling, redraw, knows_source=coupling.keeps_source)


PAIRS_OF_TIMES = [(0.9, 0.8), (0.5, 0.2), (0.3, 0.01)]


@pytest.mark.parametrize(("t", "s"), PAIRS_OF_TIMES)
def test_ddim(t, s):
    """x_s = sqrt(alphabar_s) x1 + sqrt(1 - alphabar_s) eps (Song et al. 2010.02502, eq. 12 with sigma = 0)."""
    x_t, x1, fresh, x0 = drawn(4)
    (k, _, b, _), (j, _, b_s, _) = moments(VP, t), moments(VP, s)
    eps = (x_t - b * x1) / math.sqrt(1 - b**2)
    expected = b_s * x1 + math.sqrt(1 - b_s**2) * eps
    torch.testing.assert_close(step(IndependentCoupling(), 0.0)(k, j, x_t, x0, x1, fresh), expected)


@pytest.mark.parametrize(("t", "s"), PAIRS_OF_TIMES)
@pytest.mark.parametrize("share", [0.25, 0.7, 1.0])
def test_a_share_of_the_noise_is_drawn_anew(t, s, share):
    """DDIM's sigma^2 = share (1 - alphabar_s); all of it is consistency models' sampling (2303.01469, algorithm 1)."""
    x_t, x1, fresh, x0 = drawn(4)
    (k, _, b, _), (j, _, b_s, _) = moments(VP, t), moments(VP, s)
    eps, sigma2 = (x_t - b * x1) / math.sqrt(1 - b**2), share * (1 - b_s**2)
    expected = b_s * x1 + math.sqrt(1 - b_s**2 - sigma2) * eps + math.sqrt(sigma2) * fresh
    torch.testing.assert_close(step(IndependentCoupling(), share)(k, j, x_t, x0, x1, fresh), expected)


@pytest.mark.parametrize(("t", "s"), PAIRS_OF_TIMES)
def test_ddpm(t, s):
    """q(x_s | x_t, x1) of Ho et al. 2006.11239, eq. 6 and 7."""
    x_t, x1, fresh, x0 = drawn(4)
    (k, _, b, _), (j, _, b_s, _) = moments(VP, t), moments(VP, s)
    total, before = b**2, b_s**2  # alphabar_t and alphabar_{t-1}
    alpha = total / before
    mean = math.sqrt(before) * (1 - alpha) / (1 - total) * x1 + math.sqrt(alpha) * (1 - before) / (1 - total) * x_t
    variance = (1 - before) / (1 - total) * (1 - alpha)
    found = step(IndependentCoupling(), "markov")(k, j, x_t, x0, x1, fresh)
    torch.testing.assert_close(found, mean + math.sqrt(variance) * fresh)


@pytest.mark.parametrize(("redraw", "eta"), [(0.0, 0.0), ("markov", 1.0)])
def test_diffusers_ddim(redraw, eta):
    """The same chain in diffusers, whose alphabar are made ours; with eta = 1 it is DDPM's ancestral sampling."""
    diffusers = pytest.importorskip("diffusers")
    steps, (mean, covariance) = 10, pairs(3, seed=1)
    covariance[:3, 3:], covariance[3:, :3] = 0, 0
    exact = GaussianPairs(VP, mean, covariance, IndependentCoupling())
    sampler = posterior(redraw)(steps)
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=steps, clip_sample=False, prediction_type="sample")
    times = sampler.times(exact)
    scheduler.alphas_cumprod = (VP.at(times[:-1]).b ** 2).flip(0)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    x0, *fresh = drawn(1 + steps, seed=3)
    x = VP.at(times[:1]).a * x0
    for i, n in enumerate(scheduler.timesteps):
        x1 = exact.predict(x, times[i].expand(6), Condition(), Data())
        x = scheduler.step(x1, int(n), x, eta=eta, variance_noise=fresh[i]).prev_sample
    torch.testing.assert_close(sampler(exact, x0, Condition(), fresh.__getitem__), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("t", "s"), PAIRS_OF_TIMES)
def test_i2sb(t, s):
    """p(x_s | x_t, x1) is the product of N(x1, sigma_s^2) and N(x_t, sigma_t^2 - sigma_s^2), sigma^2 the integral of
    beta from the data (Liu et al. 2302.05872, eq. 4 and proposition 3.3)."""
    path = BRIDGES["I2SB"]
    x_t, x1, fresh, x0 = drawn(4)
    k, j = moments(path, t)[0], moments(path, s)[0]
    now, before = (float(c.a[0]) * path.total for c in (k, j))  # sigma_t^2, sigma_s^2
    delta = now - before
    mean = (delta * x1 + before * x_t) / now
    found = step(PairedCoupling(), "markov")(k, j, x_t, x0, x1, fresh)
    torch.testing.assert_close(found, mean + math.sqrt(before * delta / now) * fresh)


@pytest.mark.parametrize("coupling", [PairedCoupling(), IndependentCoupling(source="data")])
@pytest.mark.parametrize(("t", "s"), PAIRS_OF_TIMES)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_dbim(coupling, t, s, share):
    """x_s = a_s x0 + b_s x1 + sqrt(g_s^2 - rho^2) z + rho xi (Zheng et al. 2405.15885, eq. 8 and 9), rho^2 a share."""
    path = BRIDGES["DDBM-VP"]
    x_t, x1, fresh, x0 = drawn(4)
    (k, a, b, g), (j, a_s, b_s, g_s) = moments(path, t), moments(path, s)
    z, rho2 = (x_t - a * x0 - b * x1) / g, share * g_s**2
    expected = a_s * x0 + b_s * x1 + math.sqrt(g_s**2 - rho2) * z + math.sqrt(rho2) * fresh
    torch.testing.assert_close(step(coupling, share)(k, j, x_t, x0, x1, fresh), expected)


@pytest.mark.parametrize("redraw", [0.0, 0.5, 1.0, "markov"])
@pytest.mark.parametrize("name", BRIDGES)
def test_from_the_source_end_of_a_bridge_everything_is_drawn_anew(name, redraw):
    """There x_t is x0, without noise that could be kept: x_s ~ N(a_s x0 + b_s x1, g_s^2)."""
    path = BRIDGES[name]
    x0, x1, fresh = drawn(3)
    k, a, _, _ = moments(path, path.t_source)
    j, a_s, b_s, g_s = moments(path, float(path.time(torch.tensor(0.9))))
    found = step(PairedCoupling(), redraw)(k, j, a * x0, x0, x1, fresh)
    torch.testing.assert_close(found, a_s * x0 + b_s * x1 + g_s * fresh)


@pytest.mark.parametrize("redraw", [0.0, "markov"])
@pytest.mark.parametrize("name", BRIDGES)
def test_told_the_source_a_bridge_keeps_all_pairs(name, redraw):
    mean, covariance = pairs(seed=7)
    model = GaussianPairs(BRIDGES[name], mean, covariance, source_conditioned=True)
    assert_first_order(posterior(redraw), model, mean, covariance, last=0.1)


@pytest.mark.parametrize("name", BRIDGES)
def test_as_a_markov_process_a_bridge_keeps_the_law_of_the_data(name):
    """I2SB's sampler from a data prediction that is not told x0, whatever the pairs."""
    mean, covariance = pairs(seed=8)
    model = GaussianPairs(BRIDGES[name], mean, covariance)
    assert_first_order(posterior("markov"), model, mean, covariance, joint=False, last=0.1)


@pytest.mark.parametrize(("name", "variance"), [("brownian", 0.49), ("I2SB", None)])
def test_pairs_that_are_markov_are_kept_without_telling_the_source(name, variance):
    mean = torch.tensor([0.4, -1.0], dtype=torch.float64)
    markov = schroedinger(0.8, 1.3, variance or BRIDGES[name].total)
    model = GaussianPairs(BRIDGES[name], mean, markov)
    assert_first_order(posterior("markov"), model, mean, markov, last=0.1)


@pytest.mark.parametrize("redraw", [0.0, "markov"])
@pytest.mark.parametrize("name", ["brownian", "I2SB"])
@pytest.mark.parametrize("paired", [False, True])
def test_not_told_the_source_the_expected_one_serves(name, redraw, paired):
    """E[x0 | x_t] goes with E[x1 | x_t]: with the sample's own x0 the law of x_t would be lost, by tenths here."""
    mean, covariance = pairs(seed=9)
    if not paired:
        covariance[:2, 2:], covariance[2:, :2] = 0, 0
    coupling = PairedCoupling() if paired else IndependentCoupling(source="data")
    model = GaussianPairs(BRIDGES[name], mean, covariance, coupling)
    assert_first_order(posterior(redraw), model, mean, covariance, joint=False, last=0.1)


def test_with_a_gaussian_source_the_law_of_the_data_is_kept():
    mean, covariance = pairs(seed=5)
    mean[:2], covariance[:2, :2], covariance[:2, 2:], covariance[2:, :2] = 0, torch.eye(2), 0, 0
    for path in GAUSSIAN.values():
        for redraw in (0.0, "markov"):
            model = GaussianPairs(path, mean, covariance, IndependentCoupling())
            assert_first_order(posterior(redraw), model, mean, covariance, joint=False, last=0.1)


def test_with_minibatch_transport_the_flow_keeps_the_law():
    """Source and data depend on each other; without noise in the path redraw = 0 is the probability flow."""
    mean, covariance = pairs(seed=5)
    mean[:2], covariance[:2, :2] = 0, torch.eye(2)
    model = GaussianPairs(GAUSSIAN["linear"], mean, covariance, MinibatchOT(size=8))
    assert_first_order(posterior(0.0), model, mean, covariance, joint=False, last=0.1)


@pytest.mark.parametrize(
    ("path", "redraw"),
    [(GAUSSIAN["linear"], "markov"), (GAUSSIAN["linear"], 0.5), (GAUSSIAN["two-sided"], 0.0)],
)
def test_noise_that_depends_on_the_data_cannot_be_drawn_anew(path, redraw):
    """What is drawn anew is independent of the data; the source of minibatch transport is not."""
    mean, covariance = pairs(seed=5)
    mean[:2], covariance[:2, :2] = 0, torch.eye(2)
    model = GaussianPairs(path, mean, covariance, MinibatchOT(size=8))
    free = posterior(redraw)(64)
    free.target = lambda model: Data()  # without the refusal
    assert errors(free, model, mean, covariance)[1] > 0.1
    with pytest.raises(ValueError, match=r"Posterior takes the source for noise independent of the data"):
        posterior(redraw)(64).times(model)


def test_the_last_step_returns_the_data_prediction():
    """Nothing is drawn for it, and nothing asked at the data end."""
    mean, covariance = pairs(3, seed=2)
    for path, coupling in ((VP, IndependentCoupling()), (BRIDGES["I2SB"], PairedCoupling())):
        answers, times, asked = [], [], []

        class Watched(GaussianPairs):
            def predict_at(self, k, x_t, condition, target, x0=None):
                times.append(float(k.t[0]))  # noqa: B023
                answers.append(super().predict_at(k, x_t, condition, target, x0))  # noqa: B023
                return answers[-1]  # noqa: B023

        def noise(k):
            asked.append(k)  # noqa: B023
            return drawn(1, seed=k)[0]

        model = Watched(path, mean, covariance, coupling)
        sampler = posterior("markov")(5)
        found = sampler(model, drawn(1)[0], Condition(), noise)
        assert torch.equal(found, answers[-1])
        assert asked == [0, 1, 2, 3]
        np.testing.assert_allclose(times, sampler.times(model)[:-1])


@pytest.mark.parametrize("coupling", [IndependentCoupling(source="data"), PairedCoupling()])
def test_a_model_that_is_not_told_the_source_is_asked_for_it(coupling):
    """A bridge's data prediction does not know E[x0]: DDIM's way is refused, the Markov one is not."""

    class Identity(Network):
        def forward(self, x, time, condition):
            return x

    model = MatchingModel(
        network=Identity(),
        interpolant=BRIDGES["brownian"],
        coupling=coupling,
        target=Data(),
        preconditioning=NoPreconditioning(),
    )
    with pytest.raises(UndeterminedError, match=r"Stack\[1\] is not determined"):
        posterior(0.0)(4).times(model)
    posterior("markov")(4).times(model)


@pytest.mark.parametrize("redraw", [-0.1, 1.1])
def test_a_share_outside_of_zero_and_one_is_refused(redraw):
    with pytest.raises(ValueError, match=r"redraw must lie in \[0, 1\] or be 'markov'"):
        posterior(redraw)(4)


@pytest.mark.parametrize(("kind", "redraw"), [(DDIM, 0.0), (Ancestral, "markov")])
@pytest.mark.parametrize("path", [VP, BRIDGES["I2SB"]], ids=["VP", "I2SB"])
def test_presets(kind, redraw, path):
    """Bit for bit `Posterior` with the redraw of the method; bindable; named without what cannot be chosen."""
    coupling = IndependentCoupling() if path is VP else PairedCoupling()
    model = GaussianPairs(path, *pairs(3, seed=2), coupling)
    preset, general = kind(steps=6, grid=UniformGrid()), posterior(redraw)(6)
    found, expected = (
        sampler(model, drawn(1)[0], Condition(), lambda k: drawn(1, seed=k)[0]) for sampler in (preset, general)
    )
    assert torch.equal(found, expected)
    assert preset.name == f"{kind.__name__}-6 UniformGrid()"
    register_components()
    assert find(kind.__name__).parameters.keys() == {"steps", "grid"}


def test_name():
    assert posterior("markov")(5).name == "Posterior-5(redraw=markov) UniformGrid()"

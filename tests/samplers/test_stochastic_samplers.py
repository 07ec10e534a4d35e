"""Samplers with noise on the way, against the laws that they must keep.

The models are exact for jointly Gaussian pairs and affine: the law of the samples is read off without sampling
(`gaussian_pairs.law`), and its error falls with the step, to first order as for any weak Euler method.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from realuid.conditions import Condition
from realuid.models.exact import GaussianMixture
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.paths.conversions import UndeterminedError
from realuid.paths.couplings import IndependentCoupling, PairedCoupling
from realuid.paths.interpolants import (
    BrownianInterpolant,
    CosineInterpolant,
    DDBMVPInterpolant,
    EDMInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
    TrigFlowInterpolant,
    VPInterpolant,
)
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data, ForwardDrift, Velocity
from realuid.samplers import (
    EDMStochastic,
    Euler,
    EulerMaruyama,
    ExpressionDiffusion,
    Heun,
    KarrasGrid,
    NaturalDiffusion,
    UniformGrid,
)
from tests.gaussian_pairs import GaussianPairs, law, pairs, schroedinger

BRIDGES = {
    "brownian": BrownianInterpolant(scale=0.7),
    "I2SB": I2SBInterpolant(),  # time decreases
    "DDBM-VP": DDBMVPInterpolant(),
}
TIMES = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)


def natural(steps):
    return EulerMaruyama(steps=steps, grid=UniformGrid(), diffusion=NaturalDiffusion())


def errors(sampler, model, mean, covariance, joint=True):
    """Largest errors of mean, covariance and (if the model keeps it) covariance with x0 of the samples."""
    size = len(mean) // 2
    parts = law(sampler, model, mean[:size], covariance[:size, :size])
    truth = (mean[size:], covariance[size:, size:], covariance[:size, size:])
    return [float((found - true).abs().max()) for found, true in zip(parts, truth, strict=True)][: 3 if joint else 2]


def assert_first_order(make, model, mean, covariance, joint=True, steps=(64, 128), last=0.04):
    table = np.array([errors(make(n), model, mean, covariance, joint) for n in steps])
    assert (table[-1] < last).all(), table
    for column in table.T:
        if column[-1] > 1e-9:
            assert np.log2(column[-2] / column[-1]) == pytest.approx(1, abs=0.25), table


@pytest.mark.parametrize("name", BRIDGES)
@pytest.mark.parametrize("source_conditioned", [False, True], ids=["of x_t", "of x_t and x0"])
def test_a_bridge_carries_its_sources_to_the_law_of_the_data(name, source_conditioned):
    """Told x0, a model of any pairs keeps them; not told, it keeps the law of the data alone (Markovian projection)."""
    mean, covariance = pairs()
    model = GaussianPairs(BRIDGES[name], mean, covariance, source_conditioned=source_conditioned)
    assert_first_order(natural, model, mean, covariance, joint=source_conditioned, last=0.1)


@pytest.mark.parametrize(("name", "variance"), [("brownian", 0.49), ("I2SB", None)])
def test_a_bridge_between_pairs_that_are_markov_keeps_the_pairs(name, variance):
    """The Schroedinger bridge; pairs of another covariance are not kept by a model that is not told x0."""
    path = BRIDGES[name]
    mean = torch.tensor([0.4, -1.0], dtype=torch.float64)
    markov = schroedinger(0.8, 1.3, variance or path.total)
    assert_first_order(natural, GaussianPairs(path, mean, markov), mean, markov)
    other = markov.clone()
    other[0, 1] = other[1, 0] = -0.3
    law_kept = errors(natural(256), GaussianPairs(path, mean, other), mean, other)
    assert law_kept[1] < 0.02 < 0.2 < law_kept[2]


@pytest.mark.parametrize("name", BRIDGES)
def test_the_natural_diffusion_needs_the_data_prediction_alone(name):
    """A network for E[x1 | x_t] on pairs: its velocity and score are not determined, the bridge's own SDE is."""
    path = BRIDGES[name]
    mean, covariance = pairs(seed=4)
    exact = GaussianPairs(path, mean, covariance)

    class Exact(Network):
        def forward(self, x, time, condition):
            return exact.predict(x, time, condition, Data())

    model = MatchingModel(
        network=Exact(),
        interpolant=path,
        coupling=PairedCoupling(),
        target=Data(),
        preconditioning=NoPreconditioning(),
    )
    with pytest.raises(UndeterminedError, match="Velocity"):
        Euler(steps=3, grid=UniformGrid()).times(model)
    found, expected = (law(natural(12), m, mean[:2], covariance[:2, :2]) for m in (model, exact))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", BRIDGES)
def test_the_drift_of_the_natural_diffusion_is_the_forward_drift(name):
    path = BRIDGES[name]
    k = path.at(path.time(TIMES))
    (mine,) = natural(1).target(GaussianPairs(path, *pairs())).rows(k)
    (forward,) = ForwardDrift().rows(k)
    torch.testing.assert_close(mine.posterior(), forward.posterior())
    for one, other in zip(mine.sampled, forward.sampled, strict=True):
        torch.testing.assert_close(one, other)


def test_the_natural_diffusion_of_known_bridges():
    """Half the squared diffusion of the process: scale^2 / 2 of the Brownian bridge, beta / 2 of I2SB's."""
    path = BRIDGES["brownian"]
    torch.testing.assert_close(NaturalDiffusion()(path.at(TIMES), 1.0), torch.full_like(TIMES, 0.49 / 2))
    path = BRIDGES["I2SB"]
    root = 0.1**0.5 + (0.3**0.5 - 0.1**0.5) * torch.minimum(TIMES, 1 - TIMES)
    torch.testing.assert_close(NaturalDiffusion()(path.at(TIMES), -1.0), root**2 / 2)


def test_without_path_noise_the_natural_diffusion_is_the_probability_flow():
    model = GaussianMixture(interpolant=LinearInterpolant(), means=[[0.3]], covariances=[[[0.5]]])
    x0 = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    flow = Euler(steps=7, grid=UniformGrid())(model, x0, Condition(), None)
    torch.testing.assert_close(natural(7)(model, x0, Condition(), lambda k: torch.ones(5, 1)), flow)


GAUSSIAN = {  # paths whose x at t_source is a x0 alone, so that the start is exact
    "linear": LinearInterpolant(),
    "cosine": CosineInterpolant(),
    "TrigFlow": TrigFlowInterpolant(sigma_data=0.7),  # time decreases
    "two-sided": BrownianInterpolant(scale=0.7),
}


def diffused(epsilon):
    return lambda steps: EulerMaruyama(steps=steps, grid=UniformGrid(), diffusion=ExpressionDiffusion(epsilon=epsilon))


@pytest.mark.parametrize("name", GAUSSIAN)
@pytest.mark.parametrize("epsilon", ["0", "0.5", "0.5 * a", "t * b + 0.1"])
def test_noise_of_any_strength_reaches_the_moments_of_the_data(name, epsilon):
    mean, covariance = pairs(seed=5)
    mean[:2], covariance[:2, :2], covariance[:2, 2:], covariance[2:, :2] = 0, torch.eye(2), 0, 0
    model = GaussianPairs(GAUSSIAN[name], mean, covariance, IndependentCoupling())
    assert_first_order(diffused(epsilon), model, mean, covariance, joint=False, last=0.06)


def test_more_noise_forgets_more_of_the_source():
    """What distinguishes the SDEs: the flow's samples are functions of x0, much noise makes them independent."""
    mean, covariance = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    model = GaussianPairs(LinearInterpolant(), mean, covariance, IndependentCoupling())
    kept = [float(law(diffused(e)(128), model, mean[:1], covariance[:1, :1])[2]) for e in ("0", "0.5", "3")]
    assert kept[0] == pytest.approx(1, abs=0.02)  # N(0, 1) to N(0, 1): the flow is the identity
    assert 0.2 < kept[1] < 0.8
    assert kept[2] < 0.1


@pytest.mark.parametrize("epsilon", ["0.5", "a"])
def test_on_a_two_sided_path_any_pairs_will_do(epsilon):
    """Velocity and score of pairs that depend on each other: the law of x_t is kept all the same."""
    mean, covariance = pairs(seed=6)
    model = GaussianPairs(GAUSSIAN["two-sided"], mean, covariance)
    assert_first_order(diffused(epsilon), model, mean, covariance, joint=False, last=0.1)


def test_time_runs_backwards_from_noise_on_vp():
    """Song et al.'s reverse SDE, eps = beta / 2 (its drift: f x - beta score, f = -beta / 2)."""
    mean, covariance = torch.tensor([0, 0.7], dtype=torch.float64), torch.diag(torch.tensor([1, 0.3]).double())
    model = GaussianPairs(VPInterpolant(), mean, covariance, IndependentCoupling())
    reverse = diffused("(0.1 + 19.9 * t) / 2")
    k = model.interpolant.at(TIMES)
    (row,) = reverse(1).target(model).rows(k)
    beta = 0.1 + 19.9 * TIMES
    x, score = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = -k.a * score
    x1 = (x - k.a * x0) / k.b
    found = row.mean[0] * x0 + row.mean[1] * x1 - row.mean[2] * score
    torch.testing.assert_close(found, -beta / 2 * x - beta * score)
    assert_first_order(reverse, model, mean, covariance, joint=False, steps=(200, 400))


@pytest.mark.parametrize(
    ("path", "epsilon", "message"),
    [
        (
            LinearInterpolant(),
            "-0.1",
            r"finite and not negative, ExpressionDiffusion\(epsilon='-0.1'\) is -0.1 on Linear",
        ),
        (LinearInterpolant(), "1 / t", r"must be finite and not negative, .* is inf on Linear"),
        (LinearInterpolant(), "log(t)", r"is -inf on Linear"),
    ],
)
def test_a_diffusion_that_cannot_be_is_refused(path, epsilon, message):
    model = GaussianMixture(interpolant=path, means=[[0.0]], covariances=[[[1.0]]])
    with pytest.raises(ValueError, match=message):
        diffused(epsilon)(4).times(model)


def test_a_formula_that_cannot_be_read_is_refused_when_the_diffusion_is_made():
    with pytest.raises(ValueError, match="there is no variable 'sigma'"):
        ExpressionDiffusion(epsilon="sigma")


def test_no_noise_is_drawn_for_the_last_step_and_every_step_has_its_own():
    asked = []
    model = GaussianMixture(interpolant=LinearInterpolant(), means=[[0.0]], covariances=[[[1.0]]])

    def noise(k):
        asked.append(k)
        return torch.zeros(3, 1)

    diffused("0.5")(5)(model, torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), noise)
    assert asked == [0, 1, 2, 3]


# EDM's sampler with churn

EDM = EDMInterpolant(sigma_max=80.0)


def edm(variance=0.3, mean=0.0):
    values = torch.tensor([0, mean], dtype=torch.float64), torch.diag(torch.tensor([1, variance], dtype=torch.float64))
    return GaussianPairs(EDM, *values, IndependentCoupling()), values


def churned(steps, **changes):
    return EDMStochastic(steps=steps, grid=KarrasGrid(), **{"S_churn": 40.0, "S_noise": 1.0, **changes})


def test_without_churn_it_is_heun():
    model, _ = edm(mean=0.4)
    x0 = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    heun = Heun(steps=9, grid=KarrasGrid())(model, x0, Condition(), None)
    assert torch.equal(churned(9, S_churn=0.0)(model, x0, Condition(), None), heun)
    assert torch.equal(churned(9, S_min=90.0, S_max=100.0)(model, x0, Condition(), None), heun)


def test_churn_keeps_the_moments_and_forgets_the_source():
    model, (mean, covariance) = edm()
    results = {}
    for churn in (0.0, 40.0):
        table = np.array([errors(churned(n, S_churn=churn), model, mean, covariance, False) for n in (18, 36, 72)])
        assert (table[-1] < 0.02).all(), table
        assert table[0, 1] > 2 * table[1, 1] > 4 * table[2, 1], table
        results[churn] = float(law(churned(72, S_churn=churn), model, mean[:1], covariance[:1, :1])[2])
    assert results[0.0] == pytest.approx(0.3**0.5, abs=0.01)
    assert results[40.0] < 0.2 * results[0.0]


@pytest.mark.parametrize("churn", [0.5, 3.0])
def test_a_churned_step_by_hand(churn):
    """Karras et al. 2206.00364, algorithm 2: sigma raised by gamma = min(churn / N, sqrt 2 - 1), then a Heun step."""
    model, _ = edm(variance=0.3, mean=0.4)

    def denoiser(x, sigma):
        return 0.4 + 0.3 / (0.3 + sigma**2) * (x - 0.4)

    x0, fresh = 0.7, [0.3, -1.1]
    sigmas = [80.0, 0.002, 0.0]
    x = 80 * x0
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        gamma = min(churn / 2, math.sqrt(2) - 1) if 0.001 <= sigma <= 100 else 0.0
        raised = sigma * (1 + gamma)
        x = x + math.sqrt(raised**2 - sigma**2) * 1.1 * fresh[i]
        slope = (x - denoiser(x, raised)) / raised
        end = x + (following - raised) * slope
        if following:
            slope = (slope + (end - denoiser(end, following)) / following) / 2
            end = x + (following - raised) * slope
        x = end
    sampler = churned(2, S_churn=churn, S_noise=1.1, S_min=0.001, S_max=100.0)
    found = sampler(
        model,
        torch.tensor([[x0]], dtype=torch.float64),
        Condition(),
        lambda k: torch.tensor([[fresh[k]]], dtype=torch.float64),
    )
    assert float(found) == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize("path", [LinearInterpolant(), VPInterpolant(), BrownianInterpolant()])
def test_churn_is_for_time_that_is_sigma(path):
    model = GaussianMixture(interpolant=path, means=[[0.0]], covariances=[[[1.0]]])
    with pytest.raises(ValueError, match=f"not for {type(path).__name__}; EulerMaruyama serves them all"):
        EDMStochastic(steps=4, grid=UniformGrid()).times(model)


@pytest.mark.parametrize("changes", [{"S_churn": -1.0}, {"S_noise": 0.0}])
def test_churn_refusals(changes):
    with pytest.raises(ValueError, match="S_churn must not be negative and S_noise positive"):
        churned(4, **changes)


def test_samplers_name_their_settings():
    assert natural(7).name == "EulerMaruyama-7(diffusion=NaturalDiffusion()) UniformGrid()"
    assert churned(7).name.startswith("EDMStochastic-7(S_churn=40.0, S_min=0.05, S_max=50.0, S_noise=1.0) KarrasGrid(")


def test_the_score_is_asked_where_the_velocity_is_not_enough():
    """On the linear path the velocity knows the score; a coupled source does not, and the SDE is refused."""

    class Identity(Network):
        def forward(self, x, time, condition):
            return x

    model = MatchingModel(
        network=Identity(),
        interpolant=LinearInterpolant(),
        coupling=IndependentCoupling(source="data"),
        target=Velocity(),
        preconditioning=NoPreconditioning(),
    )
    with pytest.raises(UndeterminedError, match=r"Drift\[0\] is not determined"):
        diffused("0.5")(4).times(model)

"""The Gaussian whose mean is a linear map of an embedding: against mixtures of one component, guided and sampled."""

from __future__ import annotations

import pytest
import torch

from realuid.conditions import Condition
from realuid.models.exact import ConditionalGaussian, GaussianMixture
from realuid.models.guidance import GuidedModel
from realuid.models.reexpression import ReexpressedModel
from realuid.paths.interpolants import BrownianInterpolant, CosineInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.targets import Data, Noise, PathNoise, Score, Stack, Velocity
from realuid.samplers import DDIM, Ancestral, Euler, EulerMaruyama, ExpressionDiffusion, Heun, UniformGrid

WEIGHT = [[0.5, -0.2, 0.1, 0.0], [0.3, 0.4, 0.0, -0.6]]
MEAN, COVARIANCE = [0.2, -0.1], [[0.6, 0.3], [0.3, 0.4]]
PATHS = {
    "linear": LinearInterpolant(),
    "edm": EDMInterpolant(sigma_max=4.0),
    "brownian": BrownianInterpolant(scale=0.7),
}
TARGETS = [Velocity(), Data(), Noise(), Score(), PathNoise(), Stack((Data(), Velocity()))]


def model(path):
    return ConditionalGaussian(interpolant=path, weight=WEIGHT, mean=MEAN, covariance=COVARIANCE)


def prompts(count=3):
    """Two tokens of two numbers a sample."""
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(count, 2, 2, generator=generator, dtype=torch.float64)
    return Condition({"text": text, "mask": torch.ones(count, 2, dtype=torch.bool)})


def means(condition, scale=1.0):
    """m + scale W e by hand, `[B, 2]`."""
    rows = [[sum(w * e for w, e in zip(row, text, strict=True)) for row in WEIGHT] for text in _flat(condition)]
    return torch.tensor(MEAN, dtype=torch.float64) + scale * torch.tensor(rows, dtype=torch.float64)


def _flat(condition):
    return condition["text"].reshape(-1, 4).tolist()


def expected(path, x, t, target, centres):
    """Sample by sample, from a mixture of one component."""
    rows = []
    for n, mean in enumerate(centres.tolist()):
        one = GaussianMixture(interpolant=path, means=[mean], covariances=[COVARIANCE])
        rows.append(one.predict(x[n : n + 1], t[n : n + 1], Condition(), target))
    return torch.cat(rows)


def points(path, count=3):
    generator = torch.Generator().manual_seed(4)
    t = path.time(torch.linspace(0.2, 0.8, count, dtype=torch.float64))
    return 2 * torch.randn(count, 2, generator=generator, dtype=torch.float64), t


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_posterior_means_of_every_embedding(path, target):
    (x, t), condition = points(path), prompts()
    found = model(path).predict(x, t, condition, target)
    torch.testing.assert_close(found, expected(path, x, t, target, means(condition)))
    density = model(path).log_density(x, t, condition)
    for n, mean in enumerate(means(condition).tolist()):
        one = GaussianMixture(interpolant=path, means=[mean], covariances=[COVARIANCE])
        torch.testing.assert_close(density[n], one.log_density(x[n : n + 1], t[n : n + 1])[0])


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_guidance_moves_the_mean(path, target):
    """Posterior means are affine in the data's mean: m + w W e, and m without a condition."""
    (x, t), condition = points(path), prompts()
    guided = GuidedModel(model=model(path), scale=2.5)
    torch.testing.assert_close(
        guided.predict(x, t, condition, target), expected(path, x, t, target, means(condition, 2.5))
    )
    null = model(path).null(condition)
    assert not null["mask"].any()
    torch.testing.assert_close(
        model(path).predict(x, t, null, target), expected(path, x, t, target, means(condition, 0.0))
    )


def test_on_another_path_it_is_the_closed_form_there():
    (x, t), condition = points(CosineInterpolant()), prompts()
    moved = ReexpressedModel(model=model(LinearInterpolant()), interpolant=CosineInterpolant())
    found = moved.predict(x, t, condition, Velocity())
    torch.testing.assert_close(found, model(CosineInterpolant()).predict(x, t, condition, Velocity()))
    guided = GuidedModel(model=moved, scale=2.5)
    torch.testing.assert_close(
        guided.predict(x, t, condition, Data()),
        expected(CosineInterpolant(), x, t, Data(), means(condition, 2.5)),
    )


SAMPLERS = {
    "Euler": (lambda grid: Euler(steps=200, grid=grid), 0),
    "Heun": (lambda grid: Heun(steps=40, grid=grid), 0),
    "DDIM": (lambda grid: DDIM(steps=200, grid=grid), 0),
    "Ancestral": (lambda grid: Ancestral(steps=150, grid=grid), 150),
    "SDE": (lambda grid: EulerMaruyama(steps=150, grid=grid, diffusion=ExpressionDiffusion("0.3 * a")), 150),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_reach_the_moments_of_every_embedding(name):
    """A sampler of a Gaussian is affine in x0 and in all that it draws: its moments are read off unit vectors."""
    make, draws = SAMPLERS[name]
    inputs = 2 * (1 + draws)  # entries of x0 and of every draw
    unit = torch.eye(inputs + 1, inputs, dtype=torch.float64).repeat(3, 1)  # the last row is all zeros
    teacher = GuidedModel(model=model(LinearInterpolant()), scale=2.5)
    condition = prompts().take(torch.arange(3).repeat_interleave(inputs + 1))
    samples = make(UniformGrid())(teacher, unit[:, :2], condition, lambda k: unit[:, 2 * (k + 1) : 2 * (k + 2)])
    covariance = torch.tensor(COVARIANCE, dtype=torch.float64)
    for found, centre in zip(samples.chunk(3), means(prompts(), 2.5), strict=True):
        root = found[:-1] - found[-1]
        torch.testing.assert_close(found[-1], centre, rtol=0, atol=0.02)
        torch.testing.assert_close(root.T @ root, covariance, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": [[1.0]]}, r"weight \[D, E\], mean \[D\] and covariance \[D, D\] are needed, got \[1, 1\]"),
        ({"covariance": [[1.0]]}, r"covariance \[D, D\]"),
        ({"covariance": [[1.0, 2.0], [0.0, 1.0]]}, "must be symmetric"),
    ],
)
def test_refusals(changes, message):
    settings = {"weight": WEIGHT, "mean": MEAN, "covariance": COVARIANCE}
    with pytest.raises(ValueError, match=message):
        ConditionalGaussian(interpolant=LinearInterpolant(), **(settings | changes))


def test_a_condition_without_its_field_is_refused():
    x, t = points(LinearInterpolant())
    with pytest.raises(ValueError, match="reads the field 'text', and the condition is Condition"):
        model(LinearInterpolant()).predict(x, t, Condition(), Data())

"""Sampled targets against formulas by hand, finite differences of the path, and gradients of conditional densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from realuid.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.targets import Data, Latent, Noise, Score, Stack, Velocity

SCALE = 0.7
PATHS = {
    "linear": LinearInterpolant(),
    "edm": EDMInterpolant(sigma_max=4.0),
    "brownian": BrownianInterpolant(scale=SCALE),
}
EACH = pytest.mark.parametrize("name", PATHS)
ALL = (Velocity(), Data(), Noise(), Score(), Latent())


def root(t):
    return (t * (1 - t)).sqrt()


BY_HAND = {
    ("linear", Velocity()): lambda t, x0, x1, z: x1 - x0,
    ("linear", Score()): lambda t, x0, x1, z: -x0 / (1 - t),
    ("edm", Velocity()): lambda t, x0, x1, z: x0,
    ("edm", Score()): lambda t, x0, x1, z: -x0 / t,
    ("brownian", Velocity()): lambda t, x0, x1, z: x1 - x0 + SCALE * (1 - 2 * t) / (2 * root(t)) * z,
    ("brownian", Score()): lambda t, x0, x1, z: -z / (SCALE * root(t)),
    **{(path, Data()): lambda t, x0, x1, z: x1 for path in PATHS},
    **{(path, Noise()): lambda t, x0, x1, z: x0 for path in PATHS},
    **{(path, Latent()): lambda t, x0, x1, z: z for path in PATHS},
}


def triple(path, shape=(2, 3), dtype=torch.float64):
    """Times `[7]` inside the path and x0, x1, z `[7, *shape]`."""
    generator = torch.Generator().manual_seed(1)
    t = path.time(torch.linspace(0.06, 0.91, 7, dtype=torch.float64))
    return t, torch.randn(3, 7, *shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("name", "target"), BY_HAND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_hand(name, target, dtype):
    path = PATHS[name]
    t, (x0, x1, z) = triple(path, dtype=dtype)
    expected = BY_HAND[name, target](t.view(-1, 1, 1), x0, x1, z).to(dtype)
    torch.testing.assert_close(target.sample(path.at(t), x0, x1, z), expected)
    if not path.needs_latent and target != Latent():
        torch.testing.assert_close(target.sample(path.at(t), x0, x1, None), expected)


@EACH
def test_velocity_is_the_derivative_of_the_path(name):
    path, h = PATHS[name], 1e-5
    t, (x0, x1, z) = triple(path)
    difference = path.draw(path.at(t + h), x0, x1, z) - path.draw(path.at(t - h), x0, x1, z)
    torch.testing.assert_close(Velocity().sample(path.at(t), x0, x1, z), difference / (2 * h), rtol=1e-7, atol=1e-8)


@EACH
def test_score_is_the_gradient_of_the_density_of_the_path_given_its_ends(name):
    """Of p(x_t | x0, x1) where the path has latent noise, else of p(x_t | x1) with x0 ~ N(0, I)."""
    path = PATHS[name]
    t, (x0, x1, z) = triple(path)
    s = t.view(-1, 1, 1)
    mean, std = {
        "linear": (s * x1, 1 - s),
        "edm": (x1, s),
        "brownian": ((1 - s) * x0 + s * x1, SCALE * root(s)),
    }[name]
    x_t = path.draw(path.at(t), x0, x1, z).requires_grad_()
    (gradient,) = torch.autograd.grad(Normal(mean, std).log_prob(x_t).sum(), x_t)
    torch.testing.assert_close(Score().sample(path.at(t), x0, x1, z), gradient)


@EACH
@pytest.mark.parametrize("target", ALL, ids=lambda target: type(target).__name__)
def test_the_latent_in_the_sample_and_in_the_posterior_agree(name, target):
    """With E[x0] = a S and E[z] = g S, both rows of a target are one combination of E[x1] and S."""
    k = PATHS[name].at(triple(PATHS[name])[0])
    (row,) = target.rows(k)
    (c0, c1, cz), (m0, m1, ms) = row
    torch.testing.assert_close(c1, m1)
    torch.testing.assert_close(k.a * c0 + k.g * cz, k.a * m0 + ms)
    torch.testing.assert_close(row.posterior(), torch.stack([m0, m1, ms], dim=1))


def test_velocity_stays_finite_at_the_ends_of_the_brownian_path_in_the_posterior_basis():
    (row,) = Velocity().rows(PATHS["brownian"].at(torch.tensor([0.0, 1.0])))
    torch.testing.assert_close(
        row.posterior(), torch.tensor([[-1, 1, SCALE**2 / 2], [-1, 1, -(SCALE**2) / 2]], dtype=torch.float64)
    )


def test_stack_lays_rows_one_after_another_in_the_channels():
    path = PATHS["brownian"]
    t, (x0, x1, z) = triple(path, shape=(3, 2, 2))
    stack = Stack((Velocity(), Stack((Latent(), Data()))))
    assert stack.height == 3
    sample = stack.sample(path.at(t), x0, x1, z)
    assert sample.shape == (7, 9, 2, 2)
    torch.testing.assert_close(sample[:, :3], Velocity().sample(path.at(t), x0, x1, z))
    torch.testing.assert_close(sample[:, 3:6], z)
    torch.testing.assert_close(sample[:, 6:], x1)


def test_targets_are_values():
    """Models keep their conversions by target: equal targets are one key, and a list will do in a Stack."""
    assert Stack([Data(), Latent()]) == Stack((Data(), Latent()))
    assert hash(Stack([Data(), Latent()])) == hash(Stack((Data(), Latent())))
    assert Stack((Data(), Latent())) != Stack((Latent(), Data()))
    assert len({*ALL, *(type(target)() for target in ALL)}) == len(ALL)


def test_an_empty_stack_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Stack(())


def test_score_is_infinite_where_the_path_ends_in_the_data():
    (row,) = Score().rows(PATHS["linear"].at(torch.tensor([1.0])))
    assert row.sampled[0].item() == -math.inf
    assert row.posterior().tolist() == [[0, 0, -1]]

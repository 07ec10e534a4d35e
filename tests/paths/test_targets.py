"""Sampled targets against formulas by hand, finite differences of the path, and gradients of conditional densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from realuid.paths.interpolants import (
    BrownianInterpolant,
    CosineInterpolant,
    DDBMVEInterpolant,
    DDBMVPInterpolant,
    EDMInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
)
from realuid.paths.targets import (
    Data,
    ExpressionTarget,
    ForwardDrift,
    Noise,
    PathNoise,
    Score,
    Stack,
    Velocity,
    VPrediction,
)
from tests.gaussian_pairs import GaussianPairs, pairs

SCALE = 0.7
PATHS = {
    "linear": LinearInterpolant(),
    "edm": EDMInterpolant(sigma_max=4.0),
    "brownian": BrownianInterpolant(scale=SCALE),
}
EACH = pytest.mark.parametrize("name", PATHS)
ALL = (Velocity(), Data(), Noise(), Score(), PathNoise())


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
    **{(path, PathNoise()): lambda t, x0, x1, z: z for path in PATHS},
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
    if not path.needs_z and target != PathNoise():
        torch.testing.assert_close(target.sample(path.at(t), x0, x1, None), expected)


@EACH
def test_velocity_is_the_derivative_of_the_path(name):
    path, h = PATHS[name], 1e-5
    t, (x0, x1, z) = triple(path)
    difference = path.interpolate(path.at(t + h), x0, x1, z) - path.interpolate(path.at(t - h), x0, x1, z)
    torch.testing.assert_close(Velocity().sample(path.at(t), x0, x1, z), difference / (2 * h), rtol=1e-7, atol=1e-8)


@EACH
def test_score_is_the_gradient_of_the_density_of_the_path_given_its_ends(name):
    """Of p(x_t | x0, x1) where the path has noise z, else of p(x_t | x1) with x0 ~ N(0, I)."""
    path = PATHS[name]
    t, (x0, x1, z) = triple(path)
    s = t.view(-1, 1, 1)
    mean, std = {
        "linear": (s * x1, 1 - s),
        "edm": (x1, s),
        "brownian": ((1 - s) * x0 + s * x1, SCALE * root(s)),
    }[name]
    x_t = path.interpolate(path.at(t), x0, x1, z).requires_grad_()
    (gradient,) = torch.autograd.grad(Normal(mean, std).log_prob(x_t).sum(), x_t)
    torch.testing.assert_close(Score().sample(path.at(t), x0, x1, z), gradient)


@EACH
@pytest.mark.parametrize("target", ALL, ids=lambda target: type(target).__name__)
def test_the_path_noise_in_the_sample_and_in_the_posterior_agree(name, target):
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
    stack = Stack((Velocity(), Stack((PathNoise(), Data()))))
    assert stack.out_multiplier == 3
    sample = stack.sample(path.at(t), x0, x1, z)
    assert sample.shape == (7, 9, 2, 2)
    torch.testing.assert_close(sample[:, :3], Velocity().sample(path.at(t), x0, x1, z))
    torch.testing.assert_close(sample[:, 3:6], z)
    torch.testing.assert_close(sample[:, 6:], x1)


def test_targets_are_values():
    """Models keep their conversions by target: equal targets are one key, and a list will do in a Stack."""
    assert Stack([Data(), PathNoise()]) == Stack((Data(), PathNoise()))
    assert hash(Stack([Data(), PathNoise()])) == hash(Stack((Data(), PathNoise())))
    assert Stack((Data(), PathNoise())) != Stack((PathNoise(), Data()))
    assert len({*ALL, *(type(target)() for target in ALL)}) == len(ALL)


def test_an_empty_stack_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Stack(())


def test_score_is_infinite_where_the_path_ends_in_the_data():
    (row,) = Score().rows(PATHS["linear"].at(torch.tensor([1.0])))
    assert row.sampled[0].item() == -math.inf
    assert row.posterior().tolist() == [[0, 0, -1]]


def test_v_prediction_by_hand():
    """alpha eps - sigma x on a variance-preserving path (Salimans & Ho 2202.00512, appendix D)."""
    path = CosineInterpolant()
    t, (x0, x1, _) = triple(path)
    angle = math.pi / 2 * t.view(-1, 1, 1)
    expected = torch.sin(angle) * x0 - torch.cos(angle) * x1
    torch.testing.assert_close(VPrediction().sample(path.at(t), x0, x1, None), expected)
    # it is the velocity by the angle of x_t = cos x1 + sin x0, which runs from the data to the source
    torch.testing.assert_close(expected, -Velocity().sample(path.at(t), x0, x1, None) / (math.pi / 2))


BRIDGES = {
    "brownian": BrownianInterpolant(scale=SCALE),
    "I2SB": I2SBInterpolant(),
    "DDBM-VP": DDBMVPInterpolant(),
    "DDBM-VE": DDBMVEInterpolant(sigma_max=3.0),
}


def test_forward_drift_of_the_brownian_bridge():
    path = BRIDGES["brownian"]
    t, (x0, x1, z) = triple(path)
    x_t = path.interpolate(path.at(t), x0, x1, z)
    torch.testing.assert_close(
        ForwardDrift().sample(path.at(t), x0, x1, z), (x1 - x_t) / (1 - t.view(-1, 1, 1)), rtol=1e-9, atol=1e-9
    )


def test_forward_drift_of_i2sb_with_time_running_backwards():
    """As dx/dt where time falls: from its source a bridge of total variance S - s(t) moves by
    -beta (x1 - x_t) / (S - s) per unit of falling time; s is what is left: a = s / S."""
    path = BRIDGES["I2SB"]
    t, (x0, x1, z) = triple(path)
    x_t = path.interpolate(path.at(t), x0, x1, z)
    root = 0.1**0.5 + (0.3**0.5 - 0.1**0.5) * torch.minimum(t, 1 - t)
    beta, left = root**2, path.at(t).a * path.total
    expected = -(beta / left).view(-1, 1, 1) * (x1 - x_t)
    torch.testing.assert_close(ForwardDrift().sample(path.at(t), x0, x1, z), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", BRIDGES)
def test_forward_drift_is_a_function_of_x_t_and_the_data_alone(name):
    """As sampled, and in the mean of pairs that depend on each other."""
    path = BRIDGES[name]
    t, (x0, x1, z) = triple(path)
    k = path.at(t)
    x_t = path.interpolate(k, x0, x1, z)
    pull = (k.a_dot / k.a).view(-1, 1, 1)
    b, b_dot = (c.view(-1, 1, 1) for c in (k.b, k.b_dot))
    expected = pull * (x_t - b * x1) + b_dot * x1
    torch.testing.assert_close(ForwardDrift().sample(k, x0, x1, z), expected, rtol=1e-8, atol=1e-8)

    mean, covariance = pairs(seed=1)
    exact = GaussianPairs(path, mean, covariance)
    x = triple(path, shape=(2,))[1][0]
    given = exact.predict(x, t, None, Data())
    column = pull.squeeze(2)
    expected = column * (x - b.squeeze(2) * given) + b_dot.squeeze(2) * given
    torch.testing.assert_close(exact.predict(x, t, None, ForwardDrift()), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", BRIDGES)
def test_forward_drift_is_finite_at_the_source_end(name):
    """There x_t is x0 and the noise has not yet begun."""
    path = BRIDGES[name]
    (row,) = ForwardDrift().rows(path.at(torch.tensor([path.t_source], dtype=torch.float64)))
    assert bool(row.posterior().isfinite().all())


WRITTEN = {
    Velocity(): ExpressionTarget(x0="a_dot", x1="b_dot", z="g_dot"),
    Data(): ExpressionTarget(x1="1"),
    Noise(): ExpressionTarget(x0="1"),
    PathNoise(): ExpressionTarget(z="1"),
    VPrediction(): ExpressionTarget(x0="b", x1="-a"),
    ForwardDrift(): ExpressionTarget(x0="a_dot", x1="b_dot", z="g * a_dot / a"),
}


@pytest.mark.parametrize("target", WRITTEN, ids=lambda target: type(target).__name__)
@pytest.mark.parametrize("path", [*PATHS.values(), *BRIDGES.values()], ids=lambda path: type(path).__name__)
def test_targets_written_down_are_the_built_in_ones(target, path):
    t, (x0, x1, z) = triple(path)
    (ours,), (theirs,) = WRITTEN[target].rows(path.at(t)), target.rows(path.at(t))
    torch.testing.assert_close(ours.posterior(), theirs.posterior())
    torch.testing.assert_close(
        WRITTEN[target].sample(path.at(t), x0, x1, z), target.sample(path.at(t), x0, x1, z), rtol=1e-9, atol=1e-9
    )


def test_a_target_may_use_the_time():
    t, (x0, x1, z) = triple(PATHS["brownian"])
    target = ExpressionTarget(x0="t**2", z="sin(t)")
    expected = t.view(-1, 1, 1) ** 2 * x0 + torch.sin(t).view(-1, 1, 1) * z
    torch.testing.assert_close(target.sample(PATHS["brownian"].at(t), x0, x1, z), expected)
    assert target == ExpressionTarget(x0="t**2", z="sin(t)") != ExpressionTarget(x0="t**2")
    assert target.out_multiplier == 1


def test_a_formula_that_cannot_be_read_is_refused_when_the_target_is_made():
    with pytest.raises(ValueError, match="there is no variable 'sigma'"):
        ExpressionTarget(x1="sigma")


def test_weights_of_a_stack_weigh_the_squared_errors():
    path = PATHS["brownian"]
    t, (x0, x1, z) = triple(path, shape=(3, 2, 2))
    parts, weights = (Velocity(), Stack((Data(), PathNoise()))), (0.25, 9.0)
    plain, weighted = Stack(parts), Stack(parts, weights=weights)
    guess = torch.randn(7, 9, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    scale = torch.tensor([0.25] * 3 + [9.0] * 6, dtype=torch.float64).view(1, 9, 1, 1)
    expected = (scale * (guess - plain.sample(path.at(t), x0, x1, z)) ** 2).sum()
    found = (scale.sqrt() * guess - weighted.sample(path.at(t), x0, x1, z)).square().sum()
    torch.testing.assert_close(found, expected)
    for row, other, weight in zip(weighted.rows(path.at(t)), plain.rows(path.at(t)), (0.25, 9.0, 9.0), strict=True):
        torch.testing.assert_close(row.posterior(), weight**0.5 * other.posterior())


def test_a_weighted_stack_is_a_value():
    assert Stack([Data(), Noise()], [1.0, 2.0]) == Stack((Data(), Noise()), (1.0, 2.0))
    assert Stack((Data(), Noise()), (1.0, 2.0)) != Stack((Data(), Noise()))
    assert hash(Stack([Data(), Noise()], [1.0, 2.0])) == hash(Stack((Data(), Noise()), (1.0, 2.0)))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, 1.0, 1.0)])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match=r"Stack.weights must be 2 positive numbers"):
        Stack((Data(), Noise()), weights=weights)

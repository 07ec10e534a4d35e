"""Stochastic interpolants: shapes of the noise, identities between paths, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from realuid.paths.interpolants import (
    BrownianGamma,
    BrownianInterpolant,
    EDMInterpolant,
    EncoderDecoderInterpolant,
    LinearInterpolant,
    MirrorInterpolant,
    QuadraticGamma,
    SigmoidGamma,
    SineSquaredGamma,
    TrigonometricInterpolant,
    TwoSidedInterpolant,
    VPInterpolant,
)

GAMMAS = [
    BrownianGamma(scale=1.4),
    QuadraticGamma(scale=3.0),
    SineSquaredGamma(scale=0.6),
    SigmoidGamma(scale=2.0, steepness=7.0),
]
NAMES = [type(gamma).__name__ for gamma in GAMMAS]


@pytest.mark.parametrize("gamma", GAMMAS, ids=NAMES)
def test_gammas_are_bumps(gamma):
    """Zero at both ends, symmetric, rising up to the middle."""
    values = gamma.squared(torch.linspace(0, 1, 41, dtype=torch.float64))
    assert values[[0, -1]].tolist() == pytest.approx([0, 0], abs=1e-30)
    torch.testing.assert_close(values, values.flip(0), rtol=1e-12, atol=1e-30)
    assert (values[:21].diff() > 0).all()


@pytest.mark.parametrize(
    ("gamma", "middle"),
    [
        (BrownianGamma(scale=1.4), 0.7),
        (QuadraticGamma(scale=3.0), 0.75),
        (SineSquaredGamma(scale=0.6), 0.6),
        (SigmoidGamma(scale=2.0), 2 * (math.tanh(0.5) - 1 / (1 + math.exp(4)) + 1 / (1 + math.exp(6)))),
    ],
    ids=NAMES,
)
def test_gamma_in_the_middle(gamma, middle):
    assert gamma.squared(torch.tensor([0.5], dtype=torch.float64)).sqrt().item() == pytest.approx(middle)


def test_a_steep_sigmoid_stays_finite():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    k = MirrorInterpolant(gamma=SigmoidGamma(steepness=1000.0)).at(t)
    assert torch.isfinite(torch.stack([k.g_squared, k.gg_dot])).all()


def test_brownian_gamma_on_the_linear_path_is_the_brownian_path():
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    two_sided = TwoSidedInterpolant(path=LinearInterpolant(), gamma=BrownianGamma(scale=0.7)).at(t)
    brownian = BrownianInterpolant(scale=0.7).at(t)
    for name in ("a", "b", "g_squared", "a_dot", "b_dot", "gg_dot"):
        torch.testing.assert_close(getattr(two_sided, name), getattr(brownian, name))


def test_two_sided_keeps_the_direction_of_its_path():
    path = TwoSidedInterpolant(path=VPInterpolant(), gamma=BrownianGamma())
    assert (path.t_source, path.t_data) == (1, 0)


@pytest.mark.parametrize("gamma", [BrownianGamma(scale=1.9), QuadraticGamma(), SineSquaredGamma(scale=0.9)])
def test_trigonometric_path_preserves_unit_variance(gamma):
    k = TrigonometricInterpolant(gamma=gamma).at(torch.linspace(0, 1, 21, dtype=torch.float64))
    torch.testing.assert_close(k.a**2 + k.b**2 + k.g_squared, torch.ones_like(k.t))


def test_encoder_decoder_passes_through_noise():
    k = EncoderDecoderInterpolant().at(torch.tensor([0.5], dtype=torch.float64))
    values = torch.cat([k.a, k.b, k.g_squared, k.a_dot, k.b_dot, k.gg_dot])
    assert values.tolist() == pytest.approx([0, 0, 1, 0, 0, 0], abs=1e-15)


def test_refusals():
    with pytest.raises(ValueError, match="needs a path over times 0 to 1; that of EDMInterpolant runs from 80 to 0"):
        TwoSidedInterpolant(path=EDMInterpolant(), gamma=BrownianGamma())
    with pytest.raises(ValueError, match="needs a path without noise z; BrownianInterpolant has some"):
        TwoSidedInterpolant(path=BrownianInterpolant(), gamma=BrownianGamma())
    for gamma, largest in ((SineSquaredGamma(), "1"), (BrownianGamma(scale=3.0), "1.5")):
        with pytest.raises(ValueError, match=f"needs gamma < 1; {type(gamma).__name__} reaches {largest}$"):
            TrigonometricInterpolant(gamma=gamma)

"""Paths written as formulas are the presets, ends and derivatives included."""

from __future__ import annotations

import copy
import math
import pickle
import re

import pytest
import torch

from realuid.paths.interpolants import (
    BrownianGamma,
    BrownianInterpolant,
    CosineInterpolant,
    DDBMVEInterpolant,
    EDMInterpolant,
    EncoderDecoderInterpolant,
    ExpressionInterpolant,
    LinearInterpolant,
    PolynomialInterpolant,
    QuadraticGamma,
    SigmoidGamma,
    TrigFlowInterpolant,
    TrigonometricInterpolant,
    TwoSidedInterpolant,
    VEInterpolant,
    VPInterpolant,
)

INTEGRAL = "(0.1*t + 9.95*t**2)"
BUMP = "(sigmoid(10*(t-0.5) + 1) - sigmoid(10*(t-0.5) - 1) - sigmoid(-4) + sigmoid(-6))"
PRESETS = {
    "linear": (LinearInterpolant(), {"a": "1 - t", "b": "t"}),
    "cosine": (CosineInterpolant(), {"a": "cos(pi/2 * t)", "b": "sin(pi/2 * t)"}),
    "polynomial": (PolynomialInterpolant(power=3.0), {"a": "1 - t**3", "b": "t**3"}),
    "edm": (EDMInterpolant(), {"a": "t", "b": "1", "t_source": 80.0, "t_data": 0.0}),
    "ve": (VEInterpolant(), {"a": "0.02 * 5000**t", "b": "1", "t_source": 1.0, "t_data": 0.0}),
    "vp": (
        VPInterpolant(),
        {"a": f"sqrt(1 - exp(-{INTEGRAL}))", "b": f"exp(-{INTEGRAL} / 2)", "t_source": 1.0, "t_data": 0.0},
    ),
    "trigflow": (
        TrigFlowInterpolant(),
        {"a": "sin(t) / 2", "b": "cos(t)", "t_source": math.pi / 2, "t_data": 0.0},
    ),
    "brownian": (BrownianInterpolant(scale=0.7), {"a": "1 - t", "b": "t", "g": "0.7 * sqrt(t*(1-t))"}),
    "brownian, roots apart": (BrownianInterpolant(), {"a": "1 - t", "b": "t", "g": "sqrt(t) * (1-t)**0.5"}),
    "ddbm ve": (
        DDBMVEInterpolant(),
        {"a": "t**2/6400", "b": "1 - t**2/6400", "g": "t*sqrt(1 - t**2/6400)", "t_source": 80.0, "t_data": 0.0},
    ),
    "quadratic": (
        TwoSidedInterpolant(path=LinearInterpolant(), gamma=QuadraticGamma()),
        {"a": "1 - t", "b": "t", "g": "t*(1-t)"},
    ),
    "sigmoid": (
        TwoSidedInterpolant(path=LinearInterpolant(), gamma=SigmoidGamma()),
        {"a": "1 - t", "b": "t", "g": BUMP},
    ),
    "trigonometric": (
        TrigonometricInterpolant(gamma=BrownianGamma()),
        {
            "a": "sqrt(1 - t*(1-t)) * cos(pi*t/2)",
            "b": "sqrt(1 - t*(1-t)) * sin(pi*t/2)",
            "g": "sqrt(t*(1-t))",
        },
    ),
    "encoder-decoder": (
        EncoderDecoderInterpolant(),
        {"a": "where(t <= 0.5, cos(pi*t)**2, 0)", "b": "where(t > 0.5, cos(pi*t)**2, 0)", "g": "sin(pi*t)**2"},
    ),
}


@pytest.mark.parametrize("name", PRESETS)
def test_formulas_are_presets(name):
    preset, formulas = PRESETS[name]
    path = ExpressionInterpolant(**formulas)
    assert (path.t_source, path.t_data) == (preset.t_source, preset.t_data)
    assert path.needs_z is preset.needs_z
    t = preset.time(torch.linspace(1, 0, 11, dtype=torch.float64))
    theirs, ours = preset.at(t), path.at(t)
    for coefficient in ("a", "b", "g_squared", "a_dot", "b_dot", "gg_dot"):
        expected, found = getattr(theirs, coefficient), getattr(ours, coefficient)
        if (name, coefficient) == ("vp", "a_dot"):  # infinite at the data
            expected, found = expected[:-1], found[:-1]
        assert torch.isfinite(expected).all()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_copies():
    path = ExpressionInterpolant(a="1 - t", b="t", g="sqrt(t*(1-t))")
    t = torch.tensor([0.25], dtype=torch.float64)
    for other in (copy.deepcopy(path), pickle.loads(pickle.dumps(path))):
        assert other.at(t) == path.at(t)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": "1 - s"}, "a: in the formula '1 - s': there is no variable 's'; there are t, pi, e"),
        ({"b": "t^2"}, "b: in the formula 't^2': a power is not written ^: write **"),
        ({"g": "sqrtt(t)"}, "g: in the formula 'sqrtt(t)': there is no function 'sqrtt'; did you mean sqrt?"),
        ({"a": 1.0}, 'a: 1.0 is not a formula: write text, such as "1 - t"'),
        ({"t_data": 0.0}, "t_source and t_data must be two different times, got 0.0 and 0.0"),
        ({"t_data": math.inf}, "t_source and t_data must be two different times, got 0.0 and inf"),
        ({"t_source": math.nan}, "t_source and t_data must be two different times, got nan and 1.0"),
        ({"a": "log(t) * (t - 1)"}, "a = 'log(t) * (t - 1)' is not a number at t = 0, on the path"),
        ({"b": "sqrt(t - 0.5)"}, "b = 'sqrt(t - 0.5)' is not a number at t = "),
        ({"g": "sqrt(t*(t - 1))"}, "g = 'sqrt(t*(t - 1))' is not a number at t = "),
        (
            {"a": "t", "b": "1 - t"},
            "noise over data is 0 at t_source = 0 and inf at t_data = 1: exchange t_source and t_data, or a and b",
        ),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ExpressionInterpolant(**{"a": "1 - t", "b": "t", **arguments})

"""Paths whose time is the index of a table: DDPM's, against diffusers' own numbers; I2SB's, against its formulas."""

import math

import numpy as np
import pytest
import torch

from realuid.paths.interpolants import DDPMInterpolant, I2SBInterpolant


@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_integers_are_those_of_diffusers(betas):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(beta_schedule=betas, beta_start=1e-4, beta_end=0.02).alphas_cumprod.double()
    k = DDPMInterpolant(betas=betas).at(torch.arange(1000.0))
    assert torch.allclose(k.b**2, theirs, rtol=1e-3, atol=1e-9)  # their product is taken in float32
    assert torch.allclose(k.a**2 + k.b**2, torch.ones(1000, dtype=torch.float64))


def test_written_out():
    """abar by plain multiplication, and log abar halfway between two indices."""
    path = DDPMInterpolant()
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    abar = [math.prod(1 - beta for beta in betas[: i + 1]) for i in range(1000)]
    k = path.at(torch.tensor([0.0, 1.0, 500.0, 999.0]))
    assert (k.b**2).tolist() == pytest.approx([abar[0], abar[1], abar[500], abar[999]], rel=1e-10)
    between = path.at(torch.tensor([500.5])).b ** 2
    assert float(between) == pytest.approx(math.sqrt(abar[500] * abar[501]), rel=1e-5)
    assert (path.t_source, path.t_data) == (999.0, 0.0)


@pytest.mark.parametrize("betas", ["linear", "squaredcos_cap_v2"])
def test_derivatives_are_finite_everywhere_and_those_of_the_path(betas):
    path, h = DDPMInterpolant(betas=betas), 1e-4
    ends = path.at(torch.tensor([0.0, 999.0]))
    assert all(bool(x.isfinite().all()) for x in (ends.a_dot, ends.b_dot))
    t = torch.tensor([0.5, 10.25, 500.5, 998.5], dtype=torch.float64)
    k, before, after = path.at(t), path.at(t - h), path.at(t + h)
    for slope, low, high in ((k.a_dot, before.a, after.a), (k.b_dot, before.b, after.b)):
        assert torch.allclose(slope, (high - low) / (2 * h), rtol=1e-5, atol=1e-12)


def test_time_is_found_again():
    path = DDPMInterpolant()
    t = torch.tensor([0.0, 3.25, 500.0, 999.0], dtype=torch.float64)
    assert torch.allclose(path.time_at(path.sigma_at(t)), t, atol=1e-8)


def test_given_numbers():
    k = DDPMInterpolant(betas=[0.1, 0.2, 0.5]).at(torch.arange(3.0))
    assert (k.b**2).tolist() == pytest.approx([0.9, 0.72, 0.36])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"betas": "cosine"}, "betas must be 'linear'"),
        ({"betas": [0.1, 1.5]}, r"two or more betas in \(0, 1\)"),
        ({"steps": 1}, "two or more betas"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        DDPMInterpolant(**arguments)


def test_i2sbs_table_is_its_authors():
    """Their betas, summed with numpy; the network's time at step i is 1000 t."""
    rising = np.linspace(1e-4**0.5, (0.3 / 1000) ** 0.5, 1000) ** 2
    betas = np.concatenate([rising[:500], np.flip(rising[:500])])
    forward = np.cumsum(betas)
    times = torch.linspace(1e-4, 1, 1000, dtype=torch.float64)
    k = I2SBInterpolant(steps=1000).at(times)
    total = forward[-1]
    assert k.a.tolist() == pytest.approx((forward / total).tolist(), rel=1e-9)
    assert k.g_squared.tolist() == pytest.approx((forward * (total - forward) / total).tolist(), rel=1e-6, abs=1e-12)
    ends = I2SBInterpolant(steps=1000).at(torch.tensor([1.0, 0.0]))
    assert (ends.a.tolist(), ends.b.tolist(), ends.g.tolist()) == ([1, 0], [0, 1], [0, 0])


def test_i2sbs_table_tends_to_the_limit():
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    limit = I2SBInterpolant(beta_max=0.3).at(t)
    table = I2SBInterpolant(beta_max=0.3, steps=1000).at(t)
    assert float((table.a - limit.a).abs().max()) < 2e-3
    assert float((table.g_squared - limit.g_squared).abs().max()) < 1e-3


@pytest.mark.parametrize("steps", [0, 999])
def test_i2sbs_table_is_even(steps):
    with pytest.raises(ValueError, match="steps must be even"):
        I2SBInterpolant(steps=steps)

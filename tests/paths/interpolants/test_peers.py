"""Paths against the schedules of other projects; each is skipped where that project is not installed."""

from __future__ import annotations

import pytest
import torch

from realuid.paths.interpolants import (
    BrownianInterpolant,
    CosineInterpolant,
    LinearInterpolant,
    LinearVPInterpolant,
    LipmanInterpolant,
    PolynomialInterpolant,
    TrigFlowInterpolant,
    VEInterpolant,
    VPInterpolant,
)

# scheduler of flow_matching (time runs towards the data), its arguments, and the path
FLOW_MATCHING = {
    "CondOTScheduler": ({}, LinearInterpolant()),
    "PolynomialConvexScheduler": ({"n": 3.0}, PolynomialInterpolant(power=3.0)),
    "VPScheduler": ({"beta_min": 0.2, "beta_max": 15.0}, VPInterpolant(beta_min=0.2, beta_max=15.0)),
    "LinearVPScheduler": ({}, LinearVPInterpolant()),
    "CosineScheduler": ({}, CosineInterpolant()),
}


@pytest.mark.parametrize("name", FLOW_MATCHING)
def test_flow_matching(name):
    """Schedules, derivatives and the inverse of the signal-to-noise ratio."""
    schedulers = pytest.importorskip("flow_matching.path.scheduler")
    arguments, path = FLOW_MATCHING[name]
    scheduler = getattr(schedulers, name)(**arguments)
    level = torch.linspace(0.03, 0.97, 11, dtype=torch.float64)
    theirs, k = scheduler(1 - level), path.at(path.time(level))
    sign = 1 if path.t_data > path.t_source else -1
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(k.b, theirs.alpha_t, **close)
    torch.testing.assert_close(k.a, theirs.sigma_t, **close)
    torch.testing.assert_close(sign * k.b_dot, theirs.d_alpha_t, **close)
    torch.testing.assert_close(sign * k.a_dot, theirs.d_sigma_t, **close)
    ratio = torch.tensor([0.05, 0.7, 4.0], dtype=torch.float64)
    torch.testing.assert_close(path.time_at(ratio), path.time(1 - scheduler.snr_inverse(1 / ratio)), rtol=1e-6, atol=0)


def torchcfm():
    pytest.importorskip("ot")  # which torchcfm needs without saying so when installed alone
    return pytest.importorskip("torchcfm.conditional_flow_matching")


def test_torchcfm_target_path():
    """Mean, standard deviation and conditional velocity of Lipman's path."""
    matcher, path = torchcfm().TargetConditionalFlowMatcher(sigma=0.1), LipmanInterpolant(sigma_min=0.1)
    (x0, x1), t = torch.randn(2, 5, 4, dtype=torch.float64), torch.linspace(0, 1, 5, dtype=torch.float64)
    k = path.at(t)
    torch.testing.assert_close(k.b[:, None] * x1, matcher.compute_mu_t(x0, x1, t))
    torch.testing.assert_close(k.a, matcher.compute_sigma_t(t))
    x_t = path.interpolate(k, x0, x1, None)
    velocity = k.a_dot[:, None] * x0 + k.b_dot[:, None] * x1
    torch.testing.assert_close(velocity, matcher.compute_conditional_flow(x0, x1, t[:, None], x_t))


def test_torchcfm_schroedinger_bridge():
    """Mean, standard deviation and conditional velocity of the Brownian bridge."""
    matcher, path = torchcfm().SchrodingerBridgeConditionalFlowMatcher(sigma=0.7), BrownianInterpolant(scale=0.7)
    x0, x1, z = torch.randn(3, 5, 4, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    k = path.at(t)
    torch.testing.assert_close(k.g, matcher.compute_sigma_t(t))
    x_t = path.interpolate(k, x0, x1, z)
    torch.testing.assert_close(x_t, matcher.compute_mu_t(x0, x1, t) + k.g[:, None] * z)
    velocity = k.a_dot[:, None] * x0 + k.b_dot[:, None] * x1 + k.g_dot[:, None] * z
    # theirs divides by t (1 - t) + 1e-8
    torch.testing.assert_close(velocity, matcher.compute_conditional_flow(x0, x1, t, x_t), rtol=1e-6, atol=1e-6)


def test_diffusers_variance_exploding():
    scheduler = pytest.importorskip("diffusers").ScoreSdeVeScheduler(sigma_min=0.02, sigma_max=100.0)
    scheduler.set_sigmas(50, sigma_min=0.02, sigma_max=100.0)
    k = VEInterpolant().at(torch.linspace(0, 1, 50, dtype=torch.float64))
    torch.testing.assert_close(k.a, scheduler.discrete_sigmas.double(), rtol=1e-5, atol=0)


def test_diffusers_ddpm_is_the_variance_preserving_path_in_a_thousand_steps():
    """The product of 1 - beta_i, with beta_i = beta(t_i) / 1000, against exp(-integral of beta)."""
    scheduler = pytest.importorskip("diffusers").DDPMScheduler(beta_start=0.1 / 1000, beta_end=20 / 1000)
    k = VPInterpolant().at(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(k.b**2, scheduler.alphas_cumprod.double(), rtol=0, atol=3e-3)
    torch.testing.assert_close(k.a**2, 1 - scheduler.alphas_cumprod.double(), rtol=0, atol=3e-3)


def test_diffusers_flow_matching():
    scheduler = pytest.importorskip("diffusers").FlowMatchEulerDiscreteScheduler()
    x1, x0 = torch.randn(2, 6, 3)
    times = scheduler.timesteps[torch.tensor([0, 100, 400, 700, 900, 999])]
    path = LinearInterpolant()
    ours = path.interpolate(path.at(1 - times / 1000), x0, x1, None)
    torch.testing.assert_close(ours, scheduler.scale_noise(x1, times, x0), rtol=1e-5, atol=1e-6)


def test_diffusers_trigflow():
    """The scheduler takes x1 from x_t and the velocity, its noise having the standard deviation of the data."""
    scheduler = pytest.importorskip("diffusers").SCMScheduler(sigma_data=0.5)
    scheduler.set_timesteps(num_inference_steps=2, max_timesteps=1.5, intermediate_timesteps=1.1)
    path = TrigFlowInterpolant(sigma_data=0.5)
    x0, x1 = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    k = path.at(scheduler.timesteps[:1])
    velocity = k.a_dot * x0 + k.b_dot * x1
    step = scheduler.step(velocity, scheduler.timesteps[0], path.interpolate(k, x0, x1, None))
    torch.testing.assert_close(step.pred_original_sample, x1, rtol=1e-5, atol=1e-5)

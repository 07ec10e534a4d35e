"""The numbers of a healthy run, by hand."""

import math

import pytest
import torch

from realuid.distillation.diagnostics import fake_error, gap_by_time, moments, quartiles
from realuid.losses import gap
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.time_samplers import LogitNormalTime, UniformTime
from realuid.training.spread import spread, spread_terms
from tests.losses.scenes import timeless

CPU = torch.device("cpu")


def terms(fake, teacher, target=None):
    return timeless(fake, fake if target is None else target, torch.ones(len(fake)), teacher)


def test_the_quarters_are_those_of_the_time_sampler():
    assert quartiles(UniformTime(), LinearInterpolant(), CPU).tolist() == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)
    edges = quartiles(LogitNormalTime(mean=1.0, std=0.5), LinearInterpolant(), CPU)
    assert edges[1].item() == pytest.approx(1 / (1 + math.exp(1.0)), abs=1e-5)  # of the noise, 1 - t


def test_the_gap_is_split_among_the_quarters_of_the_drawn_times():
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(4000, generator=generator)
    fake = torch.zeros(4000, 1, 2, 2)
    teacher = t.view(-1, 1, 1, 1).expand_as(fake)  # distance 4 t^2
    made = gap_by_time(terms(fake, teacher), t, torch.tensor([0.25, 0.5, 0.75]))
    assert list(made) == ["gap_q1", "gap_q2", "gap_q3", "gap_q4"]
    assert float(sum(made.values())) / 4 == pytest.approx(float(gap(terms(fake, teacher))), rel=1e-5)
    for n, value in enumerate(made.values()):
        low, high = n / 4, (n + 1) / 4
        assert float(value) == pytest.approx(4 * 4 * (high**3 - low**3) / 3, rel=0.1)


def test_errors_and_moments():
    fake, target = torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
    assert float(fake_error(terms(fake, fake, target))) == pytest.approx((1 + 4 + 9 + 16) / 4)
    found = moments(target, "generated")
    assert float(found["generated_mean"]) == 2.5
    assert spread(found["generated_spread"]) == pytest.approx(1.0)
    assert spread(moments(target[:1].expand(5, -1, -1, -1), "real")["real_spread"]) == 0  # all alike: collapsed


@pytest.mark.parametrize("shape", [(2,), (3, 4, 5), (3, 50, 60)])
def test_a_spread_is_that_of_all_samples_however_they_were_cut(shape):
    samples = torch.randn(24, *shape, generator=torch.Generator().manual_seed(0)) + torch.linspace(-1, 1, shape[-1])
    entries = samples.flatten(1).double()
    entries = entries[:, :: -(-entries.shape[1] // 4096)]
    expected = float(entries.var(0, correction=0).mean().sqrt())
    assert spread(spread_terms(samples)) == pytest.approx(expected, rel=1e-5)
    for size in (1, 3, 12):
        parts = torch.stack([spread_terms(part) for part in samples.split(size)])
        assert spread(parts.mean(0)) == pytest.approx(expected, rel=1e-5)

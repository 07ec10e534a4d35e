import pytest
import torch
from scipy.linalg import sqrtm
from stand_ins import Pixels

from realuid.evaluation.frechet import FrechetReference, frechet_distance


def gaussian(count, seed, mean=128.0, scale=20.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(4, 4, generator=generator)
    pixels = torch.randn(count, 4, generator=generator) @ mix * scale + mean
    return pixels.round().clamp(0, 255).to(torch.uint8).view(count, 1, 2, 2)


def closed_form(one, other):
    one, other = one.flatten(1).double(), other.flatten(1).double()
    s1, s2 = torch.cov(one.T), torch.cov(other.T)
    root = torch.from_numpy(sqrtm((s1 @ s2).numpy()).real)
    return float((one.mean(0) - other.mean(0)).square().sum() + torch.trace(s1 + s2 - 2 * root))


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_closed_form_in_float64(batch):
    one, other = gaussian(300, 0), gaussian(411, 1, mean=110.0, scale=9.0)
    expected = closed_form(one, other)
    assert expected > 1
    assert frechet_distance(Pixels(), one, other, batch) == pytest.approx(expected, rel=1e-10)


def test_equal_sets_are_at_zero():
    one = gaussian(300, 0)
    assert 0 <= frechet_distance(Pixels(), one, one.flip(0)) < 1e-8


def test_a_shift_by_d_levels_costs_its_square():
    one = gaussian(300, 0, scale=5.0)
    assert frechet_distance(Pixels(), one, one + 3) == pytest.approx(4 * 3**2, rel=1e-9)


def test_the_reference_survives_many_questions():
    one, other, third = gaussian(300, 0), gaussian(200, 1), gaussian(100, 2)
    reference = FrechetReference(Pixels(), one)
    first = reference.distance(other)
    reference.distance(third)
    assert reference.distance(other) == first == frechet_distance(Pixels(), one, other)


def test_what_cannot_be_measured_is_refused():
    one = gaussian(10, 0)
    with pytest.raises(TypeError, match="uint8"):
        frechet_distance(Pixels(), one, one.float())
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(Pixels(), one, one[:1])
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(Pixels(), one[:0], one)

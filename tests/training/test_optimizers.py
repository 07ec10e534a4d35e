"""Learning rates in images, clipping, and one step of Adam by hand."""

import pytest
import torch
from torch import nn

from realuid.training.optimizers import Adam, ConstantRate, CosineRate


def test_the_warm_up_is_linear_in_images():
    rate = ConstantRate(warm_up=1000)
    assert rate(0) == pytest.approx(0.001)
    assert rate(499) == pytest.approx(0.5)
    assert rate(5000) == 1


def test_the_cosine_ends_where_it_says():
    rate = CosineRate(images=1000, last=0.1)
    assert rate(0) == 1
    assert rate(500) == pytest.approx(0.55)
    assert rate(1000) == rate(9999) == pytest.approx(0.1)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warm_up"):
        CosineRate(images=10, warm_up=10)


def test_the_first_step_of_adam_is_the_learning_rate_times_the_sign_and_the_norm_is_reported():
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    adam = Adam(lr=0.1, rate=ConstantRate(), clip=1.0)
    adam.attach([parameter])
    parameter.grad = torch.tensor([30.0, -40.0])
    norm = adam.step(0)
    assert float(norm) == pytest.approx(50.0)
    assert torch.allclose(parameter, torch.tensor([0.9, -1.9]), atol=1e-6)
    assert parameter.grad is None


def test_clipping_changes_the_second_moment():
    """Without clipping, a first gradient of 100 keeps v large and the second step small: the ratio is known."""
    results = []
    for clip in (1.0, 1e9):
        parameter = nn.Parameter(torch.zeros(1))
        adam = Adam(lr=1.0, rate=ConstantRate(), betas=(0.0, 0.5), clip=clip)
        adam.attach([parameter])
        for gradient in (100.0, 1.0):
            parameter.grad = torch.tensor([gradient])
            before = parameter.item()
            adam.step(0)
        results.append(before - parameter.item())
    assert results[0] == pytest.approx(1.0, rel=1e-4)  # v = (0.5 * 1 + 0.5 * 1) unbiased: 1
    assert results[1] == pytest.approx(1 / ((0.25 * 1e4 + 0.5) / 0.75) ** 0.5, rel=1e-3)

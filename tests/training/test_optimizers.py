"""Learning rates in images, clipping, and one step of Adam by hand."""

import copy

import pytest
import torch
from torch import nn

from realuid.training.adam8bit import Adam8bit
from realuid.training.optimizers import Adam, ConstantLR, CosineLR


def test_the_warm_up_is_linear_in_images():
    rate = ConstantLR(warm_up=1000)
    assert rate(0) == pytest.approx(0.001)
    assert rate(499) == pytest.approx(0.5)
    assert rate(5000) == 1


def test_the_cosine_ends_where_it_says():
    rate = CosineLR(images=1000, last=0.1)
    assert rate(0) == 1
    assert rate(500) == pytest.approx(0.55)
    assert rate(1000) == rate(9999) == pytest.approx(0.1)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warm_up"):
        CosineLR(images=10, warm_up=10)


def test_the_first_step_of_adam_is_the_learning_rate_times_the_sign_and_the_norm_is_reported():
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    adam = Adam(lr=0.1, lr_schedule=ConstantLR(), clip=1.0)
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
        adam = Adam(lr=1.0, lr_schedule=ConstantLR(), betas=(0.0, 0.5), clip=clip)
        adam.attach([parameter])
        for gradient in (100.0, 1.0):
            parameter.grad = torch.tensor([gradient])
            before = parameter.item()
            adam.step(0)
        results.append(before - parameter.item())
    assert results[0] == pytest.approx(1.0, rel=1e-4)  # v = (0.5 * 1 + 0.5 * 1) unbiased: 1
    assert results[1] == pytest.approx(1 / ((0.25 * 1e4 + 0.5) / 0.75) ** 0.5, rel=1e-3)


def test_a_cosine_that_ends_before_the_run_is_refused():
    CosineLR(images=100).check(100)
    CosineLR(images=100, last=0.1).check(1000)
    ConstantLR().check(10**9)
    with pytest.raises(ValueError, match=r"CosineLR.images = 100 ends before Trainer.images = 101"):
        CosineLR(images=100).check(101)


def test_moments_in_eight_bits_move_the_weights_as_adam_does():
    """And a resumed optimiser goes on bit for bit; an update that is left out changes nothing."""
    pytest.importorskip("torchao")
    torch.manual_seed(0)
    start = [torch.randn(64, 128), torch.randn(10)]
    gradients = [[torch.randn_like(w) for w in start] for _ in range(6)]

    def run(kind, stop: int = 6, resume: bool = False):
        weights = [nn.Parameter(w.clone()) for w in start]
        adam = kind(lr=1e-2, lr_schedule=ConstantLR(), betas=(0.5, 0.99), weight_decay=0.1, clip=1e9)
        adam.attach(weights)
        for number, gradient in enumerate(gradients[:stop]):
            if resume:
                state = copy.deepcopy(adam.state_dict())
                adam = kind(lr=1e-2, lr_schedule=ConstantLR(), betas=(0.5, 0.99), weight_decay=0.1, clip=1e9)
                adam.attach(weights)
                adam.load_state_dict(state)
            for weight, one in zip(weights, gradient, strict=True):
                weight.grad = one.clone() if number != 3 else torch.full_like(one, torch.nan)
            adam.step(0)
        return weights, adam

    (full, _), (small, adam), (resumed, _) = run(Adam), run(Adam8bit), run(Adam8bit, resume=True)
    for a, b, c, w in zip(full, small, resumed, start, strict=True):
        moved = (a - w).norm()
        assert float((b - a).norm() / moved) < 0.05
        assert float((b - w).norm() / moved) > 0.9
        assert torch.equal(b, c)
    torch.testing.assert_close(full[1], small[1])  # too small for blocks
    moments = adam.optimizer.state[small[0]]
    assert moments["exp_avg"].codes.dtype == torch.uint8
    (before, old), (after, new) = run(Adam8bit, stop=3), run(Adam8bit, stop=4)  # the fourth is not finite
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for a, b in zip(old.state_dict()["state"], new.state_dict()["state"], strict=True):
        assert torch.equal(a["exp_avg"][0], b["exp_avg"][0])
    assert int(new.skipped) == 1


@pytest.mark.parametrize(
    ("argument", "value"), [("eps", 0.0), ("eps", -1e-8), ("weight_decay", -0.1), ("lr", float("inf")), ("lr", 0.0)]
)
def test_numbers_by_which_nothing_is_learnt_are_refused(argument, value):
    with pytest.raises(ValueError, match=argument):
        Adam(**{"lr": 1e-3, "lr_schedule": ConstantLR(), argument: value})


@pytest.mark.parametrize("last", [-0.1, 1.5])
def test_the_end_of_a_cosine_is_a_factor(last):
    with pytest.raises(ValueError, match="last is a factor"):
        CosineLR(images=100, last=last)

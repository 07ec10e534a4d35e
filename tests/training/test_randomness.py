"""Draws depend on (seed, purpose, step, lane) and on nothing else."""

import pytest
import torch

from realuid.training.randomness import Randomness

CPU = torch.device("cpu")


def make(seed: int = 0, lanes: int = 4) -> Randomness:
    return Randomness(seed=seed, lanes=lanes, device=CPU)


def test_a_draw_does_not_depend_on_what_was_drawn_before():
    fresh, used = make(), make()
    used.normal("source", 3, 8, (2,))
    used.uniform("time", 4, 8)
    assert torch.equal(fresh.normal("source", 4, 8, (2,)), used.normal("source", 4, 8, (2,)))


def test_seed_purpose_and_step_each_change_the_numbers():
    draws = [
        make(seed).normal(purpose, step, 8, (2,)) for seed, purpose, step in
        [(0, "source", 0), (1, "source", 0), (0, "latent", 0), (0, "source", 1)]
    ]  # fmt: skip
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_the_lanes_of_a_batch_are_independent_and_keep_their_numbers_in_a_larger_batch():
    small, large = make().normal("source", 0, 8, (3,)), make().normal("source", 0, 16, (3,))
    assert torch.equal(large.view(4, 4, 3)[:, :2].reshape(8, 3), small)
    assert not torch.equal(small[:2], small[2:4])


def test_draws_have_their_law():
    randomness = make()
    normal = randomness.normal("source", 0, 40_000, (1,))
    uniform = randomness.uniform("time", 0, 40_000)
    assert abs(float(normal.mean())) < 0.02
    assert abs(float(normal.std()) - 1) < 0.02
    assert abs(float(uniform.mean()) - 0.5) < 0.01
    assert float(uniform.min()) > 0
    assert float(uniform.max()) < 1


def test_labels_follow_the_frequencies_and_never_leave_them():
    labels = make().labels("label", 0, 40_000, torch.tensor([1, 0, 3]))
    shares = torch.bincount(labels, minlength=3) / len(labels)
    assert torch.allclose(shares, torch.tensor([0.25, 0.0, 0.75]), atol=0.01)
    assert len(shares) == 3


def test_unconditional_labels_are_zero():
    assert torch.equal(make().labels("label", 0, 8, torch.zeros(0)), torch.zeros(8, dtype=torch.int64))


def test_a_batch_that_does_not_divide_into_lanes_is_refused():
    with pytest.raises(ValueError, match="10 samples do not divide into 4 lanes"):
        make().uniform("time", 0, 10)

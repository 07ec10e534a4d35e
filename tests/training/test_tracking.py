"""Means between two lines."""

import math

import pytest
import torch

from realuid.training.tracking import Meters
from realuid.training.world import World

ALONE = World(torch.device("cpu"))


def numbers(**named: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in named.items()}


def test_means_leave_out_what_is_not_finite():
    meters = Meters(ALONE)
    meters.add(numbers(loss=1.0, gap=2.0, never=math.nan))
    meters.add(numbers(loss=4.0, gap=math.inf, never=-math.inf))
    assert meters.take() == {"loss": 2.5, "gap": 2.0}
    assert meters.take() == {}


def test_a_checkpoint_keeps_what_has_not_been_told_yet():
    meters, other = Meters(ALONE), Meters(ALONE)
    meters.add(numbers(loss=1.0))
    other.load_state_dict(meters.state_dict())
    other.add(numbers(loss=2.0))
    assert other.take() == {"loss": 1.5}
    two = {"names": ["loss"], "sums": [[1.0], [5.0]], "counts": [[1.0], [2.0]]}  # of two processes
    other.load_state_dict(two)
    assert other.take() == {"loss": pytest.approx(2.0)}


def test_other_names_begin_anew():
    """A checkpoint of other code, in the middle between two lines."""
    meters = Meters(ALONE)
    meters.add(numbers(loss=1.0))
    meters.add(numbers(fake_loss=3.0))
    assert meters.take() == {"fake_loss": 3.0}

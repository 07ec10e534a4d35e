"""Means between two lines."""

import json
import math
from pathlib import Path

import pytest
import torch

from realuid.training.run_folder import RunFolder
from realuid.training.spread import spread_terms
from realuid.training.tracking import Meters, Tracker
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


def test_a_spread_is_that_of_all_samples_of_all_steps_and_goes_with_a_checkpoint():
    samples = torch.randn(6, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    meters, other = Meters(ALONE), Meters(ALONE)
    for step, part in enumerate(samples):
        (meters if step < 3 else other).add({"loss": torch.tensor(1.0), "real_spread": spread_terms(part)})
        if step == 2:
            other.load_state_dict(json.loads(json.dumps(meters.state_dict())))
    expected = float(samples.flatten(0, 1).var(0, correction=0).mean().sqrt())
    assert other.take() == {"loss": 1.0, "real_spread": pytest.approx(expected, rel=1e-5)}


def test_a_checkpoint_of_scalars_alone_is_read():
    """Version 0.1 kept a number where there is a vector now: it is dropped, with a word."""
    meters = Meters(ALONE)
    meters.load_state_dict({"names": ["real_spread"], "sums": [[1.0]], "counts": [[2.0]]})
    meters.add({"real_spread": spread_terms(torch.tensor([[0.0], [2.0]]))})
    assert meters.take() == {"real_spread": pytest.approx(1.0)}


def test_other_names_begin_anew():
    """A checkpoint of other code, in the middle between two lines."""
    meters = Meters(ALONE)
    meters.add(numbers(loss=1.0))
    meters.add(numbers(fake_loss=3.0))
    assert meters.take() == {"fake_loss": 3.0}


def test_lines_that_find_the_disk_full_are_written_later(tmp_path):
    """/dev/full takes no byte: ENOSPC, as of a disk that is full."""
    folder = RunFolder(tmp_path)
    tracker = Tracker(folder, step=0, batch=4)
    tracker.path = Path("/dev/full")
    tracker.write({"step": 1, "images": 4, "loss": 1.0})
    tracker.write({"step": 2, "images": 8, "loss": 2.0})
    tracker.roll_back(1)  # what is kept back is rolled back, too
    tracker.path = folder.metrics
    tracker.write({"step": 3, "images": 12, "loss": 3.0})
    tracker.close()
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [1, 3]


def test_what_the_last_lines_waited_for_comes_with_the_end(tmp_path):
    folder = RunFolder(tmp_path)
    tracker = Tracker(folder, step=0, batch=4)
    tracker.path = Path("/dev/full")
    tracker.write({"step": 1, "images": 4, "loss": 1.0})
    tracker.path = folder.metrics
    tracker.close()
    assert json.loads(folder.metrics.read_text())["loss"] == 1.0


def test_a_run_resumes_on_a_full_disk(tmp_path, monkeypatch):
    """Nothing is written anew of which nothing is dropped."""
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"step": 1, "images": 4}\n{"step": 2, "images": 8}\n')
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_text", lambda self, path, text: pytest.fail("it was written"))
        assert Tracker(folder, step=2, batch=4).has(2)
    assert not Tracker(folder, step=1, batch=4).has(2)

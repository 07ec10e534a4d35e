"""Runs and checkpoints that are not what they were: one line, and no traceback."""

import shutil

import pytest
import torch

from realuid.commands import main
from tests.commands.conftest import tiny


@pytest.fixture
def state(finished):
    """The newest checkpoint's content, to be changed."""
    newest = sorted((finished / "checkpoints").glob("step_*.pt"))[-1]
    return torch.load(newest, weights_only=True)


def line(capsys, *words):
    """What a command ends with, status 2."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("command", [["sample", "--num", "2", "--out", "x.png"], ["evaluate", "--num", "10"]])
def test_weights_that_are_not_finite(state, capsys, command):
    average = state["ema"]["weights"]["0.99"]
    next(iter(average.values())).fill_(torch.nan)
    torch.save(state, "x.pt")
    assert "the average 0.99 is broken: " in line(capsys, command[0], "--model", "x.pt", *command[1:])


def test_a_configuration_that_is_no_text(state, capsys):
    torch.save(state | {"config": 5}, "x.pt")
    assert "carries no config" in line(capsys, "sample", "--model", "x.pt", "--out", "x.png")
    assert main(["inspect", "x.pt"]) == 0  # which lists what tensors there are


@pytest.mark.parametrize("content", [b"", b"\xa5\xff\0", b"[" * 5000], ids=["empty", "bytes", "brackets"])
def test_a_run_whose_configuration_is_damaged(finished, tmp_path, capsys, content):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "config.gin").write_bytes(content)
    assert "run/config.gin" in line(capsys, "train", *tiny(), "--out", tmp_path / "run")


@pytest.mark.slow
def test_a_place_for_samples_that_is_taken(finished, tmp_path, capsys):
    """Grids can be done without; numbers cannot."""
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "samples")
    (tmp_path / "run" / "samples").touch()
    (tmp_path / "run" / "summary.json").unlink()
    assert main(["train", *tiny(), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "the grid of samples cannot be written" in said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "summary.json").exists()

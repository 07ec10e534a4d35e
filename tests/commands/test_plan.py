"""What a dry run says of the device that is bound, and of what is there already."""

import re

import pytest

from realuid.commands import main
from tests.commands.conftest import tiny


def told(capsys, *bindings):
    capsys.readouterr()
    assert main(["train", *tiny(*bindings), "--dry-run"]) == 0
    return capsys.readouterr().out


def test_a_cpu_is_measured(capsys):
    line = next(one for one in told(capsys, "Trainer.device = 'cpu'").splitlines() if one.startswith("speed"))
    number, prefix = re.search(r"of ([\d.]+) ([MGT])FLOP/s \(measured on this CPU", line).groups()
    assert 1e8 < float(number) * {"M": 1e6, "G": 1e9, "T": 1e12}[prefix] < 5e13, "no H100"


def test_a_run_on_a_gpu_is_planned_where_there_is_none(capsys):
    text = told(capsys, "Trainer.device = 'cuda'", "Trainer.peak_flops = 3e14")
    assert "of 300 TFLOP/s (Trainer.peak_flops)" in text


@pytest.mark.parametrize(
    ("steps", "words"), [([], "trained first: 0 of"), ([1], "trained first: 1 of"), ([10**6], "teacher      is there")]
)
def test_what_is_there_of_the_teacher(capsys, monkeypatch, steps, words):
    monkeypatch.setattr("realuid.checkpoints.store.CheckpointStore.steps", lambda store: steps)
    assert words in told(capsys)

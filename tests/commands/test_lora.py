"""A run of adapters through the command line: trained, resumed, sampled and exported."""

import argparse

import pytest
import torch

from realuid import checkpoints
from realuid.commands import export, options, train
from realuid.conditions import labelled
from realuid.config import ConfigError
from realuid.evaluation.draws import noise
from realuid.export import load
from realuid.jobs import runs
from realuid.utils import budget
from tests.commands.conftest import tiny
from tests.extras import needs_peft

pytestmark = needs_peft

BINDINGS = [
    "student/MatchingModel.network = @LoRA()",
    "fake/MatchingModel.network = @LoRA()",
    "LoRA.rank = 2",
    "Distillation.fake_init = 'teacher'",
    "Trainer.evaluator = None",
]


@pytest.mark.slow
def test_a_run_of_adapters_is_resumed_and_exported_as_one_network(tmp_path):
    run, halves = tmp_path / "whole" / "run", tmp_path / "halves" / "run"
    arguments = tiny(*BINDINGS, "Teacher.storage = 'bfloat16'")
    assert train.main([*arguments, "--out", str(run)]) == 0
    assert train.main([*arguments, "--bind", "Trainer.images = 64", "--out", str(halves)]) == 0
    assert train.main([*arguments, "--out", str(halves)]) == 0
    states = [checkpoints.load(checkpoints.CheckpointStore(str(f / "checkpoints")).newest()) for f in (run, halves)]
    for role in ("student", "fake"):
        one, other = (state["method"][role] for state in states)
        one, other = (x if role == "student" else x[0] for x in (one, other))
        assert all(".lora_" in name for name in one)
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert states[0]["ema"]["base"] == states[0]["method"]["teacher"]

    assert export.main(["--run", str(run), "--out", str(tmp_path / "out")]) == 0
    student = load(str(tmp_path / "out"))
    parser = argparse.ArgumentParser()
    options.add_model(parser)
    model = runs.reopen(parser.parse_args(["--run", str(run)]))
    labels = torch.arange(4)
    expected = model.generator(noise(0, 0, 4, model.form.shape), labelled(labels), lambda k: None)
    torch.testing.assert_close(student.sample(4, labels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_adapters_of_another_teacher_are_refused(tmp_path, capfd):
    run = tmp_path / "run"
    assert train.main([*tiny(*BINDINGS), "--out", str(run)]) == 0
    path = checkpoints.CheckpointStore(str(run / "checkpoints")).newest()
    state = checkpoints.load(path)
    state["ema"]["base"] = "0" * 64
    torch.save(state, tmp_path / "other.pt")
    teacher = next(tmp_path.glob("*teacher*"))
    weights = checkpoints.CheckpointStore(str(teacher / "checkpoints")).newest()
    state["config"] += f"\nTeacher.checkpoint = '{weights}'\n"
    torch.save(state, tmp_path / "other.pt")
    assert export.main(["--model", str(tmp_path / "other.pt"), "--out", str(tmp_path / "out")]) == 2
    assert "adapters of another teacher" in capfd.readouterr().err


def test_a_run_of_small_adapters_on_a_large_teacher_is_reopened(tmp_path, monkeypatch):
    """Its own checkpoint is worth less than the network that it adapts; the teacher's pays for that one."""
    run = tmp_path / "run"
    more = ["LoRA.rank = 1", "LoRA.targets = ('out.2',)"]
    assert train.main([*tiny(*BINDINGS, *more), "--out", str(run)]) == 0
    monkeypatch.setattr(budget, "FREE", 0)
    monkeypatch.setattr(budget, "RATIO", 1)
    parser = argparse.ArgumentParser()
    options.add_model(parser)
    arguments = parser.parse_args(["--run", str(run)])
    assert runs.reopen(arguments)
    monkeypatch.setattr(runs, "adapted", lambda config, folder: 0)
    with pytest.raises(ConfigError, match="what its configuration describes"):
        runs.reopen(arguments)

"""What a run does about numbers that are not finite, steps that hang, and processes that are stopped or lost."""

import json
import os
import signal
import time

import pytest
import torch

from realuid.commands.train import main
from realuid.losses import RealUID
from realuid.training.distillation import Distillation
from tests.commands.conftest import tiny
from tests.commands.processes import train
from tests.commands.test_train import lines, same, weights


@pytest.fixture
def arguments(finished, tmp_path):
    """Of a run that finds its teacher beside it."""
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)

    def of(name: str, *more: str) -> list[str]:
        return [*tiny(*more), "--out", str(tmp_path / name)]

    return of


def poison(monkeypatch, when) -> None:
    """The generator's loss is not a number in the steps, counted from 1, for which `when(step, attempt)` holds."""
    step, healthy, poisoned = Distillation.step, RealUID.generator_loss, []

    def counted(self: Distillation, index: int):
        poisoned[:] = [when(index + 1, self.context.randomness.attempt)]
        return step(self, index)

    monkeypatch.setattr(Distillation, "step", counted)
    monkeypatch.setattr(
        RealUID, "generator_loss", lambda self, terms: healthy(self, terms) * (float("nan") if poisoned[0] else 1)
    )


def test_an_update_that_is_not_finite_is_left_out_and_counted(finished, arguments, tmp_path, monkeypatch):
    poison(monkeypatch, lambda step, attempt: step == 5)
    assert main(arguments("once")) == 0
    found = lines(tmp_path / "once")
    assert [line.get("student_updates_left_out") for line in found] == [None, None, 1, 1]
    assert found[:2] == lines(finished)[:2]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "once")["procedure"]["student"].values())


def test_a_run_that_is_stuck_goes_back_and_on_with_other_random_numbers(finished, arguments, tmp_path, monkeypatch):
    poison(monkeypatch, lambda step, attempt: step > 3 and attempt == 0)
    assert main(arguments("stuck", "Trainer.patience = 2")) == 0
    found = lines(tmp_path / "stuck")
    assert [line["step"] for line in found] == [2, 4, 6, 8]
    assert found[0] == lines(finished)[0]
    assert found[1] != lines(finished)[1]
    assert "student_updates_left_out" not in found[-1]
    assert weights(tmp_path / "stuck")["rolled_back"] == 1


def test_a_run_that_stays_stuck_ends_with_status_3_and_keeps_what_broke_it(arguments, tmp_path, monkeypatch):
    poison(monkeypatch, lambda step, attempt: step > 3)
    assert main(arguments("broken", "Trainer.patience = 2", "Trainer.rollbacks = 1")) == 3
    reason = json.loads((tmp_path / "broken" / "exit.json").read_text())["reason"]
    assert "the latest updates of the student were all left out" in reason
    assert "broken_step_00000006.pt; the last good checkpoint stands" in reason
    (kept,) = (tmp_path / "broken" / "checkpoints").glob("broken_*.pt")
    assert torch.load(kept, weights_only=True)["procedure"]["student_optimizer"]
    assert weights(tmp_path / "broken")["step"] == 3


def test_a_step_that_hangs_is_ended_and_named(arguments, tmp_path, monkeypatch):
    step = Distillation.step
    monkeypatch.setattr(Distillation, "step", lambda self, index: time.sleep(120) if index == 3 else step(self, index))
    assert train(1, arguments("hung", "Trainer.timeout_s = 8")) == [1]
    assert json.loads((tmp_path / "hung" / "exit.json").read_text()) == {
        "code": 1,
        "reason": "step 4 did not end within 8 s",
    }
    monkeypatch.undo()


def test_all_processes_stop_after_the_step_in_which_one_was_terminated(finished, arguments, tmp_path, monkeypatch):
    step = Distillation.step

    def terminated(self: Distillation, index: int):
        if index == 3 and self.context.world.rank == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "step", terminated)
        assert train(2, arguments("stopped")) == [143, 143]
    assert weights(tmp_path / "stopped")["step"] == 4
    assert train(2, arguments("stopped")) == [0, 0]
    assert train(2, arguments("calm")) == [0, 0]
    assert lines(tmp_path / "stopped") == lines(tmp_path / "calm")
    assert same(weights(tmp_path / "stopped")["procedure"], weights(tmp_path / "calm")["procedure"])


def test_a_process_that_loses_another_one_ends_for_torchrun_to_start_it_again(arguments, tmp_path, monkeypatch):
    step = Distillation.step

    def killed(self: Distillation, index: int):
        if index == 4 and self.context.world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, index)

    monkeypatch.setattr(Distillation, "step", killed)
    assert train(2, arguments("lost")) == [1, -signal.SIGKILL]
    assert not (tmp_path / "lost" / "exit.json").exists()
    monkeypatch.setattr(Distillation, "step", step)
    assert train(2, arguments("lost")) == [0, 0]
    assert [line["step"] for line in lines(tmp_path / "lost")] == [2, 4, 6, 8]

"""What a run does about numbers that are not finite, steps that hang, and processes that are stopped or lost."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from realuid import checkpoints
from realuid.commands.sample import main as sample
from realuid.commands.train import main
from realuid.distillation.distillation import Distillation
from realuid.losses import RealUID
from tests.commands.conftest import ROOT, tiny
from tests.commands.processes import train
from tests.commands.test_train import lines, same, wait_for, weights
from tests.ranks import free_port
from tests.s3 import served

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]  # one at a time: each wants the cores to itself


def all_numbers(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


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
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "once")["method"]["student"].values())


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
    assert torch.load(kept, weights_only=True)["method"]["student_optimizer"]
    assert weights(tmp_path / "broken")["step"] == 3


def test_a_step_that_hangs_is_ended_and_named(arguments, tmp_path, monkeypatch):
    step = Distillation.step
    monkeypatch.setattr(Distillation, "step", lambda self, index: time.sleep(120) if index == 3 else step(self, index))
    assert train(1, arguments("hung", "Trainer.timeout_s = 8")) == [1]
    assert json.loads((tmp_path / "hung" / "exit.json").read_text()) == {
        "code": 1,
        "reason": "step 4 did not end within 8 s",
    }


@pytest.mark.slow
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
    assert same(weights(tmp_path / "stopped")["method"], weights(tmp_path / "calm")["method"])


@pytest.mark.slow
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


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_torchrun_starts_a_killed_process_again(finished, arguments, tmp_path):
    """And what comes out is the run that was left alone, but for the clock."""
    more = ("IMAGES = 800", "Trainer.evaluate_images = None")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    command += ["--master-port", str(free_port()), str(ROOT / "tools" / "train.py")]
    log = (tmp_path / "log").open("w")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    agent = subprocess.Popen([*command, *arguments("killed", *more)], stderr=log, env=environment)
    try:
        wait_for(tmp_path / "killed", 6, agent)
        workers = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True, check=True).stdout
        os.kill(int(workers.split()[-1]), signal.SIGKILL)
        assert agent.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    finally:
        agent.terminate()  # which ends its workers, too; nothing to one that has ended
        agent.wait()
    assert "resumed after" in (tmp_path / "log").read_text()
    assert subprocess.run([*command, *arguments("calm", *more)], env=environment, check=False).returncode == 0
    assert lines(tmp_path / "killed") == lines(tmp_path / "calm")
    assert same(weights(tmp_path / "killed")["method"], weights(tmp_path / "calm")["method"])


def test_a_process_that_does_not_come_ends_the_others_with_the_status_of_a_restart(
    arguments, tmp_path, monkeypatch, capsys
):
    world = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in world.items():
        monkeypatch.setenv(name, str(value))
    assert main(arguments("alone", "Trainer.timeout_s = 0.5")) == 1
    assert "did not come: " in capsys.readouterr().err
    assert not (tmp_path / "alone").exists()


@pytest.mark.slow
def test_checkpoints_on_an_object_store(finished, arguments, tmp_path, monkeypatch):
    elsewhere = "Checkpoints.folder = 's3://bucket/run'"
    with served(monkeypatch):
        assert main(arguments("far", elsewhere, "Trainer.images = 64")) == 0
        assert main(arguments("far", elsewhere)) == 0
        assert lines(tmp_path / "far")[-1]["step"] == 8
        far = checkpoints.load("s3://bucket/run/far/step_00000008.pt")
        assert not list((tmp_path / "far").glob("checkpoints/*"))
        assert sample(["--run", str(tmp_path / "far"), "--num", "4", "--out", str(tmp_path / "grid.png")]) == 0
    assert same(far["ema"], weights(finished)["ema"])


def test_loggers_show_what_metrics_jsonl_says(arguments, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = "Trainer.loggers = [@TensorBoard()]"
    assert main(arguments("shown", shown, "Trainer.images = 64")) == 0
    assert main(arguments("shown", shown)) == 0
    events = EventAccumulator(str(tmp_path / "shown" / "tensorboard"))
    events.Reload()
    for name in ("fake_loss", "gap_q1", "memory_gib"):
        pairs = {event.step: event.value for event in events.Scalars(name)}
        assert pairs == pytest.approx({line["images"]: line[name] for line in all_numbers(tmp_path / "shown")})


@pytest.mark.slow
def test_weights_and_biases_without_a_network(arguments, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    shown = "Trainer.loggers = [@WandB()]"
    assert main(arguments("shown", shown, "Trainer.images = 64")) == 0
    assert main(arguments("shown", shown)) == 0
    name = (tmp_path / "shown" / "wandb.id").read_text()
    files = list((tmp_path / "shown" / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb"))
    assert len(files) == 2
    assert all(b"gap_q1" in file.read_bytes() for file in files)

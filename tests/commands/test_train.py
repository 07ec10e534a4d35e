"""train.py end to end: the run folder, exact repetition, exact resumption, interruption, and its refusals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from realuid.commands.train import main
from realuid.distillation.distillation import Distillation
from realuid.training.assessment import Assessment
from realuid.training.run_folder import RunFolder
from tests.commands.conftest import ROOT, tiny
from tests.extras import skip_without_extras
from tests.shipped import GIN, RECIPES, cases

TIMES = ("wall_s", "images_per_s", "flop_per_s", "memory_gib")


def lines(folder: Path) -> list[dict]:
    """metrics.jsonl without what a clock says."""
    parsed = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in parsed]


def weights(folder: Path) -> dict:
    newest = sorted((folder / "checkpoints").glob("step_*.pt"))[-1]
    return torch.load(newest, weights_only=True)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def start(folder: Path, *more: str) -> subprocess.Popen:
    """train.py in a process of its own, one thread, as the tests in this process."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "train.py"), *tiny("Trainer.threads = 1", *more), "--out", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(folder: Path, line_count: int, process: subprocess.Popen) -> None:
    """Until the run of `process` has written so many lines. It imports torch first, on a loaded machine for minutes."""
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 250
    while not metrics.exists() or len(metrics.read_text().splitlines()) < line_count:
        assert process.poll() is None, "the run has ended"
        assert time.monotonic() < deadline, "the run does not get ahead"
        time.sleep(0.01)


def test_the_run_folder_is_complete(finished):
    for name in ("config.gin", "metrics.jsonl", "summary.json", "exit.json", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    assert json.loads((finished / "exit.json").read_text()) == {"code": 0, "reason": "done"}
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["steps"] == 8
    assert summary["images"] == 128
    for name in ("student_frechet", "teacher_frechet", "halves_frechet", "pixel_gaussian_frechet", "wall_s"):
        assert summary[name] > 0, name
    for name in ("student_frechet", "teacher_frechet"):
        provenance = summary["provenance"][name]
        assert provenance["count"] == 60
        assert {"network", "network_sha256", "accuracy", "seed", "ema", "sampler", "reference"} <= provenance.keys()
    assert summary["provenance"]["teacher_frechet"]["sampler"] == "Euler-2 UniformGrid()"
    assert sorted(path.name for path in (finished / "samples").iterdir()) == [
        "data.png",
        "step_00000004.png",
        "step_00000008.png",
        "student.png",
        "teacher.png",
    ]


def test_metrics_have_one_line_a_step_in_order(finished):
    steps = [line["step"] for line in lines(finished)]
    assert steps == [2, 4, 6, 8]
    assert all(line["images"] == 16 * line["step"] for line in lines(finished))


@pytest.mark.slow
def test_two_runs_with_one_seed_agree_to_the_bit_and_another_seed_differs(finished, tmp_path):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    assert main([*tiny(), "--out", str(tmp_path / "again")]) == 0
    assert lines(tmp_path / "again") == lines(finished)
    assert main([*tiny("Trainer.seed = 1"), "--out", str(tmp_path / "other")]) == 0
    assert lines(tmp_path / "other") != lines(finished)


@pytest.mark.slow
def test_the_flattened_config_repeats_the_run(finished, tmp_path):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    assert main(["--gin", str(finished / "config.gin"), "--out", str(tmp_path / "again")]) == 0
    assert lines(tmp_path / "again") == lines(finished)


@pytest.mark.parametrize(
    ("number", "when"),
    [
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow),
        (signal.SIGINT, 3),
        pytest.param(signal.SIGTERM, 4, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 3, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 4, marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_by_a_signal_and_resumed_equals_one_that_was_not(finished, tmp_path, monkeypatch, number, when):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    folder = tmp_path / "stopped"
    step = Distillation.step

    def stopping(self: Distillation, index: int) -> dict:
        if index == when:
            signal.raise_signal(number)
        return step(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "step", stopping)
        assert main([*tiny(), "--out", str(folder)]) == 128 + number
    assert json.loads((folder / "exit.json").read_text())["code"] == 128 + number
    assert weights(folder)["step"] == when + 1
    assert main([*tiny(), "--out", str(folder)]) == 0
    assert lines(folder) == lines(finished)
    assert same(weights(folder)["method"], weights(finished)["method"])
    assert same(weights(folder)["ema"], weights(finished)["ema"])


@pytest.mark.slow
def test_a_process_that_is_terminated_ends_with_143_and_says_so(tmp_path):
    folder = tmp_path / "terminated"
    process = start(folder, "IMAGES = 160_000")
    wait_for(folder, 1, process)
    process.terminate()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 143, log
    assert "stopping after this step" in log
    assert json.loads((folder / "exit.json").read_text())["code"] == 143


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_checkpoint_to_the_same_result(finished, tmp_path):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    folder = tmp_path / "killed"
    process = start(folder)
    wait_for(folder, 2, process)  # the second line is of step 4: one step after the checkpoint of step 3
    process.kill()
    process.wait()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "ima')  # a torn line
    assert main([*tiny(), "--out", str(folder)]) == 0
    assert lines(folder) == lines(finished)
    assert same(weights(folder)["ema"], weights(finished)["ema"])


@pytest.mark.slow
def test_a_longer_run_goes_on_where_the_shorter_one_ended(finished, tmp_path):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    folder = tmp_path / "prolonged"
    assert main([*tiny("Trainer.images = 64"), "--out", str(folder)]) == 0
    assert json.loads((folder / "summary.json").read_text())["steps"] == 4
    assert main([*tiny(), "--out", str(folder)]) == 0
    assert json.loads((folder / "summary.json").read_text())["steps"] == 8
    assert same(weights(folder)["ema"], weights(finished)["ema"])


def test_another_run_in_the_same_folder_is_refused_with_the_difference(finished, capsys):
    before = (finished / "config.gin").read_text()
    assert main([*tiny("RealUID.alpha = 0.9"), "--out", str(finished)]) == 2
    message = capsys.readouterr().err
    assert "RealUID.alpha: 0.92 -> 0.9" in message
    assert "--fresh" in message
    assert (finished / "config.gin").read_text() == before


@pytest.mark.slow
def test_what_does_not_change_the_result_may_change(finished, tmp_path):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    folder = tmp_path / "changed"
    assert main([*tiny("Trainer.images = 64"), "--out", str(folder)]) == 0
    changed = tiny("Trainer.log_images = 64", "Evaluator.count = 80", "Checkpoints.keep = 3")
    assert main([*changed, "--out", str(folder)]) == 0
    assert same(weights(folder)["ema"], weights(finished)["ema"])
    assert json.loads((folder / "summary.json").read_text())["provenance"]["student_frechet"]["count"] == 80


def test_a_complete_run_is_left_as_it_is(finished):
    before = (finished / "config.gin").read_text()
    assert main([*tiny("Trainer.log_images = 64"), "--out", str(finished)]) == 0
    assert (finished / "config.gin").read_text() == before


def test_fresh_moves_the_old_folder_aside(finished, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "keepsake").write_text("mine")
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    assert main([*tiny("Trainer.images = 16"), "--out", str(folder), "--fresh"]) == 0
    assert (tmp_path / "old.1" / "keepsake").read_text() == "mine"


@pytest.mark.slow
def test_two_runs_that_need_one_teacher_train_it_once(tmp_path):
    teacher = "TEACHER_IMAGES = 640"
    processes = [start(tmp_path / name, teacher) for name in ("one", "two")]
    logs = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], logs
    (folder,) = tmp_path.glob("smoke_teacher-*")
    steps = [line["step"] for line in lines(folder)]
    assert steps == sorted(set(steps))
    assert lines(tmp_path / "one") == lines(tmp_path / "two")


@pytest.mark.parametrize("options", [[], ["--fresh"]])
def test_a_folder_in_use_is_refused(options, tmp_path, capsys):
    with RunFolder(tmp_path / "busy").locked():
        assert main([*tiny(), "--out", str(tmp_path / "busy"), *options]) == 2
    assert "another process" in capsys.readouterr().err
    assert not (tmp_path / "busy.1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_run_stopped_while_it_is_evaluated_at_the_end_is_closed_by_the_next(finished, tmp_path, monkeypatch, number):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    folder = tmp_path / "closing"
    with monkeypatch.context() as patch:
        patch.setattr(Assessment, "final", lambda *_: signal.raise_signal(number))
        assert main([*tiny(), "--out", str(folder)]) == 128 + number
    assert json.loads((folder / "exit.json").read_text())["code"] == 128 + number
    assert not (folder / "summary.json").exists()
    assert main([*tiny(), "--out", str(folder)]) == 0
    assert lines(folder) == lines(finished)
    assert json.loads((folder / "summary.json").read_text())["steps"] == 8


def test_the_teacher_is_trained_by_the_same_file(finished, tmp_path, capsys):
    """What is bound in teacher/ for the Trainer is a run of its own; other runs with the same teacher find it."""
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    config = (teacher / "config.gin").read_text()
    assert "Trainer.method = @TeacherTraining()" in config
    assert "Distillation" not in config
    assert "teacher/" not in config
    assert main([*tiny(), "--dry-run"]) == 0
    assert f"in runs/{teacher.name}" in capsys.readouterr().out
    assert main([*tiny("UNet.width = 16", "RealUID.beta = 0.9"), "--dry-run"]) == 0
    assert teacher.name not in capsys.readouterr().out
    (tmp_path / "mine.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\nRealUID.beta = 0.9\n")
    mine = ["--gin", str(tmp_path / "mine.gin"), *tiny()[2:], "--out", str(finished.parent / "mine"), "--dry-run"]
    assert main(mine) == 0
    assert "mine_teacher-" in capsys.readouterr().out, "nothing of that name lies in runs/ here"


def test_a_teacher_made_by_another_file_in_the_same_place_is_taken(finished, tmp_path):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    (tmp_path / "mine.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\nRealUID.beta = 0.9\n")
    assert main(["--gin", "mine.gin", *tiny()[2:], "--bind", "Trainer.images = 16", "--out", "mine"]) == 0
    assert not list(tmp_path.glob("mine_teacher*"))


def test_without_weights_and_without_training_the_teacher_is_missed(tmp_path, capsys):
    gin = "include 'gin/data/digits.gin'\ninclude 'gin/matching/fm.gin'\ninclude 'gin/networks/unet_digits.gin'\n"
    gin += "include 'gin/base/distillation.gin'\nDistillation.loss = @FGM()\nFGM.target = @Velocity()\n"
    gin += "Distillation.real_batch = 8\nTrainer.batch = 8\nTrainer.images = 8\nAdam.lr = 1e-3\nEMA.decays = (0.9,)\n"
    gin += "Adam.lr_schedule = @ConstantLR()\n" + "".join(
        f"Trainer.{n}_images = 8\n" for n in ("log", "sample", "checkpoint")
    )
    (tmp_path / "mine.gin").write_text(gin)
    for more in ([], ["--dry-run"]):
        assert main(["--gin", "mine.gin", *more]) == 2
        message = capsys.readouterr().err.strip()
        assert "bind Teacher.checkpoint" in message
        assert "teacher/Trainer.method = @TeacherTraining()" in message


def test_a_binding_that_others_stand_above_is_refused(capsys):
    above = ["--bind", "student/Adam.lr = 1e-3", "--bind", "fake/Adam.lr = 1e-3"]
    assert main(["--gin", "gin/fm_digits.gin", *above, "--bind", "Adam.lr = 0.5", "--dry-run"]) == 2
    assert "fake/Adam.lr and student/Adam.lr and teacher/Adam.lr override it" in capsys.readouterr().err


def test_parts_that_do_not_fit_are_refused_before_the_teacher_is_trained(tmp_path, capsys):
    assert main([*tiny("Distillation.real_batch = 500"), "--out", str(tmp_path / "runs" / "mine")]) == 2
    assert "real_batch = 500 must be at most the batch of 16" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_knows_the_averages_of_a_teacher_that_is_yet_to_be_trained(capsys):
    assert main([*tiny("Teacher.ema = '0.123'"), "--dry-run"]) == 2
    assert "teacher/EMA.decays keeps '" in capsys.readouterr().err


def test_a_prediction_that_leaves_the_loss_unbounded_is_refused(capsys):
    """The velocity from the data on the linear path has the factor 1 / (1 - t): no bound for uniform times."""
    assert main([*tiny("MatchingModel.target = @Data()"), "--dry-run"]) == 2
    assert "Velocity from Data is unbounded" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_another_teacher(finished, tmp_path, capsys):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    weights = teacher / "checkpoints" / "step_00000002.pt"
    (tmp_path / "teacher.pt").write_bytes(weights.read_bytes())
    mine = tiny("Teacher.checkpoint = teacher.pt")
    assert main([*mine, "--bind", "Trainer.images = 64", "--out", "x"]) == 0
    state = torch.load(weights, weights_only=True)
    next(iter(state["ema"]["weights"]["0.9"].values()))[:] += 1
    torch.save(state, tmp_path / "teacher.pt")
    assert main([*mine, "--out", "x"]) == 2
    assert "another teacher" in capsys.readouterr().err


@pytest.mark.slow
def test_exit_json_does_not_speak_of_an_earlier_end_while_a_run_is_at_work(finished, tmp_path, monkeypatch):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    folder = tmp_path / "prolonged"
    assert main([*tiny("Trainer.images = 32"), "--out", str(folder)]) == 0
    seen = []
    step = Distillation.step
    monkeypatch.setattr(
        Distillation, "step", lambda self, n: seen.append((folder / "exit.json").exists()) or step(self, n)
    )
    assert main([*tiny("Trainer.images = 64"), "--out", str(folder)]) == 0
    assert seen == [False, False]


def test_what_ended_the_teachers_run_ends_the_students(tmp_path, capsys):
    folder = tmp_path / "student"
    assert main([*tiny("teacher/InMemory.path = 'nowhere'"), "--out", str(folder)]) == 2
    assert "no data set 'nowhere'" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.iterdir()), "a start that fails leaves no folder"


def test_a_start_that_fails_takes_nothing_away(finished, tmp_path):
    """What was there before stays: a folder of the user's, and a run that was trained so far."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "keepsake").touch()
    assert main([*tiny("Distillation.real_batch = 500"), "--out", "mine"]) == 2
    assert (tmp_path / "mine" / "keepsake").exists()
    assert main([*tiny("Distillation.real_batch = 500"), "--out", str(finished)]) == 2
    assert (finished / "checkpoints" / "step_00000008.pt").exists()


def test_the_teachers_figures_are_those_of_its_own_run(finished):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    mine, its = (json.loads((folder / "summary.json").read_text()) for folder in (finished, teacher))
    assert mine["teacher_frechet"] == its["teacher_frechet"]
    assert mine["provenance"]["teacher_frechet"] == its["provenance"]["teacher_frechet"]


@pytest.mark.parametrize("count", [60, 50])
def test_a_bound_teacher_is_not_measured_again_if_the_same_weights_were_measured_alike(
    count, finished, tmp_path, capsys
):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    weights = tmp_path / "mine" / "step_00000002.pt"
    weights.parent.mkdir()
    shutil.copy(teacher / "checkpoints" / "step_00000002.pt", weights)
    mine = tiny(f"Teacher.checkpoint = '{weights}'", "Trainer.images = 16", f"Evaluator.count = {count}")
    assert main([*mine, "--out", "x"]) == 0
    assert ("the teacher was measured before" in capsys.readouterr().err) == (count == 60)
    its, summary = (json.loads((folder / "summary.json").read_text()) for folder in (teacher, tmp_path / "x"))
    assert (summary["teacher_frechet"] == its["teacher_frechet"]) == (count == 60)


REFUSALS = {
    "RealUID.alhpa = 0.9": "alpha",
    "RealUDI.alpha = 0.9": "RealUID",
    "RealUID.alpha = high": "RealUID.alpha",
    "RealUID.alpha = 1.5": "(0, 1]",
    "Distillation.fake_steps = 2.5": "Distillation.fake_steps",
    "studnet/UNet.width = 16": "student",
    "MLP.width = 16": "MLP",
    "Distillation.real_batch = 5": "lanes",
    "Trainer.device = gpu": "cuda",
    "Distillation.fake_init = nowhere.pt": "nowhere.pt",
    "InMemory.path = digitz": "digits",
    "InMemory.shape = (3, 8, 8)": "3, 8, 8",
    "teacher/Trainer.imagse = 8": "images",
    "teacher/UNet.widht = 8": "did you mean width",
    "Teacher.checkpoint = nosuch://bucket/x.pt": "nosuch",
    "Teacher.ema = '0.123'": "teacher/EMA.decays",
    "CLASSES = 0": "learns from labels",
}


@pytest.mark.parametrize("binding", REFUSALS)
def test_a_mistake_is_one_line_with_status_2(binding, finished, tmp_path, capsys):
    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    assert main([*tiny(binding), "--out", str(tmp_path / "wrong")]) == 2
    log = capsys.readouterr().err.splitlines()
    complaints = [line for line in log if " teacher: " not in line and "is complete" not in line]
    assert len(complaints) == 1, complaints
    assert REFUSALS[binding] in complaints[0]
    assert not (tmp_path / "wrong" / "checkpoints").exists()


def test_a_mistake_shows_no_traceback_in_a_process_of_its_own(tmp_path):
    process = start(tmp_path / "wrong", "RealUID.alhpa = 0.9")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(log.strip().splitlines()) == 1, log
    assert "alpha" in log


def test_a_loss_that_is_not_finite_ends_the_run_with_status_3(finished, tmp_path, monkeypatch):
    from realuid.losses import RealUID

    teacher = next(finished.parent.glob("smoke_teacher-*"))
    (tmp_path / teacher.name).symlink_to(teacher)
    monkeypatch.setattr(RealUID, "generator_loss", lambda self, terms: terms.fake.sum() * float("nan"))
    folder = tmp_path / "broken"
    assert main([*tiny(), "--out", str(folder)]) == 3
    ending = json.loads((folder / "exit.json").read_text())
    assert ending["code"] == 3
    assert "step 2: the latest updates of the student were all left out" in ending["reason"]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["broken_step_00000002.pt"]


ASSEMBLED = {"smoke.gin", "fm_digits.gin"}
COUNTED = {
    "edm_digits.gin",
    "i2sb_digits_sr.gin",
    "ot_digits.gin",
    "si_digits.gin",
    "fm_digits_lora.gin",
    "fm_cifar10.gin",
    "si_imagenet64.gin",
    "sit_imagenet256.gin",
    "sana_lora.gin",
}


@pytest.mark.parametrize("recipe", cases(RECIPES, quick=ASSEMBLED, slow=COUNTED))
def test_every_shipped_recipe_assembles_without_data_or_teacher(recipe, capsys, monkeypatch, tmp_path):
    """Counting arithmetic takes seconds, for the largest a minute."""
    skip_without_extras(GIN / recipe)
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "nothing here"))
    assert main(["--gin", str(GIN / recipe), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("@Trainer()")
    for word in ("parameters", "FLOP", "memory", "images/s", "missing"):
        assert word in out, word
    assert not list(tmp_path.iterdir())


def test_rates_below_one_image_a_second_are_no_zeros(capsys):
    assert main([*tiny("Trainer.mfu = 1e-9"), "--dry-run"]) == 0
    speed, real = re.findall(r"([0-9.e-]+) images/s", capsys.readouterr().out)
    assert 0 < float(speed) < 1
    assert 0 < float(real) < 1


def test_a_missing_checkpoint_is_a_line_of_the_dry_run(capsys, monkeypatch):
    """Here S3 is out of reach, with or without its driver: no credentials."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert main([*tiny("Teacher.checkpoint = s3://bucket/x.pt"), "--dry-run"]) == 0
    assert re.search(r"missing +Teacher.checkpoint: s3://bucket/x.pt cannot be read: ", capsys.readouterr().out)


def test_the_dry_run_says_which_weights_are_missing(capsys):
    arguments = tiny("Distillation.student_init = randm", "Teacher.checkpoint = edm-cifar10-32x32-cond-vp.pkl")
    assert main([*arguments, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "missing      Distillation.student_init: there is no checkpoint randm" in told
    assert (
        "missing      Teacher.checkpoint: there is no checkpoint edm-cifar10-32x32-cond-vp.pkl: download it (" in told
    )


def test_networks_that_no_memory_holds(capsys):
    assert main(tiny("UNet.width = 99968")) == 2
    said = capsys.readouterr().err
    assert "fake/UNet: the networks take more than the" in said
    assert "UNet.width = 99968 (--bind)" in said
    assert "Traceback" not in said


def test_memory_that_ends_while_a_run_starts(monkeypatch, capsys):
    """What the sizes in a configuration do not tell: here an allocation that the machine refuses."""
    monkeypatch.setattr("realuid.jobs.train.run", lambda *a, **named: torch.empty(2**50, dtype=torch.uint8))
    assert main(tiny()) == 3
    said = capsys.readouterr().err
    assert "the memory is not enough" in said
    assert "Traceback" not in said

"""`realuid new`: what it writes is a run that could start, for teachers of other projects and of ours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from realuid import checkpoints
from realuid import config as configuration
from realuid.commands import main
from realuid.commands.make_shards import main as make_shards
from realuid.config import Config
from realuid.jobs import new
from realuid.jobs.recipe import own_teacher
from realuid.networks.unet import UNet
from tests.pretrained.test_edm import snapshot, song


@pytest.fixture
def pictures(tmp_path):
    """Shards of 3x8x8 images in three classes, as the made-up EDM teacher has them."""
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "in" / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
    assert make_shards([str(tmp_path / "in"), str(tmp_path / "photos"), "--quiet"]) == 0
    return str(tmp_path / "photos")


@pytest.mark.slow
def test_another_projects_teacher(tmp_path, pictures, capsys):
    teacher = str(snapshot(tmp_path / "edm.pkl", song()))
    assert main(["new", "--data", pictures, "--teacher", teacher]) == 0
    assert main(["train", "--gin", "photos.gin", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "missing" not in shown
    config = configuration.load(["photos.gin"])
    assert config.bindings["Teacher.checkpoint"] == repr(teacher)
    assert config.bindings["OneStep.time"] == "2.5"
    text = (tmp_path / "photos.gin").read_text()
    assert text.startswith("# What ")
    assert text.count("\n#") > 6, "it explains itself"


def test_a_teacher_whose_file_does_not_tell_its_size(tmp_path, pictures, capsys):
    """It is that of the data; the number of heads is told."""
    network = UNet(shape=(3, 8, 8), width=32, multipliers=(1, 2), blocks=1, attention=(1,), heads=2)
    torch.save({"net_model": network.state_dict()}, tmp_path / "cfm.pt")
    assert main(["new", "--data", pictures, "--teacher", "cfm.pt", "--known", "heads=2", "--out", "mine.gin"]) == 0
    text = (tmp_path / "mine.gin").read_text()
    assert "heads = 2" in text
    assert "format = 'torchcfm'" in text


def test_a_run_is_its_newest_checkpoint(finished, capsys):
    run = next(finished.parent.glob("*_teacher-*"))
    assert main(["new", "--data", "digits", "--teacher", str(run), "--out", "mine.gin"]) == 0
    newest = sorted((run / "checkpoints").glob("step_*.pt"))[-1]
    assert str(newest) in Path("mine.gin").read_text()


def test_a_teacher_of_this_project(finished, capsys):
    """The model, its times and its sampler are those of the teacher's own run."""
    run = next(finished.parent.glob("*_teacher-*"))
    teacher = sorted((run / "checkpoints").glob("step_*.pt"))[-1]
    assert main(["new", "--data", "digits", "--teacher", str(teacher), "--out", "mine.gin"]) == 0
    assert main(["train", "--gin", "mine.gin", "--dry-run"]) == 0
    mine, theirs = configuration.load(["mine.gin"]), Config.from_text((run / "config.gin").read_text())
    assert configuration.part(mine, "method", "teacher", "model") == configuration.part(theirs, "method", "model")
    assert configuration.part(mine, "method", "time_sampler") == configuration.part(theirs, "method", "time_sampler")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (3, 16, 16)}, ("(3, 8, 8)", "(3, 16, 16)", "--resolution")),
        ({"classes": 5}, ("3 classes", "5")),
    ],
)
def test_data_that_are_not_the_teachers(tmp_path, pictures, capsys, monkeypatch, change, words):
    real = new.teacher_of_another_project
    monkeypatch.setattr(new, "teacher_of_another_project", lambda *told: replace(real(*told), **change))
    teacher = str(snapshot(tmp_path / "edm.pkl", song()))
    capsys.readouterr()
    assert main(["new", "--data", pictures, "--teacher", teacher]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words)
    assert not (tmp_path / "photos.gin").exists()


def test_a_student_is_no_teacher_and_nothing_is_overwritten(finished, capsys, tmp_path):
    student = sorted((finished / "checkpoints").glob("step_*.pt"))[-1]
    assert main(["new", "--data", "digits", "--teacher", str(student)]) == 2
    assert "is no teacher" in capsys.readouterr().err
    (tmp_path / "digits.gin").write_text("mine")
    assert main(["new", "--data", "digits", "--teacher", str(student)]) == 2
    assert "is left alone" in capsys.readouterr().err
    assert (tmp_path / "digits.gin").read_text() == "mine"


def test_latents_keep_the_numbers_that_the_teacher_saw_them_with(finished, tmp_path):
    run = next(finished.parent.glob("*_teacher-*"))
    state = checkpoints.load(str(sorted((run / "checkpoints").glob("step_*.pt"))[-1]))
    state["config"] += "\nTrainer.data = @Latents()\nLatents.data = @InMemory()\n"
    state["config"] += "Latents.mean = (0.3,)\nLatents.deviation = (5.49,)\n"
    torch.save(state, tmp_path / "teacher.pt")
    told = own_teacher(str(tmp_path / "teacher.pt"))
    assert told.latents == ((0.3,), (5.49,))

"""Data sets of a handful of images: refused in one line before anything is trained, or trained to the end."""

import json

import numpy as np
import pytest

from realuid.commands.train import main
from realuid.data.shards.writer import NewSample, write_shards
from tests.commands.conftest import tiny


def handful(folder, count, labels=None):
    """A data set of `count` images of ten classes."""
    generator = np.random.default_rng(0)
    labels = labels or [n % 10 for n in range(count)]
    samples = [NewSample(generator.integers(0, 256, (1, 8, 8)).astype(np.uint8), label) for label in labels]
    classes = tuple("0123456789")
    form = {"split": "train", "name": "few", "classes": classes, "shape": (1, 8, 8), "source": "here", "licence": "CC0"}
    write_shards(iter(samples), str(folder), shard_size=100, conditions=(), encoder=None, **form)
    return f"InMemory.path = '{folder}'"


def mistake(arguments, tmp_path, capsys):
    """The line that train.py ends with; it trained nothing."""
    out = tmp_path / "run"
    assert main([*arguments, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not [*tmp_path.rglob("step_*.pt")], "something was trained"
    return said.strip().splitlines()[-1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_to_three_images_are_refused_before_training(count, tmp_path, capsys):
    line = mistake(tiny(handful(tmp_path / "few", count)), tmp_path, capsys)
    assert f"SmallClassifier learns from 4 images or more, and there are {count}" in line


def test_too_few_for_the_metric_that_is_bound(tmp_path, capsys):
    bind = ["Evaluator.metrics = (@DensityCoverage(),)", handful(tmp_path / "few", 5)]
    line = mistake(tiny(*bind), tmp_path, capsys)
    assert "DensityCoverage needs at least 6 real images, and there are 5" in line


def test_a_teacher_without_an_evaluator_is_not_trained_in_vain(tmp_path, capsys):
    bind = ["teacher/Trainer.evaluator = None", handful(tmp_path / "few", 3)]
    assert "there are 3" in mistake(tiny(*bind), tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], pytest.param([7, 7, 7, 7, 7], marks=pytest.mark.slow)])
def test_four_images_are_enough(labels, tmp_path):
    out = tmp_path / "run"
    assert main([*tiny(handful(tmp_path / "few", len(labels), labels)), "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary, "a number is not finite"
    assert {"student_frechet", "halves_frechet", "pixel_gaussian_frechet"} <= set(summary)


@pytest.mark.slow
def test_one_image_can_be_learnt_without_an_evaluator(tmp_path):
    out = tmp_path / "run"
    bind = ["Trainer.evaluator = None", "teacher/Trainer.evaluator = None", handful(tmp_path / "few", 1)]
    assert main([*tiny(*bind), "--out", str(out)]) == 0
    assert (out / "samples" / "data.png").is_file()

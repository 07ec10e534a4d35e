"""Where images are slow, a run says between two lines of metrics that it goes on."""

import json
from pathlib import Path

import pytest

from realuid.commands.train import main as train
from realuid.utils import progress
from tests.commands.conftest import tiny


@pytest.mark.slow
def test_a_run_shows_lines_without_metrics_in_between(monkeypatch, capsys):
    """Every step is late here: 16 images are seen at once, 128 stand between two lines of metrics.jsonl."""
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    monkeypatch.setattr(progress, "EARLY_S", 0.0)
    arguments = [*tiny("Trainer.log_images = 128", "Trainer.evaluator = None"), "--out", "slow"]
    assert train(arguments) == 0
    shown = [line for line in capsys.readouterr().err.splitlines() if "img/s" in line and "generator_loss" not in line]
    of_student = [line for line in shown if "teacher_loss" not in line]
    for images in (16, 64, 112):
        assert any(f" {images} images" in line and " left" in line for line in of_student), images
    written = [json.loads(line)["images"] for line in Path("slow/metrics.jsonl").read_text().splitlines()]
    assert written == [128], "the metrics stay where they were"

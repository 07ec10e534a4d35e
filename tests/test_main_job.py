"""The README's main job, whole: what the built-in default promises."""

import json

import pytest

from realuid.commands.train import main


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_digits_recipe_meets_its_bar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))
    assert main(["--gin", "gin/fm_digits.gin", "--bind", "Trainer.threads = 2"]) == 0
    summary = json.loads((tmp_path / "runs" / "fm_digits" / "summary.json").read_text())
    student, teacher = summary["student_frechet"], summary["teacher_frechet"]
    assert student <= max(2.5 * teacher, summary["halves_frechet"]), summary
    assert student <= summary["pixel_gaussian_frechet"] / 4, summary
    assert teacher <= 2 * summary["halves_frechet"], summary
    assert summary["student_agreement"] > 0.9, summary
    assert summary["stamps"]["student_frechet"]["count"] == 5000

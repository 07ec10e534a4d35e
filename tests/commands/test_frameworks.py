"""A framework is a gin file: the shipped ones, and one whose path is a plug-in, through the whole command line."""

import json

import pytest

from realuid.commands.train import main

SIZE = """
IMAGES = 64
UNet.width = 8
Evaluator.count = 60
Trainer.batch = 16
Trainer.log_images = 32
"""

PLUG_IN = '''
"""A path that is not ours."""

import torch

from realuid.interpolants import Interpolant

__all__ = ["CosineInterpolant"]


class CosineInterpolant(Interpolant):
    def a(self, t):
        return torch.cos(torch.pi / 2 * t)

    def b(self, t):
        return torch.sin(torch.pi / 2 * t)
'''

FRAMEWORKS = {
    "edm": ("include 'gin/matching/edm.gin'\nHeun.steps = 2\n", "RealUID.target = @Data()\nOneStep.time = 2.5\n"),
    "si": ("include 'gin/matching/si.gin'\nEuler.steps = 2\n", ""),
    "cosine": ("import cosine_path\nMatchingModel.interpolant = @CosineInterpolant()\nEuler.steps = 2\n", ""),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_another_framework_is_a_gin_file(name, tmp_path, monkeypatch):
    framework, student = FRAMEWORKS[name]
    (tmp_path / "cosine_path.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_teacher.gin").write_text(f"include 'gin/smoke_teacher.gin'\n{framework}{SIZE}")
    (tmp_path / "mine.gin").write_text(
        f"include 'gin/smoke.gin'\n{framework}{student}{SIZE}Distillation.real_batch = 4\n"
        f"Teacher.recipe = '{tmp_path / 'my_teacher.gin'}'\nTeacher.overrides = {{}}\n"
    )
    assert main(["--gin", str(tmp_path / "mine.gin"), "--dry-run"]) == 0
    assert main(["--gin", str(tmp_path / "mine.gin"), "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["student_frechet"] > 0
    assert summary["teacher_frechet"] > 0

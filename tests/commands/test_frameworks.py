"""A framework is a gin file: the shipped ones, and one whose path is a plug-in, through the whole command line."""

import json

import pytest

from realuid.commands.train import main
from tests.commands.conftest import ROOT

SIZE = """
IMAGES = 64
TEACHER_IMAGES = 64
UNet.width = 8
UNet.multipliers = (1,)
Distillation.fake_steps = 2
Evaluator.count = 60
Trainer.batch = 16
Trainer.log_images = 32
"""

PLUG_IN = '''
"""A path that is not ours."""

import torch

from realuid.paths.interpolants import Interpolant

__all__ = ["QuarterTurnInterpolant"]


class QuarterTurnInterpolant(Interpolant):
    def a(self, t):
        return torch.cos(torch.pi / 2 * t)

    def b(self, t):
        return torch.sin(torch.pi / 2 * t)
'''

FRAMEWORKS = {
    "edm": ("include 'gin/matching/edm.gin'\nHeun.steps = 2\n", "RealUID.target = @Data()\nOneStep.time = 2.5\n"),
    "si": ("include 'gin/matching/si.gin'\nEuler.steps = 2\n", ""),
    "cosine": ("import cosine_path\nMatchingModel.interpolant = @QuarterTurnInterpolant()\nEuler.steps = 2\n", ""),
}


@pytest.mark.parametrize("name", ["edm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("si", "cosine"))])
def test_another_framework_is_a_gin_file(name, tmp_path, monkeypatch):
    framework, student = FRAMEWORKS[name]
    (tmp_path / "cosine_path.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.gin").write_text(
        f"include 'gin/smoke.gin'\n{framework}{student}{SIZE}Distillation.real_batch = 4\n"
    )
    assert main(["--gin", str(tmp_path / "mine.gin"), "--dry-run"]) == 0
    assert main(["--gin", str(tmp_path / "mine.gin"), "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["student_frechet"] > 0
    assert summary["teacher_frechet"] > 0


PAIRS = "include 'gin/data/digits_sr.gin'\n"
MOMENTS = "SIGMA_DATA = 0.75\nSIGMA_SOURCE = 0.61\nCOVARIANCE = 0.37\n"
NEEDS = {"bm": PAIRS + MOMENTS, "ddbm": PAIRS + MOMENTS, "i2sb": PAIRS, "ot": "Trainer.lanes = 1\n"}
MATCHING = sorted((ROOT / "gin" / "matching").glob("*.gin"))


@pytest.mark.parametrize("matching", MATCHING, ids=lambda path: path.stem)
def test_every_shipped_framework_makes_a_teacher(matching, capsys, monkeypatch, tmp_path):
    """Also those that no recipe of the digits uses."""
    name = matching.stem
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "nothing here"))
    (tmp_path / "mine.gin").write_text(
        f"include 'gin/data/digits.gin'\n{NEEDS.get(name, '')}include 'gin/networks/unet_digits.gin'\n"
        f"include 'gin/base/teacher.gin'\ninclude 'gin/matching/{name}.gin'\n{TEACHER}"
    )
    assert main(["--gin", str(tmp_path / "mine.gin"), "--dry-run"]) == 0
    assert "teacher " in capsys.readouterr().out


TEACHER = """
Trainer:
    method = @TeacherTraining()
    batch = 64
    images = 64
    log_images = 64
    sample_images = 64
    checkpoint_images = 64
    evaluator = @Evaluator()
Adam.lr = 1e-3
Adam.lr_schedule = @ConstantLR()
EMA.decays = (0.9,)
"""

GUIDED = """
include 'gin/smoke.gin'

Teacher.model = @GuidedModel()
GuidedModel.model = @teacher/MatchingModel()
GuidedModel.classes = %CLASSES
GuidedModel.scale = 1.5
UNet.null_label = True
"""

ON_ANOTHER_PATH = """
include 'gin/smoke.gin'

Teacher.model = @ReexpressedModel()
ReexpressedModel.model = @teacher/MatchingModel()
ReexpressedModel.interpolant = @CosineInterpolant()
student/MatchingModel.interpolant = @CosineInterpolant()
fake/MatchingModel.interpolant = @CosineInterpolant()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "more"),
    [
        (GUIDED, "TeacherTraining.condition_dropout = 0.2\n"),
        pytest.param(ON_ANOTHER_PATH, "", marks=pytest.mark.slow),
    ],
    ids=["guidance", "another path"],
)
def test_a_teacher_behind_another_model_is_trained_found_and_distilled(text, more, tmp_path):
    """The recipe trains the network behind guidance or on its own path; the student starts from it."""
    (tmp_path / "mine.gin").write_text(f"{text}{SIZE}Euler.steps = 2\nDistillation.real_batch = 4\n{more}")
    arguments = ["--gin", str(tmp_path / "mine.gin")]
    assert main([*arguments, "--dry-run"]) == 0
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["teacher_frechet"] > 0

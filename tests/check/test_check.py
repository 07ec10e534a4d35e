"""tools/check.py: every shipped framework holds, broken ones are refused with their culprit."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from realuid.check.table import failed
from realuid.commands.check import main
from tests.extras import skip_without_extras
from tests.shipped import EXAMPLES, GIN, RECIPES, cases

FAMILIES = {
    "edm_digits.gin",
    "i2sb_digits_sr.gin",
    "ot_digits.gin",
    "si_digits.gin",
    "trig_digits.gin",
    "tiny_text.gin",
}


def check(capsys, text, tmp_path, *bindings):
    """Exit status and output for a gin text."""
    (tmp_path / "mine.gin").write_text(text)
    arguments = ["--gin", str(tmp_path / "mine.gin")]
    for binding in bindings:
        arguments += ["--bind", binding]
    code = main(arguments)
    return code, capsys.readouterr().out


@pytest.mark.parametrize("recipe", cases([*RECIPES, *EXAMPLES], quick={"fm_digits.gin"}, slow=FAMILIES))
def test_shipped_frameworks_hold(recipe, capsys):
    skip_without_extras(GIN / recipe)
    assert main(["--gin", f"gin/{recipe}"]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "training: error of the student's mean" in out


def test_a_teachers_training_is_checked_too(tmp_path, capsys):
    text = "include 'gin/data/digits.gin'\ninclude 'gin/matching/fm.gin'\ninclude 'gin/networks/unet_digits.gin'\n"
    text += "include 'gin/base/teacher.gin'\nTrainer.method = @TeacherTraining()\nTrainer.batch = 8\n"
    text += "".join(f"Trainer.{name}_images = 8\n" for name in ("log", "sample", "checkpoint"))
    text += "Trainer.evaluator = @Evaluator()\n"
    text += "Trainer.images = 8\nAdam.lr = 1e-3\nAdam.rate = @ConstantLR()\nEMA.decays = (0.9,)\n"
    code, out = check(capsys, text, tmp_path)
    assert code == 0, out
    assert "sampler: error of the data's mean" in out


FM, EXPRESSION = "include 'gin/fm_digits.gin'\n", "MatchingModel.interpolant = @ExpressionInterpolant()\n"
BRIDGE, SR = "include 'gin/bm_digits_sr.gin'\n", "include 'gin/i2sb_digits_sr.gin'\n"


def path(a, b, g="0"):
    return FM + EXPRESSION + f"ExpressionInterpolant:\n    a = '{a}'\n    b = '{b}'\n    g = '{g}'\n"


@pytest.mark.slow
def test_a_guided_teacher_is_checked_too(tmp_path, capsys):
    text = FM + "UNet.null_label = True\nTeacher.model = @GuidedModel()\n"
    code, out = check(capsys, text + "GuidedModel:\n    model = @teacher/MatchingModel()\n    scale = 2.0\n", tmp_path)
    assert code == 0, out


BROKEN = {
    "misses its data end": (path("1 - 0.8 * t", "t"), "path: what the data end misses"),
    "does not reach the data's scale": (path("1 - t", "0.8 * t"), "path: what the data end misses"),
    "still noisy at the data": (path("1 - t", "t", "0.3 * sqrt(t)"), "path: what the data end misses"),
    "swapped ends": (path("t", "1 - t"), "exchange t_source and t_data, or a and b"),
    "starts with data": (path("1 - t", "0.4 + 0.6 * t"), "path: what the source end misses"),
    "NaN in a schedule": (path("sqrt(0.5 - t)", "t"), "sqrt(0.5 - t)"),
    "infinite in the middle": (path("1 - t", "t + 0 / (t - 0.5)"), "0 / (t - 0.5)"),
    "time mass outside": (
        "include 'gin/edm_digits.gin'\nEDMInterpolant.sigma_max = 3.0\n",
        "LogNormalTime draws sigma from",
    ),
    "time mass at a pole": (FM + "RealUID.target = @Score()\n", "Score"),
    "a time sampler that turns back": (
        FM + "TIME_SAMPLER = @ExpressionTime()\nExpressionTime.quantile = 'sin(pi * u)'\n",
        "sin(pi * u)",
    ),
    "a loss target that is not determined": (
        BRIDGE + "RealUID.target = @Velocity()\n",
        "Velocity[0] is not determined",
    ),
    "a sampler that is not determined": (
        BRIDGE + "SAMPLER = @Euler()\nEuler.steps = 10\nEuler.grid = @UniformGrid()\n",
        "Velocity[0] is not determined",
    ),
    "noise prediction says nothing of the data at the source": (
        FM + "MatchingModel.target = @Noise()\nSAMPLER = @Posterior()\nPosterior.steps = 9\n"
        "Posterior.grid = @UniformGrid()\n",
        "Data from Noise is unbounded at time 0",
    ),
    "conditioned on x0 without noise in the path": (
        BRIDGE + "MatchingModel.interpolant = @LinearInterpolant()\nMatchingModel.source_conditioned = True\n",
        "LinearInterpolant has g = 0",
    ),
    "a student whose network expects noise": (BRIDGE + "OneStep.noise = 0\n", "or bind OneStep.noise = 1"),
    "a deterministic student on random pairs": (
        BRIDGE + "OneStep.noise = 0\nstudent/UNet.in_multiplier = 1\n",
        "x1 is random given x0: bind OneStep.noise = 1",
    ),
    "pairs of data that has none": (BRIDGE + "Trainer.data = @InMemory()\n", "data = @InMemory() gives no source"),
    "a student beyond its path": (FM + "OneStep.time = 1.5\n", "time = 1.5 must lie on the path"),
    "guidance without a label that means none": (
        FM + "Teacher.model = @GuidedModel()\nGuidedModel:\n    model = @teacher/MatchingModel()\n    classes = 10\n"
        "    scale = 2.0\n",
        "bind UNet.null_label = True",
    ),
    "alpha = 1 with beta < 1": (
        FM + "Distillation.loss = @RealUID()\nRealUID.beta = 0.9\n",
        "alpha = 1 needs beta = 1",
    ),
    "gamma > 1": (
        FM.replace("fm", "trig") + "Distillation.loss = @GeneralRealUID()\nGeneralRealUID:\n    target = @Velocity()\n"
        "    alpha = 0.9\n    beta = 0.9\n    gamma = 1.1\n",
        "gamma must lie in (0, 1], got 1.1",
    ),
    "a weight that is negative": (
        FM + "WEIGHT = @ExpressionWeight()\nExpressionWeight.weight = '0.5 - t'\n",
        "weights must be finite and positive",
    ),
    "scalings for another path": (
        SR + "MatchingModel.preconditioning = @VPPreconditioning()\n",
        "VPPreconditioning is not finite for Data() at time 1",
    ),
    "a diffusion that is negative": (
        "include 'gin/si_onesided_digits.gin'\nExpressionDiffusion.epsilon = 't - 0.5'\n",
        "diffusion of EulerMaruyama must be finite and not negative",
    ),
    "a sampler for other paths": (
        FM + "SAMPLER = @EDMStochastic()\nEDMStochastic.steps = 10\nEDMStochastic.grid = @UniformGrid()\n",
        "EDMStochastic is for paths x1 + sigma x0",
    ),
    "two paths": (FM + "fake/MatchingModel.interpolant = @CosineInterpolant()\n", "the fake is on CosineInterpolant"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frameworks_are_refused_with_the_culprit(name, tmp_path, capsys):
    text, culprit = BROKEN[name]
    code, out = check(capsys, text, tmp_path)
    assert code == 1, out
    assert culprit in out.splitlines()[-1], out


def test_what_cannot_be_read_is_the_users_mistake(tmp_path, capsys):
    assert check(capsys, FM + "RealUID.alpah = 0.9\n", tmp_path)[0] == 2


GAME = ("Distillation.loss = @RealUID()", "RealUID.alpha = 0.92", "RealUID.beta = 0.94")
"""A loss that is a game of two, whose value is differentiated; `Reflected` is none."""


class TestRowsCanFail:
    """Each oracle against a part that is wrong in a way only it can see."""

    def rows(self, recipe="gin/fm_digits.gin", bindings=()):
        from realuid import config
        from realuid.check.framework import check as rows_of

        torch.set_num_threads(1)
        return lambda: {row.what: row for row in rows_of(config.build(config.load([recipe], bindings)).method)}

    def failed(self, rows):
        return {row.what for row in failed(list(rows.values()))}

    def test_a_wrong_derivative(self, monkeypatch):
        from realuid.paths.interpolants import base

        slopes = base._slopes
        monkeypatch.setattr(base, "_slopes", lambda values, times: 1.01 * slopes(values, times))
        assert "schedule: derivatives, by finite differences" in self.failed(self.rows()())

    def test_a_posterior_row_that_does_not_match_the_sampled_one(self, monkeypatch):
        from realuid.paths.targets import Row, Velocity

        rows = Velocity.rows
        monkeypatch.setattr(
            Velocity,
            "rows",
            lambda self, k: tuple(Row(r.sampled, (r.mean[0], 1.05 * r.mean[1], r.mean[2])) for r in rows(self, k)),
        )
        assert "model: regression optimum" in self.failed(self.rows()())

    def test_a_conversion_that_is_off(self, monkeypatch):
        from realuid.paths.conversions import Conversion

        call = Conversion.__call__
        monkeypatch.setattr(Conversion, "__call__", lambda *arguments: 1.01 * call(*arguments))
        assert "conversion: Data from the prediction" in self.failed(self.rows()())

    def test_a_sampler_that_stops_short(self, monkeypatch):
        from realuid.samplers import Euler

        def short(self, way, x, times):
            for t, s in pairwise(times[:-20]):
                x = x + (s - t) * way.predict(x, t, self.target(way.model))
            return x

        monkeypatch.setattr(Euler, "_integrate", short)
        assert any(what.startswith("sampler:") for what in self.failed(self.rows()()))

    def test_a_fake_loss_whose_optimum_is_not_the_teacher(self, monkeypatch):
        from realuid.losses import RealUID

        fake_loss = RealUID.fake_loss
        monkeypatch.setattr(
            RealUID,
            "fake_loss",
            lambda self, generated, real: fake_loss(self, generated, real) + 0.1 * generated.fake.mean(),
        )
        assert "loss: value with the data's own law" in self.failed(self.rows()())

    def test_a_generator_loss_that_misses_a_gradient(self, monkeypatch):
        from realuid.losses import RealUID

        generator_loss = RealUID.generator_loss
        monkeypatch.setattr(
            RealUID,
            "generator_loss",
            lambda self, g: generator_loss(self, replace(g, fake=g.fake.detach())),
        )
        assert any("gradient" in what for what in self.failed(self.rows(bindings=GAME)()))

    @pytest.mark.slow
    def test_a_student_that_is_led_astray(self, monkeypatch):
        from realuid.losses import RealUID

        generator_loss = RealUID.generator_loss
        monkeypatch.setattr(RealUID, "generator_loss", lambda self, g: generator_loss(self, g) + 0.3 * g.target.mean())
        assert any(what.startswith("training:") or "gradient" in what for what in self.failed(self.rows()()))

    def test_a_student_that_has_not_arrived(self, monkeypatch):
        from realuid.check import training

        monkeypatch.setattr(training, "STEPS", 3)
        assert any(what.startswith("training: ") for what in self.failed(self.rows()()))

    @pytest.mark.slow
    def test_a_student_that_is_pulled_away_by_a_loss_without_a_closed_form(self, monkeypatch):
        from realuid.losses import FGM

        generator_loss = FGM.generator_loss
        monkeypatch.setattr(FGM, "generator_loss", lambda self, g: generator_loss(self, g) + 0.3 * g.target.mean())
        bindings = ["Distillation.loss = @FGM()", "FGM.target = @Velocity()"]
        assert any(what.startswith("training: ") for what in self.failed(self.rows(bindings=bindings)()))

    def test_scalings_without_unit_variance(self, monkeypatch):
        from realuid.paths.preconditioning import PathStatistics

        variance = PathStatistics.variance
        monkeypatch.setattr(PathStatistics, "variance", lambda self, k: 1.2 * variance(self, k))
        assert any(what.startswith("preconditioning") for what in self.failed(self.rows("gin/trig_digits.gin")()))


LOSSES = {
    "SiD": "SiD.a = 1.2",
    "FGM": "",
    "RealSiD": "RealSiD.a = 0.5\nRealSiD.alpha = 0.92\nRealSiD.beta = 0.94",
    "DMD": "",
    "DiffInstruct": "",
    "GeneralRealUID": "GeneralRealUID:\n    alpha = 0.92\n    beta = 0.94\n    gamma = 0.85\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_the_other_losses_hold_too(name, tmp_path, capsys):
    text = f"include 'gin/edm_digits.gin'\nDistillation.loss = @{name}()\n{name}.target = @Data()\n{LOSSES[name]}\n"
    code, out = check(capsys, text, tmp_path)
    assert code == 0, out
    assert "training: relative error of its std" in out


def test_a_loss_that_is_not_quadratic_says_so(tmp_path, capsys):
    text = FM + "Distillation.loss = @NormalisedRealUID()\nNormalisedRealUID:\n    target = @Velocity()\n"
    code, out = check(capsys, text + "    alpha = 0.92\n    beta = 0.94\n", tmp_path)
    assert code == 0, out
    assert "NormalisedRealUID: its value and training are not checked" in out


@pytest.mark.slow
def test_figures_are_printed_with_their_bounds(tmp_path, capsys):
    code, out = check(capsys, FM, tmp_path)
    assert code == 0
    table = [line for line in out.splitlines()[:-2] if not line.startswith("note ")]
    assert all(line.startswith("ok ") and (" <= " in line or " >= " in line) for line in table), out
    assert f"all {len(table)} checks hold" in out.splitlines()[-1]

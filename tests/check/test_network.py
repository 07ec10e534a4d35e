"""What check.py warns of: what exact models forgive and networks do not. Each warning names the binding to change."""

from pathlib import Path

import pytest
import torch

from realuid import config as configuration
from realuid.check import framework, rehearsal
from realuid.check.gaussian import GaussianPairs, Moments, data_moments
from realuid.check.network import cautions, explained, growth, time_rows_of_networks
from realuid.check.rehearsal import Outcome
from realuid.check.start import start_rows
from realuid.check.table import failed
from realuid.check.updates import rate_rows, update_rows
from realuid.commands.check import main
from realuid.jobs.check import _teacher_of, rows_of
from realuid.models.matching import matching_model_of
from realuid.networks.mlp import MLP
from realuid.networks.no_init_weights import no_weights
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Noise, Velocity
from tests.extras import skip_without_extras
from tests.shipped import RECIPES, cases
from tests.training.stand_ins import matching_model

ROOT = Path(__file__).parents[2]
SMALL = {"smoke.gin", "edm_digits.gin", "i2sb_digits_sr.gin", "fm_digits_lora.gin"}
VAST = {"flux_lora.gin", "sd35_medium_lora.gin", "sdxl_lora.gin"}
FM = "include 'gin/fm_digits.gin'\n"
RANDOM = "Distillation.student_init = 'random'\nDistillation.fake_init = 'random'\n"
WARM = "Distillation.warm_start = @WarmStart()\nWarmStart.images = 9_600\n"
REEXPRESSED = (
    "include 'gin/edm_digits.gin'\nTeacher.model = @teacher/ReexpressedModel()\n"
    "ReexpressedModel.model = @teacher/MatchingModel()\nReexpressedModel.interpolant = @LinearInterpolant()\n"
    + "".join(
        f"{role}/MatchingModel.interpolant = @LinearInterpolant()\n{role}/MatchingModel.target = @Velocity()\n"
        f"{role}/MatchingModel.preconditioning = @NoPreconditioning()\n"
        for role in ("student", "fake")
    )
    + "Distillation.time_sampler = @UniformTime()\nUniformTime.low = 0.01\nUniformTime.high = 0.99\n"
    "Distillation.weight = @UnitWeight()\nTeacher.sampler = @Euler()\nEuler.steps = 25\nEuler.grid = @UniformGrid()\n"
    "OneStep.time = None\n"
)
NOISE = (
    FM + "MatchingModel.target = @Noise()\nRealUID.target = @Velocity()\n"
    "MatchingModel.interpolant = @ExpressionInterpolant()\nExpressionInterpolant.a = '0.98 * (1 - t)'\n"
    "ExpressionInterpolant.b = '0.02 + 0.98 * t'\n"
    "SAMPLER = @Posterior()\nPosterior.steps = 25\nPosterior.grid = @UniformGrid()\n"
)
COSINE = (
    "include 'gin/vp_digits.gin'\ninclude 'gin/matching/ddpm.gin'\nDDPMInterpolant.betas = 'squaredcos_cap_v2'\n"
    "Posterior.steps = 25\nRealUID.target = @Data()\nOneStep.time = None\n"
)


def built(text, tmp_path):
    (tmp_path / "mine.gin").write_text(text)
    return configuration.load([tmp_path / "mine.gin"])


def network_rows(config):
    """The rows on networks alone, which are quick."""
    with no_weights():
        trainer, teacher_trainer = configuration.build(config), _teacher_of(config)
    method = trainer.method
    rows = [*update_rows(trainer)]
    if teacher_trainer is not None:
        rows += [*update_rows(teacher_trainer, "teacher/"), *cautions(framework.teacher_rows(teacher_trainer.method))]
    rows += start_rows(method)
    teacher = method.teacher.model
    moments = data_moments(matching_model_of(teacher) or matching_model_of(method.fake))
    generator = method.generator_time_sampler, method.generator_weight
    rows += framework._network_rows(method, moments, generator)
    law = GaussianPairs(
        interpolant=teacher.interpolant,
        coupling=teacher.coupling,
        moments=moments,
        source_conditioned=teacher.source_conditioned,
    )
    return rows + time_rows_of_networks(method.loss, law, *generator, "generator", "Distillation.time_sampler")


WARNED = {
    "random weights": (FM + RANDOM, "bind Distillation.warm_start = @WarmStart()"),
    "an EDM teacher on the linear path": (REEXPRESSED + RANDOM, "bind Distillation.warm_start = @WarmStart()"),
    "noise under a loss in velocity": (NOISE, "fake/MatchingModel.target = @Velocity()"),
    "noise at the student's time": (NOISE, "its samples are errors of the network: bind OneStep.time"),
    "iDDPM's cosine grid": (COSINE, "its samples are errors of the network: bind OneStep.time"),
    "a student that starts half way": (FM + "OneStep.time = 0.5\n", "Bind OneStep.time nearer to the source"),
    "times at the source alone": (FM + "UniformTime.low = 0.95\nUniformTime.high = 1.0\n", "bind another"),
    "times at the data alone": (FM + "UniformTime.low = 0.0\nUniformTime.high = 0.05\n", "at one end alone"),
    "a rate of ten": (FM + "Adam.lr = 10\n", "student/Adam.lr = 10"),
    "the fake's rate": (FM + "fake/Adam.lr = 3.0\n", "fake/Adam.lr = 3"),
    "no rate at all": (FM + "student/Adam.lr = 1e-12\n", "too small"),
    "a clip below what eps lets through": (FM + "Adam.clip = 1e-9\n", "bind student/Adam.clip = 1.0"),
    "the teacher's clip": (FM + "teacher/Adam.clip = 1e-9\n", "bind teacher/Adam.clip = 1.0"),
    "an eps above all gradients": (FM + "Adam.eps = 1.0\n", "bind student/Adam.eps = 1e-8"),
    "a rate of nothing": (FM + "fake/Adam.lr = 1e-30\n", "fake/Adam.lr = 1e-30"),
    "a warm-up longer than the run": (
        FM + "Adam.lr_schedule = @ConstantLR()\nConstantLR.warm_up = 1_000_000_000\n",
        "bind ConstantLR.warm_up to less than Trainer.images",
    ),
    "the teacher's warm-up": (
        FM + "teacher/CosineLR.images = 10_000_000\nteacher/CosineLR.warm_up = 9_000_000\n",
        "to less than teacher/Trainer.images",
    ),
    "a cosine that ends early": (
        FM + "CosineLR.images = 2_000\nCosineLR.warm_up = 0\nCosineLR.last = 1e-30\n",
        "or a larger CosineLR.last",
    ),
    "updates that add up to nothing": (FM + "student/Adam.lr = 1e-7\n", "bind a larger student/Adam.lr"),
    "a decay that eats the weights": (FM + "Adam.weight_decay = 500.0\n", "takes 50% of every weight away"),
    "a momentum longer than the run": (FM + "Adam.betas = (0.9999999, 0.999)\n", "averages gradients over 1e+07 steps"),
    "a teacher that is told nothing": (
        FM + "TeacherTraining.condition_dropout = 0.999\n",
        "told nothing of nearly all",
    ),
    "a spike that every gradient is": (FM + "Adam.spike = 1.01\n", "bind 5 or more"),
    "an average of the whole run": (FM + "EMA.decays = (0.9999999,)\n", "bind EMA.decays = (0.9"),
    "an average that hardly moves": (FM + f"EMA.decays = ({1 - 2**-53!r},)\n", "bind EMA.decays = (0.9"),
    "a warm start of two steps": (FM + RANDOM + WARM + "WarmStart.images = 128\n", "2 steps teach a network nothing"),
    "a batch of one": (FM + "Trainer.batch = 1\nTrainer.lanes = 1\n", "bind Trainer.batch = 8 or more"),
    "a weight that is 0 almost everywhere": (
        FM + "Distillation.weight = @ExpressionWeight()\nExpressionWeight.weight = 'exp(-1e4 * (t - 0.5)**2)+1e-12'\n",
        "bind another Distillation.weight",
    ),
    "a weight that is next to nothing": (
        FM + "Distillation.weight = @ExpressionWeight()\nExpressionWeight.weight = '1e-25'\n",
        "bind a larger Distillation.weight",
    ),
    "a teacher's weight likewise": (
        FM + "TeacherTraining.weight = @ExpressionWeight()\nExpressionWeight.weight = '1e-25'\n",
        "bind a larger TeacherTraining.weight",
    ),
    "a loss that is next to nothing": (
        FM + "Distillation.loss = @RealUID()\nRealUID.alpha = 1e-9\nRealUID.beta = 1e-9\n",
        "coefficients of the loss",
    ),
    "the warm start's rate": (FM + RANDOM + WARM + "WarmStart.lr = 5.0\n", "WarmStart.lr = 5"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_networks_do_not_forgive_is_warned_of_with_the_binding(name, tmp_path):
    text, words = WARNED[name]
    found = cautions(network_rows(built(text, tmp_path)))
    assert any(words in str(row) for row in found), "\n".join(map(str, found))


@pytest.mark.slow
def test_the_teachers_rate_is_looked_at_too(tmp_path):
    found = cautions(rows_of(built(FM + "teacher/Adam.lr = 10\n", tmp_path)))
    assert [row.what for row in found] == ["teacher/Adam.lr = 10"]


def test_the_encoder_decoder_carries_no_signal_half_of_the_time(tmp_path):
    text = FM + "MatchingModel.interpolant = @EncoderDecoderInterpolant()\nMatchingModel.target = @Data()\n"
    text += "UniformTime.low = 0.01\nUniformTime.high = 0.99\n"
    text += "SAMPLER = @Posterior()\nPosterior.steps = 25\nPosterior.grid = @UniformGrid()\n"
    found = cautions(network_rows(built(text, tmp_path)))
    assert any("share of times without signal" in row.what for row in found), "\n".join(map(str, found))


@pytest.mark.parametrize("recipe", cases(RECIPES, quick=SMALL, slow=set(RECIPES) - VAST))
def test_no_shipped_recipe_is_warned_of(recipe):
    skip_without_extras(Path("gin", recipe))
    rows = network_rows(configuration.load([f"gin/{recipe}"]))
    assert not failed(rows)
    assert not cautions(rows), "\n".join(map(str, cautions(rows)))


def test_a_warm_start_silences_the_warning(tmp_path):
    assert not cautions(network_rows(built(FM + RANDOM + WARM, tmp_path)))


def test_a_student_of_another_width_cannot_take_the_teachers_weights(tmp_path):
    text = FM + "student/UNet.width = 24\n"
    (row,) = failed(network_rows(built(text, tmp_path)))
    assert "Distillation.warm_start = @WarmStart()" in row.note
    assert not failed(network_rows(built(text + "Distillation.student_init = 'random'\n" + WARM, tmp_path)))


class TestFigures:
    """Against closed forms."""

    TIMES = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)

    def test_velocity_from_noise_grows_by_one_over_t_on_the_linear_path(self):
        model = matching_model(MLP(shape=(1,), width=4, depth=1), LinearInterpolant(), Noise())
        network = model.network
        assert torch.allclose(growth(model, Velocity(), self.TIMES), 1 / self.TIMES)
        assert torch.allclose(growth(model, Data(), self.TIMES), (1 - self.TIMES) / self.TIMES)
        assert model.network is network

    def test_data_from_velocity_shrink_towards_the_data(self):
        model = matching_model(MLP(shape=(1,), width=4, depth=1), LinearInterpolant(), Velocity())
        assert torch.allclose(growth(model, Data(), self.TIMES), 1 - self.TIMES)

    def test_what_x_t_tells_is_the_squared_correlation(self):
        moments = Moments(0.0, 0.3, 1.0, 0.25, 0.0)
        law = GaussianPairs(interpolant=LinearInterpolant(), coupling=IndependentCoupling(), moments=moments)
        generator = torch.Generator().manual_seed(0)
        x0, e = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
        x1 = 0.3 + 0.5 * e
        for t, found in zip(self.TIMES.tolist(), explained(law, self.TIMES).tolist(), strict=True):
            x_t = (1 - t) * x0 + t * x1
            assert abs(found - float(torch.corrcoef(torch.stack([x_t, x1]))[0, 1] ** 2)) < 5e-3

    def test_rates_within_reason_are_not_mentioned(self):
        assert not rate_rows({"a": 1e-6, "b": 1e-2})
        assert [row.what for row in rate_rows({"a": 1e-9})] == ["a = 1e-09"]


class TestVerdict:
    """Of a rehearsal, by its figures."""

    @pytest.mark.parametrize(
        ("student", "teacher", "bad"),
        [
            (0.6, 0.5, None),
            (1.5, 0.5, None),
            (4.9, 0.9, "student"),  # below the Gaussian, and not towards the teacher
            (16.3, 2.5, "student"),
            (float("inf"), 0.5, "student"),
            (3.0, 8.7, "teacher"),
            (0.6, float("inf"), "teacher"),
        ],
    )
    def test_below_the_gaussian_and_towards_the_teacher(self, student, teacher, bad):
        found = failed(Outcome(student, teacher, 5.2).rows)
        assert bool(found) == (bad is not None)
        assert bad is None or bad in found[0].what


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fm_digits_text.gin", "edm_imagenet64.gin", "fm_digits_lora.gin"])
def test_the_small_networks_are_told_what_the_digits_have(recipe, monkeypatch):
    """Text and a thousand classes are not there to be told; two steps of each phase show it."""
    skip_without_extras(Path("gin", recipe))
    monkeypatch.setattr(rehearsal, "TEACHER_STEPS", 2)
    monkeypatch.setattr(rehearsal, "STEPS", 2)
    monkeypatch.setattr(rehearsal, "_measured", lambda made, data, world: made)
    with no_weights():
        trainer = configuration.build(configuration.load([f"gin/{recipe}"]))
    made = rehearsal.rehearse(trainer, None)
    assert all(p.isfinite().all() for p in made.student.parameters())


@pytest.mark.exhaustive
@pytest.mark.parametrize("recipe", ["fm_digits.gin"])
def test_shipped_frameworks_pass_their_rehearsal(recipe, capsys):
    assert main(["--gin", f"gin/{recipe}", "--rehearse"]) == 0, capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.parametrize("text", [FM + RANDOM, NOISE], ids=["random weights", "noise under velocity"])
def test_those_that_collapse_do_not(text, tmp_path, capsys):
    (tmp_path / "mine.gin").write_text(text)
    assert main(["--gin", str(tmp_path / "mine.gin"), "--rehearse"]) == 1
    assert "rehearsal: distance of the student" in capsys.readouterr().out

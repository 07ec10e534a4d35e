"""Where a student ends whose teacher is wrong: the law of the error's share, by quadrature, draws and training."""

import pytest
import torch

from realuid.check import wrong_teacher
from realuid.check.figure import charts
from realuid.check.gaussian import GaussianPairs, Moments
from realuid.check.training import trained
from realuid.check.wrong_teacher import ending, noise, wrong_teacher_notes
from realuid.commands.check import main
from realuid.distillation.students import OneStep
from realuid.losses import GeneralRealUID, RealSiD, RealUID, Reflected, SiD
from realuid.models.matching import MatchingModel
from realuid.networks.mlp import MLP
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import LinearInterpolant, QuadraticGamma, TwoSidedInterpolant, VPInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data, Noise, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import UnitWeight

torch.set_num_threads(1)
PATHS = {
    "linear": (LinearInterpolant(), "gaussian"),
    "VP": (VPInterpolant(), "gaussian"),
    "two-sided": (TwoSidedInterpolant(path=LinearInterpolant(), gamma=QuadraticGamma()), "data"),
}
TIMES = UniformTime(low=0.02, high=0.98)


def data(path="linear", mean=0.0, std=1.0):
    interpolant, source = PATHS[path]
    return GaussianPairs(
        interpolant=interpolant,
        coupling=IndependentCoupling(source=source),
        moments=Moments(0.0 if source == "gaussian" else -0.4, mean, 1.0, std**2, 0.0),
    )


def general(s, target, gamma=0.5):
    return GeneralRealUID(target=target, alpha=s, beta=s, gamma=gamma)


def uid(target):
    return RealUID(target=target, alpha=1.0, beta=1.0)


def kept(loss, path="linear", **more):
    return ending(loss, data(path), TIMES, UnitWeight(), **more)


QUICK = {("linear", "Data"), ("VP", "Noise"), ("two-sided", "Velocity")}
CASES = [
    pytest.param(path, target, id=f"{path}-{name}", marks=() if (path, name) in QUICK else pytest.mark.slow)
    for path in PATHS
    for name, target in (("Velocity", Velocity()), ("Data", Data()), ("Noise", Noise()))
]


@pytest.mark.parametrize(("path", "target"), CASES)
def test_alpha_and_beta_divide_the_teachers_error(path, target):
    """alpha = beta = s leaves 1 / s of it, above 1 and below, in every function and on every path."""
    small = {"mean": 0.1, "std": 0.05}
    for s in (1.5, 2.0, 4.0):
        assert kept(general(s, target), path, **small).both == pytest.approx(1 / s, rel=0.03)
    for s in (1.5, 4.0):
        assert kept(Reflected(loss=uid(target), correction=1 - 1 / s), path, **small).both == pytest.approx(
            1 / s, rel=0.03
        )
    assert kept(Reflected(loss=uid(target), correction=1.0), path).both < 1e-3


def test_below_one_it_grows():
    assert kept(uid(Velocity())).both == pytest.approx(1, rel=1e-4)
    assert kept(RealUID(target=Velocity(), alpha=0.92, beta=0.92), mean=0.1, std=0.05).both == pytest.approx(
        1 / 0.92, rel=0.01
    )


def test_beta_above_alpha_pulls_to_the_data_by_function_and_dimension():
    """Independent figures, of Monte Carlo with an optimiser (N(0, 1) data; a teacher off by 0.3 and 0.2)."""
    for target, dimension, expected in (
        (Velocity(), 1, 0.74),
        (Data(), 1, 0.46),
        (Velocity(), 16, 0.41),
        (Data(), 16, 0.18),
    ):
        found = kept(RealUID(target=target, alpha=0.5, beta=1.0), dimension=dimension).both
        assert found == pytest.approx(expected, abs=0.04)


def test_a_critic_leaves_the_end_of_r_1_where_it_is_and_draws_others_to_the_data():
    def criticised(r, critic, target):
        return kept(Reflected(loss=uid(target), correction=r, critic=critic), mean=0.1, std=0.05).both

    for target in (Velocity(), Data()):
        assert criticised(1.0, 0.7, target) < 1e-3
        half = [criticised(0.5, critic, target) for critic in (0.0, 0.3, 0.6)]
        assert half == sorted(half, reverse=True)
        assert half[0] == pytest.approx(0.5, rel=0.03)


def test_draws_say_what_quadrature_does(monkeypatch):
    losses = [general(2.0, Data()), RealUID(target=Data(), alpha=0.5, beta=1.0), uid(Velocity())]
    known = [kept(loss).both for loss in losses]
    monkeypatch.setattr(wrong_teacher, "_grid", wrong_teacher._draws(1))
    assert [kept(loss).both for loss in losses] == pytest.approx(known, abs=0.02)


def test_the_share_does_not_depend_on_the_dimension():
    assert kept(general(2.0, Data()), dimension=16).both == pytest.approx(0.5, rel=0.03)
    assert kept(uid(Velocity()), dimension=16).both == pytest.approx(1, rel=1e-3)


def test_mean_and_deviation_by_themselves():
    only = kept(general(2.0, Data()), mean=0.1, std=0.0)
    assert only.mean == pytest.approx(0.5, rel=0.03)
    assert only.std != only.std  # nothing to compare with
    assert kept(general(2.0, Data()), mean=0.0, std=0.05).std == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("s", [1.5, 2.0, 4.0])
def test_the_noise_of_the_fakes_target(s):
    """s^2 / gamma + (s - 1)^2 / (1 - gamma), least at gamma = s / (2 s - 1); reflected, as large as UID's."""
    for gamma in (0.3, 0.5, s / (2 * s - 1)):
        found = noise(general(s, Data(), gamma), LinearInterpolant())
        assert found.target == pytest.approx(s**2 / gamma + (s - 1) ** 2 / (1 - gamma))
        assert found.target >= (2 * s - 1) ** 2 - 1e-9
        assert found.answer == pytest.approx(1 + (1 - 1 / s) ** 2)
    assert noise(general(s, Data(), s / (2 * s - 1)), LinearInterpolant()).target == pytest.approx((2 * s - 1) ** 2)
    reflected = noise(Reflected(loss=uid(Data()), correction=1 - 1 / s), LinearInterpolant())
    assert reflected.target == pytest.approx(1)
    assert reflected.answer == pytest.approx(1 + (1 - 1 / s) ** 2)


def network(law, target):
    return MatchingModel(
        network=MLP(shape=(1,), width=8, depth=1),
        interpolant=law.interpolant,
        coupling=law.coupling,
        target=target,
        preconditioning=NoPreconditioning(),
    )


def deviation(share):
    """Of p + share (p* - p), p = N(0.2, 0.5^2), p* = N(0.35, 0.56^2)."""
    return (share * 0.56**2 + (1 - share) * 0.5**2 + share * (1 - share) * 0.15**2) ** 0.5


TRAINED = {
    "UID": (uid(Data()), 1.0),
    "General, s = 2": (general(2.0, Data()), 0.5),
    "General, s = 4, in the velocity": (general(4.0, Velocity()), 0.25),
    "reflected, 0.75": (Reflected(loss=uid(Data()), correction=0.75), 0.25),
    "reflected, all": (Reflected(loss=uid(Velocity()), correction=1.0), 0.0),
}


ON_PATHS = {
    "General, s = 1.5, VP, noise": (general(1.5, Noise()), "VP", 1 / 1.5),
    "reflected, 0.5, VP, data": (Reflected(loss=uid(Data()), correction=0.5), "VP", 0.5),
    "General, s = 2, two-sided, velocity": (general(2.0, Velocity()), "two-sided", 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ON_PATHS)
def test_a_trained_student_keeps_that_share_on_every_path(case):
    loss, path, share = ON_PATHS[case]
    right, wrong = data(path, mean=0.2, std=0.5), data(path, mean=0.35, std=0.56)
    found = trained(OneStep(model=network(right, Data())), loss, right, TIMES, UnitWeight(), wrong)
    assert found.mean1 == pytest.approx(0.2 + 0.15 * share, abs=0.01)
    assert found.variance1**0.5 == pytest.approx(deviation(share), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAINED)
def test_a_trained_student_keeps_that_share(case):
    loss, share = TRAINED[case]
    right, wrong = data(mean=0.2, std=0.5), data(mean=0.35, std=0.56)
    found = trained(OneStep(model=network(right, Velocity())), loss, right, TIMES, UnitWeight(), wrong)
    assert found.mean1 == pytest.approx(0.2 + 0.15 * share, abs=0.003)
    assert found.variance1**0.5 == pytest.approx(deviation(share), abs=0.003)


def test_what_is_said_of_losses_whose_generator_descends_another_function():
    def said(loss):
        return {note.what: note.note for note in wrong_teacher_notes(loss, data(), TIMES, UnitWeight())}

    sid = SiD(target=Data(), a=1.2)
    assert said(sid)["wrong teacher: the student keeps"].startswith("1.00 of")
    assert said(Reflected(loss=sid, correction=0.75))["wrong teacher: the student keeps"].startswith("0.25 of")
    unknown = said(RealSiD(target=Data(), a=1.2, alpha=0.92, beta=0.94))
    assert unknown["wrong teacher: not known"] == "the generator of RealSiD descends another function"


@pytest.mark.slow
def test_the_figures():
    """One of each; their numbers are those of the tests above."""
    drawn = charts(count=2)
    assert list(drawn) == ["real-data-equal", "real-data-difference", "real-data-noise"]
    assert all(chart.startswith("<figure") for chart in drawn.values())


@pytest.mark.slow
def test_the_table(capsys):
    assert main(["--gin", "gin/fm_digits.gin", "--dimensions", "1", "16"]) == 0
    out = capsys.readouterr().out
    assert "wrong teacher: the student keeps, d = 1 " in out
    assert "-0.00" not in out
    assert "wrong teacher: the student keeps, d = 16 " in out
    assert main(["--gin", "gin/fm_digits.gin", "--dimensions", "0"]) == 2

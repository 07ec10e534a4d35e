"""The warm start: networks on random weights learn the teacher's function, count their images, and resume exactly."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from realuid import checkpoints
from realuid.commands.train import main
from realuid.conditions import Condition
from realuid.distillation.warm_start import MatchedTime, WarmStart, pupils, teacher_on
from realuid.losses import RealUID
from realuid.models.exact import GaussianMixture
from realuid.models.reexpression import ReexpressedModel
from realuid.networks.mlp import MLP
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import BrownianInterpolant, CosineInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.preconditioning import EDMPreconditioning
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.training.parallelism import DDP
from realuid.training.randomness import Randomness
from realuid.training.world import World
from tests import ranks
from tests.commands.conftest import ROOT, TINY
from tests.training.stand_ins import COVARIANCE, MEAN, GaussianData, context, gaussian_distillation

BATCH = 64


def exact(path, mean=MEAN):
    return GaussianMixture(interpolant=path, means=[mean.tolist()], covariances=[COVARIANCE.tolist()])


def taken(made):
    """What `WarmStart.take` is told by a distillation."""
    return made.teacher.model, pupils(made.student, made.fake, made.student_init, made.fake_init), made.time_sampler


def distillation(steps: int, *, mean=MEAN, path=None):
    """Of the exact teacher of N(mean, COVARIANCE), whatever the data."""
    made = gaussian_distillation(
        interpolant=path or LinearInterpolant(),
        loss=RealUID(target=Velocity(), alpha=0.9, beta=0.9),
        time_sampler=UniformTime(low=0.01, high=0.99),
        images=100 * BATCH,
        mean=mean,
    )
    made.warm_start = warm = WarmStart(images=steps * BATCH, lr=1e-2)
    warm.take(*taken(made))
    return made


def error(model, teacher) -> float:
    """Relative squared error of a model's own prediction on the teacher's points."""
    generator = torch.Generator().manual_seed(0)
    x1 = GaussianData().batch(0, 512).images
    path = teacher.interpolant
    k = path.at(path.time(torch.rand(512, generator=generator, dtype=torch.float64)))
    x_t = path.interpolate(k, torch.randn(512, 2, generator=generator), x1, None)
    with torch.no_grad():
        found, wanted = (m.predict_at(k, x_t, Condition(), model.target) for m in (model, teacher))
    return float((found - wanted).square().mean() / wanted.square().mean())


def test_the_fake_network_comes_to_the_teachers_function_though_the_data_say_another():
    """The teacher's mean is off by far: what is learnt is the teacher's function, not the data's."""
    off = MEAN + torch.tensor([1.0, -1.0])
    made = distillation(200, mean=off)
    made.start(context(BATCH, GaussianData()))
    before = error(made.fake, made.teacher.model)
    for index in range(200):
        scalars = made.step(index)
    assert set(scalars) == {f"warm_{role}_{what}" for role in ("student", "fake") for what in ("loss", "grad_norm")}
    assert error(made.fake, made.teacher.model) < 0.03 < before
    assert error(made.fake, made.teacher.model) < 0.2 * error(made.fake, exact(LinearInterpolant()))


def test_the_distillation_begins_afresh_behind_it():
    """The first step after the phase is that of a distillation that starts from these weights."""
    made = distillation(3)
    made.start(context(BATCH, GaussianData()))
    for index in range(3):
        made.step(index)
    assert made.warming is False
    plain = distillation(1)
    plain.warm_start = None
    plain.start(context(BATCH, GaussianData()))
    plain.student.load_state_dict(made.student.state_dict())
    plain.fake.load_state_dict(made.fake.state_dict())
    plain.ema.attach(plain.student)
    first, second = made.step(3), plain.step(0)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert made.ema.updates == plain.ema.updates == 1


@pytest.mark.parametrize("stop", [2, 4, 5])
def test_it_resumes_to_the_last_bit(stop):
    """Inside the phase, at its end and behind it, in another process's objects."""
    whole = distillation(4)
    whole.start(context(BATCH, GaussianData()))
    for index in range(7):
        if index == stop:
            state = deepcopy({"method": whole.state_dict(), "ema": whole.ema.state_dict()})
        whole.step(index)
    again = distillation(4)
    again.start(context(BATCH, GaussianData()))
    again.enter(stop)
    again.load_state_dict(state["method"])
    again.ema.load_state_dict(state["ema"])
    for index in range(stop, 7):
        again.step(index)
    for one, other in (
        (whole.student, again.student),
        (whole.fake, again.fake),
        (whole.ema.averaged(), again.ema.averaged()),
    ):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_run_that_went_back_into_the_phase_trains_in_it():
    made = distillation(4)
    made.start(context(BATCH, GaussianData()))
    for index in range(6):
        made.step(index)
    made.enter(2)
    assert "warm_student_loss" in made.step(2)


def back_into_the_phase(path):
    """One of two ranks whose run goes back from the distillation into the warm start."""
    world = World.join("cpu", 60.0)
    made = distillation(4)
    own = range(world.rank * 2, world.rank * 2 + 2)
    randomness = Randomness(seed=0, lanes=4, device=world.device, own=own)
    made.start(replace(context(BATCH, GaussianData()), world=world, parallelism=DDP(), randomness=randomness))
    for index in range(6):
        made.step(index)
    made.enter(2)
    loss = float(made.step(2)["warm_fake_loss"])
    if world.main:
        torch.save(loss, path)
    world.leave()


@pytest.mark.xdist_group("processes")
def test_two_ranks_go_back_into_the_phase(tmp_path):
    """The generator's step has frozen the fake network, which copies refuse to train."""
    assert ranks.run(2, back_into_the_phase, tmp_path / "loss") == [0, 0]
    assert torch.load(tmp_path / "loss") > 0


class TestOnAnotherPath:
    def test_the_teacher_is_its_own_self_on_its_path_and_the_model_behind_a_re_expression_on_that_ones(self):
        native = exact(EDMInterpolant())
        outer = ReexpressedModel(model=native, interpolant=BrownianInterpolant(scale=0.3))
        assert teacher_on(native, EDMInterpolant()) is native
        assert teacher_on(outer, EDMInterpolant()) is native
        assert teacher_on(outer, BrownianInterpolant(scale=0.3)) is outer

    def test_elsewhere_it_answers_as_the_closed_form_there(self):
        there, wanted = teacher_on(exact(LinearInterpolant()), CosineInterpolant()), exact(CosineInterpolant())
        t = torch.linspace(0.05, 0.95, 32, dtype=torch.float64)
        x = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
        found = there.predict(x, t, Condition(), Velocity())
        assert torch.allclose(found, wanted.predict(x, t, Condition(), Velocity()), atol=1e-4)

    def test_times_have_the_noise_over_data_of_the_law(self):
        law, linear, edm = UniformTime(low=0.1, high=0.9), LinearInterpolant(), EDMInterpolant()
        u = torch.linspace(0.01, 0.99, 17, dtype=torch.float64)
        sigma = edm.sigma_at(MatchedTime(law, linear).quantile(u, edm))
        assert torch.allclose(sigma, linear.sigma_at(law.quantile(u, linear)), rtol=1e-6)

    def test_a_student_behind_edms_scalings_learns_a_linear_teacher(self):
        made = distillation(150)
        made.student.model.network = MLP(shape=(2,), width=64, depth=2)
        model = made.student.model
        model.interpolant, model.target = EDMInterpolant(), Data()
        model.preconditioning, model.coupling = EDMPreconditioning(sigma_data=0.7), IndependentCoupling()
        made.warm_start.pupils.clear()
        made.warm_start.take(*taken(made))
        made.start(context(BATCH, GaussianData()))
        losses = [float(made.step(index)["warm_student_loss"]) for index in range(150)]
        assert sum(losses[-20:]) < 0.2 * sum(losses[:5]) * 4


class TestRefusals:
    def test_nobody_to_warm(self):
        with pytest.raises(ValueError, match="neither student_init nor fake_init is 'random'"):
            WarmStart(images=8).take(exact(LinearInterpolant()), {}, UniformTime())

    def test_numbers(self):
        with pytest.raises(ValueError, match="must be positive"):
            WarmStart(images=0)
        with pytest.raises(ValueError, match="must be positive"):
            WarmStart(images=8, lr=-1.0)


WIDER = [
    "student/UNet.width = 16",
    "Distillation.student_init = 'random'",
    "Distillation.warm_start = @WarmStart()",
    "WarmStart.images = 80",
]


def arguments(out, *more):
    found = ["--gin", str(ROOT / "gin" / "smoke.gin"), "--out", str(out)]
    for binding in (*TINY, *WIDER, *more):
        found += ["--bind", binding]
    return found


@pytest.mark.slow
def test_a_run_shows_its_phases_and_resumes_exactly_inside_and_behind_the_first(tmp_path, monkeypatch):
    """Five warm steps and eight of the distillation; checkpoints after the 3rd, 6th, 9th, 12th and 13th step."""
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))
    more = ["Checkpoints.keep = 9"]
    assert main(arguments(tmp_path / "whole", *more)) == 0
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    phases = [(row["images"], row["phase"]) for row in rows if "phase" in row]
    assert phases[:3] == [(32, "warm start"), (64, "warm start"), (80, "warm start")]
    assert phases[3:] == [(images, "distillation") for images in (96, 128, 160, 192, 208)]
    assert all(("warm_student_loss" in row) == (row["phase"] == "warm start") for row in rows if "phase" in row)
    assert "Warm start: loss of the student" in (tmp_path / "whole" / "report.html").read_text()
    final = checkpoints.load(str(tmp_path / "whole" / "checkpoints" / "step_00000013.pt"))
    for stop in (3, 6):
        again = tmp_path / f"again{stop}"
        assert main(arguments(again, *more)) == 0
        for step in (3, 6, 9, 12, 13):
            if step > stop:
                (again / "checkpoints" / f"step_{step:08d}.pt").unlink()
        for name in ("summary.json", "exit.json"):
            (again / name).unlink()
        assert main(arguments(again, *more)) == 0
        found = checkpoints.load(str(again / "checkpoints" / "step_00000013.pt"))
        for role in ("student", "ema"):
            one, other = (state["method"].get(role) or state["ema"]["weights"]["0.9"] for state in (final, found))
            assert all(torch.equal(one[name], other[name]) for name in one)

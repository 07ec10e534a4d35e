"""The real loop on Gaussian data with an exact teacher: an affine student has to reach the data's moments.

The oracle is the data's law itself: a linear generator's samples are Gaussian, so mean and covariance say everything.
"""

import pytest
import torch

from realuid.conditions import Condition
from realuid.losses import GeneralRealUID, RealUID, Reflected
from realuid.losses.ramp import Ramp
from realuid.paths.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import LogNormalTime, UniformTime
from tests.training.stand_ins import COVARIANCE, MEAN, GaussianData, context, fake_loss, gaussian_distillation

BATCH, STEPS = 128, 300
LONG = 500
"""Steps of a student that has to leave its teacher: after 300 it is still on its way for some seeds."""

CASES = {
    "flow matching, UID": (LinearInterpolant(), RealUID(target=Velocity(), alpha=1.0, beta=1.0), UniformTime()),
    "flow matching, RealUID": (LinearInterpolant(), RealUID(target=Velocity(), alpha=0.92, beta=0.94), UniformTime()),
    "flow matching, General RealUID": (
        LinearInterpolant(),
        GeneralRealUID(target=Velocity(), alpha=0.92, beta=0.94, gamma=0.85, parametrisation="beta"),
        UniformTime(),
    ),
    "EDM, RealUID": (
        EDMInterpolant(sigma_max=3.0),
        RealUID(target=Data(), alpha=0.92, beta=0.94),
        LogNormalTime(mean=-0.5, std=1.0, low=0.05, high=3.0),
    ),
    "two-sided interpolant, RealUID": (
        BrownianInterpolant(scale=0.7),
        RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        UniformTime(low=0.02, high=0.98),
    ),
}
QUICK = ("EDM, RealUID",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_an_affine_student_reaches_the_moments_of_the_data(case):
    torch.manual_seed(0)
    interpolant, loss, time_sampler = CASES[case]
    distillation = gaussian_distillation(
        interpolant=interpolant, loss=loss, time_sampler=time_sampler, images=BATCH * STEPS
    )
    distillation.start(context(BATCH, GaussianData()))
    for index in range(STEPS):
        distillation.step(index)

    student = distillation.generators()["student"]

    def silence(k):
        pytest.fail("a student of one step drew noise")

    mean = student(torch.zeros(1, 2), Condition(), silence)[0]
    root = student(torch.eye(2), Condition(), silence) - mean  # rows: the images of the two unit vectors
    covariance = root.T @ root
    assert torch.allclose(mean, MEAN, atol=0.05), mean
    assert torch.allclose(covariance, COVARIANCE, atol=0.06), covariance


WRONG_MEAN, WRONG_COVARIANCE = MEAN + torch.tensor([0.4, -0.4]), 0.7 * COVARIANCE
SHARES = {
    "UID": (RealUID(target=Velocity(), alpha=1.0, beta=1.0), 1.0),
    "General, s = 2": (GeneralRealUID(target=Velocity(), alpha=2.0, beta=2.0, gamma=0.5), 0.5),
    "reflected, half": (Reflected(loss=RealUID(target=Velocity(), alpha=1.0, beta=1.0), correction=0.5), 0.5),
    "reflected, all": (Reflected(loss=RealUID(target=Velocity(), alpha=1.0, beta=1.0), correction=1.0), 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SHARES)
def test_real_data_take_the_teachers_error_away(case):
    """An exact teacher of other Gaussians, a perceptron as the fake network: p + share (p* - p) by its moments."""
    torch.manual_seed(0)
    loss, share = SHARES[case]
    distillation = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=loss,
        time_sampler=UniformTime(),
        images=BATCH * LONG,
        real_batch=128,
        mean=WRONG_MEAN,
        covariance=WRONG_COVARIANCE,
    )
    distillation.start(context(BATCH, GaussianData()))
    for index in range(LONG):
        distillation.step(index)
    student = distillation.generators()["student"]

    def silence(k):
        pytest.fail("a student of one step drew noise")

    mean = student(torch.zeros(1, 2), Condition(), silence)[0]
    root = student(torch.eye(2), Condition(), silence) - mean
    shift = WRONG_MEAN - MEAN
    mixed = share * WRONG_COVARIANCE + (1 - share) * COVARIANCE + share * (1 - share) * torch.outer(shift, shift)
    assert torch.allclose(mean, MEAN + share * shift, atol=0.06), mean
    assert torch.allclose(root.T @ root, mixed, atol=0.07), root.T @ root


ASKED = {
    "UID": (RealUID(target=Velocity(), alpha=1.0, beta=1.0), []),
    "reflected": (Reflected(loss=RealUID(target=Velocity(), alpha=1.0, beta=1.0), correction=0.5), [16]),
    "General": (GeneralRealUID(target=Velocity(), alpha=2.0, beta=2.0, gamma=0.5), [48]),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_the_teacher_is_asked_in_a_fake_step(case, monkeypatch):
    """Reflected needs f* of the real samples alone."""
    loss, expected = ASKED[case]
    made = gaussian_distillation(
        interpolant=LinearInterpolant(), loss=loss, time_sampler=UniformTime(), images=320, real_batch=16
    )
    made.start(context(32, GaussianData()))
    asked, predict_at = [], made.teacher.model.predict_at

    def watched(k, x_t, *more):
        asked.append(len(x_t))
        return predict_at(k, x_t, *more)

    monkeypatch.setattr(made.teacher.model, "predict_at", watched)
    value = fake_loss(made, 0, 0)
    assert asked == expected
    value.backward()
    assert all(bool(weight.grad.any()) for weight in made.fake.network.parameters())


def test_a_ramp_is_at_the_runs_place():
    """With fake_steps = 5 updates and one of the generator a step: substeps 0 to 5 are the first 32 images."""
    uid = RealUID(target=Velocity(), alpha=1.0, beta=1.0)
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=Reflected(loss=uid, correction=1.0, ramp=Ramp(end=64)),
        time_sampler=UniformTime(),
        images=320,
        real_batch=16,
    )
    made.start(context(32, GaussianData()))
    assert [made.objectives.loss_at(substep, 32).correction for substep in (0, 5, 6, 11, 12, 60)] == [
        0,
        0,
        0.5,
        0.5,
        1,
        1,
    ]

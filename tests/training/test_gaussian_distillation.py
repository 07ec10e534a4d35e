"""The real loop on Gaussian data with an exact teacher: an affine student has to reach the data's moments.

The oracle is the data's law itself: a linear generator's samples are Gaussian, so mean and covariance say everything.
"""

import pytest
import torch

from realuid.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.losses import GeneralRealUID, RealUID
from realuid.targets import Data, Velocity
from realuid.time_samplers import LogNormalTime, UniformTime
from tests.training.stand_ins import COVARIANCE, MEAN, GaussianData, context, gaussian_distillation

BATCH, STEPS = 128, 300

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
    labels = torch.zeros(1, dtype=torch.int64)

    def silence(k):
        pytest.fail("a student of one step drew noise")

    mean = student(torch.zeros(1, 2), labels, silence)[0]
    root = student(torch.eye(2), labels.expand(2), silence) - mean  # rows: the images of the two unit vectors
    covariance = root.T @ root
    assert torch.allclose(mean, MEAN, atol=0.05), mean
    assert torch.allclose(covariance, COVARIANCE, atol=0.06), covariance

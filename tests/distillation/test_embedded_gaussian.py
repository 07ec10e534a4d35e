"""The real loop on a Gaussian whose mean is a linear map of an embedding: what a student has to reach is known for
every embedding, and so is the loss on the way.

The student is affine in noise and embedding. It has W e + m as the mean of an embedding e, and the data's covariance.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.data.dataset import Batch
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teacher_training import TeacherTraining
from realuid.distillation.teachers import Teacher
from realuid.losses import RealUID
from realuid.models.exact import ConditionalGaussian
from realuid.models.guidance import GuidedModel
from realuid.networks.base import Network
from realuid.networks.mlp import MLP
from realuid.paths.interpolants import EDMInterpolant, Interpolant, LinearInterpolant
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import LogNormalTime, TimeSampler, UniformTime
from realuid.paths.weights import UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, CosineLR
from tests.training.stand_ins import COVARIANCE, MEAN, GaussianData, context, generator_loss, matching_model

TOKENS, WIDTH = 3, 2
FIELDS = (Field("text", (TOKENS, WIDTH)), Field("mask", (TOKENS,), "bool"))
WEIGHT = torch.tensor([[0.5, -0.2, 0.1, 0.0, -0.4, 0.3], [0.3, 0.4, 0.0, -0.6, 0.2, 0.1]])
BATCH, STEPS = 128, 300


def prompts(count: int, seed: int) -> Condition:
    """Embeddings of one to three tokens: zeros follow the last one, and the mask says where."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (count, 1), generator=generator)
    text = torch.randn(count, TOKENS, WIDTH, generator=generator) * mask[..., None]
    return Condition({"text": text, "mask": mask})


def means(condition: Condition, scale: float = 1.0) -> Tensor:
    """m + scale W e, `[B, 2]`."""
    return MEAN + scale * condition["text"].flatten(1) @ WEIGHT.T


class Embedded(GaussianData):
    """x1 ~ N(W e + m, C) for embeddings e that come with it."""

    def __init__(self, count: int = 20_000) -> None:
        super().__init__(count)
        self.told = prompts(count, seed=5)
        self.vectors = self.vectors - MEAN + means(self.told)

    @property
    def conditions(self) -> tuple[Field, ...]:
        return FIELDS

    def batch(self, start: int, count: int) -> Batch:
        images, _, _ = super().batch(start, count)
        return Batch(images, self.told.repeated(start % len(self), count))


class Told(Network):
    """A perceptron, or an affine map, of the sample and of the embedding's tokens where the mask is true."""

    conditions, shape = FIELDS, (2,)

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.linear = nn.Linear(2 + TOKENS * WIDTH, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @property
    def has_null(self) -> bool:
        return True

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        told = (condition["text"] * condition["mask"][..., None]).flatten(1).to(x.dtype)
        seen = torch.cat([x, told], dim=1)
        affine = self.linear(seen)
        return affine if self.network is None else affine + self.network(seen, time, Condition())[:, :2]


def perceptron() -> Told:
    return Told(MLP(shape=(2 + TOKENS * WIDTH,), width=64, depth=2, time_scale=4.0))


def teacher(path, scale):
    exact = ConditionalGaussian(
        interpolant=path, weight=WEIGHT.tolist(), mean=MEAN.tolist(), covariance=COVARIANCE.tolist()
    )
    return exact if scale == 1 else GuidedModel(model=exact, scale=scale)


def distillation(path, loss, times, scale=1.0):
    rate = CosineLR(images=BATCH * STEPS)
    return Distillation(
        teacher=Teacher(model=teacher(path, scale), sampler=Euler(steps=50, grid=UniformGrid())),
        student=OneStep(model=matching_model(Told(), path, loss.target)),
        fake=matching_model(perceptron(), path, loss.target),
        loss=loss,
        time_sampler=times,
        weight=UnitWeight(),
        student_optimizer=Adam(lr=1e-2, lr_schedule=rate),
        fake_optimizer=Adam(lr=2e-3, lr_schedule=rate),
        ema=EMA(decays=(0.98,)),
        fake_steps=5,
        real_batch=64,
        student_init="random",
        fake_init="random",
    )


def silence(k):
    pytest.fail("a student of one step drew noise")


def check_moments(generator, scale, mean_atol, covariance_atol):
    """Of embeddings that were not trained on: noise of zero gives the mean, unit vectors a root of the covariance."""
    told = prompts(50, seed=6)
    centre = generator(torch.zeros(50, 2), told, silence)
    torch.testing.assert_close(centre, means(told, scale), rtol=0, atol=mean_atol)
    root = torch.stack([generator(row.expand(50, 2), told, silence) - centre for row in torch.eye(2)], dim=1)
    torch.testing.assert_close(root.mT @ root, COVARIANCE.expand(50, 2, 2), rtol=0, atol=covariance_atol)


EDM_TIMES = LogNormalTime(mean=-0.5, std=1.0, low=0.05, high=3.0)
REAL = RealUID(target=Velocity(), alpha=0.92, beta=0.94)
UID = RealUID(target=Velocity(), alpha=1.0, beta=1.0)
CASES = {
    "RealUID with real pairs": (LinearInterpolant(), REAL, UniformTime(), 1.0),
    "EDM, RealUID with real pairs": (
        EDMInterpolant(sigma_max=3.0),
        RealUID(target=Data(), alpha=0.92, beta=0.94),
        EDM_TIMES,
        1.0,
    ),
    "UID of a guided teacher": (LinearInterpolant(), UID, UniformTime(), 2.0),
}
QUICK = ("RealUID with real pairs",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_student_reaches_the_moments_of_every_embedding(case):
    torch.manual_seed(0)
    path, loss, times, scale = CASES[case]
    made = distillation(path, loss, times, scale)
    made.start(context(BATCH, Embedded()))
    for index in range(STEPS):
        made.step(index)
    check_moments(made.generators()["student"], scale, 0.15, 0.06)


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_loss_of_every_embedding(seed, scale):
    """Value and gradient of UID against quadrature, for a student N(V e + n, C) and its posterior mean as the fake.

    Teacher and fake differ by a S^-1 d at every x_t, with d = scale W e + m - V e - n and S = b^2 C + a^2, so that the
    loss is the integral of a^2 |S^-1 d|^2 over t, and its gradient in n that of -2 a^2 S^-2 d.
    """
    count, told = 1 << 16, prompts(1, seed=seed)
    path = LinearInterpolant()
    made = distillation(path, UID, UniformTime(), scale)
    off, start = torch.tensor([0.3, -0.2]), torch.linalg.cholesky(COVARIANCE)
    other = 0.5 * WEIGHT.flip(1)
    affine = made.student.model.network.linear
    with torch.no_grad():
        affine.weight.copy_(torch.cat([start - torch.eye(2), other], dim=1))
        affine.bias.copy_(off)
    fake = ConditionalGaussian(
        interpolant=path, weight=other.tolist(), mean=off.tolist(), covariance=COVARIANCE.tolist()
    )
    made.fake = made.fake_network.model = fake
    data = Embedded(8)
    data.told = told
    made.to(context(count, data))
    loss = generator_loss(made, 0)
    (found,) = torch.autograd.grad(loss, affine.bias)

    t = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    a, b, eye = (1 - t)[:, None, None], t[:, None, None], torch.eye(2, dtype=torch.float64)
    inverse = torch.linalg.inv(b**2 * COVARIANCE.double() + a**2 * eye)
    d = (means(told, scale) - off - told["text"].flatten(1) @ other.T)[0].double()
    shift = a[..., 0] * (inverse @ d)
    value, gradient = shift.square().sum(1).mean(), -2 * (a**2 * inverse @ inverse @ d[:, None])[..., 0].mean(0)
    assert float(loss) == pytest.approx(float(value), rel=0.06)
    torch.testing.assert_close(found.double(), gradient, rtol=0, atol=0.06 * float(gradient.norm()))


class Once(TimeSampler):
    """Always t = 0.6."""

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        return torch.full_like(u, 0.6, dtype=torch.float64)


def test_a_teacher_learns_the_posterior_mean_of_every_embedding():
    """At one time that is affine in x_t and the embedding."""
    torch.manual_seed(0)
    path, steps = LinearInterpolant(), 600
    made = TeacherTraining(
        model=matching_model(Told(), path, Data()),
        sampler=Euler(steps=2, grid=UniformGrid()),
        time_sampler=Once(),
        weight=UnitWeight(),
        optimizer=Adam(lr=2e-2, lr_schedule=CosineLR(images=512 * steps)),
        ema=EMA(decays=(0.9,)),
    )
    made.start(context(512, Embedded()))
    for index in range(steps):
        made.step(index)
    told = prompts(50, seed=6)
    x, t = torch.randn(50, 2, generator=torch.Generator().manual_seed(7)), torch.full((50,), 0.6, dtype=torch.float64)
    found = made.model.predict(x, t, told, Data())
    torch.testing.assert_close(found, teacher(path, 1.0).predict(x, t, told, Data()), rtol=0, atol=0.08)

"""The real loop on jointly Gaussian pairs: a student of x0 and noise has to reach the law of x1 given x0.

Its samples are affine in both, so mean, covariance, and covariance with x0 say everything. Without the noise image it
could not: x1 would be a function of x0.
"""

import pytest
import torch
from torch import Tensor, nn

from realuid.conditions import Condition
from realuid.data.dataset import Batch
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teachers import Teacher
from realuid.losses import RealUID
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.networks.mlp import MLP
from realuid.paths.couplings import PairedCoupling
from realuid.paths.interpolants import BrownianInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import UnitWeight
from realuid.samplers import Posterior, UniformGrid
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, CosineLR
from tests.gaussian_pairs import GaussianPairs
from tests.training.stand_ins import GaussianData, context

BATCH, STEPS = 128, 250
MEAN = torch.tensor([0.2, 0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.4], [0.4, 0.6]], dtype=torch.float64)
PATH = BrownianInterpolant(scale=0.7)


class Pairs(GaussianData):
    """Pairs of numbers whose sample moments are those of the law."""

    def __init__(self) -> None:
        super().__init__(10)
        self.shape, self.has_sources = (1,), True
        drawn = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        white = (drawn - drawn.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(drawn.T))).T
        self.vectors = (white @ torch.linalg.cholesky(COVARIANCE).T + MEAN).float()

    def batch(self, start: int, count: int) -> Batch:
        rows = torch.arange(start, start + count) % len(self)
        x0, x1 = self.vectors[rows].split(1, dim=1)
        return Batch(x1, Condition(), x0)


class Affine(Network):
    """W (x, x0, noise) + c."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return self.linear(x)


def model(network: Network) -> MatchingModel:
    return MatchingModel(
        network=network,
        interpolant=PATH,
        coupling=PairedCoupling(),
        target=Data(),
        preconditioning=NoPreconditioning(),
        source_conditioned=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.92, 0.94)])
def test_a_student_with_noise_reaches_the_law_of_the_data_given_the_source(alpha, beta):
    torch.manual_seed(0)
    rate = CosineLR(images=BATCH * STEPS)
    teacher = GaussianPairs(PATH, MEAN, COVARIANCE, source_conditioned=True)
    student = Affine()
    distillation = Distillation(
        teacher=Teacher(model=teacher, sampler=Posterior(steps=4, grid=UniformGrid())),
        student=OneStep(model=model(student), noise=1),
        fake=model(MLP(shape=(1,), width=32, depth=2, time_scale=4.0, in_multiplier=2)),
        loss=RealUID(target=Data(), alpha=alpha, beta=beta),
        time_sampler=UniformTime(low=0.1, high=0.95),
        weight=UnitWeight(),
        student_optimizer=Adam(lr=2e-2, lr_schedule=rate),
        fake_optimizer=Adam(lr=4e-3, lr_schedule=rate),
        ema=EMA(decays=(0.98,)),
        fake_steps=3,
        real_batch=BATCH,
        student_init="random",
    )
    distillation.start(context(BATCH, Pairs()))
    for index in range(STEPS):
        distillation.step(index)

    generate = distillation.generators()["student"]
    x0, fresh = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0.0], [0.0], [1.0]])
    origin, of_source, of_noise = generate(x0, Condition(), lambda k: fresh).flatten().tolist()
    slope, spread = of_source - origin, of_noise - origin
    assert origin + slope * 0.2 == pytest.approx(0.5, abs=0.05)
    assert slope * 0.8 == pytest.approx(0.4, abs=0.05)
    assert slope**2 * 0.8 + spread**2 == pytest.approx(0.6, abs=0.06)

"""Small parts for tests of training: Gaussian data, an affine network, assembled distillations."""

import torch
from torch import Tensor, nn

from realuid.conditions import Condition
from realuid.data.dataset import Batch, Dataset
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teachers import Teacher
from realuid.losses import DistillationLoss
from realuid.models.exact import GaussianMixture
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.networks.mlp import MLP
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import Interpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Target
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.ema import EMA
from realuid.training.method import Context
from realuid.training.optimizers import Adam, CosineLR
from realuid.training.randomness import Randomness

MEAN = torch.tensor([0.5, -0.3])
COVARIANCE = torch.tensor([[0.6, 0.3], [0.3, 0.4]])


class GaussianData(Dataset):
    """N(MEAN, COVARIANCE) vectors, floats as latents are."""

    def __init__(self, count: int = 20_000) -> None:
        self.shape, self.classes = (2,), 0
        generator = torch.Generator().manual_seed(7)
        root = torch.linalg.cholesky(COVARIANCE)
        vectors = torch.randn(count, 2, generator=generator) @ root.T
        vectors = (vectors - vectors.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(vectors.T))).T @ root.T
        self.vectors = vectors + MEAN

    def missing(self) -> str | None:
        return None

    def open(self, *, seed: int, device: torch.device) -> None: ...

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def label_counts(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)

    @property
    def checksum(self) -> str:
        return "gaussian"

    def batch(self, start: int, count: int) -> Batch:
        rows = torch.arange(start, start + count) % len(self)
        return Batch(self.vectors[rows], Condition())

    def examples(self, start: int, count: int) -> Batch:
        return self.batch(start, count)


class Affine(Network):
    """`network(x, time, condition) = W x + c`, started at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return self.linear(x)


def matching_model(network: Network, interpolant: Interpolant, target: Target) -> MatchingModel:
    return MatchingModel(
        network=network,
        interpolant=interpolant,
        coupling=IndependentCoupling(),
        target=target,
        preconditioning=NoPreconditioning(),
    )


def gaussian_distillation(
    *,
    interpolant: Interpolant,
    loss: DistillationLoss,
    time_sampler: TimeSampler,
    images: int,
    real_batch: int = 64,
    fake_steps: int = 5,
    steps_per_sample: int = 1,
    times_per_sample: int = 1,
    lr: float = 1e-2,
    mean: Tensor = MEAN,
    covariance: Tensor = COVARIANCE,
) -> Distillation:
    """An affine student of the exact teacher of N(mean, covariance), with a perceptron as fake network."""
    exact = GaussianMixture(interpolant=interpolant, means=[mean.tolist()], covariances=[covariance.tolist()])
    rate = CosineLR(images=images)
    return Distillation(
        teacher=Teacher(model=exact, sampler=Euler(steps=50, grid=UniformGrid())),
        student=OneStep(model=matching_model(Affine(), interpolant, loss.target)),
        fake=matching_model(MLP(shape=(2,), width=64, depth=2, time_scale=4.0), interpolant, loss.target),
        loss=loss,
        time_sampler=time_sampler,
        weight=UnitWeight(),
        student_optimizer=Adam(lr=lr, lr_schedule=rate),
        fake_optimizer=Adam(lr=2e-3, lr_schedule=rate),
        ema=EMA(decays=(0.98,)),
        fake_steps=fake_steps,
        steps_per_sample=steps_per_sample,
        times_per_sample=times_per_sample,
        real_batch=real_batch,
        student_init="random",
        fake_init="random",
    )


def context(batch: int, data: Dataset, *, seed: int = 0, lanes: int = 1) -> Context:
    device = torch.device("cpu")
    randomness = Randomness(seed=seed, lanes=lanes, device=device)
    frequencies = data.label_counts.to(device)
    return Context(device, batch, data.shape, data, None, frequencies, randomness)


def fake_loss(made: Distillation, substep: int, fake_step: int) -> Tensor:
    (inputs,) = made.inputs.draw(made.context, substep, fake_step if made.uses_real_data else None)
    with torch.no_grad():
        x1 = made.objectives.generated(made.context, inputs)
    return made.objectives.fake(made.context, substep, inputs, x1)[0]


def generator_loss(made: Distillation, substep: int) -> Tensor:
    (inputs,) = made.inputs.draw(made.context, substep)
    return made.objectives.generator(made.context, substep, inputs)[0]

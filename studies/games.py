"""Games on Gaussians: affine students against an exact teacher of a Gaussian that may be wrong.

Everything but the fake network is in closed form: the student is affine, so its samples are Gaussian and their Fréchet
distance to the data is a formula. All seeds run at once, with weights `[seeds, in, out]`. Learning rates are constant.
`tamers.py` and `paper_claim.py` play them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from realuid.check.gaussian import UNCONDITIONAL
from realuid.evaluation.frechet import frechet_distance
from realuid.evaluation.moments import Moments
from realuid.losses import DistillationLoss, Terms
from realuid.models.exact import GaussianMixture
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.weights import UnitWeight, Weight

SEEDS, BATCH, LR = 8, 64, 2e-3
PATH, UNWEIGHTED = LinearInterpolant(), UnitWeight()


@dataclass(frozen=True)
class Laws:
    """The data, centred Gaussians, the teacher's law and the student's at the start."""

    dimension: int = 16
    least: float = 0.3
    """The data's deviation in the first dimension."""
    most: float = 0.9
    """That in the last."""
    shift: float = 0.15
    """What the teacher's mean is off by in every dimension."""
    narrower: float = 0.8
    """The teacher's deviations over the data's."""
    start: float = 1.0
    """The student's deviations at the start over the teacher's."""

    @property
    def spread(self) -> Tensor:
        """Deviations of the data `[D]`."""
        return torch.linspace(self.least, self.most, self.dimension)

    def teacher(self) -> GaussianMixture:
        covariance = torch.diag((self.narrower * self.spread) ** 2)
        return GaussianMixture(
            interpolant=PATH, means=[[self.shift] * self.dimension], covariances=[covariance.tolist()]
        )

    def distance(self, mean: Tensor, covariance: Tensor) -> float:
        """Fréchet distance of a Gaussian to the data; float64."""
        data = Moments(torch.zeros_like(mean), torch.diag(self.spread.double() ** 2))
        return frechet_distance(Moments(mean, covariance), data)

    def teacher_distance(self) -> float:
        mean = torch.full((self.dimension,), self.shift, dtype=torch.float64)
        return self.distance(mean, torch.diag((self.narrower * self.spread.double()) ** 2))


@dataclass(frozen=True)
class Setting:
    """One line of a table."""

    loss: DistillationLoss
    laws: Laws = field(default_factory=Laws)
    weight: Weight = UNWEIGHTED
    real_batch: int = BATCH
    shared: bool = True
    """Whether real samples share times and noise with generated ones."""
    fake_steps: int = 4
    steps_per_sample: int = 1
    """Updates of the fake network that see the same generated samples."""
    times_per_sample: int = 1
    """Times at which the generator's update sees each of its samples."""
    steps: int = 600
    averaged: float = 0.0
    """Decay of the average of the fake network that the generator's step reads; 0 for the network itself."""
    student_averaged: float = 0.0
    """Decay of the average of the student that is measured; 0 for the student itself."""
    residual: bool = False
    """Whether the fake network is f* plus what is learnt, in place of what is learnt."""
    from_teacher: bool = False
    """Whether it was fitted to f* before the run, in place of random weights."""


class Fake:
    """A perceptron of x_t and t for every seed: `[SEEDS, n, D], [SEEDS, n] -> [SEEDS, n, D]`."""

    def __init__(self, dimension: int, generator: torch.Generator) -> None:
        width = max(64, dimension)
        sizes = (dimension + 2, width, width, dimension)
        self.weights = []
        for index, (n, m) in enumerate(pairwise(sizes)):
            scale = n**-0.5 if index < len(sizes) - 2 else 0.0
            self.weights.append((torch.randn(SEEDS, n + 1, m, generator=generator) * scale).requires_grad_())

    def __call__(self, x_t: Tensor, t: Tensor, weights: Sequence[Tensor]) -> Tensor:
        x = torch.cat([x_t, t[..., None], (6 * t[..., None]).sin()], dim=2)
        for index, weight in enumerate(weights):
            x = torch.baddbmm(weight[:, -1:], x, weight[:, :-1])
            if index < len(weights) - 1:
                x = torch.nn.functional.silu(x)
        return x


class Game:
    """Students and fake networks of one setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.laws, self.generator = setting, setting.laws, torch.Generator().manual_seed(0)
        self.teacher, self.spread = self.laws.teacher(), self.laws.spread
        self.fake = Fake(self.laws.dimension, self.generator)
        if setting.from_teacher:
            self.fit_to_teacher()
        self.average = [weight.detach().clone() for weight in self.fake.weights]
        deviations = self.laws.start * self.laws.narrower * self.spread
        start = torch.cat([torch.diag(deviations), torch.full((1, self.laws.dimension), self.laws.shift)])
        self.student = start.repeat(SEEDS, 1, 1).requires_grad_()
        self.measured = self.student.detach().clone()
        self.fake_optimizer = torch.optim.Adam(self.fake.weights, lr=LR, betas=(0.0, 0.99))
        self.student_optimizer = torch.optim.Adam([self.student], lr=LR, betas=(0.0, 0.99))

    def fit_to_teacher(self) -> None:
        """Half as many updates as the run has of the fake network."""
        optimizer = torch.optim.Adam(self.fake.weights, lr=LR)
        for _ in range(self.setting.steps * self.setting.fake_steps // 2):
            x1 = self.laws.shift + self.laws.narrower * self.spread * self.normal(BATCH)
            terms = self.terms(x1, self.normal(BATCH), self.times(BATCH), self.fake.weights)
            assert terms.teacher is not None
            optimizer.zero_grad()
            (terms.fake - terms.teacher).square().sum(1).mean().backward()
            optimizer.step()

    def normal(self, count: int) -> Tensor:
        return torch.randn(SEEDS, count, self.laws.dimension, generator=self.generator)

    def times(self, count: int) -> Tensor:
        return 0.98 * torch.rand(SEEDS, count, generator=self.generator)

    def made(self) -> Tensor:
        return torch.baddbmm(self.student[:, -1:], self.normal(BATCH), self.student[:, :-1])

    def terms(self, x1: Tensor, x0: Tensor, t: Tensor, weights: Sequence[Tensor]) -> Terms:
        """What the loss sees of samples x1 `[SEEDS, n, D]`; all seeds in one batch."""
        flat = t.flatten()
        k = PATH.at(flat.double())
        source, sample = x0.flatten(0, 1), x1.flatten(0, 1)
        x_t = PATH.interpolate(k, source, sample, None)
        target = self.setting.loss.target
        f_star = self.teacher.predict_at(k, x_t, UNCONDITIONAL, target)
        fake = self.fake(x_t.view_as(x1), t, weights).flatten(0, 1)
        if self.setting.residual:
            fake = f_star + fake
        c = target.sample(k, source, sample, None)
        return Terms(fake, c, self.setting.weight(k).float(), f_star, x_t=x_t, k=k)

    def step(self) -> None:
        loss, count = self.setting.loss, self.setting.real_batch
        for index in range(self.setting.fake_steps):
            x0, t = self.normal(BATCH), self.times(BATCH)
            if index % self.setting.steps_per_sample == 0:
                with torch.no_grad():
                    x1 = self.made()
            generated, real = self.terms(x1, x0, t, self.fake.weights), None
            if loss.uses_real_data:
                drawn = self.normal(count) * self.spread
                x0, t = (
                    (x0[:, :count], t[:, :count]) if self.setting.shared else (self.normal(count), self.times(count))
                )
                real = self.terms(drawn, x0, t, self.fake.weights)
            self.fake_optimizer.zero_grad()
            loss.fake_loss(generated, real).backward()
            self.fake_optimizer.step()
            for mean, weight in zip(self.average, self.fake.weights, strict=True):
                mean.lerp_(weight.detach(), 1 - self.setting.averaged)
        self.student_optimizer.zero_grad()
        x1, times = self.made(), self.setting.times_per_sample
        for _ in range(times):
            seen = self.terms(x1, self.normal(BATCH), self.times(BATCH), self.average)
            (loss.generator_loss(seen) / times).backward(retain_graph=True)
        self.student_optimizer.step()
        self.measured.lerp_(self.student.detach(), 1 - self.setting.student_averaged)

    def distances(self) -> Tensor:
        """To the data `[SEEDS]`."""
        mean, root = self.measured[:, -1].double(), self.measured[:, :-1].double()
        return torch.tensor([self.laws.distance(m, r.T @ r) for m, r in zip(mean, root, strict=True)])


def played(setting: Setting, every: int) -> Iterator[tuple[int, Tensor]]:
    """The students' distances to the data `[SEEDS]` after every so many steps."""
    game = Game(setting)
    for step in range(1, setting.steps + 1):
        game.step()
        if step % every == 0:
            yield step, game.distances()

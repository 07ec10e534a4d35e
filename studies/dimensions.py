"""Does what a student keeps of its teacher's error depend on the dimension, as the fixed point says it does?

    python studies/dimensions.py [--dimensions 1 16 64 256 1024] [--steps 1200]

Gaussians that are alike in all dimensions. The data are standard normal. The teacher is the exact posterior mean of a
law whose mean is off by 0.3 and whose deviation by 0.2, in all dimensions together. The student has two numbers, its
mean and its deviation, and starts with twice the teacher's error. The fake network has the form of its optimum, two
affine functions of x_t and a gate between them, and learns 28 numbers. The losses are the project's own, written in the
data. Prints the share of the teacher's error that the averaged student keeps along the run, means and deviations over
eight seeds, beside that at the fixed point (`realuid.check.wrong_teacher.ending`). docs/real_data.md says what follows.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import torch
from games import PATH, UNWEIGHTED
from torch import Tensor

from realuid.check.gaussian import UNCONDITIONAL, GaussianPairs, Moments
from realuid.check.wrong_teacher import MEAN, STD, ending
from realuid.losses import DistillationLoss, RealUID, Reflected, Terms
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.targets import Data
from realuid.paths.time_samplers import UniformTime

SEEDS, BATCH, FAKE_STEPS, LR, DECAY = 8, 64, 5, 4e-3, 0.98
LATEST = 0.98
TIMES = UniformTime(low=0.0, high=LATEST)
DEGREES = 4
"""Of the polynomials of t that the fake network's numbers are."""


def uid(alpha: float, beta: float) -> RealUID:
    return RealUID(target=Data(), alpha=alpha, beta=beta)


LOSSES = {
    "UID": uid(1.0, 1.0),
    "(0.92, 0.94)": uid(0.92, 0.94),
    "(0.98, 0.96)": uid(0.98, 0.96),
    "(0.5, 1)": uid(0.5, 1.0),
    "r = 0.5": Reflected(loss=uid(1.0, 1.0), correction=0.5),
    "r = 1": Reflected(loss=uid(1.0, 1.0), correction=1.0),
    "r = 1, critic 0.5": Reflected(loss=uid(1.0, 1.0), correction=1.0, critic=0.5),
}


def pairs(mean: float = 0.0, deviation: float = 1.0) -> GaussianPairs:
    moments = Moments(0.0, mean, 1.0, deviation**2, 0.0)
    return GaussianPairs(interpolant=PATH, coupling=IndependentCoupling(), moments=moments)


def optimum(loss: DistillationLoss) -> tuple[float, float, float]:
    """What the optimal fake network is near the fixed point: its multiples of f* where all points are generated and
    where all are real, and the weight of the generated ones where both are as dense."""
    if isinstance(loss, Reflected):
        return 1 + loss.correction * loss.critic, 1 - loss.critic, 1 / (1 + loss.correction)
    assert isinstance(loss, RealUID)
    alpha, beta = loss.alpha, loss.beta
    return beta / alpha, (1 - beta) / (1 - alpha) if alpha < 1 else 0.0, alpha


class Game:
    """Students and fake networks of one loss, all seeds at once."""

    def __init__(self, loss: DistillationLoss, dimension: int, steps: int) -> None:
        self.loss, self.dimension, self.root = loss, dimension, dimension**0.5
        self.generator = torch.Generator().manual_seed(0)
        self.teacher = pairs(MEAN / self.root, 1 + STD / self.root)
        self.student = torch.tensor([[2 * MEAN, 2 * STD]]).repeat(SEEDS, 1).requires_grad_()
        self.average = self.student.detach().clone()
        self.experts = torch.zeros(SEEDS, DEGREES, 4, requires_grad=True)
        self.gate = torch.zeros(SEEDS, DEGREES, 3, requires_grad=True)
        self.fake_optimizer = torch.optim.Adam([self.experts, self.gate], lr=LR, betas=(0.0, 0.99))
        self.student_optimizer = torch.optim.Adam([self.student], lr=LR, betas=(0.0, 0.99))
        self.schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for optimizer in (self.fake_optimizer, self.student_optimizer)
        ]

    def normal(self) -> Tensor:
        return torch.randn(SEEDS, BATCH, self.dimension, generator=self.generator)

    def times(self) -> Tensor:
        return LATEST * torch.rand(SEEDS, BATCH, generator=self.generator)

    def made(self) -> Tensor:
        mean, deviation = self.student[:, None, :1] / self.root, 1 + self.student[:, None, 1:] / self.root
        return mean + deviation * self.normal()

    def terms(self, x1: Tensor, x0: Tensor, t: Tensor) -> Terms:
        k = PATH.at(t.flatten().double())
        source, sample = x0.flatten(0, 1), x1.flatten(0, 1)
        x_t = PATH.interpolate(k, source, sample, None)
        f_star = self.teacher.predict_at(k, x_t, UNCONDITIONAL, self.loss.target)
        c = self.loss.target.sample(k, source, sample, None)
        return Terms(self.fake(x_t, f_star, t), c, UNWEIGHTED(k).float(), f_star, x_t=x_t, k=k)

    def fake(self, x_t: Tensor, f_star: Tensor, t: Tensor) -> Tensor:
        """Of x_t and f* `[SEEDS * n, D]` and t `[SEEDS, n]`."""
        powers = torch.stack([(2 * t - 1) ** degree for degree in range(DEGREES)], dim=-1)
        slope, shift, real_slope, real_shift = (powers @ self.experts).flatten(0, 1).unbind(1)
        bias, along, square = (powers @ self.gate).flatten(0, 1).unbind(1)
        generated, real, share = optimum(self.loss)
        first = generated * f_star + (slope[:, None] * x_t + shift[:, None]) / self.root
        if share == 1:
            return first
        second = real * f_star + (real_slope[:, None] * x_t + real_shift[:, None]) / self.root
        variance = (t**2 + (1 - t) ** 2).flatten()
        radius = x_t.square().sum(1) / variance - self.dimension
        logit = bias + along * x_t.sum(1) / self.root + square * radius / self.root
        v = torch.sigmoid(logit + math.log(share / (1 - share)))[:, None]
        return v * first + (1 - v) * second

    def step(self) -> None:
        for _ in range(FAKE_STEPS):
            x0, t = self.normal(), self.times()
            with torch.no_grad():
                x1 = self.made()
            generated = self.terms(x1, x0, t)
            real = self.terms(self.normal(), x0, t) if self.loss.uses_real_data else None
            self.fake_optimizer.zero_grad()
            self.loss.fake_loss(generated, real).backward()
            self.fake_optimizer.step()
        self.student_optimizer.zero_grad()
        t = self.times()
        self.loss.generator_loss(self.terms(self.made(), self.normal(), t)).backward()
        self.student_optimizer.step()
        self.average.lerp_(self.student.detach(), 1 - DECAY)
        for schedule in self.schedules:
            schedule.step()

    def kept(self) -> Tensor:
        """Share of the teacher's error of each seed `[SEEDS]`."""
        return self.average.norm(dim=1) / math.hypot(MEAN, STD)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dimensions", type=int, nargs="+", default=[1, 16, 64, 256, 1024], help="numbers of dimensions"
    )
    parser.add_argument("--losses", choices=LOSSES, nargs="+", default=[*LOSSES], help="those to play")
    parser.add_argument("--steps", type=int, default=1200, help="steps of a run")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    marks = [options.steps // part for part in (4, 2, 1)]
    print(f"| d | loss | fixed point | {' | '.join(map(str, marks))} steps |", flush=True)
    for dimension in options.dimensions:
        for name in options.losses:
            game, told = Game(LOSSES[name], dimension, options.steps), []
            for step in range(1, options.steps + 1):
                game.step()
                if step in marks:
                    told.append(game.kept())
            theory = ending(LOSSES[name], pairs(), TIMES, UNWEIGHTED, dimension=dimension).both
            shares = " | ".join(f"{share.mean():.2f} ± {share.std():.2f}" for share in told)
            print(f"| {dimension} | {name} | {theory:.2f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()

"""Does what a student keeps of its teacher's error fall with the dimension, as the fixed point says it does?

    python studies/dimensions.py [--dimensions 1 16 64 256] [--steps 800]

Affine students on Gaussians (`games.py`) that are alike in all dimensions, of a teacher whose mean is off by 0.3 and
its deviation by 0.2, in the data's deviations and in all dimensions together. The loss is written in the data. The fake
network is f* plus what is learnt. Prints the share of the teacher's error that the student's average keeps along the
run, means and deviations over seeds of the mean over an eighth of the run, beside that at the fixed point
(`realuid.check.wrong_teacher.ending`). docs/real_data.md says what follows.
"""

from __future__ import annotations

import argparse

import torch
from games import PATH, UNWEIGHTED, Game, Laws, Setting

from realuid.check.gaussian import GaussianPairs, Moments
from realuid.check.wrong_teacher import MEAN, STD, ending
from realuid.losses import RealUID, Reflected
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.targets import Data
from realuid.paths.time_samplers import UniformTime


def uid(alpha: float, beta: float) -> RealUID:
    return RealUID(target=Data(), alpha=alpha, beta=beta)


LOSSES = {
    "UID": uid(1.0, 1.0),
    "(0.92, 0.94)": uid(0.92, 0.94),
    "(0.98, 0.96)": uid(0.98, 0.96),
    "(0.5, 1)": uid(0.5, 1.0),
    "r = 0.5": Reflected(loss=uid(1.0, 1.0), correction=0.5),
}


def laws(dimension: int) -> Laws:
    """A teacher that is off in all dimensions alike."""
    root = dimension**0.5
    return Laws(dimension=dimension, least=1.0, most=1.0, shift=MEAN / root, narrower=1 + STD / root)


def kept(game: Game) -> torch.Tensor:
    """Share of the teacher's error in the mean and the deviation, of each seed `[SEEDS]`."""
    root = game.laws.dimension**0.5
    mean = game.measured[:, -1].mean(1) * root
    deviation = (game.measured[:, :-1].square().sum(1).mean(1).sqrt() - 1) * root
    return torch.stack([mean, deviation]).norm(dim=0) / torch.tensor([MEAN, STD]).norm()


def at_fixed_point(name: str, dimension: int) -> float:
    data = GaussianPairs(interpolant=PATH, coupling=IndependentCoupling(), moments=Moments(0.0, 0.0, 1.0, 1.0, 0.0))
    return ending(LOSSES[name], data, UniformTime(low=0.0, high=0.98), UNWEIGHTED, dimension=dimension).both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[1, 16, 64, 256], help="numbers of dimensions")
    parser.add_argument("--losses", choices=LOSSES, nargs="+", default=[*LOSSES], help="those to play")
    parser.add_argument("--steps", type=int, default=800, help="steps of a run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    marks = [options.steps // part for part in (4, 2, 1)]
    print(f"| d | loss | fixed point | {' | '.join(map(str, marks))} steps |", flush=True)
    for dimension in options.dimensions:
        for name in options.losses:
            setting = Setting(
                LOSSES[name], laws(dimension), fake_steps=5, steps=options.steps, student_averaged=0.98, residual=True
            )
            game, found = Game(setting), []
            for _ in range(options.steps):
                game.step()
                found.append(kept(game))
            told = [torch.stack(found[mark - options.steps // 8 : mark]).mean(0) for mark in marks]
            shares = " | ".join(f"{share.mean():.2f} ± {share.std():.2f}" for share in told)
            print(f"| {dimension} | {name} | {at_fixed_point(name, dimension):.2f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()

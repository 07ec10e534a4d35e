"""The figures of docs/real_data.md: what of the teacher's error a student keeps against alpha and beta, and the noise
against gamma.

    python -m realuid.check.figure docs/images

Data N(0, 1) in each dimension, uniform times on the linear path; a teacher off by 0.3 in its mean and 0.2 in its
standard deviation, in all dimensions together.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from realuid.check.gaussian import GaussianPairs, Moments
from realuid.check.wrong_teacher import ending, noise
from realuid.losses import DistillationLoss, GeneralRealUID, RealUID, Reflected
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Target, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import UnitWeight
from realuid.reports.charts import Series, line_chart, standalone
from realuid.reports.page import save_text

__all__ = ["charts", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the figures; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m realuid.check.figure", description=__doc__)
    parser.add_argument("folder", type=Path, help="where they go")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name, chart in charts().items():
        path = arguments.folder / f"{name}.svg"
        save_text(path, standalone(chart))
        print(path)
    return 0


def charts(count: int = 13) -> dict[str, str]:
    """All, of so many points a curve."""
    return {
        "real-data-equal": _equal(count),
        "real-data-difference": _difference(count),
        "real-data-noise": _noise(count),
    }


def _equal(count: int) -> str:
    """alpha = beta = s: RealUID up to one, General RealUID with gamma = 1/2 beyond."""

    def loss(s: float) -> DistillationLoss:
        if s <= 1:
            return RealUID(target=Velocity(), alpha=s, beta=s)
        return GeneralRealUID(target=Velocity(), alpha=s, beta=s, gamma=0.5)

    strengths = [0.6 * (8 / 0.6) ** (k / (count - 1)) for k in range(count)]
    series = [Series("alpha = beta = s, any function", [(s, _kept(loss(s))) for s in strengths])]
    series += [
        Series(name, [(s, _kept(loss(s)))])
        for name, s in (("alpha = beta = 0.92", 0.92), ("UID", 1.0), ("s = 2", 2.0), ("s = 4", 4.0))
    ]
    everything = Reflected(loss=RealUID(target=Velocity(), alpha=1.0, beta=1.0), correction=1.0)
    series.append(Series("reflected, r = 1 (s without end)", [(8.0, _kept(everything))]))
    return line_chart("The student's error over the teacher's, alpha = beta", series, x_label="s", from_zero=True)


def _difference(count: int) -> str:
    """beta = 1 and alpha below: the critic's term, by function and dimension."""
    curves: list[tuple[str, Target, int]] = [
        ("velocity, d = 1", Velocity(), 1),
        ("data, d = 1", Data(), 1),
        ("velocity, d = 64", Velocity(), 64),
        ("data, d = 64", Data(), 64),
    ]

    def along(target: Target, dimension: int) -> Callable[[float], float]:
        return lambda x: _kept(RealUID(target=target, alpha=1 - x, beta=1.0), dimension)

    steps = [0.5 * k / (count - 1) for k in range(count)]
    series = [Series(name, [(x, along(target, d)(x)) for x in steps]) for name, target, d in curves]
    series += [
        Series(
            f"({alpha}, {beta}), velocity, d = 1",
            [(beta - alpha, _kept(RealUID(target=Velocity(), alpha=alpha, beta=beta)))],
        )
        for alpha, beta in ((0.92, 0.94), (0.98, 0.96))
    ]
    return line_chart(
        "The student's error over the teacher's, beta = 1", series, x_label="beta - alpha", from_zero=True
    )


def _noise(count: int) -> str:
    """alpha = beta = s: gamma leaves the student where it is and changes the noise of the fake network's target."""

    def of(s: float, gamma: float) -> tuple[float, float]:
        found = noise(GeneralRealUID(target=Velocity(), alpha=s, beta=s, gamma=gamma), LinearInterpolant())
        assert found is not None
        return gamma, found.target

    gammas = [0.1 + 0.8 * k / (count - 1) for k in range(count)]
    series = [Series(f"s = {s:g}", [of(s, gamma) for gamma in gammas]) for s in (1.5, 2.0, 4.0)]
    series += [Series(f"s = {s:g}: least, at s / (2s - 1)", [of(s, s / (2 * s - 1))]) for s in (1.5, 2.0, 4.0)]
    title = "Variance of the fake network's target over UID's"
    return line_chart(title, series, x_label="gamma", references=[("UID, and Reflected with any r", 1.0)])


def _kept(loss: DistillationLoss, dimension: int = 1) -> float:
    data = GaussianPairs(
        interpolant=LinearInterpolant(), coupling=IndependentCoupling(), moments=Moments(0.0, 0.0, 1.0, 1.0, 0.0)
    )
    return ending(loss, data, UniformTime(), UnitWeight(), dimension=dimension).both


if __name__ == "__main__":
    raise SystemExit(main())

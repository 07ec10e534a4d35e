"""Why the paper finds (alpha, beta) = (0.92, 0.94) best: dimension, length of the run or the teacher's error.

    python studies/paper_claim.py [--dimensions 16 256] [--teachers exact mean narrow] [--steps 3200]

Affine students on Gaussians (`games.py`), which start with a fifth of the teacher's deviations, against teachers that
are exact, off in the mean, or too narrow. The loss is written in the velocity, as the paper's is. Prints the Fréchet
distance to the data of each student's average, along the run, as its mean over seeds, and of the losses with real data
the paired difference to UID. docs/real_data.md says what follows.
"""

from __future__ import annotations

import argparse

import torch
from games import Laws, Setting, played

from realuid.losses import RealUID
from realuid.paths.targets import Velocity

LOSSES = {"UID": (1.0, 1.0), "(0.92, 0.94)": (0.92, 0.94), "(0.98, 0.96)": (0.98, 0.96)}
WRONG = {"exact": (0.0, 1.0), "mean": (0.6, 1.0), "narrow": (0.0, 0.8)}
"""What is wrong with a teacher: the length of its mean, its deviations over the data's."""


def laws(dimension: int, wrong: str) -> Laws:
    length, narrower = WRONG[wrong]
    return Laws(dimension=dimension, shift=length / dimension**0.5, narrower=narrower, start=0.2)


def setting(laws: Laws, steps: int, alpha: float, beta: float) -> Setting:
    """With the paper's five updates of a fake network from random weights."""
    loss = RealUID(target=Velocity(), alpha=alpha, beta=beta)
    return Setting(loss, laws, fake_steps=5, steps=steps, student_averaged=0.98)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[16, 256], help="numbers of dimensions")
    parser.add_argument("--teachers", choices=WRONG, nargs="+", default=[*WRONG], help="what is wrong with them")
    parser.add_argument("--steps", type=int, default=3_200, help="steps of a run, a multiple of 32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    marks = [options.steps // part for part in (32, 16, 8, 4, 2, 1)]
    for dimension in options.dimensions:
        for wrong in options.teachers:
            at = laws(dimension, wrong)
            print(f"d = {dimension}, teacher {wrong}, {at.teacher_distance():.4f} from the data", flush=True)
            print(f"| steps | {' | '.join(map(str, marks))} |", flush=True)
            baseline: dict[int, torch.Tensor] = {}
            for name, (alpha, beta) in LOSSES.items():
                found = dict(played(setting(at, options.steps, alpha, beta), every=marks[0]))
                baseline = baseline or found
                told = [f"{found[mark].mean():.4f}" for mark in marks]
                if found is not baseline:
                    differences = [found[mark] - baseline[mark] for mark in marks]
                    told = [f"{a} ({d.mean():+.4f} ± {d.std():.4f})" for a, d in zip(told, differences, strict=True)]
                print(f"| {name} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()

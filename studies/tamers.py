"""What tames the noise of a loss with real data: affine students of an exact, wrong teacher on Gaussians.

    python studies/tamers.py [NAME ...]

Prints for each setting the mean and the standard deviation over seeds of the Fréchet distance to the data, in closed
form (`games.py`). The student starts at the teacher's law. Learning rates are constant, so that noise is not averaged
away. docs/real_data.md says what follows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
from games import BATCH, Setting, played

from realuid.losses import GeneralRealUID, RealUID, Reflected, SiD
from realuid.paths.targets import Data, Target, Velocity
from realuid.paths.weights import ExpressionWeight


def uid(target: Target) -> RealUID:
    return RealUID(target=target, alpha=1.0, beta=1.0)


def reflected(r: float, target: Target) -> Reflected:
    return Reflected(loss=uid(target), correction=r)


BASE = Setting(reflected(1.0, Data()))
FADING = ExpressionWeight(weight="(1-t)**2")
SETTINGS = {
    "UID": Setting(uid(Data())),
    "r = 0.75": Setting(reflected(0.75, Data())),
    "r = 1": BASE,
    "General, s = 4, gamma = 1/2": Setting(GeneralRealUID(target=Data(), alpha=4.0, beta=4.0, gamma=0.5)),
    "General, s = 4, gamma = 4/7": Setting(GeneralRealUID(target=Data(), alpha=4.0, beta=4.0, gamma=4 / 7)),
    "General, s = 4, gamma = 4/7, d = beta (f* - f)": Setting(
        GeneralRealUID(target=Data(), alpha=4.0, beta=4.0, gamma=4 / 7, parametrisation="beta")
    ),
    "r = 1, fake = f* + network": replace(BASE, residual=True),
    "r = 1, fake from the teacher": replace(BASE, from_teacher=True),
    "r = 1, fake from the teacher, averaged 0.9": replace(BASE, from_teacher=True, averaged=0.9),
    "General, s = 4, gamma = 4/7, fake from the teacher": Setting(
        GeneralRealUID(target=Data(), alpha=4.0, beta=4.0, gamma=4 / 7), from_teacher=True
    ),
    "r = 1, a quarter real": replace(BASE, real_batch=BATCH // 4),
    "r = 1, half real": replace(BASE, real_batch=BATCH // 2),
    "r = 1, times and noise not shared": replace(BASE, shared=False),
    "r = 1, fake averaged 0.5": replace(BASE, averaged=0.5),
    "r = 1, fake averaged 0.9": replace(BASE, averaged=0.9),
    "r = 1, fake averaged 0.98": replace(BASE, averaged=0.98),
    "r = 1, K = 2": replace(BASE, fake_steps=2),
    "r = 1, K = 8": replace(BASE, fake_steps=8),
    "r = 1, critic 0.5": Setting(Reflected(loss=uid(Data()), correction=1.0, critic=0.5)),
    "r = 1, critic 0.5, fake from the teacher": Setting(
        Reflected(loss=uid(Data()), correction=1.0, critic=0.5), from_teacher=True
    ),
    "r = 1, samples made once": replace(BASE, steps_per_sample=4),
    "r = 1, two times a sample": replace(BASE, times_per_sample=2),
    "r = 1, velocity": Setting(reflected(1.0, Velocity())),
    "r = 1, velocity, fake from the teacher": Setting(reflected(1.0, Velocity()), from_teacher=True),
    "UID, velocity": Setting(uid(Velocity())),
    "r = 1, weight (1-t)^2": replace(BASE, weight=FADING),
    "r = 1, weight (1-t)^2, fake from the teacher": replace(BASE, weight=FADING, from_teacher=True),
    "SiD 1.2": Setting(SiD(target=Data(), a=1.2)),
    "r = 1, SiD 1.2": Setting(Reflected(loss=SiD(target=Data(), a=1.2), correction=1.0)),
}


def distances(setting: Setting) -> torch.Tensor:
    """Of the students to the data `[SEEDS]`, means over the last quarter of the run."""
    found = [distance for step, distance in played(setting, every=10) if step > 3 * setting.steps // 4]
    return torch.stack(found).mean(0)


def main(names: Sequence[str]) -> None:
    """Prints the table, of these settings or of all."""
    torch.set_num_threads(1)
    print(f"teacher: {BASE.laws.teacher_distance():.3f}", flush=True)
    for name in names or SETTINGS:
        found = distances(SETTINGS[name])
        print(f"| {name} | {found.mean():.4f} ± {found.std():.4f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

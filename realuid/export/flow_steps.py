"""Students of several steps along the linear path x_t = t x0 + (1 - t) x1, as a scheduler of diffusers takes them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from realuid.export.student import ExportedStudent, Weights
from realuid.utils.errors import RunError

__all__ = ["scheduler"]

REFUSAL = (
    "diffusers has no scheduler for this student: of several steps only those of flow matching from t = 1, with "
    "FewSteps.redraw = 0 or 1"
)
TOLERANCE = 1e-5
"""Of weights and times."""


def scheduler(student: ExportedStudent, entry: int) -> dict[str, Any]:
    """The configuration of the `FlowMatchEulerDiscreteScheduler` that takes the student's steps.

    Args:
        student: its network predicts the velocity and is given x_t alone.
        entry: what the pipeline tells its network at t = 1.

    Raises:
        RunError: if the student takes other steps.
    """
    first = student.evaluations[0].time
    if first <= 0:  # a path that begins at t = 0
        raise RunError(REFUSAL)
    levels = [evaluation.time / first for evaluation in student.evaluations]
    stochastic = student.draws > 0
    wanted = (_redrawn if stochastic else _euler)(levels)
    inputs = [evaluation.inputs for evaluation in student.evaluations]
    found = [*(weights for (weights, *_) in inputs), student.result]
    if any(len(weights) > 1 for weights in inputs) or not _agree(found, wanted):
        raise RunError(REFUSAL)
    count = len(levels)
    even = [1 + (levels[-1] - 1) * number / (count - 1) for number in range(count)]
    if max(abs(level - other) for level, other in zip(levels, even, strict=True)) > TOLERANCE:
        times = ", ".join(f"{first * level:.6g}" for level in even)
        raise RunError(f"diffusers takes equal steps from 1 to the last: bind FewSteps.times = ({times})")
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": entry,
        "shift": 1.0,
        "use_dynamic_shifting": False,
        "shift_terminal": levels[-1],
        "stochastic_sampling": stochastic,
    }


def _euler(levels: list[float]) -> list[Weights]:
    """x_s = x_t + (s - t) F: the weights of x0 and the answers, at each time and at the end."""
    return _walk(levels, 0, lambda x, t, s, answer: [*x, (answer, s - t)])


def _redrawn(levels: list[float]) -> list[Weights]:
    """x_s = (1 - s)(x_t - t F) + s z: the weights of x0, noise and answers."""

    def step(x: Terms, t: float, s: float, answer: int) -> Terms:
        draw = [(1 + answer - len(levels), s)] if s else []
        return [(name, (1 - s) * weight) for name, weight in [*x, (answer, -t)]] + draw

    return _walk(levels, len(levels) - 1, step)


Terms = list[tuple[int, float]]
"""Numbers of what is known, and their weights."""


def _walk(levels: list[float], draws: int, step: Callable[[Terms, float, float, int], Terms]) -> list[Weights]:
    x: Terms = [(0, 1.0)]
    states = [x]
    for number, (t, s) in enumerate(pairwise([*levels, 0.0])):
        x = step(x, t, s, 1 + draws + number)
        states.append(x)
    return [
        tuple(sum(weight for name, weight in state if name == known) for known in range(1 + draws + number))
        for number, state in enumerate(states)
    ]


def _agree(found: list[Weights], wanted: list[Weights]) -> bool:
    return len(found) == len(wanted) and all(
        len(a) == len(b) and all(abs(x - y) < TOLERANCE for x, y in zip(a, b, strict=True))
        for a, b in zip(found, wanted, strict=True)
    )

"""Numbers under which no update moves a weight, or all of them move too far, told without training anything.

Adam moves a weight by lr m / (sqrt(v) + eps). Clipping scales all gradients alike and leaves that quotient as it is,
until they are so small that eps is what they are divided by: n weights whose gradient has the norm c have about
c / sqrt(n) each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from realuid.check.table import Caution
from realuid.distillation.distillation import Distillation
from realuid.distillation.teacher_training import TeacherTraining
from realuid.networks.lora import own_parameters
from realuid.training.optimizers import Adam
from realuid.training.trainer import Trainer

SMALLEST_RATE, LARGEST_RATE = 1e-8, 0.1
LOOKED_AT = 200
"""Points of a run at which a schedule is looked at."""
REACHED = 0.5
"""Least of its learning rate that a schedule must come to, and most of the steps that may be idle."""
SMALLEST_MOVE = 1e-4
"""What a weight must be able to move in a whole run."""
LARGEST_DECAY = 0.01
"""Most of a weight that may be taken away in a step."""
SMALLEST_SPIKE = 1.5
"""Gradients differ by about that much from step to step."""
MOST_DROPPED = 0.9
WARM_STEPS = 20
"""Fewer are no warm start."""


def update_rows(trainer: Trainer, scope: str = "") -> list[Caution]:
    """What the numbers of optimisers, schedules and averages do to the updates of a run.

    Args:
        trainer: assembled; its networks may lack their weights.
        scope: that the bindings of a teacher's training stand in, such as `teacher/`.
    """
    method, rows = trainer.method, []
    for role, adam in method.optimizers().items():
        place = f"{role}/" if isinstance(method, Distillation) else scope
        weights = sum(p.numel() for p in own_parameters(method.networks()[role]))
        rows += [*_rows_of(adam, f"{place}{type(adam).__name__}", weights, trainer, scope)]
    if isinstance(method, Distillation) and method.warm_start is not None:
        rows += rate_rows({"WarmStart.lr": method.warm_start.lr})
        if (steps := trainer.leading_steps) < WARM_STEPS:
            what = f"WarmStart.images = {method.warm_start.images:,}"
            rows.append(
                Caution(what, f"{steps} steps teach a network nothing: about half of a teacher's training does")
            )
    if isinstance(method, TeacherTraining) and method.condition_dropout > MOST_DROPPED:
        what = f"{scope and 'the teacher: '}TeacherTraining.condition_dropout = {method.condition_dropout:g}"
        rows.append(Caution(what, "the network is told nothing of nearly all samples: 0.1 to 0.2 suit guidance"))
    if trainer.batch == 1:
        note = (
            f"the gradient of one sample is mostly noise, and it has no spread: bind {scope}Trainer.batch = 8 or more"
        )
        rows.append(Caution(f"{scope}Trainer.batch = 1", note))
    return [*rows, *_average_rows(trainer, scope)]


def rate_rows(rates: dict[str, float]) -> list[Caution]:
    """Learning rates beyond reason: Adam moves each weight by about its learning rate in every step.

    Args:
        rates: by the bindings that state them.
    """
    reasons = {name: "too large" if lr > LARGEST_RATE else "too small" for name, lr in rates.items()}
    return [
        Caution(
            f"{name} = {lr:g}", f"{reasons[name]}: Adam moves each weight by about that much a step; 1e-5 to 1e-2 work"
        )
        for name, lr in rates.items()
        if not SMALLEST_RATE <= lr <= LARGEST_RATE
    ]


def _rows_of(adam: Adam, name: str, weights: int, trainer: Trainer, scope: str) -> Iterator[Caution]:
    """Of one optimiser, called `name`, of so many weights."""
    if beyond := rate_rows({f"{name}.lr": adam.lr}):
        yield from beyond
        return
    if (gradient := adam.clip / math.sqrt(max(weights, 1))) < adam.eps:
        argument, value, better = ("clip", adam.clip, "1.0") if adam.eps <= 1e-6 else ("eps", adam.eps, "1e-8")
        yield Caution(
            f"{name}.{argument} = {value:g}",
            f"a gradient of norm {adam.clip:g} is {gradient:.1g} for each of {weights:,} weights, less than "
            f"eps = {adam.eps:g}: updates are {gradient / (gradient + adam.eps):.1g} of the learning rate; bind "
            f"{name}.{argument} = {better}",
        )
    yield from _schedule_rows(adam, name, trainer, scope)
    if (taken := adam.lr * adam.weight_decay) > LARGEST_DECAY:
        yield Caution(
            f"{name}.weight_decay = {adam.weight_decay:g}",
            f"takes {min(taken, 1):.0%} of every weight away a step: bind {0.1 * LARGEST_DECAY / adam.lr:.1g} or less",
        )
    if (length := 1 / (1 - adam.betas[0])) > trainer.steps:
        yield Caution(
            f"{name}.betas = ({adam.betas[0]!r}, ...)",
            f"averages gradients over {length:.3g} steps, and the run has {trainer.steps:,}: bind 0.9, or 0 for "
            "distillations",
        )
    if adam.spike is not None and adam.spike < SMALLEST_SPIKE:
        yield Caution(
            f"{name}.spike = {adam.spike:g}",
            "leaves out every update whose gradient is a little larger than usual, about half of them: bind 5 or more",
        )


def _schedule_rows(adam: Adam, name: str, trainer: Trainer, scope: str) -> Iterator[Caution]:
    """What the schedule makes of the learning rate, and how far all updates together may move a weight."""
    images, steps = trainer.images, -(-trainer.images // trainer.batch)
    count = min(LOOKED_AT, steps)
    factors = [adam.lr_schedule(steps * i // count * trainer.batch) for i in range(count)]
    schedule, length = type(adam.lr_schedule).__name__, f"{scope}Trainer.images = {images:,}"
    idle = sum(adam.lr * factor < SMALLEST_RATE for factor in factors) / count
    moved = adam.lr * sum(factors) / count * steps
    if (peak := max(factors)) < REACHED:
        yield Caution(
            f"{name}.lr_schedule",
            f"the learning rate comes to {peak:.2g} of {name}.lr in the whole run: bind "
            f"{scope}{schedule}.warm_up to less than {length}",
        )
    elif idle > REACHED:
        yield Caution(
            f"{name}.lr_schedule",
            f"the learning rate is less than {SMALLEST_RATE:g} in {idle:.0%} of the steps: bind {schedule}.images = "
            f"{images:,}, or a larger {schedule}.last",
        )
    elif moved < SMALLEST_MOVE:
        yield Caution(
            f"{name}: all updates together",
            f"move a weight by at most {moved:.1g}: bind a larger {name}.lr, or more than {length}",
        )


def _average_rows(trainer: Trainer, scope: str) -> Iterator[Caution]:
    """The average that is evaluated and exported, the first."""
    decay, steps = next(iter(trainer.method.ema.decays.values())), trainer.steps
    if (length := 1 / (1 - decay)) > steps:
        yield Caution(
            f"{scope}EMA.decays = ({decay!r}, ...)",
            f"the first one averages over {length:.3g} steps, and the run has {steps:,}: its first weights count like "
            f"its last; bind {scope}EMA.decays = ({_decay(steps)},)",
        )


def _decay(steps: int) -> float:
    """One that averages over about a tenth of the run."""
    return float(f"{1 - 1 / max(steps / 10, 2):.4g}")

"""The dry run: what would be trained, and what it would cost."""

from __future__ import annotations

from pathlib import Path

import torch

from realuid import checkpoints
from realuid import config as configuration
from realuid.commands.runs import teacher_run, teacher_trainer
from realuid.config import Config, ConfigError
from realuid.networks.unweighted import Unweighted
from realuid.training.costs import costs
from realuid.training.distillation import Distillation
from realuid.training.folder import RunFolder
from realuid.training.trainer import Trainer
from realuid.training.world import World


def dry_run(config: Config) -> str:
    """Assembles everything and reports: components with their bindings, parameters, arithmetic, memory, images a
    second, and what is missing. Reads no data and no checkpoint, trains nothing.

    Raises:
        ConfigError: if the assembly is wrong.
    """
    with Unweighted():
        trainer = configuration.build(config)
    assert isinstance(trainer, Trainer)
    try:
        bill = _costs(trainer)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"the parts do not fit each other: {str(error).strip().splitlines()[0]}") from None
    return "\n".join([configuration.tree(config), "", *bill, "", *_missing(trainer, config)]).rstrip()


def _costs(trainer: Trainer) -> list[str]:
    context = trainer.context(World(torch.device("meta")))
    bill = costs(trainer.procedure, context)
    lines = [f"{role:<12} {count:>15,} parameters" for role, count in bill.parameters.items()]
    for kind, (count, flops) in bill.passes.items():
        lines.append(f"{kind:<12} {count} x {_amount(flops)}FLOP a step, forward and backward")
    per_image = bill.flops / trainer.batch
    total = bill.flops * trainer.steps
    speed = trainer.peak_flops * trainer.mfu / per_image
    lines += [
        f"one step     {_amount(bill.flops)}FLOP, {_amount(per_image)}FLOP an image",
        f"the run      {trainer.images:,} images, {trainer.steps:,} steps of {trainer.batch}, {_amount(total)}FLOP",
        f"memory       {_amount(bill.weights)}B weights, gradients, optimiser and averages; "
        f"{_amount(bill.activations / context.parts)}B activations of {trainer.batch // context.parts} samples at once "
        "(float32)",
        f"speed        {speed:,.0f} images/s at {trainer.mfu:.0%} of {_amount(trainer.peak_flops)}FLOP/s, "
        f"{_duration(trainer.images / speed)}",
    ]
    if reads := trainer.procedure.images_read(trainer.batch):
        lines.append(f"real data    {reads / trainer.batch * speed:,.0f} images/s must be read to keep up")
    return lines


def _missing(trainer: Trainer, config: Config) -> list[str]:
    lines = []
    if missing := trainer.data.missing():
        lines.append(f"missing      {missing}")
    if isinstance(trainer.procedure, Distillation):
        teacher = trainer.procedure.teacher
        if teacher.checkpoint is not None and not checkpoints.exists(teacher.checkpoint):
            lines.append(f"missing      the teacher's checkpoint {teacher.checkpoint}")
        elif teacher.checkpoint is None and teacher.needs_weights:
            training, place = teacher_run(config, RunFolder(Path("runs") / config.name))
            with Unweighted():
                steps = teacher_trainer(teacher, training).steps
            lines.append(f"teacher      trained first, if missing: {steps:,} steps, in {place}")
    return lines


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds:,.2g} seconds"


def _amount(number: float) -> str:
    """A number with a metric prefix and three digits: 12.4 G."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    while number >= 1000 and len(prefixes) > 1:
        number /= 1000
        prefixes.pop(0)
    return f"{number:.3g} {prefixes[0]}"

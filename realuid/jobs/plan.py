"""The dry run: what would be trained, and what it would cost."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import torch

from realuid import config as configuration
from realuid.config import Config, ConfigError
from realuid.jobs.assembled import outlined
from realuid.jobs.first_look import look_at_weights, weights_of
from realuid.jobs.teacher_runs import teacher_run, teacher_trainer
from realuid.training.costs import GPUS, Costs, costs, counted_on
from realuid.training.precision import shown as precision
from realuid.training.run_folder import RunFolder
from realuid.training.trainer import Trainer
from realuid.training.world import World
from realuid.utils.errors import CheckpointError
from realuid.utils.progress import duration

SIDE = 768
"""Rows and columns of the matrices in whose product a CPU's speed is measured."""


def dry_run(config: Config) -> str:
    """Assembles everything and reports: components with their bindings, parameters, arithmetic, memory, images a
    second, and what is missing. Reads no data and no checkpoint, trains nothing.

    Raises:
        ConfigError: if the assembly is wrong.
    """
    trainer = outlined(config)
    assert isinstance(trainer, Trainer)
    try:
        bill = _costs(trainer)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"the parts do not fit each other: {str(error).strip().splitlines()[0]}") from None
    return "\n".join([configuration.tree(config), "", *bill, "", *_missing(trainer, config)]).rstrip()


def _costs(trainer: Trainer) -> list[str]:
    largest = max(trainer.data.shapes, key=math.prod)
    device = counted_on(trainer.method, trainer.batch, largest)
    context = replace(trainer.context(World(device)), shape=largest)
    bill = costs(trainer.method, context)
    lines = [f"{role:<12} {count:>15,} parameters" for role, count in bill.parameters.items()]
    for kind, (count, flops) in bill.passes.items():
        lines.append(f"{kind:<12} {count} x {_amount(flops)}FLOP a step, forward and backward")
    per_image = bill.flops / trainer.batch
    leading, steps = trainer.leading_steps, trainer.steps - trainer.leading_steps
    total = bill.flops * steps
    peak, of_what = _peak(trainer)
    speed = peak * trainer.mfu / per_image
    lines += [
        f"one step     {_amount(bill.flops)}FLOP, {_amount(per_image)}FLOP an image",
        *(
            [
                f"warm start   {leading * trainer.batch:,} images, {leading:,} steps, not in what follows; "
                "each reads a whole batch of images"
            ]
            if leading
            else []
        ),
        f"the run      {trainer.images:,} images, {steps:,} steps of {trainer.batch}, {_amount(total)}FLOP",
        f"memory       {_amount(bill.weights)}B weights, gradients, optimiser and averages: "
        + ", ".join(f"{role} {_amount(size)}B" for role, size in bill.memory.items()),
        f"activations  "
        f"{_amount(bill.activations / context.parts)}B activations of {trainer.batch // context.parts} samples at once "
        "(float32)",
        *_fitting(trainer, bill),
        f"precision    {precision(trainer.compute, device_planned(trainer))}",
        f"speed        {_rate(speed)} images/s at {trainer.mfu:.0%} of {_amount(peak)}FLOP/s ({of_what}), "
        f"{duration(trainer.images / speed)}",
    ]
    if reads := trainer.method.images_read(trainer.batch):
        lines.append(f"real data    {_rate(reads / trainer.batch * speed)} images/s must be read to keep up")
    return lines


def _fitting(trainer: Trainer, bill: Costs) -> list[str]:
    """Memory of each device of 1, 8 and 64, and the first number of them that fits."""
    room, lines, first = trainer.device_memory, [], None
    for count in GPUS:
        shares = trainer.parallelism.shares_of(count)
        weights = bill.weights / shares + (bill.largest_block if shares > 1 else 0)
        samples = min(trainer.batch if trainer.micro_batch is None else trainer.micro_batch, trainer.batch // count)
        if not samples:
            lines.append(f"on {count} GPUs    the batch of {trainer.batch} is less than one sample each")
            continue
        total = weights + bill.activations * samples / trainer.batch
        fits = total <= room
        first = count if fits and first is None else first
        lines.append(
            f"{f'on {count} GPU' + 's' * (count > 1):<12} {_amount(total)}B each: {_amount(weights)}B weights etc., "
            f"{_amount(total - weights)}B activations of {samples} samples at once"
        )
    verdict = (
        f"none of these: bind FSDP, Compute.recompute, LoRA or a smaller Trainer.micro_batch, or more than "
        f"Trainer.device_memory = {_amount(room)}B"
        if first is None
        else f"{first} GPU{'s' * (first > 1)} of {_amount(room)}B"
    )
    return [*lines, f"first fit    {verdict}"]


def device_planned(trainer: Trainer) -> torch.device:
    """The kind of device that is bound, whether it is here or not."""
    return torch.device(
        "cuda" if trainer.device == "auto" and torch.cuda.is_available() else trainer.device.replace("auto", "cpu")
    )


def _peak(trainer: Trainer) -> tuple[float, str]:
    """Floating-point operations a second of the device that is bound, and how they are known. Those of a CPU are
    measured in a product of matrices. Those of a GPU are bound, so that a run can be planned where there is none."""
    if device_planned(trainer).type == "cuda":
        return trainer.peak_flops, "Trainer.peak_flops"
    square = torch.rand(SIDE, SIDE)
    seconds = []
    for _ in range(4):  # the first one starts the threads
        start = time.perf_counter()
        square @ square
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(seconds), "measured on this CPU; bind Trainer.device = 'cuda' to plan for a GPU"


def _missing(trainer: Trainer, config: Config) -> list[str]:
    lines = []
    if missing := trainer.data.missing():
        lines.append(f"missing      {missing}")
    for path, argument in weights_of(config):
        try:
            look_at_weights(path, argument)
        except CheckpointError as error:
            lines.append(f"missing      {error}")
    teacher = trainer.method.teacher
    if teacher is not None and teacher.checkpoint is None and teacher.needs_weights:
        training, place = teacher_run(config, RunFolder(Path("runs") / config.name))
        steps = teacher_trainer(teacher, training, outlined).steps
        there = (place.store.steps() or [0])[-1]
        done = "is there" if there >= steps else f"trained first: {there:,} of {steps:,} steps are done"
        lines.append(f"teacher      {done}, in {place}")
    return lines


def _rate(number: float) -> str:
    """Images a second: 12,345 or, where they are few, 0.00037."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _amount(number: float) -> str:
    """A number with a metric prefix and three digits: 12.4 G."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    while number >= 1000 and len(prefixes) > 1:
        number /= 1000
        prefixes.pop(0)
    return f"{number:.3g} {prefixes[0]}"

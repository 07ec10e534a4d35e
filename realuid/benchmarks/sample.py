"""Images a second of a student and of its teacher, at the largest batch that pays: doubled until memory is out, or
doubling it once more gains less than a twentieth.

Prints a line of JSON for the device and one for each role.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from realuid import config as configuration
from realuid.benchmarks.assembly import distillation
from realuid.benchmarks.meters import spent
from realuid.benchmarks.step import about
from realuid.training.method import empty_condition
from realuid.training.world import device_named

WORTH = 1.05
"""What a larger batch must gain."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gin", default="gin/fm_cifar10.gin", metavar="FILE", help="recipe (%(default)s)")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument("--most", type=int, default=1024, help="images of the largest batch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions (%(default)s)")
    parser.add_argument("--device", default="auto", help="%(default)s")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = device_named(arguments.device)
    made, context = distillation(configuration.load([arguments.gin], arguments.bind), device)
    print(json.dumps(about(device)), flush=True)
    for role, generate in made.generators().items():

        def once(batch: int, generate: Callable = generate) -> None:
            x0 = torch.randn(batch, *context.shape, device=device)
            condition = empty_condition(context.data.conditions, batch, device)
            with torch.no_grad():
                generate(x0, condition, lambda k: torch.randn_like(x0))

        batch, speed = fitting(once, device, arguments.most, arguments.rounds)
        line: dict[str, Any] = {"role": role, "sampler": made.sampling(role)["sampler"], "batch": batch}
        print(json.dumps(line | {"images_per_s": round(speed, 3)}), flush=True)
    return 0


def fitting(work: Callable[[int], None], device: torch.device, most: int, rounds: int) -> tuple[int, float]:
    """The largest batch that pays, and its images a second.

    Raises:
        torch.OutOfMemoryError: if not even one image fits.
    """
    best, speed, batch = 1, 0.0, 1
    while batch <= most:
        try:
            work(batch)  # algorithms are chosen, memory is taken
            now = batch / median(spent(partial(work, batch), device).wall for _ in range(rounds))
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            break
        if now < WORTH * speed:
            break
        best, speed, batch = batch, now, 2 * batch
    return best, speed

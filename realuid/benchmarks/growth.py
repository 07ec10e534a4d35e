"""How the time and memory of a distillation step grow with batch, resolution, width and processes, and those of reading
with the size of the data set.

One of them is changed at a time. The exponent is that of the power law through what is measured, least squares in the
logarithms: 1 is in proportion. Time is this process's processor time on the CPU, which other work on the machine
disturbs little, and the clock's on CUDA; memory is that of tensors beyond weights, optimisers and averages. With more
processes each has a lane of the batch of its own, so that 0 would be perfect.

Of sets of 32x32 PNG, held in memory and streamed, it is the time to open them, the memory of their tensors, and the
time of a batch of 256.

Prints a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as processes

from realuid import config as configuration
from realuid.benchmarks import data as reads
from realuid.benchmarks.assembly import distillation
from realuid.benchmarks.meters import Counted, spent
from realuid.benchmarks.step import about
from realuid.data.dataset import Batch, Dataset
from realuid.data.memory import InMemory
from realuid.data.streaming import Streaming
from realuid.training.world import World, device_named

CPU = torch.device("cpu")
AXES = ("batch", "resolution", "width", "processes", "images")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gin", default="gin/fm_cifar10.gin", metavar="FILE", help="recipe of a UNet (%(default)s)")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES), metavar="AXIS", help=f"of {AXES}")
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 4, 8], help="first: of the others (%(default)s)")
    parser.add_argument("--resolution", type=int, nargs="+", default=[16, 32, 64], help="%(default)s")
    parser.add_argument("--width", type=int, nargs="+", default=[32, 64, 128], help="%(default)s")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="%(default)s")
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000, 16000], help="%(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="steps, or batches read, that are timed (%(default)s)")
    parser.add_argument("--device", default="auto", help="%(default)s")


def run(arguments: argparse.Namespace) -> int:
    device = device_named(arguments.device)
    print(json.dumps(about(device)), flush=True)
    for axis in arguments.axes:
        values = vars(arguments)[axis]
        lines = [measured(arguments, axis, value, device) for value in values]
        for value, line in zip(values, lines, strict=True):
            print(json.dumps({axis: value} | line), flush=True)
        if len(values) > 1:
            exponents = {name: exponent(values, [line[name] for line in lines]) for name in lines[0]}
            print(json.dumps({"axis": axis, "exponents": exponents}), flush=True)
    return 0


def exponent(values: Sequence[float], found: Sequence[float]) -> float | None:
    """Of the power law through what is measured; None where one of them is zero."""
    if min(found) <= 0:
        return None
    return round(float(np.polyfit(np.log(values), np.log(found), 1)[0]), 3)


def measured(arguments: argparse.Namespace, axis: str, value: int, device: torch.device) -> dict[str, float]:
    """One row."""
    if axis == "images":
        return reading(value, arguments.rounds)
    size = value if axis == "processes" else 1
    batch = (value if axis == "batch" else arguments.batch[0]) * size
    bindings = [f"Trainer.batch = {batch}", f"Distillation.real_batch = {batch}", f"Trainer.lanes = {size}"]
    if axis == "resolution":
        bindings += [f"SHAPE = (3, {value}, {value})"]
    if axis == "width":
        bindings += [f"UNet.width = {value}"]
    bindings += arguments.bind
    if size == 1:
        return _measured(World(device), arguments.gin, bindings, arguments.rounds)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = processes.get_context("spawn").SimpleQueue()
    processes.spawn(
        _process, (size, port, device.type, arguments.gin, bindings, arguments.rounds, answers), nprocs=size
    )
    return answers.get()


def reading(images: int, rounds: int) -> dict[str, float]:
    """One row of the data set's size."""
    row = {}
    with tempfile.TemporaryDirectory(prefix="realuid-benchmark-") as folder:
        path = reads.made(Path(folder), 32, "png", images)
        for name, kind in (("in_memory", InMemory), ("streamed", Streaming)):
            data = kind(path=path, **reads.declared(path))
            row[f"{name}_open_ms"] = 1000 * spent(partial(reads.opened, data), CPU).cpu
            row[f"{name}_mib"] = held_bytes(data) / 2**20
            batches = [spent(partial(data.batch, 256 * n, 256), CPU).cpu for n in range(rounds)]
            row[f"{name}_batch_ms"] = 1000 * median(batches)
    return {name: round(value, 2) for name, value in row.items()}


def held_bytes(data: Dataset) -> int:
    """Bytes of the tensors that a data set holds, whole or in a batch."""
    parts: list[Any] = []
    for value in vars(data).values():
        parts += [value.images, value.sources, *value.condition.values()] if isinstance(value, Batch) else [value]
    return sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))


def _process(
    rank: int, size: int, port: int, device: str, gin: str, bindings: list[str], rounds: int, answers: Any
) -> None:
    """One of several processes; the first tells what it measured."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world = World.join(device, 600.0)
    try:
        answer = _measured(world, gin, bindings, rounds)
        if world.main:
            answers.put(answer)
    finally:
        world.leave()


def _measured(world: World, gin: str, bindings: list[str], rounds: int) -> dict[str, float]:
    made, _ = distillation(configuration.load([gin], bindings), world.device, world)
    made.step(0)  # makes the optimisers' state
    with Counted() as counted:
        made.step(1)
        memory = counted.take_bytes()
    times = [spent(partial(made.step, index), world.device) for index in range(2, rounds + 2)]
    time = median(t.wall if world.device.type == "cuda" else t.cpu for t in times)
    return {"ms": round(1000 * time, 2), "flops": counted.operations, "memory_mib": round(memory / 2**20, 2)}

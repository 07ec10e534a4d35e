"""The loop's own share of a step, on the CPU: everything that is not the arithmetic of networks, losses, optimisers and
averages; the wait for data; and the time from a command to its first step.

The loop that trains runs on the recipe's own data, with random weights and without an evaluator. Its own share is given
of this process's processor time, which other work on the machine disturbs little, and of the time by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from realuid import config as configuration
from realuid.benchmarks.assembly import assembled, network_of
from realuid.benchmarks.step import about
from realuid.distillation.distillation import Distillation
from realuid.training.loop import Loop
from realuid.training.run_folder import RunFolder
from realuid.training.signals import StopSignal
from realuid.training.trainer import Trainer
from realuid.training.world import World
from realuid.utils.errors import RunError

WARM_UP = 3
"""Steps that are not counted."""
CPU = torch.device("cpu")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gin", default="gin/fm_digits.gin", metavar="FILE", help="recipe (%(default)s)")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument("--steps", type=int, default=40, help="that are counted (%(default)s)")
    parser.add_argument("--starts", type=int, default=3, help="starts that are timed (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="realuid-benchmark-") as folder:
        shares = loop_shares([arguments.gin], arguments.bind, arguments.steps, Path(folder))
        starts = [start(arguments.gin, arguments.bind, Path(folder) / f"start{n}") for n in range(arguments.starts)]
    if starts:
        shares |= {"start_s": round(median(wall for wall, _ in starts), 2)}
        shares |= {"start_cpu_s": round(median(cpu for _, cpu in starts), 2)}
    print(json.dumps(about(CPU) | {"recipe": Path(arguments.gin).stem} | shares))
    return 0


class Stopwatch:
    """Seconds by the clock and of this process's processors inside some functions, not counted twice if they nest."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self._depth = 0

    def enter(self, *_: Any) -> None:
        if not self._depth:
            self._began = time.perf_counter(), time.process_time()
        self._depth += 1

    def leave(self, *_: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self.wall += time.perf_counter() - self._began[0]
            self.cpu += time.process_time() - self._began[1]

    def around(self, function: Callable) -> Callable:
        def timed(*arguments: Any, **named: Any) -> Any:
            self.enter()
            try:
                return function(*arguments, **named)
            finally:
                self.leave()

        return timed


def loop_shares(files: list[str], bindings: list[str], steps: int, folder: Path) -> dict[str, float]:
    """Shares of a step, as the module says."""
    base = configuration.load(files, bindings)
    batch = configuration.build(base).batch
    length = [f"Trainer.images = {batch * (WARM_UP + steps + 1)}", "Trainer.evaluator = None", "Trainer.device = 'cpu'"]
    config = configuration.load(files, [*bindings, *length])
    trainer = assembled(config, folder)
    arithmetic, data, marks = Stopwatch(), Stopwatch(), []
    place = RunFolder(folder / "run")
    place.begin(config.text)
    loop = Loop(trainer, World(CPU), place, config.text)
    with ExitStack() as stack, StopSignal() as stop:
        _watch(trainer, arithmetic, data, stack)
        step = trainer.method.step

        def marked(index: int) -> Any:
            marks.append((time.perf_counter(), time.process_time(), arithmetic.wall, arithmetic.cpu, data.wall))
            return step(index)

        stack.enter_context(patch.object(trainer.method, "step", marked))
        loop.run(stop)
    wall, cpu, arithmetic_wall, arithmetic_cpu, data_wall = (
        last - first for first, last in zip(marks[WARM_UP], marks[WARM_UP + steps], strict=True)
    )
    return {
        "steps": steps,
        "ms": round(1000 * wall / steps, 2),
        "own_share": round(1 - arithmetic_cpu / cpu, 4),
        "own_share_by_the_clock": round(1 - arithmetic_wall / wall, 4),
        "data_share": round(data_wall / wall, 4),
    }


def _watch(trainer: Trainer, arithmetic: Stopwatch, data: Stopwatch, stack: ExitStack) -> None:
    """Has the stopwatches run wherever a step computes or reads."""
    made = trainer.method
    assert isinstance(made, Distillation)
    parts: list[tuple[Any, str]] = [(torch.Tensor, "backward"), (made.ema, "update")]
    parts += [(made.loss, "fake_loss"), (made.loss, "generator_loss")]
    parts += [(optimizer, "step") for optimizer in made.optimizers().values()]
    for owner, name in parts:
        stack.enter_context(patch.object(owner, name, arithmetic.around(getattr(owner, name))))
    stack.enter_context(patch.object(trainer.data, "batch", data.around(trainer.data.batch)))
    for posterior in (made.student.model, made.fake, made.teacher.model):
        network = network_of(posterior)
        stack.enter_context(_removed(network.register_forward_pre_hook(arithmetic.enter)))
        stack.enter_context(_removed(network.register_forward_hook(arithmetic.leave)))


def _removed(handle: Any) -> Any:
    """A hook as a context."""
    stack = ExitStack()
    stack.callback(handle.remove)
    return stack


def start(gin: str, bindings: list[str], folder: Path) -> tuple[float, float]:
    """Seconds by the clock and of processors from the training command to the end of its first step, built-in data
    being there; that of the teacher, where the recipe trains one."""
    folder.mkdir()
    told = ["Trainer.log_images = 1", "Trainer.device = 'cpu'"]
    if configuration.load([gin], bindings).rooted("teacher") is not None:
        told.append("teacher/Trainer.log_images = 1")
    command = [sys.executable, "-c", "from realuid.commands import main; main()", "train", "--gin", gin]
    command += ["--out", str(folder / "run")]
    for binding in (*bindings, *told):
        command += ["--bind", binding]
    began = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    while not any(path.stat().st_size for path in folder.glob("*/metrics.jsonl")):
        if process.poll() is not None:
            raise RunError(f"the training ended at once: {(folder / 'log').read_text().strip().splitlines()[-1:]}")
        time.sleep(0.02)
    wall = time.perf_counter() - began
    process.kill()
    _, _, used = os.wait4(process.pid, 0)
    return wall, used.ru_utime + used.ru_stime

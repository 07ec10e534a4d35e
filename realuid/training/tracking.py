"""What a run tells about itself: metrics.jsonl, the loggers that show it, and averages between two lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from realuid.training.loggers import MetricLogger
from realuid.training.run_folder import RunFolder
from realuid.training.spread import spread
from realuid.training.world import World
from realuid.utils import budget


class Meters:
    """Means of scalars over steps and processes, and of vectors `spread_terms`, which are read as one spread of all
    samples. They stay on the device until they are read; numbers that are not finite are left out, and what is never
    finite has no mean.

    They are part of a checkpoint, so that the line after an interruption is the one that would have been written
    without it.

    Args:
        world: all processes must add the same names, the same ones in every step, and read together.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self.sizes: dict[str, int] = {}
        """Numbers behind each name."""
        self.totals = torch.zeros(2, 0, device=self.world.device)
        """Sums, and of how many numbers `[2, numbers]`."""

    def add(self, scalars: dict[str, Tensor]) -> None:
        """One step's numbers."""
        sizes = {name: value.numel() for name, value in scalars.items()}
        if list(self.sizes.items()) != list(sizes.items()):
            if self.sizes:  # of a checkpoint that other code has written
                logger.warning("metric names changed; values since the last line are dropped")
            self.sizes, self.totals = sizes, self.totals.new_zeros(2, sum(sizes.values()))
        values = torch.cat([value.float().flatten() for value in scalars.values()])
        finite = values.isfinite()
        self.totals += torch.stack([values.where(finite, 0.0), finite.float()])

    def take(self) -> dict[str, float]:
        """The means since the last call; the one place where a step's numbers are read from the device."""
        if not self.sizes:
            return {}
        sums, counts = self._gathered().double().sum(0)
        means = dict(zip(self.sizes, (sums / counts).cpu().split(list(self.sizes.values())), strict=True))
        self.clear()
        numbers = {name: float(mean) if len(mean) == 1 else spread(mean) for name, mean in means.items()}
        return {name: number for name, number in numbers.items() if math.isfinite(number)}

    def _gathered(self) -> Tensor:
        """The totals of every process, `[size, 2, numbers]`."""
        return self.world.gathered(self.totals.flatten()).unflatten(1, (2, -1))

    def state_dict(self) -> dict[str, Any]:
        sums, counts = self._gathered().unbind(1) if self.sizes else (self.totals, self.totals)
        names, sizes = list(self.sizes), list(self.sizes.values())
        return {"names": names, "sizes": sizes, "sums": sums.tolist(), "counts": counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; with another number of processes, the first takes the sums of all."""
        self.clear()
        if not state["names"]:
            return
        both = torch.tensor([state["sums"], state["counts"]], device=self.world.device)
        if both.shape[1] != self.world.size:
            none = both.new_zeros(2, self.world.size - 1, both.shape[2])
            both = torch.cat([both.sum(1, keepdim=True), none], dim=1)
        sizes = state.get("sizes", [1] * len(state["names"]))  # those of version 0.1 were scalars alone
        self.sizes, self.totals = dict(zip(state["names"], sizes, strict=True)), both[:, self.world.rank].clone()


class Tracker:
    """Appends lines to metrics.jsonl and shows their metrics on the loggers.

    Args:
        folder: the run's folder.
        step: the step resumed from; lines after it, of work that was lost, are dropped.
        batch: images of a step.
        loggers: not opened yet.
        writes: whether this process is the one that writes; in the others nothing happens.
    """

    def __init__(
        self, folder: RunFolder, step: int, batch: int, loggers: Sequence[MetricLogger] = (), writes: bool = True
    ) -> None:
        self.folder, self.path, self.writes = folder, folder.metrics, writes
        self._unwritten: list[str] = []
        """Lines that could not be written yet."""
        self.loggers = loggers if writes else ()
        self.roll_back(step)
        for metric_logger in self.loggers:
            metric_logger.open(folder, step * batch)

    def write(self, line: dict[str, Any]) -> None:
        """One line; `step` and `images` are among its keys. If the disk is full it is written with the next one."""
        if not self.writes:
            return
        self._unwritten.append(json.dumps(line) + "\n")
        self._flush()
        metrics = {n: v for n, v in line.items() if isinstance(v, int | float) and n not in ("step", "images")}
        for metric_logger in self.loggers:
            metric_logger.write(line["images"], metrics)

    def _flush(self) -> None:
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as file:
                file.write("".join(self._unwritten).encode())
        except OSError as error:
            logger.error("{} cannot be written, its lines are kept for later: {}", self.path, error)
            with suppress(OSError):  # a part of them may be there
                os.truncate(self.path, before)
        else:
            self._unwritten.clear()

    def roll_back(self, step: int) -> None:
        """Drops the lines after a step."""
        if self.writes:
            self._unwritten = [line for line in self._unwritten if json.loads(line)["step"] <= step]
            _drop_lines_after(self.folder, step)

    def has(self, step: int) -> bool:
        """Whether there is a line of this step."""
        return any(line["step"] == step for line in _lines(self.folder))

    def close(self) -> None:
        if self._unwritten:
            self._flush()
        for metric_logger in self.loggers:
            metric_logger.close()


def _lines(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, up to the torn last one of a killed run."""
    found = []
    for line in folder.metrics.read_text(encoding="utf-8").splitlines() if folder.metrics.exists() else []:
        try:
            found.append(budget.parsed(line, "it"))
        except ValueError:
            break
    return found


def _drop_lines_after(folder: RunFolder, step: int) -> None:
    if folder.metrics.exists():
        kept = "".join(json.dumps(line) + "\n" for line in _lines(folder) if line["step"] <= step)
        if folder.metrics.read_text(encoding="utf-8") != kept:  # else a full disk would end a run that is resumed
            folder.write_text(folder.metrics, kept)

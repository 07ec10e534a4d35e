"""What a run tells about itself: metrics.jsonl, the boards that show it, and averages between two lines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from realuid.training.boards import Board
from realuid.training.folder import RunFolder
from realuid.training.world import World


class Meters:
    """Means of scalars over steps and processes. They stay on the device until they are read; numbers that are not
    finite are left out, and what is never finite has no mean.

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
        self.names: list[str] = []
        self.totals = torch.zeros(2, 0, device=self.world.device)
        """Sums, and of how many numbers `[2, names]`."""

    def add(self, scalars: dict[str, Tensor]) -> None:
        """One step's numbers."""
        if self.names != list(scalars):
            if self.names:  # of a checkpoint that other code has written
                logger.warning("the numbers since the last line are dropped: steps tell other ones now")
            self.names, self.totals = list(scalars), self.totals.new_zeros(2, len(scalars))
        values = torch.stack([scalars[name].float() for name in self.names])
        finite = values.isfinite()
        self.totals += torch.stack([values.where(finite, 0.0), finite.float()])

    def take(self) -> dict[str, float]:
        """The means since the last call; the one place where a step's numbers are read from the device."""
        if not self.names:
            return {}
        sums, counts = self._gathered().double().sum(0)
        names, means = self.names, (sums / counts).tolist()
        self.clear()
        return {name: mean for name, mean in zip(names, means, strict=True) if math.isfinite(mean)}

    def _gathered(self) -> Tensor:
        """The totals of every process, `[size, 2, names]`."""
        return self.world.gathered(self.totals.flatten()).unflatten(1, (2, -1))

    def state_dict(self) -> dict[str, Any]:
        sums, counts = self._gathered().unbind(1) if self.names else (self.totals, self.totals)
        return {"names": self.names, "sums": sums.tolist(), "counts": counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; with another number of processes, the first takes the sums of all."""
        self.clear()
        if not state["names"]:
            return
        both = torch.tensor([state["sums"], state["counts"]], device=self.world.device)
        if both.shape[1] != self.world.size:
            none = both.new_zeros(2, self.world.size - 1, both.shape[2])
            both = torch.cat([both.sum(1, keepdim=True), none], dim=1)
        self.names, self.totals = state["names"], both[:, self.world.rank].clone()


class Tracker:
    """Appends lines to metrics.jsonl and shows their numbers on the boards.

    Args:
        folder: the run's folder.
        step: the step resumed from; lines after it, of work that was lost, are dropped.
        batch: images of a step.
        boards: not opened yet.
    """

    def __init__(self, folder: RunFolder, step: int, batch: int, boards: Sequence[Board] = ()) -> None:
        self.folder, self.path, self.boards = folder, folder.metrics, boards
        _drop_lines_after(folder, step)
        for board in boards:
            board.open(folder, step * batch)

    def write(self, line: dict[str, Any]) -> None:
        """One line; `step` and `images` are among its keys."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        numbers = {n: v for n, v in line.items() if isinstance(v, int | float) and n not in ("step", "images")}
        for board in self.boards:
            board.write(line["images"], numbers)

    def roll_back(self, step: int) -> None:
        """Drops the lines after a step."""
        _drop_lines_after(self.folder, step)

    def has(self, step: int) -> bool:
        """Whether there is a line of this step."""
        return any(line["step"] == step for line in _lines(self.folder))

    def close(self) -> None:
        for board in self.boards:
            board.close()


def _lines(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, up to the torn last one of a killed run."""
    found = []
    for line in folder.metrics.read_text(encoding="utf-8").splitlines() if folder.metrics.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _drop_lines_after(folder: RunFolder, step: int) -> None:
    if folder.metrics.exists():
        kept = [json.dumps(line) + "\n" for line in _lines(folder) if line["step"] <= step]
        folder.write_text(folder.metrics, "".join(kept))

"""What a run tells about itself: metrics.jsonl, the boards that show it, and averages between two lines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
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
        world: all processes must add the same names, and read together.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, scalars: dict[str, Tensor]) -> None:
        """One step's numbers."""
        for name, value in scalars.items():
            finite = torch.isfinite(value)
            value = torch.where(finite, value.float(), 0.0)
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts[name] + finite if name in self.counts else finite.float()

    def take(self) -> dict[str, float]:
        """The means since the last call; the one place where a step's numbers are read from the device."""
        if not self.sums:
            return {}
        sums, counts = (rows.double().sum(0) for rows in self._gathered())
        means = (sums / counts).tolist()
        names = list(self.sums)
        self.clear()
        return {name: mean for name, mean in zip(names, means, strict=True) if math.isfinite(mean)}

    def _gathered(self) -> tuple[Tensor, Tensor]:
        """Sums and counts of every process, `[size, names]`."""
        both = torch.stack([*self.sums.values(), *self.counts.values()])
        return self.world.gathered(both).chunk(2, dim=1)  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        if not self.sums:
            return {"names": [], "sums": [], "counts": []}
        sums, counts = self._gathered()
        return {"names": list(self.sums), "sums": sums.tolist(), "counts": counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; with another number of processes, the first takes the sums of all."""
        self.clear()
        if not state["names"]:
            return
        for name, target in (("sums", self.sums), ("counts", self.counts)):
            rows = torch.tensor(state[name], device=self.world.device)
            if len(rows) != self.world.size:
                rows = torch.cat([rows.sum(0, keepdim=True), rows.new_zeros(self.world.size - 1, rows.shape[1])])
            target |= dict(zip(state["names"], rows[self.world.rank].unbind(), strict=True))


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

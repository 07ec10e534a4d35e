"""What a run tells about itself: metrics.jsonl, TensorBoard where it is installed, and averages between two lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.training.folder import RunFolder


class Meters:
    """Means of scalars that stay on the device until they are read; part of a checkpoint, so that the line after an
    interruption is the one that would have been written without it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, scalars: dict[str, Tensor]) -> None:
        for name, value in scalars.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means since the last call; the one place where a step's numbers are read from the device."""
        names = list(self.sums)
        values = torch.stack([self.sums[name].float() for name in names]).div(self.count).tolist() if names else []
        self.sums, self.count = {}, 0
        return dict(zip(names, values, strict=True))

    def broken(self) -> list[str]:
        """Names of the scalars that are not finite."""
        return [name for name, value in self.sums.items() if not bool(torch.isfinite(value))]

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.count = dict(state["sums"]), state["count"]


class Tracker:
    """Appends lines to metrics.jsonl and mirrors their numbers to TensorBoard.

    Args:
        folder: the run's folder.
        step: the step resumed from; lines after it, of work that was lost, are dropped.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self.path = folder.metrics
        _drop_lines_after(folder, step)
        self.board = _tensorboard(folder.path / "tensorboard", step)

    def write(self, line: dict[str, Any]) -> None:
        """One line; `step` and `images` are among its keys."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name not in ("step", "images"):
                    self.board.add_scalar(name, value, line["images"])

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _drop_lines_after(folder: RunFolder, step: int) -> None:
    if not folder.metrics.exists():
        return
    kept = []
    for line in folder.metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except json.JSONDecodeError:  # the torn last line of a killed run
            break
    folder.write_text(folder.metrics, "".join(kept))


def _tensorboard(path: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(path), purge_step=step + 1 if step else None)

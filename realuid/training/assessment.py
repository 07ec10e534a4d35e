"""Samples and figures of a procedure: the grids and the Fréchet distances that a run folder shows."""

from __future__ import annotations

from typing import Any

import torch

from realuid.data.dataset import Dataset
from realuid.data.pixels import to_uint8
from realuid.evaluation.draws import noise
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.grids import save_grid
from realuid.training.folder import RunFolder
from realuid.training.procedure import Generator, Procedure

COLUMNS, ROWS = 10, 8
GRID_PIXELS = 500
"""Width that a grid is enlarged to, in about so many pixels."""


class Assessment:
    """Judges what a procedure can sample. Student and teacher see the same noise and labels.

    Args:
        procedure: started.
        data: opened.
        evaluator: None for grids only.
        device: of the networks.
    """

    def __init__(self, procedure: Procedure, data: Dataset, evaluator: Evaluator | None, device: torch.device) -> None:
        self.procedure, self.data, self.evaluator, self.device = procedure, data, evaluator, device
        self._prepared = False

    def save_grid(self, folder: RunFolder, name: str, role: str | None = None) -> None:
        """samples/NAME.png: a grid of the first (or given) role's samples, where there are classes one a column."""
        generators = self.procedure.generators()
        generator = generators[role or next(iter(generators))]
        columns = self.data.classes if 0 < self.data.classes <= COLUMNS else COLUMNS
        count = columns * ROWS
        x0 = noise(0, 0, count, self.data.shape).to(self.device)
        labels = torch.arange(count, device=self.device) % max(1, self.data.classes)
        scale = max(1, GRID_PIXELS // (columns * self.data.shape[2]))
        save_grid(folder.samples(name), to_uint8(generator(x0, labels)), columns, scale)

    def quick(self) -> dict[str, float]:
        """The first role's figures during the run: `<role>_frechet` and, with labels, `<role>_agreement`."""
        if self.evaluator is None:
            return {}
        role, generator = next(iter(self.procedure.generators().items()))
        return self._figures(role, generator)

    def final(self, folder: RunFolder) -> dict[str, Any]:
        """All roles' grids and figures, the student's for every average, yardsticks, and the stamps that belong to
        every figure."""
        generators = self.procedure.generators()
        for role in generators:
            self.save_grid(folder, role, role)
        if self.evaluator is None:
            return {}
        result: dict[str, Any] = {}
        stamps: dict[str, Any] = {}
        for role, generator in generators.items():
            stamp = self._stamp(role)
            known = self.procedure.known(role)
            if known.get("stamps", {}).get(f"{role}_frechet") == stamp:  # the same measurement, made before
                result |= {name: known[name] for name in (f"{role}_frechet", f"{role}_agreement") if name in known}
            else:
                result |= self._figures(role, generator)
            stamps[f"{role}_frechet"] = stamp
        if "student" in generators:  # one step an image: the other averages cost little
            first, *others = self.procedure.ema.names
            result["student_frechet_by_ema"] = {first: result["student_frechet"]} | {
                name: self._figures("student", self.procedure.generators(name)["student"])["student_frechet"]
                for name in others
            }
        return result | self._ready().yardsticks() | {"stamps": stamps}

    def _stamp(self, role: str) -> dict[str, Any]:
        return self._ready().stamp(**self.procedure.sampling(role))

    def _figures(self, role: str, generator: Generator) -> dict[str, float]:
        evaluator = self._ready()
        images = evaluator.generate(generator)
        figures = {f"{role}_frechet": evaluator.frechet(images)}
        if self.data.classes and evaluator.features.reads_labels:
            figures[f"{role}_agreement"] = evaluator.agreement(images, evaluator.labels)
        return figures

    def _ready(self) -> Evaluator:
        """The evaluator, its network and reference prepared on first use."""
        assert self.evaluator is not None
        if not self._prepared:
            self.evaluator.prepare(self.data, self.device)
            self._prepared = True
        return self.evaluator

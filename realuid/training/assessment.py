"""Samples and figures of a procedure: the grids and the distances that a run folder shows, and its best checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from realuid.data.dataset import Batch, Dataset, Wrapped
from realuid.data.pixels import to_float, to_uint8
from realuid.decoders import Decoder
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.grids import save_grid
from realuid.evaluation.inputs import GaussianInputs, ImageInputs, Inputs, generate
from realuid.evaluation.stamps import differences
from realuid.training.folder import RunFolder
from realuid.training.procedure import Generator, Procedure, source_images
from realuid.training.world import World

COLUMNS, ROWS = 10, 8
GRID_PIXELS = 500
"""Width that a grid is enlarged to, in about so many pixels."""


class Decoded(Wrapped):
    """A set of latents as the pictures that a decoder makes of them."""

    def __init__(self, data: Dataset, decoder: Decoder) -> None:
        super().__init__(data)
        self.decoder, self.latent_scaling = decoder, None
        _, *sides = decoder(torch.zeros(1, *data.shape)).shape
        self.shape = (sides[0], sides[1], sides[2])

    def batch(self, start: int, count: int) -> Batch:
        return self._decoded(self.data.batch(start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._decoded(self.data.examples(start, count))

    def _decoded(self, batch: Batch) -> Batch:
        return batch._replace(images=to_uint8(self.decoder(to_float(batch.images))))


class Assessment:
    """Judges what a procedure can sample. Student and teacher see the same noise and labels.

    Args:
        procedure: started.
        data: opened.
        evaluator: None for grids only.
        world: the processes; they share the images to generate, go through everything together, and the first writes.
    """

    def __init__(self, procedure: Procedure, data: Dataset, evaluator: Evaluator | None, world: World) -> None:
        self.procedure, self.data, self.evaluator = procedure, data, evaluator
        self.world, self.device = world, world.device
        self._prepared = False

    def _inputs(self, seed: int, pattern: Tensor | None = None) -> Inputs:
        if self.procedure.coupling.gaussian_source:
            return GaussianInputs(self.data, seed, pattern)
        return ImageInputs(self.data, seed)

    def grid(self, generator: Generator) -> Tensor:
        """uint8 images `[N, C, H, W]` of a grid; where noise is the source and there are classes, one a column."""
        inputs, count = self._inputs(0, torch.arange(max(1, self.data.classes))), self.columns * ROWS
        return generate(self._pictures(generator), inputs, count=count, batch=count, device=self.device)

    def save_grid(self, folder: RunFolder, name: str, role: str | None = None) -> None:
        """samples/NAME.png: the grid of the first (or given) role's samples."""
        generators = self.procedure.generators()
        self._save(folder, name, self.grid(generators[role or next(iter(generators))]))

    def _pictures(self, generator: Generator) -> Generator:
        """The generator with a decoder behind it; latents without one are shown by their first three channels."""
        decoder = self.procedure.decoder
        return generator if decoder is None else lambda x0, labels, noise: decoder(generator(x0, labels, noise))

    @property
    def columns(self) -> int:
        """Images in a row of a grid."""
        return self.data.classes if 0 < self.data.classes <= COLUMNS else COLUMNS

    def _save(self, folder: RunFolder, name: str, images: Tensor) -> None:
        if images.shape[1] not in (1, 3):
            images = images[:, :3] if images.shape[1] > 3 else images[:, :1]
        scale = max(1, GRID_PIXELS // (self.columns * images.shape[3]))
        if self.world.main:
            save_grid(folder.samples(name), images.to(torch.uint8), self.columns, scale)

    def quick(self, folder: RunFolder, step: int, images: int, config: str) -> dict[str, float]:
        """The first role's figures during the run, of every average: `<role>_<figure>` of the first and
        `<role>_<figure>@<name>` of the others, with `_of_<count>` behind the figure where fewer images are generated
        than at the end. The checkpoint of the best so far is kept, see `RunFolder.best`."""
        if self.evaluator is None:
            return {}
        evaluator, role = self.ready(), next(iter(self.procedure.generators()))
        suffix = "" if evaluator.quick_count == evaluator.count else f"_of_{evaluator.quick_count}"
        line: dict[str, float] = {}
        ranked: dict[str, float] = {}
        for number, name in enumerate(self.procedure.ema.names):
            generator = self.procedure.generators(name)[role]
            figures = self.figures(role, generator, quick=True, ranking=True)
            ranked[name] = figures[self._ranked(role)]
            line |= {f"{figure}{suffix}{f'@{name}' if number else ''}": value for figure, value in figures.items()}
        self._keep_best(folder, step, images, config, ranked)
        return line

    def _keep_best(self, folder: RunFolder, step: int, images: int, config: str, ranked: dict[str, float]) -> None:
        """Keeps the averages as checkpoints/best.pt if one of them (by name) is better than all before."""
        evaluator, sign = self.ready(), 1 if self.ready().ranking.higher_is_better else -1
        role = next(iter(self.procedure.networks()))
        name = max(ranked, key=lambda average: sign * ranked[average])
        stamp = evaluator.stamp(quick=True, ema=name, step=step)
        before = self.world.on_main(lambda: folder.read_json(folder.best))
        if before and not differences(before["stamp"], stamp) and sign * before["value"] >= sign * ranked[name]:
            return
        state = {"step": step, "images": images, "config": config, "ema": self.procedure.ema.whole_state_dict()}
        entry = {"figure": self._ranked(role), "value": ranked[name], "ema": name, "step": step, "images": images}
        self.world.on_main(lambda: folder.save_best(state, {**entry, "stamp": stamp}))

    def _ranked(self, role: str) -> str:
        """Name of the figure that averages and checkpoints are ranked by."""
        return f"{role}_{self.ready().ranking.figures[0]}"

    def final(self, folder: RunFolder, step: int, images: int, config: str) -> dict[str, Any]:
        """All roles' grids and figures, the student's for every average, yardsticks, and the stamps that belong to
        every figure."""
        generators = self.procedure.generators()
        for role in generators:
            self.save_grid(folder, role, role)
        if not self.procedure.coupling.gaussian_source:
            examples = self.data.examples(0, self.columns * ROWS)
            self._save(folder, "data", examples.images)
            self._save(folder, "source", to_uint8(source_images(examples)))
        if self.evaluator is None:
            return {}
        evaluator = self.ready()
        result: dict[str, Any] = {}
        stamps: dict[str, Any] = {}
        for role, generator in generators.items():
            own = evaluator.stamps(role, **self.procedure.sampling(role))
            known = self.procedure.known(role)
            if {name: known.get("stamps", {}).get(name) for name in own} == own:  # the same measurement, made before
                result |= {name: x for name, x in known.items() if name in self._names(role)}
            else:
                result |= self.figures(role, generator)
            stamps |= own
        first = next(iter(generators))
        ranked = {self.procedure.ema.names[0]: result[self._ranked(first)]}
        if first == "student":  # one step an image: the other averages cost little
            for name in self.procedure.ema.names[1:]:
                figures = self.figures(first, self.procedure.generators(name)[first], ranking=True)
                ranked[name] = figures[self._ranked(first)]
            result[f"{self._ranked(first)}_by_ema"] = ranked
        if evaluator.quick_count == evaluator.count:
            self._keep_best(folder, step, images, config, ranked)
        best = self.world.on_main(lambda: folder.read_json(folder.best))
        return (
            result
            | self._source_figures()
            | evaluator.yardsticks()
            | ({"best": best} if best else {})
            | {"stamps": stamps}
        )

    def curve(self, figures: dict[str, Any]) -> dict[str, float]:
        """The last points of the curves that `quick` draws, out of what `final` gave: those of the role that trains."""
        if self.evaluator is None:
            return {}
        role = next(iter(self.procedure.networks()))  # the others' figures do not change: they are no curves
        own = {name: x for name, x in figures.items() if name.startswith(f"{role}_") and isinstance(x, float)}
        averages = figures.get(f"{self._ranked(role)}_by_ema", {})
        return own | {f"{self._ranked(role)}@{name}": x for name, x in list(averages.items())[1:]}

    def figures(
        self, role: str, generator: Generator, *, quick: bool = False, ranking: bool = False
    ) -> dict[str, float]:
        """What is measured of a role: `<role>_<figure>` for the evaluator's metrics, `<role>_agreement` where labels
        are asked for, with pairs `<role>_psnr` or what else is bound."""
        evaluator = self.ready()
        inputs = self._inputs(evaluator.seed)
        images = evaluator.generate(self._pictures(generator), inputs, quick=quick)
        return self.judged(role, images, evaluator.extract(images), quick=quick, ranking=ranking)

    def judged(
        self, role: str, images: Tensor | None, features: Tensor, *, quick: bool = False, ranking: bool = False
    ) -> dict[str, float]:
        """The figures of images `[N, C, H, W]` that the evaluator generated, and their features `[N, d]`. Without
        images, those of the features alone."""
        evaluator = self.ready()
        first = evaluator.first(quick)
        labels = self._inputs(evaluator.seed).labels(first, len(features)) if self._asks_labels(role) else None
        paired = self.procedure.coupling.keeps_source and images is not None
        values = evaluator.judge_features(features, images, labels=labels, paired=paired, quick=quick, ranking=ranking)
        return {f"{role}_{name}": value for name, value in values.items()}

    def _asks_labels(self, role: str) -> bool:
        """Whether a sample of a role is to have a certain label: a source image shows it, or the network is told it."""
        if not self.data.classes:
            return False
        if not self.procedure.coupling.gaussian_source:
            return True
        stated = [part.classes for part in self.procedure.networks()[role].modules() if hasattr(part, "classes")]
        return any(stated) or not stated  # a closed form states nothing

    def images(self, generator: Generator) -> Tensor:
        """The images of an evaluation, uint8 `[count, C, H, W]`."""
        evaluator = self.ready()
        return evaluator.generate(self._pictures(generator), self._inputs(evaluator.seed))

    def _source_figures(self) -> dict[str, float]:
        """What the source images themselves are worth, where they are images."""
        if self.procedure.coupling.gaussian_source:
            return {}
        return self.figures("source", lambda x0, labels, noise: x0)

    def _names(self, role: str) -> list[str]:
        evaluator = self.ready()
        figures = [name for metric in evaluator.metrics for name in metric.figures]
        return [f"{role}_{name}" for name in (*figures, "agreement", *(m.figure for m in evaluator.pair_metrics))]

    def ready(self) -> Evaluator:
        """The evaluator, its network and reference prepared on first use."""
        assert self.evaluator is not None
        if not self._prepared:
            decoder = self.procedure.decoder
            data = self.data if decoder is None else Decoded(self.data, decoder)
            with self.world.main_first():  # who trains a classifier and keeps features
                self.evaluator.prepare(data, self.device, self.world.rank, self.world.size)
            self._prepared = True
        return self.evaluator

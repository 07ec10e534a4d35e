"""Grids of samples: always from the same noise and conditions, so that they can be compared place by place."""

from __future__ import annotations

import itertools
import json

import torch
from torch import Tensor

from realuid.conditions import LABEL, Condition, labelled
from realuid.data.dataset import Dataset
from realuid.data.pixels import to_float, to_uint8
from realuid.evaluation.image_grid import SEPARATOR, save_grid
from realuid.evaluation.inputs import GaussianInputs, ImageInputs, Inputs, generate
from realuid.training.method import Generator, Method, source_images
from realuid.training.run_folder import RunFolder
from realuid.training.world import World

COLUMNS, ROWS = 10, 8
GRID_PIXELS = 500
"""Width that a grid is enlarged to, in about so many pixels."""
SEARCHED = 5000
"""Images of the data set among which those of a column are looked for."""


class Grids:
    """Makes and saves the grids of a run.

    A column of a grid is one class, or one caption, where the data set has nothing but classes, or captions. Otherwise
    places follow the data set's order of storage.

    Args:
        method: started.
        data: opened.
        world: the processes; all make the images, and the first writes.
    """

    def __init__(self, method: Method, data: Dataset, world: World) -> None:
        self.method, self.data, self.world = method, data, world
        self._captions = self._first_captions()

    def _first_captions(self) -> dict[str, int]:
        """The captions of the columns, and the first image of each; empty where columns have none."""
        beyond = {field.name for field in self.data.conditions} - {LABEL}
        if not (self.method.coupling.gaussian_source and self.data.encoder and beyond):
            return {}
        known = self.data.captions(min(len(self.data), SEARCHED)) or []
        first = {caption: row for row, caption in reversed(list(enumerate(known)))}
        return dict(itertools.islice(sorted(first.items(), key=lambda pair: pair[1]), COLUMNS))

    @property
    def columns(self) -> int:
        """Images in a row."""
        if self._captions:
            return len(self._captions)
        return self.data.classes if 0 < self.data.classes <= COLUMNS else COLUMNS

    @property
    def captions(self) -> list[str]:
        """Of the columns, from the left; empty where they have none."""
        return list(self._captions)

    def inputs(self, seed: int, data: Dataset, pattern: Condition | None = None) -> Inputs:
        """Sources and conditions of images like those of a set of one size; arguments as of `GaussianInputs`."""
        if self.method.coupling.gaussian_source:
            return GaussianInputs(data, seed, pattern)
        return ImageInputs(data, seed)

    def pictures(self, generator: Generator) -> Generator:
        """The generator with a decoder behind it; latents without one are shown by their first three channels."""
        decoder = self.method.decoder
        return generator if decoder is None else lambda x0, condition, noise: decoder(generator(x0, condition, noise))

    def samples(self, generator: Generator) -> Tensor:
        """Generated images of a grid, uint8 `[N, C, H, W]`."""
        pattern, count = None, self.columns * ROWS
        if self._captions:
            rows = [self.data.condition_examples(row, 1) for row in self._captions.values()]
            pattern = Condition.cat(rows)
        elif {field.name for field in self.data.conditions} == {LABEL}:
            pattern = labelled(torch.arange(self.data.classes))
        inputs = self.inputs(0, self.data, pattern)
        return generate(self.pictures(generator), inputs, count=count, batch=count, device=self.world.device)

    def save(self, folder: RunFolder, name: str, generator: Generator) -> Tensor:
        """samples/NAME.png: a grid of generated images, which is returned; beside the first one the real images."""
        images = self.samples(generator)
        if self.world.main:
            self._write(folder, name, images)
            if self.data.has_images and not folder.samples("data").exists():
                self._save_real(folder)
        return images

    def _save_real(self, folder: RunFolder) -> None:
        """samples/data.png: real images that belong to the columns; samples/source.png: what generated ones start from,
        where it is images; samples/captions.json."""
        if not self.method.coupling.gaussian_source:
            examples = self.data.examples(0, self.columns * ROWS)
            self._write(folder, "source", self._decoded(source_images(examples)))
            self._write(folder, "data", self._decoded(to_float(examples.images)))
            return
        self._write(folder, "data", self._decoded(to_float(self._real())))
        if self._captions:
            path = folder.samples("captions").with_suffix(".json")
            folder.write_text(path, json.dumps(self.captions, ensure_ascii=False) + "\n")

    def _real(self) -> Tensor:
        """Real images, those of a column alike in class or caption, uint8 `[N, C, H, W]`; grey where there are not
        enough."""
        count, columns = min(len(self.data), SEARCHED), self.columns
        if self._captions:
            place = {caption: column for column, caption in enumerate(self._captions)}
            known = self.data.captions(count) or []
            homes = torch.tensor([place.get(caption, -1) for caption in known])
        elif columns == self.data.classes:
            homes = self.data.condition_examples(0, count)[LABEL].cpu()
        else:
            return self.data.examples(0, columns * ROWS).images
        first = self.data.examples(0, 1).images
        grey = SEPARATOR if first.dtype == torch.uint8 else 0
        images = torch.full((ROWS, columns, *first.shape[1:]), grey, dtype=first.dtype)
        for column in range(columns):
            for row, number in enumerate((homes == column).nonzero().flatten()[:ROWS].tolist()):
                images[row, column] = self.data.examples(number, 1).images[0].cpu()
        return images.flatten(0, 1)

    def _decoded(self, images: Tensor) -> Tensor:
        """Real images `[N, C, H, W]`, uint8; latents as pictures, where there is a decoder."""
        decoder = self.method.decoder
        return to_uint8(images if decoder is None else decoder(images.to(self.world.device)))

    def _write(self, folder: RunFolder, name: str, images: Tensor) -> None:
        if images.shape[1] not in (1, 3):
            images = images[:, :3] if images.shape[1] > 3 else images[:, :1]
        save_grid(folder.samples(name), to_uint8(to_float(images)), self.columns, self.scale(images))

    def scale(self, images: Tensor) -> int:
        """By how much images `[N, C, H, W]` are enlarged in a grid."""
        return max(1, GRID_PIXELS // (self.columns * images.shape[3]))

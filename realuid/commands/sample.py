"""`tools/sample.py`: images from a student, or from its teacher in many steps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from loguru import logger
from PIL import Image
from torch import Tensor

from realuid.commands import runs
from realuid.commands.console import guarded
from realuid.data.folder import read_images
from realuid.errors import RunError
from realuid.evaluation.grids import save_grid
from realuid.evaluation.inputs import GaussianInputs, GivenInputs, ImageInputs, Inputs, generate

BATCH = 100
COLUMNS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sample.py", description=__doc__)
    runs.add_arguments(parser)
    parser.add_argument("--num", type=int, default=64, help="number of images")
    parser.add_argument("--source", metavar="PATH", help="where x0 comes from: a folder of images, an image, or shards")
    parser.add_argument("--labels", type=int, nargs="+", help="class labels, repeated as needed (default: all in turn)")
    parser.add_argument(
        "--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding of a described teacher"
    )
    parser.add_argument("--out", required=True, help="FILE.png (a grid), FILE.npz (images and labels) or a folder")
    arguments = parser.parse_args(argv)

    def work() -> int:
        out = Path(arguments.out)
        if out.suffix and out.suffix not in (".png", ".npz"):
            raise RunError(f"--out {out}: FILE.png, FILE.npz or a folder is needed")
        model = runs.described(arguments, arguments.bind) or runs.reopen(arguments)
        if arguments.bind and isinstance(model, runs.Model):
            raise RunError("--bind is for a teacher that a gin file describes; a run has its own bindings")
        pattern = _labels(arguments.labels, arguments.num, model.form.classes)
        inputs = _inputs(model, arguments, pattern)
        images = generate(model.generator, inputs, count=arguments.num, batch=BATCH, device=model.device)
        write(out, images, inputs.labels(0, arguments.num))
        logger.info("{} images of the {} ({}) in {}", len(images), model.role, model.stamp["sampler"], arguments.out)
        return 0

    return guarded("sample.py", work)


def _labels(wanted: Sequence[int] | None, count: int, classes: int) -> Tensor:
    """Labels `[count]`: those wanted in turn, else every class in turn."""
    if count < 1:
        raise RunError(f"--num must be at least 1, got {count}")
    if wanted is None:
        return torch.arange(count) % max(1, classes)
    if bad := [label for label in wanted if not 0 <= label < classes]:
        raise RunError(f"--labels {bad[0]}: the model has {classes} classes")
    return torch.tensor(wanted).repeat(-(-count // len(wanted)))[:count]


def _inputs(model: runs.Model | runs.Described, arguments: argparse.Namespace, pattern: Tensor) -> Inputs:
    """Noise, or source images: those of --source, else of the run's data set with their own labels."""
    data = model.form
    if model.coupling.gaussian_source:
        if arguments.source:
            raise RunError("--source is for models that start from images; this one starts from noise")
        return GaussianInputs(data, arguments.seed, pattern)
    if arguments.source:
        return GivenInputs(data, arguments.seed, pattern, read_images(arguments.source, data.shape))
    if isinstance(model, runs.Described):
        raise RunError("the teacher starts from images: give them with --source")
    data = model.trainer.data
    if arguments.labels is not None:
        raise RunError("--labels goes with --source: the run's own images have labels of their own")
    data.open(seed=model.trainer.seed, device=torch.device("cpu"))
    return ImageInputs(data, arguments.seed)


def write(out: Path, images: Tensor, labels: Tensor) -> None:
    """Writes uint8 images `[N, C, H, W]` as a grid, an npz (`images` [N, H, W, C], `labels`), or single PNG files."""
    if out.suffix == ".png":
        save_grid(out, images, COLUMNS, max(1, 1000 // (COLUMNS * images.shape[-1])))
        return
    channels_last = images.permute(0, 2, 3, 1).numpy()
    if out.suffix == ".npz":
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out, images=channels_last, labels=labels.numpy())
        return
    out.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(channels_last):
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(out / f"{index:06d}.png")

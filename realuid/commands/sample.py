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
from realuid.data.pixels import to_uint8
from realuid.errors import RunError
from realuid.evaluation.draws import noise
from realuid.evaluation.grids import save_grid

BATCH = 500
COLUMNS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sample.py", description=__doc__)
    runs.add_arguments(parser)
    parser.add_argument("--num", type=int, default=64, help="number of images")
    parser.add_argument("--labels", type=int, nargs="+", help="class labels, repeated as needed (default: all in turn)")
    parser.add_argument("--out", required=True, help="FILE.png (a grid), FILE.npz (images and labels) or a folder")
    arguments = parser.parse_args(argv)

    def work() -> int:
        out = Path(arguments.out)
        if out.suffix and out.suffix not in (".png", ".npz"):
            raise RunError(f"--out {out}: FILE.png, FILE.npz or a folder is needed")
        model = runs.reopen(arguments)
        labels = _labels(arguments.labels, arguments.num, model.trainer.data.classes)
        images = _sample(model, labels, arguments.seed)
        write(out, images, labels)
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


def _sample(model: runs.Model, labels: Tensor, seed: int) -> Tensor:
    """uint8 images `[N, C, H, W]`."""
    parts = []
    for start in range(0, len(labels), BATCH):
        batch = labels[start : start + BATCH].to(model.device)
        x0 = noise(seed, start, len(batch), model.trainer.data.shape).to(model.device)
        parts.append(to_uint8(model.generator(x0, batch)).cpu())
    return torch.cat(parts)


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

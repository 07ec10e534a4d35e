"""Data sets made by the command, and what they give back."""

import numpy as np
import torch

from realuid.commands.make_shards import main
from realuid.conditions import LABEL
from realuid.data.memory import InMemory
from realuid.data.shards.index import ShardIndex
from tests.data.handmade import encode

CPU = torch.device("cpu")


def images(count, height=6, width=6, channels=3, seed=0):
    shape = (count, height, width) + ((channels,) if channels > 1 else ())
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def make(source, dest, *options):
    assert main([str(source), str(dest), "--quiet", *options]) == 0
    return ShardIndex.read(str(dest))


def refused(capsys, source, dest, *options):
    assert main([str(source), str(dest), "--quiet", *options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("make_shards: ")
    assert line.count("\n") == 1
    return line


def stored(dest, split="train", cls=InMemory, **changes):
    """What a data set gives back, in the order of storage."""
    index = ShardIndex.read(str(dest))
    shape = (index.channels, *index.image_size)
    data = cls(**{"path": str(dest), "shape": shape, "classes": len(index.classes), "split": split} | changes)
    data.open(seed=0, device=CPU)
    return data.examples(0, len(data))


def as_set(batch):
    """Images with labels, whatever their order; 0 where there are none."""
    labels = batch.condition.get(LABEL, [0] * len(batch.images))
    return sorted((image.numpy().tobytes(), int(label)) for image, label in zip(batch.images, labels, strict=True))


def expected(pixels, labels):
    arrays = [image[None] if image.ndim == 2 else image.transpose(2, 0, 1) for image in pixels]
    return sorted((image.tobytes(), int(label)) for image, label in zip(arrays, labels, strict=True))


def fill(folder, names, pixels, form="PNG"):
    for name, image in zip(names, pixels, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(image, form))

"""Small files in the place of those that the pages name."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from realuid.networks.edm_unet import SongUNet
from tests.pretrained.made_up import fill
from tests.pretrained.test_edm import SONG, snapshot, theirs

SIDE = 32


def make(folder: Path) -> None:
    """Fills a page's folder."""
    pictures(folder / "ILSVRC2012" / "train" / "n01440764", 3, (90, 70))
    pictures(folder / "ILSVRC2012" / "train" / "n01443537", 3, (70, 90))
    pictures(folder / "photos", 4, (48, 40))
    pictures(folder / "sketches", 4, (48, 40))
    pictures(folder / "facades", 4, (64, 32))
    (folder / "photos.csv").write_text("".join(f"{number}.jpg,{number % 2}\n" for number in range(4)))
    cifar(folder / "cifar-10-python.tar.gz")
    teacher(folder / "edm-cifar10-32x32-cond-vp.pkl")
    program(folder / ".venv" / "bin" / "activate")
    program(folder / ".ci" / "run")


def pictures(folder: Path, count: int, size: tuple[int, int]) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=95)


def cifar(path: Path) -> None:
    """CIFAR-10's archive with two images a batch."""
    rng = np.random.default_rng(0)
    batches = path.parent / "cifar-10-batches-py"
    batches.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (2, 3072), np.uint8)
        batch = {"data": data, "labels": [3, 5], "batch_label": name, "filenames": ["a", "b"]}
        (batches / name).write_bytes(pickle.dumps(batch, protocol=2))
    with tarfile.open(path, "w:gz") as tar:
        tar.add(batches, batches.name)


def teacher(path: Path) -> None:
    """EDM's file, with a small network for images of CIFAR-10's size."""
    network = SongUNet(shape=(3, SIDE, SIDE), classes=10, width=32, multipliers=(1, 2), blocks=1, attention=(1,))
    state = theirs(fill(network).state_dict(), side=SIDE)
    changes = {"label_dim": 10, "img_resolution": SIDE, "attn_resolutions": [16]}
    snapshot(path, network, kwargs=SONG | changes, state=state)


def program(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)

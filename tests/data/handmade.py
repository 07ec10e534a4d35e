"""Images and tars put together by hand, so that the reader is not tested against our own writer alone."""

import functools
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from realuid.data.dataset import Batch


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
    """An array [H, W] or [H, W, 3] as an image file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=form)
    return file.getvalue()


def tar(members: list[tuple[str, bytes]], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def grey_members(count: int) -> list[tuple[str, bytes]]:
    """`count` grey 4x4 images, each pixel of image i with level i, and its label i % 2."""
    members = []
    for i in range(count):
        members += [
            (f"{i:03d}.png", encode(np.full((4, 4), i, np.uint8))),
            (f"{i:03d}.cls", str(i % 2).encode()),
        ]
    return members


@functools.cache
def _numbered_png(number: int) -> bytes:
    return encode(np.array([[number // 256, number % 256], [0, 255]], np.uint8))


def numbered_members(first: int, count: int, labels: bool = True) -> list[tuple[str, bytes]]:
    """Grey 2x2 images that hold their number (below 65,536) in the first two pixels, with label number % 3."""
    members = []
    for number in range(first, first + count):
        members.append((f"{number:09d}.png", _numbered_png(number)))
        if labels:
            members.append((f"{number:09d}.cls", b"%d" % (number % 3)))
    return members


def shards_set(folder: Path, shards: list[bytes], counts: list[int], *, suffix: str = "tar", **fields: object) -> str:
    """A data set of these shards, with an index that is right about their bytes and says of samples what it is told."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for i, (shard, count) in enumerate(zip(shards, counts, strict=True)):
        file = f"train-{i:06d}.{suffix}"
        (folder / file).write_bytes(shard)
        entries.append(
            {"file": file, "samples": count, "bytes": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}
        )
    record = {"name": "set", "image_size": 2, "channels": 1, "classes": ["a", "b", "c"]} | fields
    record["splits"] = {"train": {"samples": sum(counts), "shards": entries}}
    (folder / "index.json").write_text(json.dumps(record))
    return str(folder)


def numbered_set(folder: Path, counts: list[int], *, gz: bool = False, labels: bool = True) -> str:
    """A data set of `sum(counts)` numbered images in shards of these sizes."""
    firsts = np.concatenate([[0], np.cumsum(counts)]).tolist()
    mode, suffix = ("w:gz", "tar.gz") if gz else ("w", "tar")
    shards = [tar(numbered_members(first, n, labels), mode) for first, n in zip(firsts, counts, strict=False)]
    return shards_set(folder, shards, counts, suffix=suffix, **({} if labels else {"classes": []}))


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same, bit for bit."""
    sources = one.sources is other.sources or torch.equal(one.sources, other.sources)
    told = [torch.equal(one.condition[name], other.condition[name]) for name in one.condition.keys() | other.condition]
    return torch.equal(one.images, other.images) and sources and all(told)


def numbers_of(images: torch.Tensor) -> list[int]:
    """The numbers that images of a numbered set hold."""
    pixels = images[:, 0, 0].long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()

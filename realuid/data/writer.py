"""Samples to shards: the same samples give the same bytes."""

import io
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from webdataset import TarWriter

from realuid.data.index import Shard, ShardIndex, Split, Tally, has_index
from realuid.data.location import open_folder
from realuid.errors import DataError

__all__ = ["write_shards"]


def write_shards(
    samples: Iterable[tuple[NDArray[np.uint8], int]],
    dest: str,
    *,
    split: str,
    name: str,
    classes: Sequence[str],
    image_size: int,
    channels: int,
    source: str,
    licence: str,
    shard_size: int,
) -> ShardIndex:
    """Writes a data set of one split into `dest`, a folder or any fsspec URL, and returns its index.

    Args:
        samples: images uint8 [channels, image_size, image_size] with labels in 0..len(classes) - 1, in the order in
            which they are stored. Labels are ignored if there are no classes. Neighbours should be of mixed classes.
        dest: where the shards and, last of all, the index go.
        shard_size: samples per shard; the last shard may have fewer.

    Raises:
        DataError: `dest` already holds a data set, there are no samples, or one of them is not as described.
    """
    if channels not in (1, 3):
        raise DataError(f"images of {channels} channels: PNG holds 1 (grey) or 3 (RGB)")
    if has_index(dest):
        raise DataError(f"{dest} already holds a data set and is left alone: choose another place, or remove it first")
    fs, root = open_folder(dest)
    fs.makedirs(root, exist_ok=True)
    shape = (channels, image_size, image_size)
    counts = [0] * len(classes)
    shards: list[Shard] = []
    numbered = enumerate(samples)
    while chunk := list(itertools.islice(numbered, shard_size)):
        file = f"{split}-{len(shards):06d}.tar"
        with fs.open(f"{root}/{file}", "wb") as stream:
            tally = Tally(stream)
            with TarWriter(tally, encoder=False, mtime=0, user="realuid", group="realuid") as tar:
                for number, (image, label) in chunk:
                    if image.shape != shape or image.dtype != np.uint8:
                        raise DataError(f"sample {number} is {image.dtype} {image.shape}, expected uint8 {shape}")
                    member = {"__key__": f"{number:09d}", "png": _encode_png(image)}
                    if classes:
                        if not 0 <= label < len(classes):
                            raise DataError(f"sample {number} has label {label}, expected 0 to {len(classes) - 1}")
                        counts[label] += 1
                        member["cls"] = str(int(label)).encode()
                    tar.write(member)
        shards.append(Shard(file=file, samples=len(chunk), bytes=tally.bytes, sha256=tally.sha256))
    if not shards:
        raise DataError(f"no samples to write into {dest}")
    index = ShardIndex(
        name=name,
        image_size=image_size,
        channels=channels,
        classes=tuple(classes),
        format="WebDataset tar: %09d.png" + (" + %09d.cls (ascii int)" if classes else ""),
        source=source,
        licence=licence,
        splits={split: Split(tuple(shards), tuple(counts) if classes else None)},
    )
    index.write(dest)
    return index


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file, format="PNG")
    return file.getvalue()

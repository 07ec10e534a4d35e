"""Sources to one set of shards for each aspect bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from realuid.data.preparation.aspects import Size, assigned
from realuid.data.preparation.conversion import PLAN_FILE, SIZES_FILE, Faulty, NothingLeft, alone, begin
from realuid.data.preparation.measuring import measured
from realuid.data.shards.files import put_bytes
from realuid.data.shards.index import ShardIndex, has_index
from realuid.data.shards.location import open_folder, reaching, read_file
from realuid.data.sources import Source
from realuid.data.sources.part import Part
from realuid.utils.arrays import npy, npy_file
from realuid.utils.errors import DataError

__all__ = ["convert_in_buckets", "folder_of"]

Convert = Callable[[Mapping[str, Source], str, Size], ShardIndex]
"""Writes a set of these splits into a folder, in one size."""


def folder_of(bucket: Size) -> str:
    """Name of a bucket's folder: `WxH`."""
    return f"{bucket[1]}x{bucket[0]}"


def convert_in_buckets(
    sources: Mapping[str, Source],
    dest: str,
    *,
    buckets: Sequence[Size],
    options: Mapping[str, Any],
    convert: Convert,
    finish: Callable[[Mapping[Size, ShardIndex]], tuple[str, bytes]],
    workers: int,
    progress: bool = False,
) -> dict[Size, ShardIndex]:
    """Writes a set of shards into `dest/WxH` for each bucket that some pictures belong to, the one of the most pictures
    first, and returns their indices.

    A conversion that was stopped goes on where it was if it is asked for again with the same arguments.

    Args:
        sources: what each split is made from.
        dest: a folder or any fsspec URL.
        buckets: sizes.
        options: what else the result depends on.
        convert: makes one set.
        finish: name and content of the file that is written last, of all sets.
        workers: processes that measure the pictures; 0 works in this one.
        progress: whether bars are drawn.

    Raises:
        Faulty: samples cannot be converted; what can was, and each bucket lists its own in `damaged.txt`.
        DataError: `dest` holds something else, or another process writes into it, or the sources hold no single
            pictures.
    """
    any_source = next(iter(sources.values()))
    if any_source.pairs or not any_source.has_images:
        raise DataError(f"--buckets takes single pictures, not {'pairs' if any_source.pairs else 'prompts alone'}")
    if any_source.conditions:
        raise DataError(f"the source has conditions already: {', '.join(map(str, any_source.conditions))}")
    made: dict[Size, ShardIndex] = {}
    faults: list[Faulty] = []
    with alone(dest):
        begin(dest, sources, {"buckets": [folder_of(bucket) for bucket in buckets], **options})
        homes = assigned(_sizes(sources, dest, workers, progress), buckets)
        counts = np.bincount(homes, minlength=len(buckets))
        for number in sorted(np.flatnonzero(counts).tolist(), key=lambda number: -counts[number]):
            folder = f"{dest}/{folder_of(buckets[number])}"
            if has_index(folder):
                made[buckets[number]] = ShardIndex.read(folder)
                continue
            try:
                made[buckets[number]] = convert(_parts(sources, homes == number), folder, buckets[number])
            except Faulty as error:
                faults.append(error)
        _check(faults, made)
        put_bytes(dest, *finish(made))
        fs, root = open_folder(dest)
        with reaching(dest, "written"):
            for file in (SIZES_FILE, PLAN_FILE):
                with contextlib.suppress(FileNotFoundError):
                    fs.rm_file(f"{root}/{file}")
    return made


def _check(faults: Sequence[Faulty], made: Mapping[Size, ShardIndex]) -> None:
    """Stops if a bucket has samples that may not be left out, or none that can be taken is left."""
    rest = f" (and in {len(faults) - 1} more buckets)" if len(faults) > 1 else ""
    grave = [fault for fault in faults if not isinstance(fault, NothingLeft)]
    if grave or (faults and not made):
        raise Faulty(f"{(grave or faults)[0]}{rest}")
    for fault in faults:
        logger.warning("a bucket is left out: {}", fault)


def _sizes(sources: Mapping[str, Source], dest: str, workers: int, progress: bool) -> NDArray[np.int64]:
    """Of all pictures, of one split after the other; noted, so that they are measured once."""
    if (noted := read_file(dest, SIZES_FILE)) is not None:
        return npy(noted).astype(np.int64)
    found = np.concatenate([measured(source, workers=workers, progress=progress) for source in sources.values()])
    if not found.all(axis=1).any():
        raise DataError("none of the pictures can be read")
    put_bytes(dest, SIZES_FILE, npy_file(found))
    return found


def _parts(sources: Mapping[str, Source], chosen: NDArray[np.bool_]) -> dict[str, Source]:
    """The chosen samples of each split that has some."""
    parts: dict[str, Source] = {}
    first = 0
    for split, source in sources.items():
        numbers = np.flatnonzero(chosen[first : first + len(source)])
        first += len(source)
        if len(numbers):
            parts[split] = Part(source, numbers)
    return parts

"""The sizes of all pictures of a source, before any of them is converted."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from realuid.data.pictures import seen_size
from realuid.data.sources import Source
from realuid.utils.errors import DataError

__all__ = ["measured"]

CHUNK = 500
"""Pictures that a process measures before it answers."""


def measured(source: Source, *, workers: int, progress: bool = False) -> NDArray[np.int64]:
    """Height and width of each picture as it is seen, int64 `[N, 2]`; zeros for one that cannot be read.

    Args:
        source: of single pictures.
        workers: processes; 0 works in this one.
        progress: whether a bar is drawn.

    Raises:
        DataError: the source holds arrays, which are not cropped.
    """
    chunks = [range(first, min(first + CHUNK, len(source))) for first in range(0, len(source), CHUNK)]
    parts = []
    with tqdm(total=len(source), unit="size", disable=not progress, smoothing=0.05) as bar:
        for part in _parts(source, chunks, workers):
            parts.append(part)
            bar.update(len(part))
    return np.concatenate([np.zeros((0, 2), np.int64), *parts])


def _parts(source: Source, chunks: list[range], workers: int) -> Iterator[NDArray[np.int64]]:
    if not workers:
        yield from (_sizes(source, chunk) for chunk in chunks)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _set_up, (source,)) as pool:
        yield from pool.map(_sizes_here, chunks)


_here: Source


def _set_up(source: Source) -> None:
    global _here
    _here = source


def _sizes_here(numbers: range) -> NDArray[np.int64]:
    return _sizes(_here, numbers)


def _sizes(source: Source, numbers: range) -> NDArray[np.int64]:
    return np.array([_size(source, number) for number in numbers], np.int64)


def _size(source: Source, number: int) -> tuple[int, int]:
    try:
        raw = source.read(number)
    except DataError:  # told when it is converted
        return 0, 0
    if raw.image is None or (isinstance(raw.image, tuple) and raw.image[0] == "npy"):
        raise DataError(f"{raw.name} is no picture: --buckets takes pictures, which it crops")
    if not isinstance(raw.image, tuple):
        return raw.image.shape[1], raw.image.shape[2]
    try:
        return seen_size(raw.image[1])
    except Exception:  # Pillow's decoders raise more kinds than they document; told when it is converted
        return 0, 0

"""Small data sets that need no download: made from installed packages when first asked for."""

import dataclasses
import difflib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from loguru import logger
from numpy.typing import NDArray

from realuid.data.index import ShardIndex, has_index
from realuid.data.location import locate, open_folder
from realuid.data.writer import write_shards
from realuid.errors import DataError

__all__ = ["BUILTIN", "Builtin", "absence", "ensure", "make"]


@dataclasses.dataclass(frozen=True)
class Builtin:
    """A data set of one split, "train". `samples` yields images uint8 [channels, image_size, image_size] and labels."""

    samples: Callable[[], Iterator[tuple[NDArray[np.uint8], int]]]
    classes: tuple[str, ...]
    image_size: int
    channels: int
    source: str
    licence: str


def _digits() -> Iterator[tuple[NDArray[np.uint8], int]]:
    from sklearn.datasets import load_digits  # slow to import, and needed once

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # v in 0..16; 127.5, the only tie, goes to 128
    # The original comes writer by writer. RandomState's numbers are frozen: the same shards for ever.
    for i in np.random.RandomState(0).permutation(len(images)):
        yield images[i, None], int(digits.target[i])


BUILTIN = {
    "digits": Builtin(
        samples=_digits,
        classes=tuple("0123456789"),
        image_size=8,
        channels=1,
        source="scikit-learn's load_digits: the test part of UCI's Optical Recognition of Handwritten Digits",
        licence="UCI ML repository, CC BY 4.0 (Alpaydin and Kaynak, 1998); packaged in scikit-learn, BSD-3-Clause",
    ),
}


def make(name: str, dest: str, *, shard_size: int = 10_000) -> ShardIndex:
    """Writes the built-in set `name` into `dest` (a folder or any fsspec URL) unless it is there; returns its index.

    Any number of processes may do so at once: a folder appears whole, by renaming. Object stores can't rename, but
    there each file appears whole, its bytes are the same whoever writes it, and the index comes last.

    Raises:
        DataError: `dest` cannot be written, or is a folder with other things in it.
    """
    if has_index(dest):
        return ShardIndex.read(dest)
    fs, root = open_folder(dest)
    local = isinstance(fs, LocalFileSystem)
    target = f"{root}.{uuid.uuid4().hex}.tmp" if local else dest
    recipe = BUILTIN[name]
    try:
        write_shards(
            recipe.samples(),
            target,
            split="train",
            name=name,
            classes=recipe.classes,
            image_size=recipe.image_size,
            channels=recipe.channels,
            source=recipe.source,
            licence=recipe.licence,
            shard_size=shard_size,
        )
        if local:
            os.rename(target, root)
    except (OSError, DataError) as error:
        if not has_index(dest):  # else another process was faster
            raise DataError(f"the built-in set '{name}' cannot be written to {dest}: {error}") from error
    finally:
        if local:
            shutil.rmtree(target, ignore_errors=True)
    return ShardIndex.read(dest)


def absence(path: str) -> str | None:
    """One line that says what to do if there is no data set at `path` (as `locate` takes it); None if there is one."""
    url = locate(path)
    if has_index(url):
        return None
    if path in BUILTIN:
        return f"the built-in set '{path}' is not in {url} yet: it is made on first use"
    nearest = difflib.get_close_matches(path, BUILTIN, n=1)
    return (
        f"no data set '{path}': {url} holds no index.json; set REALUID_DATA to the folder it lies in, "
        f"write it with tools/make_shards.py, or take a built-in set ({', '.join(sorted(BUILTIN))})"
        + (f"; did you mean '{nearest[0]}'?" if nearest else "")
    )


def ensure(path: str) -> str:
    """The URL of the data set at `path` (as `locate` takes it), made first if it is a built-in set and not there.

    Raises:
        DataError: there is none and it cannot be made; one line that says what to do.
    """
    url = locate(path)
    message = absence(path)
    if message is not None:
        if path not in BUILTIN:
            raise DataError(message)
        logger.info("making the built-in data set '{}' in {}", path, url)
        make(path, url)
    return url

"""Small data sets that need no download: made from installed packages when first asked for."""

import dataclasses
import difflib
import itertools
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from loguru import logger

from realuid.conditions.text import TextEncoder, WordLlama
from realuid.data.builtin import captions
from realuid.data.shards.index import INDEX_FILE, ShardIndex, has_index
from realuid.data.shards.location import locate, open_folder
from realuid.data.shards.writer import NewSample, write_shards
from realuid.utils.errors import DataError
from realuid.utils.keys import key

__all__ = ["BUILTIN", "Builtin", "absence", "ensure", "make"]


@dataclasses.dataclass(frozen=True)
class Builtin:
    """A data set of one split, "train". `encoder`, if there is one, makes its conditions of the samples' captions."""

    samples: Callable[[], Iterator[NewSample]]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    source: str
    licence: str
    encoder: Callable[[], TextEncoder] | None = None


def _digits() -> Iterator[NewSample]:
    from sklearn.datasets import load_digits  # slow to import, and needed once

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # v in 0..16; 127.5, the only tie, goes to 128
    # The original comes writer by writer. RandomState's numbers are frozen: the same shards for ever.
    for i in np.random.RandomState(0).permutation(len(images)):
        yield NewSample(images[i, None], int(digits.target[i]))


def _captioned_digits() -> Iterator[NewSample]:
    """Every image with one of the wordings of its digit, drawn by the image's place."""
    for number, sample in enumerate(_digits()):
        wordings = captions.training(sample.label)
        yield dataclasses.replace(sample, caption=wordings[key("caption", number) % len(wordings)])


def encoded(samples: Iterable[NewSample], encoder: TextEncoder) -> Iterator[NewSample]:
    """The samples with the conditions that `encoder` makes of their captions."""
    for sample in samples:
        condition = encoder([sample.caption or ""])
        yield dataclasses.replace(sample, fields={name: tensor[0].numpy() for name, tensor in condition.items()})


DIGITS_SOURCE = "scikit-learn's load_digits: the test part of UCI's Optical Recognition of Handwritten Digits"
DIGITS_LICENCE = "UCI ML repository, CC BY 4.0 (Alpaydin and Kaynak, 1998); packaged in scikit-learn, BSD-3-Clause"

BUILTIN = {
    "digits": Builtin(
        samples=_digits,
        classes=tuple("0123456789"),
        shape=(1, 8, 8),
        source=DIGITS_SOURCE,
        licence=DIGITS_LICENCE,
    ),
    "digits-text": Builtin(
        samples=_captioned_digits,
        classes=tuple("0123456789"),
        shape=(1, 8, 8),
        source=f"{DIGITS_SOURCE}; captions in English, French and German, embedded by WordLlama",
        licence=f"{DIGITS_LICENCE}; WordLlama, MIT",
        encoder=WordLlama,
    ),
}

SPLIT = "train"
"""The one split of a built-in set."""
MADE = "it is made on first use"
"""How the line about a built-in set that is not there yet ends."""


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
    encoder = recipe.encoder() if recipe.encoder else None
    try:
        write_shards(
            encoded(recipe.samples(), encoder) if encoder else recipe.samples(),
            target,
            split=SPLIT,
            name=name,
            classes=recipe.classes,
            shape=recipe.shape,
            source=recipe.source,
            licence=recipe.licence,
            shard_size=shard_size,
            conditions=encoder.fields if encoder else (),
            encoder={"text": f"{encoder.name} {encoder.checksum}"} if encoder else None,
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
        return f"the built-in set '{path}' is not in {url} yet: {MADE}"
    name, known = path, [*BUILTIN]
    if "://" not in path and has_index(os.path.abspath(path)):
        return (
            f"no data set '{path}': relative paths begin in {locate('.').removesuffix('/.')} (REALUID_DATA), and there "
            f"is one in the working directory: write its whole path, {os.path.abspath(path)}"
        )
    if "://" not in url and not Path(path).is_absolute():
        name, known = Path(path).name, [*known, *_sets_in(Path(url).parent), *_sets_in(Path(locate(".")))]
    nearest = difflib.get_close_matches(name, known, n=1)
    return (
        f"no data set '{path}': {url} holds no index.json; set REALUID_DATA to the folder it lies in, "
        f"write it with tools/make_shards.py, or take a built-in set ({', '.join(sorted(BUILTIN))})"
        + (f"; did you mean '{nearest[0]}'?" if nearest else "")
    )


def _sets_in(folder: Path) -> list[str]:
    """Names of the data sets in a local folder."""
    if not folder.is_dir():
        return []
    return [place.name for place in itertools.islice(folder.iterdir(), 1000) if (place / INDEX_FILE).is_file()]


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

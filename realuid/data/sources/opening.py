"""What lies at a path, told by its name and its content."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from realuid.data.shards.cache import Cache
from realuid.data.shards.index import ShardIndex, has_index
from realuid.data.shards.listing import Listed, is_pattern, listed
from realuid.data.sources import parquet, published
from realuid.data.sources.base import Source
from realuid.data.sources.files import splits_of
from realuid.data.sources.pairs import SideBySide, TwoFolders
from realuid.data.sources.prompts import in_folder, prompts_in
from realuid.data.sources.shards import LIMIT, Shards
from realuid.data.sources.trees import open_tree
from realuid.utils.errors import DataError

__all__ = ["open_pairs", "open_source"]

NEAR = (".parquet", ".npz", ".gz", ".txt", ".csv", ".tsv", ".jsonl")
"""Endings of files that are read from this machine alone."""


def open_source(path: str, labels: str = "auto") -> Mapping[str, Source]:
    """The splits of what lies at `path`: shards, CIFAR-10's, (Fashion-)MNIST's or downsampled ImageNet's own files,
    parquet files, prompts alone, or else a folder or zip of images.

    Args:
        path: see above; any fsspec URL for folders, zips and shards. Relative to the working directory, as of any
            command: what is to become a data set does not lie among the data sets.
        labels: "auto", "none", or a table for a folder or zip of images.

    Raises:
        DataError: there is nothing that can be read, or no use for the table.
    """
    _check_near(path)
    found, own = _with_own_labels(path, keep=labels != "none"), "labels of its own"
    if found is None:
        _check_place(path)
        tree = open_tree(path)
        texts = in_folder(tree)
        if texts is None:
            return splits_of(tree, labels)
        found = {"train": texts}
        own = "prompts without images, which have no labels"
    if labels not in ("auto", "none"):
        raise DataError(
            f"{path} has {own}: --labels {labels} is for folders and zips of images; --labels none leaves them out"
        )
    return found


def open_pairs(path: str, labels: str, *, sources: str | None, half: str | None) -> Mapping[str, Source]:
    """The splits of a folder or zip of pairs.

    Args:
        path: of the images x1, or of images that show both.
        labels: as of `open_source`.
        sources: folder or zip of the source images x0; or
        half: "left" or "right", the half of each image that shows it.

    Raises:
        DataError: as of `open_source`, and if they do not pair up.
    """
    _check_place(path)
    images = splits_of(open_tree(path), labels)
    if sources is None:
        return {name: SideBySide(files, half or "left") for name, files in images.items()}
    _check_place(sources)
    others = splits_of(open_tree(sources), "none")
    if images.keys() != others.keys():
        raise DataError(f"{path} has the splits {', '.join(images)}, {sources} has {', '.join(others)}")
    return {name: TwoFolders(files, others[name]) for name, files in images.items()}


def _with_own_labels(path: str, *, keep: bool) -> Mapping[str, Source] | None:
    """The splits of a source that says itself of which class its samples are; None for files of images."""
    if is_pattern(path) and not published.is_cifar_archive(path):
        place = path if "://" in path or "::" in path else os.path.abspath(path)
        return {"train": Shards(listed(place, Cache(folder=None, limit=LIMIT)), None, labels=keep, pattern=place)}
    if not path.lower().endswith((".zip", ".npz", ".gz", ".parquet")) and has_index(path):
        index = ShardIndex.read(path)
        return {
            name: Shards([Listed(path, shard) for shard in split.shards], index, labels=keep)
            for name, split in index.splits.items()
        }
    local = Path(path)
    for reader in (published.cifar10, published.idx, published.npz, prompts_in, parquet.splits_of):
        if local.exists() and (splits := reader(local)):
            for source in splits.values():
                source.classes = source.classes if keep else ()
            return splits
    return None


def _check_near(path: str) -> None:
    """Raises DataError if a distant path is that of a file of a kind that is read from this machine alone."""
    place = path.lower().partition("?")[0]
    if "://" in path and place.endswith(NEAR) and not is_pattern(path):
        raise DataError(f"{path} lies far away: download it first; folders, zips and tars are read from there")


def _check_place(path: str) -> None:
    """Raises DataError if a local path is neither folder nor zip."""
    if "://" in path or "::" in path or os.path.isdir(path):
        return
    if not os.path.lexists(path):
        raise DataError(f"{path} is not there")
    if not os.path.isfile(path):
        raise DataError(f"{path} is neither a folder nor a file")
    if not path.lower().endswith(".zip"):
        raise DataError(f"{path} is no folder, zip, tar, npz or parquet file")

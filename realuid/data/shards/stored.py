"""Samples as rows of arrays, as they are stored."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from realuid.conditions import LABEL, Condition
from realuid.data.shards.decode import Form, Sample, stored_dtype
from realuid.data.shards.index import ShardIndex
from realuid.data.shards.reader import read_shard
from realuid.utils.errors import DataError

__all__ = ["Stored", "read_split"]


@dataclasses.dataclass
class Stored:
    """Samples, row by row: images [n, C, H, W] (None in a set without images), labels [n], sources of pairs, fields of
    the conditions, and a checksum of all."""

    form: Form
    images: NDArray[Any] | None
    labels: NDArray[np.int64]
    sources: NDArray[Any] | None
    fields: dict[str, NDArray[Any]]
    checksum: str = ""

    @classmethod
    def empty(cls, form: Form, count: int) -> Stored:
        """Rows to be filled."""
        images = None if form.shape is None else np.empty((count, *form.shape), form.dtype)
        return cls(
            form,
            images,
            np.zeros(count, np.int64),
            np.empty_like(images) if form.pairs and images is not None else None,
            {f.name: np.empty((count, *f.sizes), stored_dtype(f)) for f in form.fields},
        )

    def put(self, row: int, sample: Sample) -> None:
        """Fills a row."""
        self.labels[row] = sample.label
        if self.images is not None:
            self.images[row] = sample.image
        if self.sources is not None:
            self.sources[row] = sample.source
        for name, array in self.fields.items():
            array[row] = sample.fields[name]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of images, sources and fields."""
        return sum(a.nbytes for a in (self.images, self.sources, *self.fields.values()) if a is not None)

    def chosen(self, rows: NDArray[np.bool_], note: str) -> Stored:
        """These rows alone; `note` becomes part of the checksum."""
        return dataclasses.replace(
            self,
            images=None if self.images is None else self.images[rows],
            labels=self.labels[rows],
            sources=None if self.sources is None else self.sources[rows],
            fields={name: array[rows] for name, array in self.fields.items()},
            checksum=hashlib.sha256(f"{self.checksum} {note}".encode()).hexdigest(),
        )

    def condition(self, classes: int) -> Condition:
        """The condition of all samples, with their labels if there are classes."""
        tensors = {LABEL: torch.from_numpy(self.labels)} if classes else {}
        for field in self.form.fields:
            tensor = torch.from_numpy(self.fields[field.name])
            tensors[field.name] = tensor.view(torch.bfloat16) if field.dtype == "bfloat16" else tensor
        return Condition(tensors)


def read_split(url: str, path: str, index: ShardIndex, name: str, form: Form) -> Stored:
    """Reads all shards of the split `name` at `url`; `path` is what complaints call the set.

    Raises:
        DataError: a shard or a sample is not what the index says.
    """
    split = index.splits[name]
    try:
        rows = Stored.empty(form, split.samples)
    except (MemoryError, ValueError, TypeError) as error:
        raise DataError(f"{path}: its samples do not fit into memory: {error}") from None
    # One shard after the other: Pillow holds the interpreter so much that threads only slow each other down.
    samples = itertools.chain.from_iterable(read_shard(url, shard, form) for shard in split.shards)
    for i, sample in enumerate(samples):
        rows.put(i, sample)
    counts = np.bincount(rows.labels, minlength=len(index.classes))
    if split.labels is not None and tuple(counts) != split.labels:
        raise DataError(f"{path}: the labels of split '{name}' are not as often as the index says")
    content = "".join(shard.sha256 for shard in split.shards)
    return dataclasses.replace(rows, checksum=hashlib.sha256(content.encode()).hexdigest())

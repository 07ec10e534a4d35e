"""Readers side by side: ours, a plain webdataset pipeline, torchvision on files, and a loop written by hand.

Each gives batches without end and is told nothing but where the set is. All decode, shuffle as their users do, and make
tensors; conditions are read where there are some.
"""

from __future__ import annotations

import io
import multiprocessing
import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import fsspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from realuid.benchmarks.reading_sets import CLASSES, Stored, kind
from realuid.data.dataset import Dataset
from realuid.data.prefetched import Prefetched
from realuid.data.streaming import Streaming

Batches = Iterator[int]
"""Sizes of the batches that were read, without end."""


def ours(stored: Stored, batch: int, workers: str | None, cache: str) -> Batches:
    streaming = Streaming(
        path=f"{stored.url}/shards", shape=stored.shape, classes=CLASSES, conditions=stored.conditions, cache=cache
    )
    data: Dataset = streaming if workers is None else Prefetched(data=streaming, workers=1, start_method=workers)
    data.open(seed=0, device=torch.device("cpu"))
    for number in count():
        yield len(data.batch(number * batch, batch).images)


def plain_webdataset(stored: Stored, batch: int, workers: str | None, cache: str) -> Batches:
    yield from _loaded(_Shards(stored.format, stored.shards, batch), None, workers)


def torchvision(stored: Stored, batch: int, workers: str | None, cache: str) -> Batches:
    yield from _loaded(_Files(stored.files), batch, workers)


def by_hand(stored: Stored, batch: int, workers: str | None, cache: str) -> Batches:
    """Files in a new order each time, one after another."""
    fs, _ = fsspec.core.url_to_fs(stored.url)
    files, read = list(map(fs._strip_protocol, stored.files)), fs.cat_file
    while True:
        random.shuffle(files)
        for first in range(0, len(files), batch):
            images, texts = [], []
            for place in files[first : first + batch]:
                images.append(decoded(stored.format, read(place)))
                if stored.conditions:
                    texts.append(torch.from_numpy(np.load(io.BytesIO(read(place.replace(".npy", ".text.npy"))))))
            batches = [torch.stack(tensors) for tensors in (images, texts) if tensors]
            yield len(batches[0])


Reader = Callable[[Stored, int, str | None, str], Batches]
READERS: dict[str, Reader] = {
    "realuid": ours,
    "webdataset": plain_webdataset,
    "torchvision": torchvision,
    "by hand": by_hand,
}


def takes(reader: str, form: str, place: str, workers: str | None) -> bool:
    """Whether a reader is made for this: torchvision decodes pictures on a disk, and a loop by hand has no workers."""
    if reader == "torchvision":
        return form in ("png", "jpg") and place == "local"
    return reader != "by hand" or workers is None


def decoded(form: str, data: bytes) -> Tensor:
    """An image or latents [C, H, W]."""
    if kind(form) == "npy":
        return torch.from_numpy(np.load(io.BytesIO(data)))
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


class _Shards(IterableDataset):
    """webdataset's pipeline as one writes it first: shards in a new order, a buffer of samples that are mixed, batches.
    Streams come from fsspec, for S3's sake."""

    def __init__(self, form: str, shards: list[str], batch: int) -> None:
        self.form, self.shards, self.batch = form, shards, batch

    def __iter__(self) -> Iterator[int]:
        from webdataset.filters import _shuffle
        from webdataset.tariterators import group_by_keys, tar_file_expander

        info = get_worker_info()
        own = self.shards if info is None else self.shards[info.id :: info.num_workers]
        while True:
            shards = random.sample(own, len(own))
            streams = ({"url": url, "stream": fsspec.open(url, "rb").open()} for url in shards)
            buffer: list[list[Tensor]] = []
            for sample in _shuffle(group_by_keys(tar_file_expander(streams)), 1000):
                image = decoded(self.form, sample[kind(self.form)])
                told = [torch.from_numpy(np.load(io.BytesIO(sample[k]))) for k in ("text.npy",) if k in sample]
                buffer.append([image, *told, torch.tensor(int(sample["cls"]))])
                if len(buffer) == self.batch:
                    images, *_ = [torch.stack(part) for part in zip(*buffer, strict=True)]
                    yield len(images)
                    buffer = []


class _Files(TorchDataset):
    """Pictures on a disk, as torchvision's image folders have them."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Tensor:
        from torchvision.io import ImageReadMode, decode_image

        return decode_image(self.files[number], ImageReadMode.RGB)


def _loaded(data: Any, batch: int | None, workers: str | None) -> Batches:
    context = None if workers is None else multiprocessing.get_context(workers)
    loader = DataLoader(
        data,
        batch_size=batch,
        shuffle=True if batch else None,
        num_workers=int(workers is not None),
        multiprocessing_context=context,
        persistent_workers=workers is not None,
    )
    while True:
        for read in loader:
            yield read if isinstance(read, int) else len(read)

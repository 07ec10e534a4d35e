"""What reading is compared with: webdataset's iteration and pipeline, and Pillow on bytes in memory."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image

from realuid.benchmarks.rates import Row, measured
from realuid.data.shards.index import ShardIndex


def _files(path: str, split: str) -> list[str]:
    return [f"{path}/{shard.file}" for shard in ShardIndex.read(path).splits[split].shards]


def _samples(path: str, split: str) -> Iterator[dict[str, Any]]:
    """webdataset's iteration over the shards, again and again, not decoded."""
    while True:
        yield from webdataset.WebDataset(_files(path, split), shardshuffle=False)


def _over(samples: Iterator[Any], use: Callable[[Any], Any], batch: int) -> Callable[[], int]:
    def step() -> int:
        for _ in range(batch):
            use(next(samples))
        return batch

    return step


def tar(path: str, split: str, arguments: argparse.Namespace) -> Row:
    step = _over(_samples(path, split), lambda sample: None, arguments.batch)
    return "webdataset's tar iteration alone", *measured(step, arguments.seconds)


def _image(sample: dict[str, Any]) -> bytes:
    return next(sample[kind] for kind in ("jpg", "png", "jpeg", "webp", "target.png") if kind in sample)


def _pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def pillow(path: str, split: str, arguments: argparse.Namespace) -> Row:
    samples = _samples(path, split)
    files = [_image(next(samples)) for _ in range(min(1000, arguments.images))]
    place = 0

    def step() -> int:
        nonlocal place
        for _ in range(arguments.batch):
            _pixels(files[place % len(files)])
            place += 1
        return arguments.batch

    return "Pillow's decoding alone, of bytes in memory", *measured(step, arguments.seconds)


def plain(path: str, split: str, arguments: argparse.Namespace) -> Row:
    """What a user of webdataset writes first: shuffle buffer, decoding, batches of tensors."""

    def batches() -> Iterator[Any]:
        while True:
            pipeline = webdataset.WebDataset(_files(path, split), shardshuffle=100).shuffle(1000).decode("torchrgb8")
            buffer = []
            for sample in pipeline:
                buffer.append(_image(sample))
                if len(buffer) == arguments.batch:
                    yield torch.stack(buffer)  # type: ignore[arg-type]
                    buffer = []

    stream = batches()

    def step() -> int:
        return len(next(stream))

    return "plain webdataset, shuffled and decoded", *measured(step, arguments.seconds)

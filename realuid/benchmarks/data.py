"""Images a second of every way of reading, beside Pillow on bytes in memory and a plain webdataset pipeline.

"A core" is by seconds of processor time, of this process and of its workers, so that other work on the machine counts
little; "wall" is by the clock. The images are smoothed noise, whose JPEG files are about as large as those of photos of
that size; `--path` measures a data set of your own instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from realuid import config as configuration
from realuid.benchmarks.other_readers import pillow, plain, tar
from realuid.benchmarks.rates import Row, measured, show
from realuid.config.files import recipe_folder
from realuid.data.augment import Flipped
from realuid.data.dataset import Dataset
from realuid.data.memory import InMemory
from realuid.data.pixels import to_float
from realuid.data.prefetched import Prefetched
from realuid.data.preparation.conversion import convert
from realuid.data.preparation.prepare import Preparation
from realuid.data.shards.index import ShardIndex
from realuid.data.shards.reader import read_shard
from realuid.data.sources import Arrays
from realuid.data.streaming import Streaming
from realuid.networks.no_init_weights import no_init_weights
from realuid.training.costs import costs
from realuid.training.trainer import Trainer
from realuid.training.world import World


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", help="a data set with an index, measured in place of the images that are made")
    parser.add_argument("--split", default="train", help="of --path (%(default)s)")
    parser.add_argument(
        "--images", type=int, default=4000, metavar="N", help="images of a set that is made (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement (%(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="images of a batch (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the prefetched measurements (%(default)s)")
    parser.add_argument(
        "--epochs", type=int, default=0, metavar="N", help="watch memory over N epochs of streaming, too"
    )
    parser.add_argument("--shards", type=int, default=0, metavar="N", help="time the start on N shards, too")
    parser.add_argument("--recipes", nargs="*", metavar="FILE", help="gin files whose needs are shown (default: all)")


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="realuid-benchmark-") as folder, _cache(folder):
        if arguments.path:
            show(f"{arguments.path}", _streaming(arguments.path, arguments.split, arguments, Path(folder)))
        else:
            show("32x32 uint8 in memory", _memory(made(Path(folder), 32, "png", arguments.images), arguments))
            path = made(Path(folder), 64, "jpg", arguments.images)
            show("64x64 JPEG streamed", _streaming(path, "train", arguments, Path(folder)))
            if arguments.epochs:
                _watch_memory(path, arguments)
        if arguments.shards:
            _time_start(Path(folder), arguments.shards)
    _show_needs(arguments.recipes)
    return 0


@contextlib.contextmanager
def _cache(folder: str) -> Iterator[None]:
    """Copies of shards go where they are removed afterwards."""
    before = os.environ.get("REALUID_CACHE")
    os.environ["REALUID_CACHE"] = f"{folder}/cache"
    try:
        yield
    finally:
        del os.environ["REALUID_CACHE"]
        if before is not None:
            os.environ["REALUID_CACHE"] = before


def made(folder: Path, side: int, form: str, count: int, shards: int = 4) -> str:
    """A set of smoothed noise in shards."""
    dest = str(folder / f"made{side}")
    noise = torch.randn(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(noise, (side, side), mode="bicubic")
    fine = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1))
    images = (128 + 50 * smooth + 6 * fine).clamp(0, 255).to(torch.uint8).numpy()
    source = Arrays("noise", [(images, np.arange(count) % 10)], tuple("0123456789"))
    convert(
        {"train": source},
        dest,
        preparation=Preparation(format=form, quality=85),
        name="noise",
        source="a generator",
        licence="none",
        shard_size=-(-count // shards),
        workers=0,
        shuffle=None,
    )
    return dest


def _memory(path: str, arguments: argparse.Namespace) -> list[Row]:
    data = opened(InMemory(path=path, **declared(path)))
    flipped = opened(Flipped(data=InMemory(path=path, **declared(path))))

    def floats(batch: Any) -> None:
        to_float(batch.images)

    return [
        _rate("gathered", data, arguments),
        _rate("gathered and flipped", flipped, arguments),
        _rate("gathered, flipped, in [-1, 1] (on this CPU)", flipped, arguments, floats),
        pillow(path, "train", arguments),
    ]


def _streaming(path: str, split: str, arguments: argparse.Namespace, folder: Path) -> list[Row]:
    form = declared(path)
    files, decode = tar(path, split, arguments), pillow(path, split, arguments)
    # Seconds an image of both, one after the other.
    both = (
        "tar and decoding, the sum of the two",
        1 / (1 / files[1] + 1 / decode[1]),
        1 / (1 / files[2] + 1 / decode[2]),
    )
    alone = opened(Streaming(path=path, split=split, **form))
    flipped = opened(Flipped(data=Streaming(path=path, split=split, **form)))
    ahead = opened(Prefetched(data=Flipped(data=Streaming(path=path, split=split, **form)), workers=arguments.workers))
    rows = [files, decode, both, plain(path, split, arguments)]
    rows += [
        _rate("streamed", alone, arguments),
        _rate("streamed and flipped", flipped, arguments),
        _rate(f"streamed and flipped in {arguments.workers} worker(s)", ahead, arguments),
    ]
    return rows


def declared(path: str) -> dict[str, Any]:
    """What a data set of these shards declares: its shape and classes."""
    index = ShardIndex.read(path)
    return {"shape": index.form().shape, "classes": len(index.classes)}


def opened(data: Dataset) -> Dataset:
    """The data, open on the CPU."""
    data.open(seed=0, device=torch.device("cpu"))
    return data


def _rate(name: str, data: Dataset, arguments: argparse.Namespace, then: Callable[[Any], None] = lambda _: None) -> Row:
    position = 0

    def step() -> int:
        nonlocal position
        then(data.batch(position, arguments.batch))
        position += arguments.batch
        return arguments.batch

    # A worker's time counts when it has ended: until then it is read from /proc.
    return name, *measured(step, arguments.seconds, _children(data))


def _children(data: Dataset) -> Callable[[], float]:
    """Processor seconds of the worker processes so far."""
    if not isinstance(data, Prefetched) or not data.workers:
        return lambda: 0.0
    data.batch(0, 1)
    workers = data.worker_processes()

    def seconds() -> float:
        ticks = os.sysconf("SC_CLK_TCK")
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in workers]
        return sum((int(field[11]) + int(field[12])) / ticks for field in fields)

    return seconds


def _watch_memory(path: str, arguments: argparse.Namespace) -> None:
    """Resident memory after each epoch of streaming in this process."""
    data = opened(Flipped(data=Streaming(path=path, shuffle=2, **declared(path))))
    sizes = []
    for epoch in range(arguments.epochs):
        for start in range(0, len(data), arguments.batch):
            data.batch(epoch * len(data) + start, arguments.batch)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sizes.append(pages * resource.getpagesize() / 2**20)
    print(f"\nmemory after each of {arguments.epochs} epochs, MiB: " + " ".join(f"{size:.1f}" for size in sizes))


def _time_start(folder: Path, shards: int) -> None:
    """Seconds until a source of many shards gives its first batch: with an index, and listed by a pattern."""
    path = _many(folder, shards)
    for name, place in (("index", path), ("pattern, first listing", f"{path}/*.tar"), ("pattern", f"{path}/*.tar")):
        if name.startswith("pattern, first"):
            (Path(path) / "index.json").unlink()
        began = time.perf_counter()
        data = opened(Streaming(path=place, shape=(3, 8, 8), classes=10))
        took = time.perf_counter() - began
        data.batch(0, 16)
        print(f"start on {shards} shards, {name}: open {took:.2f} s, first batch {time.perf_counter() - began:.2f} s")


def _many(folder: Path, shards: int) -> str:
    dest = str(folder / "many")
    images = np.random.default_rng(0).integers(0, 256, (shards * 4, 3, 8, 8), np.uint8)
    source = Arrays("noise", [(images, np.arange(len(images)) % 10)], tuple("0123456789"))
    about = {"name": "many", "source": "-", "licence": "-", "shard_size": 4, "workers": 0, "shuffle": None}
    convert({"train": source}, dest, preparation=Preparation(), **about)  # type: ignore[arg-type]
    assert sum(
        1 for _ in read_shard(dest, ShardIndex.read(dest).splits["train"].shards[0], ShardIndex.read(dest).form())
    )
    return dest


def _show_needs(recipes: Sequence[str] | None) -> None:
    """Real images a second that each recipe reads, if its steps run as fast as the dry run reckons."""
    print("\nreal images a second that a step needs, at the dry run's share of the peak of one GPU")
    for file in sorted(recipe_folder().glob("*.gin")) if recipes is None else map(Path, recipes):
        try:
            with no_init_weights():
                trainer = configuration.build(configuration.load([file]))
            print(f"  {file.stem:<48}{_need(trainer):>16,.0f}")
        except Exception as error:  # a recipe that cannot be assembled here is a matter of the dry run
            print(f"  {file.stem:<48} {type(error).__name__}: {str(error).splitlines()[0]}")


def _need(trainer: Trainer) -> float:
    bill = costs(trainer.method, trainer.context(World(torch.device("meta"))))
    return trainer.peak_flops * trainer.mfu / bill.flops * trainer.method.images_read(trainer.batch)

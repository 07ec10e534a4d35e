"""Samples to shards: the same samples give the same bytes, whoever writes them and however often it was stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm
from webdataset import TarWriter

from realuid.data.cache import LAYOUT_SUFFIX
from realuid.data.index import Shard, ShardIndex, Split, Tally, has_index
from realuid.data.layout import scan
from realuid.data.location import open_folder
from realuid.data.prepare import Preparation
from realuid.data.sources import Source
from realuid.errors import DataError

__all__ = ["convert", "write_shards"]

PLAN_FILE = "unfinished.json"
DONE_SUFFIX = ".done"


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
    _refuse_finished(dest)
    fs, root = open_folder(dest)
    fs.makedirs(root, exist_ok=True)
    shape = (channels, image_size, image_size)

    def members(number: int, image: NDArray[np.uint8], label: int) -> dict[str, Any]:
        if image.shape != shape or image.dtype != np.uint8:
            raise DataError(f"sample {number} is {image.dtype} {image.shape}, expected uint8 {shape}")
        if classes and not 0 <= label < len(classes):
            raise DataError(f"sample {number} has label {label}, expected 0 to {len(classes) - 1}")
        return _sample(number, png=_encode_png(image), cls=str(int(label)).encode() if classes else None)

    counts = np.zeros(len(classes), np.int64)
    shards: list[Shard] = []
    numbered = enumerate(samples)
    while chunk := list(itertools.islice(numbered, shard_size)):
        written = (members(number, image, label) for number, (image, label) in chunk)
        shard = _write_shard(dest, f"{split}-{len(shards):06d}.tar", written)
        for _, (_, label) in chunk if classes else ():
            counts[label] += 1
        shards.append(shard)
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
        splits={split: Split(tuple(shards), tuple(counts.tolist()) if classes else None)},
    )
    index.write(dest)
    return index


def convert(
    sources: Mapping[str, Source],
    dest: str,
    *,
    preparation: Preparation,
    name: str,
    source: str,
    licence: str,
    shard_size: int,
    workers: int,
    shuffle: int | None,
    progress: bool = False,
) -> ShardIndex:
    """Writes a data set of these splits into `dest`, a folder or any fsspec URL, and returns its index.

    The bytes do not depend on `workers`. A conversion that was stopped goes on where it was if it is asked for again
    with the same arguments; until the index is written, last of all, nothing reads the shards.

    Args:
        sources: what each split is made from; their classes must agree.
        preparation: how samples are cropped, resized and encoded.
        shard_size: samples per shard; the last shard may have fewer.
        workers: processes; 0 works in this one.
        shuffle: seed of the order in which samples are stored, so that neighbours are of mixed classes; None keeps the
            sources' order.
        progress: whether a bar is drawn.

    Raises:
        DataError: `dest` holds something else, or a sample cannot be converted.
    """
    _refuse_finished(dest)
    classes = next(iter(sources.values())).classes
    if any(other.classes != classes for other in sources.values()):
        raise DataError("the splits have different classes")
    _begin(dest, sources, {"shard_size": shard_size, "shuffle": shuffle} | dataclasses.asdict(preparation))
    tasks = []
    for split, samples in sources.items():
        numbers = np.arange(len(samples))
        if shuffle is not None:
            numbers = np.random.RandomState(shuffle).permutation(len(samples))
        for i, first in enumerate(range(0, len(samples), shard_size)):
            tasks.append(_Task(dest, split, i, first, numbers[first : first + shard_size]))
    done: dict[tuple[str, int], _Done] = {}
    total = sum(len(task.numbers) for task in tasks)
    with tqdm(total=total, unit="image", disable=not progress, smoothing=0.05) as bar:
        for task, result in _worked(tasks, sources, preparation, workers):
            done[task.split, task.number] = result
            bar.update(len(task.numbers))
    one = next(iter(done.values()))
    if odd := [other for other in done.values() if (other.shape, other.dtype) != (one.shape, one.dtype)]:
        raise DataError(
            f"{odd[0].shard.file} holds {odd[0].dtype} {odd[0].shape}, {one.shard.file} {one.dtype} {one.shape}: "
            "say --resolution"
        )
    splits = {}
    for split in sources:
        parts = [done[key] for key in sorted(done) if key[0] == split]
        labels = tuple(np.sum([part.labels for part in parts], axis=0).tolist()) if classes else None
        splits[split] = Split(tuple(part.shard for part in parts), labels)
    kinds = " + ".join(f"%09d.{kind}" for kind in one.kinds)
    index = ShardIndex(
        name=name,
        image_size=one.shape[1],
        channels=one.shape[0],
        classes=classes,
        format=f"WebDataset tar: {kinds}",
        source=source,
        licence=licence,
        splits=splits,
        dtype=one.dtype,
    )
    index.write(dest)
    fs, root = open_folder(dest)
    for task in tasks:
        fs.rm_file(f"{root}/{task.file}{DONE_SUFFIX}")
    fs.rm_file(f"{root}/{PLAN_FILE}")
    return index


@dataclasses.dataclass(frozen=True)
class _Task:
    """One shard that is to be written: samples `numbers` of a split, stored from number `first` on."""

    dest: str
    split: str
    number: int
    first: int
    numbers: NDArray[np.int64]

    @property
    def file(self) -> str:
        return f"{self.split}-{self.number:06d}.tar"


@dataclasses.dataclass(frozen=True)
class _Done:
    """A shard that was written, and what the index needs of it."""

    shard: Shard
    shape: tuple[int, ...]
    dtype: str
    kinds: tuple[str, ...]
    labels: tuple[int, ...]


def _worked(
    tasks: Sequence[_Task], sources: Mapping[str, Source], preparation: Preparation, workers: int
) -> Iterator[tuple[_Task, _Done]]:
    """The tasks as they are finished."""
    if not workers:
        for task in tasks:
            yield task, _work(task, sources[task.split], preparation)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _set_up, (dict(sources), preparation)) as pool:
        futures = {pool.submit(_work_here, task): task for task in tasks}
        try:
            while futures:
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    yield futures.pop(future), future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_here: tuple[Mapping[str, Source], Preparation]


def _set_up(sources: Mapping[str, Source], preparation: Preparation) -> None:
    global _here
    _here = sources, preparation


def _work_here(task: _Task) -> _Done:
    return _work(task, _here[0][task.split], _here[1])


def _work(task: _Task, source: Source, preparation: Preparation) -> _Done:
    """Writes one shard, unless that was done before."""
    fs, root = open_folder(task.dest)
    note = f"{root}/{task.file}{DONE_SUFFIX}"
    if fs.exists(note):
        record = json.loads(fs.cat_file(note))
        return _Done(**{**record, "shard": Shard(**record["shard"])} | _tuples(record, "shape", "kinds", "labels"))
    counts = np.zeros(len(source.classes), np.int64)
    facts: dict[str, Any] = {}

    def members() -> Iterator[dict[str, Any]]:
        for i, number in enumerate(task.numbers.tolist()):
            raw = source.read(number)
            if source.classes:
                if not 0 <= raw.label < len(source.classes):
                    raise DataError(f"{raw.name} has label {raw.label}, expected 0 to {len(source.classes) - 1}")
                counts[raw.label] += 1
            sample, shape, dtype = preparation.members(raw, f"{task.first + i:09d}", bool(source.classes))
            if facts and (facts["shape"], facts["dtype"]) != (shape, dtype):
                raise DataError(
                    f"{raw.name} is {dtype} {shape}, those before are {facts['dtype']} {facts['shape']}: "
                    "say --resolution"
                )
            facts.update(shape=shape, dtype=dtype, kinds=tuple(kind for kind in sample if kind != "__key__"))
            yield sample

    shard = _write_shard(task.dest, task.file, members())
    result = _Done(shard=shard, labels=tuple(counts.tolist()), **facts)
    fs.pipe_file(note, json.dumps(dataclasses.asdict(result)).encode())
    return result


def _tuples(record: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: tuple(record[field]) for field in fields}


def _write_shard(dest: str, file: str, samples: Iterable[dict[str, Any]]) -> Shard:
    """Puts one shard, and beside it the places of its samples, into `dest`; each appears whole."""
    fs, root = open_folder(dest)
    with tempfile.TemporaryDirectory(prefix="realuid-") as folder:
        path = os.path.join(folder, file)
        with open(path, "wb") as stream:
            tally = Tally(stream)
            with TarWriter(tally, encoder=False, mtime=0, user="realuid", group="realuid") as tar:
                for members in samples:
                    tar.write(members)
        layout = scan(f"{dest}/{file}", path)
        places = layout.to_bytes()
        _put(fs, path, f"{root}/{file}")
        _put(fs, places, f"{root}/{file}{LAYOUT_SUFFIX}")
    return Shard(
        file=file,
        samples=len(layout),
        bytes=tally.bytes,
        sha256=tally.sha256,
        layout_sha256=hashlib.sha256(places).hexdigest(),
    )


def _put(fs: Any, what: str | bytes, dest: str) -> None:
    """A local file, or bytes, under a name that appears when they are all there (object stores do that anyway)."""
    place = f"{dest}.{uuid.uuid4().hex}.tmp" if isinstance(fs, LocalFileSystem) else dest
    if isinstance(what, bytes):
        fs.pipe_file(place, what)
    else:
        fs.put_file(what, place)
    if place != dest:
        os.replace(place, dest)


def _refuse_finished(dest: str) -> None:
    if has_index(dest):
        raise DataError(f"{dest} already holds a data set and is left alone: choose another place, or remove it first")


def _begin(dest: str, sources: Mapping[str, Source], options: Mapping[str, Any]) -> None:
    """Notes what is to be done, or recognises that it was begun."""
    fs, root = open_folder(dest)
    prints = {split: source.fingerprint() for split, source in sources.items()}
    plan = json.dumps({"sources": prints, "options": options}, sort_keys=True).encode()
    there = {str(name).rpartition("/")[2] for name in fs.ls(root, detail=False)} if fs.exists(root) else set()
    begun = any(name.endswith(DONE_SUFFIX) for name in there)
    if PLAN_FILE not in there and any(not name.endswith(".tmp") for name in there):
        raise DataError(f"{dest} is not empty and is left alone: choose another place")
    if begun and fs.cat_file(f"{root}/{PLAN_FILE}") != plan:
        raise DataError(
            f"{dest} holds the beginning of another conversion ({PLAN_FILE}): ask for that one again, the same "
            "source and options, or remove the folder"
        )
    fs.makedirs(root, exist_ok=True)
    fs.pipe_file(f"{root}/{PLAN_FILE}", plan)


def _sample(number: int, *, png: bytes, cls: bytes | None) -> dict[str, Any]:
    return {"__key__": f"{number:09d}", "png": png} | ({} if cls is None else {"cls": cls})


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file, format="PNG")
    return file.getvalue()

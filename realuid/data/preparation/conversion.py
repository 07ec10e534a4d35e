"""Sources to shards, by many processes if asked for: the same source and options give the same bytes, however often it
was stopped. Those of an encoding depend on the machine as well."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from loguru import logger
from tqdm import tqdm

from realuid.conditions import Field
from realuid.data.preparation.encoding import Encoding
from realuid.data.preparation.prepare import Preparation
from realuid.data.preparation.tasks import DONE_SUFFIX, Done, Task, Way, worked
from realuid.data.shards.files import TEMPORARY, put_bytes
from realuid.data.shards.index import ShardIndex, Split
from realuid.data.shards.location import open_folder, reaching
from realuid.data.shards.writer import refuse_finished
from realuid.data.sources import Source
from realuid.utils.errors import DataError
from realuid.utils.locks import locked

__all__ = ["DAMAGED_FILE", "PLAN_FILE", "SIZES_FILE", "Faulty", "NothingLeft", "alone", "begin", "convert"]

PLAN_FILE = "unfinished.json"
DAMAGED_FILE = "damaged.txt"
SIZES_FILE = "sizes.npy"
MOST_FAULTS = 1000
"""Samples that cannot be taken at all, after which no more are looked for."""
BEGUN = re.compile(rf".*{re.escape(DONE_SUFFIX)}|[0-9]+x[0-9]+|{re.escape(SIZES_FILE)}")
"""What a conversion leaves that one with other options cannot use: notes of shards and of sizes, folders of buckets."""


class Faulty(DataError):
    """Samples that cannot be taken, all of which are listed in `damaged.txt`."""


class NothingLeft(Faulty):
    """All samples are damaged, and may be left out."""


def convert(
    sources: Mapping[str, Source],
    dest: str,
    *,
    preparation: Preparation,
    encoding: Encoding | None = None,
    name: str,
    source: str,
    licence: str,
    shard_size: int,
    workers: int,
    shuffle: int | None,
    skip_damaged: bool = False,
    progress: bool = False,
) -> ShardIndex:
    """Writes a data set of these splits into `dest`, a folder or any fsspec URL, and returns its index.

    The bytes do not depend on `workers`; those that an encoding makes depend on the machine. A conversion that was
    stopped goes on where it was if it is asked for again with the same arguments; until the index is written, last of
    all, nothing reads the shards.

    Args:
        sources: what each split is made from; their classes must agree.
        preparation: how samples are cropped, resized and encoded.
        encoding: what makes latents of their pictures and embeddings of their captions; None keeps both as they are.
        shard_size: samples per shard; the last shard may have fewer.
        workers: processes; 0 works in this one.
        shuffle: seed of the order in which samples are stored, so that neighbours are of mixed classes; None keeps the
            sources' order.
        skip_damaged: whether samples that cannot be read or decoded, and animations, are left out, and listed in
            `damaged.txt`.
        progress: whether a bar is drawn.

    Raises:
        Faulty: samples cannot be converted.
        DataError: `dest` holds something else, or another process writes into it.
    """
    refuse_finished(dest)
    any_source = next(iter(sources.values()))
    if any(other.classes != any_source.classes for other in sources.values()):
        told = [f"{name} has {', '.join(one.classes[:8]) or 'none'}" for name, one in sources.items()]
        raise DataError(f"the splits have different classes: {'; '.join(told[:3])}")
    if any(other.conditions != any_source.conditions for other in sources.values()):
        raise DataError("the splits have different conditions")
    if encoding is not None and any_source.conditions:
        raise DataError(f"the source has conditions already: {', '.join(map(str, any_source.conditions))}")
    if encoding is not None and any_source.pairs:
        raise DataError("the source holds pairs, of which --encode would leave the source images as they are")
    if encoding is None and not any_source.has_images:
        raise DataError("the source holds prompts without images: say with --encode for which teacher")
    for text in (name, source, licence):
        if not text.isprintable():  # also what is no UTF-8, which the index could not hold
            raise DataError(f"{text!a} cannot be written into an index: give --name, or rename the source")
    with alone(dest):
        refuse_finished(dest)
        made_by = encoding.made_by(pictures=any_source.has_images) if encoding else any_source.encoder
        options = {"shard_size": shard_size, "shuffle": shuffle} | dataclasses.asdict(preparation)
        begin(dest, sources, options | ({"encoding": made_by} if encoding else {}))
        tasks = _tasks(dest, sources, shard_size, shuffle)
        done = _finished(tasks, sources, Way(preparation, encoding, skip_damaged), workers, progress)
        _check(dest, done, skip_damaged)
        conditions = encoding.conditions if encoding else any_source.conditions
        index = _index(sources, done, conditions, dict(made_by), name=name, source=source, licence=licence)
        index.write(dest)
        fs, root = open_folder(dest)
        with reaching(dest, "written"):
            for file in (*(f"{task.file}{DONE_SUFFIX}" for task in tasks), PLAN_FILE):
                with contextlib.suppress(FileNotFoundError):
                    fs.rm_file(f"{root}/{file}")
    return index


def _tasks(dest: str, sources: Mapping[str, Source], shard_size: int, shuffle: int | None) -> list[Task]:
    tasks = []
    for split, samples in sources.items():
        numbers = np.arange(len(samples))
        if shuffle is not None:
            numbers = np.random.RandomState(shuffle).permutation(len(samples))
        for i, first in enumerate(range(0, len(samples), shard_size)):
            tasks.append(Task(dest, split, i, first, numbers[first : first + shard_size]))
    return tasks


def _finished(
    tasks: Sequence[Task],
    sources: Mapping[str, Source],
    way: Way,
    workers: int,
    progress: bool,
) -> dict[tuple[str, int], Done]:
    """What became of each task, in the order of the tasks; of some of them if too much is wrong."""
    found: dict[tuple[str, int], Done] = {}
    total, refused = sum(len(task.numbers) for task in tasks), 0
    with (
        tqdm(total=total, unit="image", disable=not progress, smoothing=0.05) as bar,
        contextlib.closing(worked(tasks, sources, way, workers)) as results,
    ):
        for task, result in results:
            found[task.split, task.number] = result
            bar.update(len(task.numbers))
            refused += sum(not fault.damaged for fault in result.faults)
            if refused > MOST_FAULTS:
                break
    return dict(sorted(found.items()))


def _check(dest: str, done: Mapping[tuple[str, int], Done], skip_damaged: bool) -> None:
    """Lists what is wrong, and stops if that may not be left out."""
    faults = [fault for part in done.values() for fault in part.faults]
    written = [part for part in done.values() if part.shard is not None]
    shapes = {(part.shape, part.dtype): part for part in written}
    if faults:
        put_bytes(dest, DAMAGED_FILE, "".join(f"{fault.text}\n" for fault in faults).encode(errors="backslashreplace"))
    wrong = [fault for fault in faults if not (skip_damaged and fault.damaged)]
    if wrong:
        rest = f" (and {len(wrong) - 1} more, all in {dest}/{DAMAGED_FILE})" if len(wrong) > 1 else ""
        skip = (
            "; --skip-damaged leaves out what cannot be decoded or moves"
            if all(fault.damaged for fault in wrong)
            else ""
        )
        raise Faulty(f"{wrong[0].text}{rest}{skip}")
    if not shapes:
        raise NothingLeft(f"nothing of the source can be read: see {dest}/{DAMAGED_FILE}")
    if len(shapes) > 1:
        (shape, dtype), (other, other_dtype) = list(shapes)[:2]
        files = [part.shard.file for part in list(shapes.values())[:2] if part.shard]
        remedy = "say --resolution" if dtype == other_dtype == "uint8" else "store all of them alike"
        raise DataError(f"{files[0]} holds {dtype} {shape}, {files[1]} {other_dtype} {other}: {remedy}")
    if faults:
        logger.warning("{} samples are left out, and listed in {}/{}", len(faults), dest, DAMAGED_FILE)


def _index(
    sources: Mapping[str, Source],
    done: Mapping[tuple[str, int], Done],
    conditions: tuple[Field, ...],
    made_by: Mapping[str, str],
    **about: str,
) -> ShardIndex:
    any_source = next(iter(sources.values()))
    splits = {}
    for split in sources:
        parts = [part for (home, _), part in done.items() if home == split and part.shard is not None]
        labels = tuple(np.sum([part.labels for part in parts], axis=0).tolist()) if any_source.classes else None
        splits[split] = Split(tuple(part.shard for part in parts if part.shard), labels if parts else None)
    one = next(part for part in done.values() if part.shard is not None)
    kinds = dict.fromkeys(kind for part in done.values() for kind in part.kinds)
    return ShardIndex(
        image_size=(one.shape[1], one.shape[2]) if one.shape else None,
        channels=one.shape[0] if one.shape else None,
        classes=any_source.classes,
        format=f"WebDataset tar: {' + '.join(f'%09d.{kind}' for kind in kinds)}",
        splits=splits,
        dtype=one.dtype,
        conditions=conditions,
        encoder=made_by,
        **about,
    )


@contextlib.contextmanager
def alone(dest: str) -> Iterator[None]:
    """Holds a local folder for this process; two that write into a distant one are told apart by their plan."""
    fs, root = open_folder(dest)
    with reaching(dest, "written"):
        fs.makedirs(root, exist_ok=True)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    folder = os.open(root, os.O_RDONLY)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            raise DataError(f"another process is writing into {dest}") from None
        except OSError:  # a file system without locks
            pass
        yield


def begin(dest: str, sources: Mapping[str, Source], options: Mapping[str, Any]) -> None:
    """Notes what is to be done, or recognises that it was begun."""
    fs, root = open_folder(dest)
    prints = {split: source.fingerprint() for split, source in sources.items()}
    plan = json.dumps({"sources": prints, "options": options}, sort_keys=True).encode()
    with reaching(dest):
        there = {str(name).rpartition("/")[2] for name in fs.ls(root, detail=False)} if fs.exists(root) else set()
        before = fs.cat_file(f"{root}/{PLAN_FILE}") if PLAN_FILE in there else None
    if before is None and any(not name.endswith(TEMPORARY) for name in there):
        raise DataError(f"{dest} is not empty and is left alone: choose another place")
    begun = any(BEGUN.fullmatch(name) for name in there) or not isinstance(fs, LocalFileSystem)
    if before is not None and begun and before != plan:
        raise DataError(
            f"{dest} holds the beginning of another conversion ({PLAN_FILE}): ask for that one again, the same "
            "source and options, or remove the folder"
        )
    with reaching(dest, "written"):
        if isinstance(fs, LocalFileSystem):
            for name in there:
                if name.endswith(TEMPORARY):  # of a process that was killed: this one is alone
                    os.unlink(f"{root}/{name}")
    put_bytes(dest, PLAN_FILE, plan)

"""Shards to samples; nothing that plain webdataset would pass over in silence gets by here.

webdataset reads a shard that was cut between members as a shorter shard, splits keys at their first dot, and drops
members that it cannot name. A training run would never notice, so every such case is a `DataError` here.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from realuid.data.shards.captions import CAPTION_MEMBERS, caption_of
from realuid.data.shards.decode import (
    IMAGE_KINDS,
    DamagedSample,
    Form,
    Sample,
    decode,
    decode_label,
    image_kind,
    source_kind,
)
from realuid.data.shards.fetching import fetch, origin_of
from realuid.data.shards.index import Shard
from realuid.data.shards.layout import IMAGE, LABEL, MEMBERS, SOURCE, Layout, Members, check_name, samples_of
from realuid.data.shards.tars import walk
from realuid.utils import archives
from realuid.utils.errors import DataError

__all__ = ["OpenShard", "read_captions", "read_shard"]


def read_shard(folder: str, shard: Shard, form: Form) -> Iterator[Sample]:
    """The samples of one shard, a `.tar` or `.tar.gz` in `folder` (any fsspec URL), in their order.

    A sample is one image member (png, jpg, jpeg, webp, or npy holding an array [C, H, W]; in a pair `target.png`, ...
    beside `source.png`, ...), one `cls` member, the label in ASCII digits, if the set has classes, and an npy member,
    `text.npy` for instance, for each field of its conditions. Members of other kinds are passed over.

    Raises:
        DataError: the shard or a sample is not what the index says; the message names the shard, and the key if any.
    """
    origin = origin_of(folder, shard.file)
    with tempfile.TemporaryDirectory(prefix="realuid-") as temporary:
        path, layout = fetch(origin, shard, Path(temporary) / "shard.tmp")
        with OpenShard(origin.place, path, layout, form) as opened:
            for number in range(len(layout)):
                yield opened.read(number, form)


def read_captions(shards: Iterable[tuple[str, Shard]], count: int) -> list[str] | None:
    """The captions (members `txt`, or a text in `json`) of the first samples of some shards, each in a folder, at most
    `count`, read no further than that; None if one of them has none, or a shard cannot be read."""
    found: list[str | None] = []
    try:
        for folder, shard in shards:
            found += _captions(*origin_of(folder, shard.file)[:2], count - len(found))
            if len(found) == count:
                break
    except Exception:  # file systems raise kinds of their own
        return None
    return None if None in found else [text for text in found if text is not None]


def _captions(fs: Any, path: str, count: int) -> list[str | None]:
    told: dict[str, dict[str, bytes]] = {}
    with fs.open(path, "rb") as file:
        stream = archives.unpacked(file)
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=archives.Member) as tar:
            for info in tar:
                key, kind = check_name(path, info.name)
                if len(told) == count and key not in told:
                    break
                told.setdefault(key, {})
                if kind in CAPTION_MEMBERS and (member := tar.extractfile(info)):
                    told[key][kind] = member.read()
    return [caption_of(members) for members in told.values()]


class OpenShard:
    """A shard that is being read.

    Args:
        place: what complaints call it.
        path: of the plain tar.
        layout: of it.
        form: what its samples must be.
        tolerate: whether damaged samples are complained of when they are read, and not at once.

    Raises:
        DataError: a sample is damaged, or the shard as a whole, and that is not tolerated.
    """

    def __init__(self, place: str, path: str, layout: Layout, form: Form, *, tolerate: bool = False) -> None:
        self._place, self._form, self._layout = place, form, layout
        self._damaged = _damaged(layout, form)
        self._texts = None if form.caption is None else texts_in(place, path)
        self._file = os.open(path, os.O_RDONLY)
        try:
            if not tolerate:
                self._complain_at_once()
            elif layout.problem:
                logger.warning(layout.problem)
        except BaseException:
            self.close()
            raise

    def read(self, number: int, form: Form) -> Sample:
        """Decodes sample `number`, as far as `form` names its parts."""
        if number in self._damaged:
            self._complain(number)
        layout = self._layout
        places, kinds = layout.places[number].tolist(), layout.kinds[number].tolist()
        members = {"__key__": str(layout.keys[number])}
        if form.caption is not None:
            members["caption"] = self._caption(number)
        found: dict[str, bytes] = {}
        if form.shape is not None:
            found[IMAGE_KINDS[kinds[IMAGE]]] = self._bytes(places[IMAGE])
        if form.pairs:
            found[f"source.{IMAGE_KINDS[kinds[SOURCE]]}"] = self._bytes(places[SOURCE])
        for field in form.conditions:
            found[f"{field.name}.npy"] = self._bytes(places[MEMBERS + layout.fields.index(field.name)])
        return decode(self._where(number), members | found, form, label=int(layout.labels[number]))

    def close(self) -> None:
        """Gives the file back."""
        os.close(self._file)

    def __enter__(self) -> OpenShard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _where(self, number: int) -> str:
        return f"{self._place}, sample {self._layout.keys[number]}"

    def _caption(self, number: int) -> str:
        assert self._texts is not None
        places = self._texts[number]
        try:
            text = caption_of({kind: self._bytes([*place]) for kind, place in places.items()})
        except ValueError as error:
            raise DamagedSample(f"{self._where(number)}: {error}") from None
        if not text:
            raise DamagedSample(f"{self._where(number)}: it has no caption (txt, or a text in json)", "missing")
        return text

    def _bytes(self, place: list[int]) -> bytes:
        return os.pread(self._file, place[1], place[0])

    def _complain_at_once(self) -> None:
        faults = self._layout.faults
        # Wrong names and a cut are reasons why others are not whole: they are the better ones to tell.
        first = [number for wanted in ("name", "cut") for number, (reason, _) in faults.items() if reason == wanted]
        for number in first or sorted(self._damaged):
            self._complain(number)
        if self._layout.problem:
            raise DataError(self._layout.problem)

    def _complain(self, number: int) -> None:
        """Raises what is wrong with a sample."""
        layout, form, where = self._layout, self._form, self._where(number)
        if number in layout.faults:
            reason, text = layout.faults[number]
            raise DamagedSample(text, reason)
        places = layout.places[number].tolist()
        if form.shape is not None and places[IMAGE][1] < 0:
            image_kind(where, ())
        if form.pairs and places[SOURCE][1] < 0:
            source_kind(where, ())
        for field in form.conditions:
            if layout.place(number, field.name)[1] < 0:
                member = f"{field.name}.npy (the condition's {field})"
                raise DamagedSample(f"{where}: the member {member} is missing", "missing")
        decode_label(where, self._bytes(places[LABEL]) if places[LABEL][1] >= 0 else None, form.classes)
        raise DamagedSample(f"{where}: its label is not {layout.labels[number]}", "label")


def texts_in(place: str, path: str) -> list[Members]:
    """Where the members that may hold the caption of each sample lie in a plain tar; `place` is what complaints call
    it."""
    with open(path, "rb") as file:
        found = samples_of(place, walk(file).members, os.path.getsize(path))
        return [{kind: members[kind] for kind in CAPTION_MEMBERS if kind in members} for _, members, _ in found]


def _damaged(layout: Layout, form: Form) -> set[int]:
    """The samples that lack a part that `form` names, or are known to be damaged."""
    wanted = [IMAGE] * (form.shape is not None) + [SOURCE] * form.pairs
    wanted += [MEMBERS + layout.fields.index(field.name) for field in form.conditions if field.name in layout.fields]
    damaged: NDArray[np.bool_] = np.any(layout.places[:, wanted, 1] < 0, axis=1)
    if any(field.name not in layout.fields for field in form.conditions):
        damaged[:] = True
    if form.classes:
        damaged |= (layout.labels < 0) | (layout.labels >= form.classes)
    damaged[list(layout.faults)] = True
    return set(np.flatnonzero(damaged).tolist())

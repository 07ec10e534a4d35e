"""From a path to shards: data sets with an index, or patterns of tar files."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fnmatch
import glob
import json
import os
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from braceexpand import braceexpand
from fsspec.implementations.local import LocalFileSystem

from realuid.data.shards.cache import Cache
from realuid.data.shards.index import Shard, ShardIndex, has_index
from realuid.data.shards.location import locate, open_folder, reaching, split_url
from realuid.utils import remote
from realuid.utils.errors import DataError

__all__ = ["Listed", "absence", "is_pattern", "listed", "matches"]

TAR = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
WEB = ("http://", "https://")
FETCHES = 4
CLOSED = (401, 403, 405)
"""Status of a server that hands out files and nothing else, as for signed addresses."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """A shard and the folder in which it lies."""

    folder: str
    shard: Shard


def is_pattern(path: str) -> bool:
    """Whether a path names tar files rather than a data set's folder."""
    return bool(TAR.search(path.partition("?")[0] if path.startswith(WEB) else path))


def matches(pattern: str, file: str) -> bool:
    """Whether a local file, which need not be there, is one that a pattern of absolute paths names."""
    if "://" in pattern or "::" in pattern:
        return False
    return any(fnmatch.fnmatchcase(file, one) and one.count("/") == file.count("/") for one in _expanded(pattern))


def listed(path: str, cache: Cache) -> list[Listed]:
    """The shards that a pattern names, in its order: `{a..b}` and `{a,b}` are expanded, then `*`, `?` and `[...]`; in
    web addresses `?` begins a query.

    A shard that the index of its folder knows is checked against it. Others are fetched and searched once; what was
    found is kept in the cache until the shard changes.

    Raises:
        DataError: nothing matches, a shard comes twice, or one cannot be read.
    """
    names = _names(path)
    if not names:
        raise DataError(_unmatched(path))
    if len(set(names)) < len(names):
        raise DataError(f"'{path}' names {collections.Counter(names).most_common(1)[0][0]} twice")
    places = [split_url(name) for name in names]
    known = {folder: _indexed(folder) for folder in {folder for folder, _ in places}}
    strangers = [place for place in places if place[1] not in known[place[0]]]
    found = _found(strangers, cache) if strangers else {}
    return [Listed(folder, found.get((folder, file)) or known[folder][file]) for folder, file in places]


def absence(path: str) -> str | None:
    """One line if a pattern names nothing, or local shards that are not there; nothing is fetched. None if it does.

    Raises:
        DataError: a folder cannot be listed.
    """
    names = _names(path)
    gone = next((n for n in names if "://" not in n and "::" not in n and not os.path.exists(n)), None)
    return _unmatched(path) if not names else None if gone is None else f"{gone} is not there"


def _names(path: str) -> list[str]:
    """The shards that a pattern names, in its order."""
    return [name for pattern in _expanded(locate(path)) for name in _matching(pattern)]


def _unmatched(path: str) -> str:
    place = locate(path)
    return f"no shards match '{path}'" + (f", which is {place}" if place != path else "")


def _expanded(path: str) -> list[str]:
    # A local path may hold braces of its own.
    if os.path.exists(path):
        return [path]
    try:
        return list(braceexpand(path))
    except ValueError as error:
        raise DataError(f"'{path}': {error}") from error


def _matching(pattern: str) -> list[str]:
    folder, file = split_url(pattern)
    if not glob.has_magic(file.partition("?")[0] if pattern.startswith(WEB) else pattern) or os.path.exists(pattern):
        return [pattern]
    fs, root = open_folder(folder)
    with reaching(folder, "listed"):
        names = sorted(str(name) for name in fs.glob(f"{root}/{file}"))
    return [name if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(name)) for name in names]


def _indexed(folder: str) -> dict[str, Shard]:
    """The shards that an index beside them knows, by file."""
    try:
        splits = ShardIndex.read(folder).splits.values() if has_index(folder) else ()
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, PermissionError) or (cause and remote.status_of(cause) in CLOSED):
            return {}
        raise
    return {shard.file: shard for split in splits for shard in split.shards}


def _found(places: list[tuple[str, str]], cache: Cache) -> dict[tuple[str, str], Shard]:
    """What an index would say of shards that have none."""
    states: dict[tuple[str, str], str] = {}
    for folder in {folder for folder, _ in places}:
        states |= _states(folder, [file for home, file in places if home == folder])

    def search(place: tuple[str, str]) -> Shard:
        key = repr((place, states[place]))
        with contextlib.suppress(ValueError, TypeError):
            if (stored := cache.recall(key)) and (known := Shard(**json.loads(stored))).file == place[1]:
                return known
        shard = cache.find(*place)
        cache.keep(key, json.dumps(dataclasses.asdict(shard)))
        return shard

    with ThreadPoolExecutor(FETCHES) as pool:
        return dict(zip(places, pool.map(search, places), strict=True))


def _states(folder: str, files: list[str]) -> dict[tuple[str, str], str]:
    """Of each file what changes when it does, asked for one by one where a listing tells too little."""
    fs, root = open_folder(folder)
    with contextlib.suppress(Exception):
        fs.invalidate_cache(root)
    entries: dict[str, Mapping[str, Any]] = {}
    try:
        entries = {str(entry["name"]).rpartition("/")[2]: entry for entry in fs.ls(root, detail=True)}
    except Exception as error:  # many servers have no listing
        if isinstance(fs, LocalFileSystem):
            raise DataError(f"{folder} cannot be listed: {remote.reason(error)}") from error

    def state(file: str) -> tuple[tuple[str, str], str]:
        entry = entries.get(file)
        if entry is None and isinstance(fs, LocalFileSystem):
            raise DataError(f"{folder}/{file} is not there")
        if entry is None or remote.state(entry) is None:
            with contextlib.suppress(Exception):  # whether it is there, fetching says
                entry = fs.info(f"{root}/{file}")
        known = remote.told(entry or {})
        return (folder, file), repr(known) if known else uuid.uuid4().hex  # never the same: searched again

    with ThreadPoolExecutor(FETCHES) as pool:
        return dict(pool.map(state, files))

"""From a path to shards: data sets with an index, or patterns of tar files."""

import dataclasses
import glob
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from braceexpand import braceexpand
from fsspec.implementations.local import LocalFileSystem

from realuid.data.cache import Cache
from realuid.data.index import Shard, ShardIndex, has_index
from realuid.data.location import locate, open_folder
from realuid.errors import DataError

__all__ = ["Listed", "is_pattern", "listed"]

TAR = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
FETCHES = 4


@dataclasses.dataclass(frozen=True)
class Listed:
    """A shard and the folder in which it lies."""

    folder: str
    shard: Shard


def is_pattern(path: str) -> bool:
    """Whether a path names tar files rather than a data set's folder."""
    return bool(TAR.search(path))


def listed(path: str, cache: Cache) -> list[Listed]:
    """The shards that a pattern names, in its order: `{a..b}` and `{a,b}` are expanded, then `*`, `?` and `[...]`.

    A shard that the index of its folder knows is checked against it. Others are fetched and searched once; what was
    found is kept in the cache.

    Raises:
        DataError: nothing matches, a shard comes twice, or one cannot be read.
    """
    names = [name for pattern in _expanded(locate(path)) for name in _matching(pattern)]
    if not names:
        raise DataError(f"no shards match '{path}'")
    if twice := {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set():
        raise DataError(f"'{path}' names {sorted(twice)[0]} twice")
    known: dict[str, dict[str, Shard]] = {}
    places = [tuple(name.rsplit("/", 1)) for name in names]
    for folder in {folder for folder, _ in places}:
        index = ShardIndex.read(folder).splits.values() if has_index(folder) else ()
        known[folder] = {shard.file: shard for split in index for shard in split.shards}
    strangers = [place for place in places if place[1] not in known[place[0]]]
    found = _found(strangers, cache) if strangers else {}
    return [Listed(folder, found.get((folder, file)) or known[folder][file]) for folder, file in places]


def _expanded(path: str) -> list[str]:
    # A local path may hold braces of its own.
    if os.path.exists(path):
        return [path]
    try:
        return list(braceexpand(path))
    except ValueError as error:
        raise DataError(f"'{path}': {error}") from error


def _matching(pattern: str) -> list[str]:
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return [pattern]
    folder, _, file = pattern.rpartition("/")
    fs, root = open_folder(folder)
    names = sorted(str(name) for name in fs.glob(f"{root}/{file}"))
    return [name if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(name)) for name in names]


def _found(places: list[Any], cache: Cache) -> dict[Any, Shard]:
    """What an index would say of shards that have none."""
    states = {folder: _states(folder) for folder in {folder for folder, _ in places}}
    for folder, file in places:
        if file not in states[folder]:
            raise DataError(f"{folder}/{file} is not there")
    key = repr([(place, states[place[0]][place[1]]) for place in places])
    if stored := cache.recall(key):
        return {place: Shard(**record) for place, record in zip(places, json.loads(stored), strict=True)}
    with ThreadPoolExecutor(FETCHES) as pool:
        shards = list(pool.map(lambda place: cache.find(*place), places))
    cache.keep(key, json.dumps([dataclasses.asdict(shard) for shard in shards]))
    return dict(zip(places, shards, strict=True))


def _states(folder: str) -> dict[str, str]:
    """Of each file in a folder what one listing tells: another size, time or tag is another file."""
    fs, root = open_folder(folder)
    try:
        entries = fs.ls(root, detail=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder} is not there") from error
    telling = ("size", "mtime", "created", "ETag", "etag", "LastModified", "last_modified", "md5Hash", "generation")
    return {
        str(entry["name"]).rsplit("/", 1)[-1]: repr([str(entry[name]) for name in telling if name in entry])
        for entry in entries
    }

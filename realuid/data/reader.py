"""One shard to samples: webdataset walks the tar, and nothing it would pass over in silence gets by here.

webdataset reads a shard that was cut between members as a shorter shard, splits keys at their first dot, and drops
members that it cannot name. A training run would never notice, so every such case is a `DataError` here.
"""

import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from realuid.data.decode import IMAGE_KINDS, DamagedSample, Form, Sample, decode
from realuid.data.index import Shard, Tally
from realuid.data.location import open_folder
from realuid.errors import DataError

__all__ = ["check_name", "read_shard"]


def read_shard(folder: str, shard: Shard, form: Form) -> Iterator[Sample]:
    """The samples of one shard, a `.tar` or `.tar.gz` in `folder` (any fsspec URL), in their order.

    A sample is one image member (png, jpg, jpeg, webp, or npy holding an array [C, H, W]; in a pair `target.png`, ...
    beside `source.png`, ...) and, if the set has classes, one `cls` member, the label in ASCII digits. Members of other
    kinds are passed over. The shard's checksum is compared at the end, so only an exhausted iterator vouches for it.

    Raises:
        DataError: the shard or a sample is not what the index says; the message names the shard, and the key if any.
    """
    fs, root = open_folder(folder)
    place = f"{folder}/{shard.file}"
    try:
        file = fs.open(f"{root}/{shard.file}", "rb")
    except OSError as error:
        raise DataError(f"{place} is in the index but cannot be opened: {error}") from error
    count = 0
    with file:
        tally = Tally(file)
        for members in _samples(place, tally):
            if count == shard.samples:
                raise DataError(f"{place}, sample {members['__key__']}: the index counts only {count} samples")
            yield decode(f"{place}, sample {members['__key__']}", members, form)
            count += 1
        if count < shard.samples:
            raise DataError(f"{place} holds {count} samples, the index says {shard.samples}: is it cut short?")
        while tally.read(1 << 20):
            pass
    if (tally.bytes, tally.sha256) != (shard.bytes, shard.sha256):
        raise DataError(
            f"{place} has {tally.bytes} bytes and sha256 {tally.sha256[:12]}, "
            f"the index says {shard.bytes} and {shard.sha256[:12]}: the shard was changed or cut"
        )


def _samples(place: str, stream: Tally) -> Iterator[dict[str, Any]]:
    """The shard's members by key: {"__key__": key, kind: bytes, ...}."""
    try:
        yield from group_by_keys(_members(place, stream))
    except ValueError as error:
        raise DataError(f"{place}, member {error.args[0]}") from error  # a member that comes twice


def _members(place: str, stream: Tally) -> Iterator[dict[str, Any]]:
    """webdataset's members of one tar, with checked names."""
    last = "its start"
    try:
        for member in tar_file_expander([{"url": place, "stream": stream}]):
            if member:  # an empty one marks the end of the shard
                last = member["fname"]
                check_name(place, last)
            yield member
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        # webdataset appends objects to the arguments; the first one holds the reason.
        reason = getattr(error, "strerror", None) or str(error.args[0]).split(" @ ")[0]
        raise DataError(f"{place} is damaged after {last}: {reason}") from error


def check_name(place: str, name: str) -> tuple[str, str]:
    """Key and kind of a member called `name`.

    Raises:
        DamagedSample: the name is none, or has a dot too many: webdataset would split it at the first one.
    """
    key, kind = base_plus_ext(name)
    if key is None:
        raise DamagedSample(f"{place}, member {name}: expected a name like KEY.png or KEY.cls", "name")
    kind = kind.lower()
    role, _, form = kind.rpartition(".")
    if role and not (role in ("source", "target") and form in IMAGE_KINDS):
        raise DamagedSample(
            f"{place}, member {name}: a dot in the key (it would be read as key {key}, kind {kind})", "name"
        )
    return key, kind

"""The members of a tar, with all that tar files may be: concatenated, with links, sparse."""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from realuid.utils import archives, budget

__all__ = ["Member", "SparseMembers", "Tar", "expand", "nature", "walk"]

PIECE = 1 << 20
HOPS = 8
"""Links that lead to each other."""
JUNK = re.compile(r"(.*/)?(\._[^/]*|\.DS_Store)$|(.*/)?(\.[^./][^/]*|@eaDir|__MACOSX)/|__[^/]*__($|/)")
"""Files that macOS puts into archives, those in hidden folders, and those that WebDataset keeps for itself."""
NATURES = {
    b"version https://git-lfs": "a Git LFS pointer: `git lfs pull` fetches the file itself",
    b"<": "a web page",
    b"\x1f\x8b": "compressed by gzip: it is to be called .tar.gz",
    b"BZh": "compressed by bzip2, which is not read",
    b"\xfd7zXZ": "compressed by xz, which is not read",
    b"\x28\xb5\x2f\xfd": "compressed by zstd, which is not read",
    b"PK": "a zip",
}


class SparseMembers(Exception):
    """A tar holds members that do not lie in one piece."""


class Member(NamedTuple):
    """A file in a tar: where its bytes lie; `fault` says why there are none."""

    name: str
    offset: int
    size: int
    fault: str | None = None


class Tar(NamedTuple):
    """What a tar holds. `broken` says why it is not whole; None if it ends as tars do."""

    members: list[Member]
    broken: str | None


def walk(file: BinaryIO) -> Tar:
    """The regular files of a tar, up to where it breaks off, links among them as the files that they lead to.

    Several tars one after the other (`cat a.tar b.tar`) are all read.

    Raises:
        SparseMembers: some of the files have holes: `expand` the tar first.
    """
    found: list[tuple[Member, str | None]] = []
    start: int | None = 0
    broken: str | None = None
    while start is not None and broken is None:
        file.seek(start)
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=archives.Member) as tar:
                for info in tar:
                    tar.members = []  # type: ignore[attr-defined]  # otherwise all of them are kept
                    if info.issparse():
                        raise SparseMembers
                    if (info.isreg() or info.islnk() or info.issym()) and not JUNK.match(info.name):
                        found.append((Member(info.name, info.offset_data, info.size), _target(info)))
                start, broken = _next(file, tar.offset)
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            broken = str(error) if start == 0 else "what follows its end is no tar"
    return Tar(_resolved(found), broken)


def _target(info: tarfile.TarInfo) -> str | None:
    """The name that a link leads to; None for a file."""
    if info.islnk():
        return posixpath.normpath(info.linkname)
    return posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname)) if info.issym() else None


def _resolved(found: list[tuple[Member, str | None]]) -> list[Member]:
    """The members, links among them as the files that they lead to."""
    links = any(target is not None for _, target in found)
    known = {posixpath.normpath(member.name): (member, target) for member, target in found} if links else {}
    members = []
    for member, target in found:
        here = member
        for _ in range(HOPS):
            if target is None or target not in known:
                break
            here, target = known[target]
        fault = None if target is None else f"it is a link to {target}, which is not in the tar"
        members.append(member._replace(offset=here.offset, size=here.size, fault=fault))
    return members


def _next(file: BinaryIO, end: int) -> tuple[int | None, str | None]:
    """Where another tar begins after the one whose last block is at `end`, or what is missing there."""
    if os.pread(file.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
        return None, "there is no end of a tar"
    while piece := os.pread(file.fileno(), PIECE, end):
        if rest := piece.lstrip(b"\0"):
            return end + (len(piece) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE, None
        end += len(piece)
    return None, None


def expand(path: str | Path, dest: Path) -> None:
    """Writes a tar anew, its sparse members (of `tar -S`) with their holes filled.

    Raises:
        ValueError: it would become far larger than it is (`budget.py`).
    """
    size = os.path.getsize(path)
    written = 0
    with open(path, "rb") as file, tarfile.open(dest, "w", format=tarfile.PAX_FORMAT) as out:
        start: int | None = 0
        while start is not None:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:", tarinfo=archives.Member) as tar:
                for info in tar:
                    written += info.size
                    budget.spend(written, size, "the tar")
                    content: IO[bytes] | None = tar.extractfile(info) if info.isreg() else None
                    copy = tarfile.TarInfo(info.name)
                    copy.type = tarfile.REGTYPE if info.isreg() else info.type
                    copy.size, copy.linkname = info.size if content else 0, info.linkname
                    out.addfile(copy, content)
                start, _ = _next(file, tar.offset)


def nature(path: str | Path) -> str:
    """In a few words what a file is that is no tar; empty if nobody knows."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip()
    if not head.strip(b"\0"):
        return "empty"
    return next((words for start, words in NATURES.items() if head.startswith(start)), "")

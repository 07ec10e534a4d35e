"""Archives unpacked no further than their own size allows (`budget.py`)."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from typing import IO, Any, BinaryIO

from realuid.utils import budget

PIECE = 1 << 20
HEADER = 1 << 16
"""Bytes of an extra header in a tar."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Others keep gigabytes of what they have unpacked in memory, if an archive says so."""
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def opened_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """A zip, whose members together become no more than its size allows.

    Raises:
        ValueError: if it is damaged, a bomb, encrypted, or packed in an unusual way; one line.
    """
    size = budget.length(file)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError(f"it is no readable zip: {error}") from None
    budget.spend(sum(info.file_size for info in archive.infolist()), size, "it")
    for info in archive.infolist():
        if info.compress_type not in METHODS or info.flag_bits & 1:
            raise ValueError(f"its member {info.filename} is encrypted, or packed in an unusual way")
    return archive


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo | str) -> bytes:
    """The bytes of a member, as many as the archive says. Raises ValueError if it is damaged, KeyError if missing."""
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(str(error)) from None


class Measured(io.RawIOBase):
    """What a packed stream becomes; reading ends in an error once that is more than what was read of it may become.

    Args:
        stream: unpacks `packed`.
        packed: the file; its `tell()` says how much was read.
    """

    def __init__(self, stream: Any, packed: Any) -> None:
        self._stream, self._packed, self._given = stream, packed, 0

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        most = budget.FREE if count is None or count < 0 else count
        piece = self._stream.read(most)
        self._given += len(piece)
        budget.spend(self._given, self._packed.tell(), "it")
        return piece

    def readinto(self, buffer: Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def gunzipped(file: BinaryIO) -> io.BufferedReader:
    """What a gzip file unpacks to, as a stream. Reading it raises ValueError for a bomb, and gzip's errors for damage
    (EOFError, zlib.error, gzip.BadGzipFile)."""
    return io.BufferedReader(Measured(gzip.GzipFile(fileobj=file), file), PIECE)


class Member(tarfile.TarInfo):
    """A member of a tar whose extra headers (long names, pax records), which are read whole, are short."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:  # what CPython's source names for subclasses to override
        if self.type in EXTRA and self.size > HEADER:
            raise tarfile.ReadError(f"a header of {budget.written(self.size)}")
        return super()._proc_member(archive)  # type: ignore[misc]


EXTRA = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def unpacked(stream: Any) -> IO[bytes]:
    """A stream of bytes, what is gzip in it unpacked; it can only be read. Reading raises ValueError for a bomb.

    Args:
        stream: has `read(count)`, from its beginning.

    Raises:
        OSError: if it is compressed in another way, or twice.
    """
    counted = _Readable(stream)
    plain: io.BufferedReader[Any] = io.BufferedReader(counted, PIECE)
    if packing(plain.peek(8)) == "gzip":
        plain = io.BufferedReader(Measured(gzip.GzipFile(fileobj=plain), counted), PIECE)
    if (how := packing(plain.peek(8))) is not None:
        raise OSError(f"it is compressed by {how}; unpack it first")
    return plain


class _Readable(io.RawIOBase):
    """Anything that has `read`, as a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._given = stream, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._given

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        self._given += len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


def packing(start: bytes) -> str | None:
    """How a file that begins like this is compressed; None if it is not."""
    return next((name for magic, name in PACKED.items() if start.startswith(magic)), None)

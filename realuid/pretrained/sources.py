"""Files of any place that fsspec reaches, copied to this machine once, and again when they were replaced there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import zipfile
from pathlib import Path, PurePosixPath

import fsspec
from loguru import logger

from realuid.utils import remote
from realuid.utils.atomic import write_atomically
from realuid.utils.cache_folder import cache_folder
from realuid.utils.checksums import PIECE, sha256_of_file
from realuid.utils.errors import CheckpointError

TORCH = b"\x80\x02\x8a\x0a"
"""Beginning of the files that torch.save wrote once; they are followed by the tensors' bytes."""
NAME = 100
"""Characters that a copy keeps of its name: signed web addresses have hundreds."""


def local(url: str, sha256: str | None = None, *, fixed: bool = False) -> Path:
    """The file on this machine: itself, or its copy in `cache_folder()`, fetched if it is not there yet.

    A copy is fetched again if it ends early, if it has another checksum than the pinned one, or, without a checksum, if
    its storage tells that the file has been replaced since. What was fetched is not kept if it is no better.

    Args:
        url: path or URL of a file.
        sha256: of its content, hexadecimal.
        fixed: what lies at this URL cannot be replaced.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it cannot be fetched, ends early, or has another checksum.
    """
    if "://" not in url and "::" not in url:
        path = Path(url)
        if not path.is_file():
            raise FileNotFoundError(url)
        if (wrong := _wrong(path, sha256)) is not None:
            raise CheckpointError(f"{url} {wrong}")
        return path
    copy = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / _name(url)
    update(copy, url, sha256, None if fixed or sha256 is not None else remote.state_of(url))
    return copy


def update(copy: Path, url: str, sha256: str | None = None, state: str | None = None) -> None:
    """Makes `copy` the copy of a file: fetches it unless it is there already, whole and not replaced since.

    Args:
        copy: where it is to lie.
        url: of the file.
        sha256: of its content, hexadecimal.
        state: what its storage tells of it now (`remote.state_of`); None to trust a copy that is whole.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it cannot be fetched or written, ends early, or has another checksum.
    """
    note = copy.with_name(f".{copy.name}.state")
    if copy.is_file():
        wrong = _wrong(copy, sha256, copy.name)
        if wrong is None and (state is None or state == _read(note)):
            return
        logger.warning("{}, the copy of {}, {}: it is fetched again", copy, url, wrong or "may be older than the file")
    try:
        write_atomically(copy, lambda part: fetch(url, part, sha256))
        if state is not None:  # written last: without it the copy counts as older
            write_atomically(note, lambda part: part.write_text(state, encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise CheckpointError(f"{copy}, the copy of {url}, cannot be written: {remote.reason(error)}") from None


def _read(note: Path) -> str | None:
    try:
        return note.read_text(encoding="utf-8")
    except OSError:
        return None


def is_folder(url: str) -> bool:
    """Whether a path or URL is that of a folder; False where its storage cannot tell."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        return bool(fs.isdir(path))
    except Exception:  # file systems raise kinds of their own; what is wrong, reading will say
        return False


def _name(url: str) -> str:
    name = PurePosixPath(url.partition("?")[0].rstrip("/")).name
    return name[-NAME:] or "file"


def fetch(url: str, part: Path, sha256: str | None = None) -> None:
    """Copies a file to `part`, twice if it ends early or has another checksum.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it cannot be fetched, ends early, or has another checksum.
    """
    wrong = None
    for _ in range(2):
        try:
            with fsspec.open(url, "rb") as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, PIECE)
        except FileNotFoundError as error:
            if not remote.is_missing(error):
                raise CheckpointError(f"cannot fetch {url}: {remote.reason(error)}") from None
            with contextlib.suppress(OSError):
                part.parent.rmdir()  # no empty folder is left of what there is not
            raise
        except Exception as error:  # file systems raise kinds of their own
            if isinstance(error, OSError) and error.errno in remote.FULL:
                raise
            raise CheckpointError(f"cannot fetch {url}: {remote.reason(error)}") from None
        if (wrong := _wrong(part, sha256, _name(url))) is None:
            return
    raise CheckpointError(f"{url} {wrong}; it was fetched twice and is not kept")


def _wrong(path: Path, sha256: str | None, name: str | None = None) -> str | None:
    """What keeps a file from being what was asked for; of a copy, whose `name` is given, also that it ends early."""
    if sha256 is not None and (found := sha256_of_file(path)) != sha256.lower():
        return f"has the sha256 {found}, not {sha256.lower()}"
    return "ends early" if name is not None and ends_early(path, name) else None


def ends_early(path: Path, name: str) -> bool:
    """Whether a file is the beginning of a zip (as torch.save writes), of a pickle, or of safetensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head.startswith(b"PK\x03\x04"):
            return not zipfile.is_zipfile(file)
        if name.endswith(".safetensors"):
            length = int.from_bytes(head, "little")
            if len(head) < 8 or 8 + length > size:
                return True
            try:
                parts = json.loads(file.read(length)).values()
                ends = [part["data_offsets"][1] for part in parts if "data_offsets" in part]
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                return False  # something else is wrong with it, which its reader says
            return bool(ends) and 8 + length + max(ends) > size
        if head.startswith(b"\x80") and not head.startswith(TORCH):
            file.seek(-1, 2)
            return file.read(1) != b"."
    return size == 0

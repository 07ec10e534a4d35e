"""Files of any place that fsspec reaches, copied once to this machine, their checksum pinned where given."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import fsspec

from realuid.atomic import write_atomically
from realuid.errors import CheckpointError


def local(url: str, sha256: str | None = None) -> Path:
    """The file on this machine: itself, or its copy in `REALUID_CACHE` (an environment variable; unset or empty, it is
    ~/.cache/realuid), fetched if it is not there yet.

    Args:
        url: path or URL of a file.
        sha256: of its content, hexadecimal.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it cannot be fetched, or has another checksum.
    """
    if "://" not in url and "::" not in url:
        path = Path(url)
        if not path.is_file():
            raise FileNotFoundError(url)
    else:
        path = _cache() / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rstrip("/").rpartition("/")[2]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda part: _fetch(url, part))
    if sha256 is not None and (found := _digest(path)) != sha256.lower():
        where = f" (its copy is {path})" if str(path) != url else ""
        raise CheckpointError(f"{url} has the sha256 {found}, not {sha256.lower()}{where}")
    return path


def is_folder(url: str) -> bool:
    """Whether a path or URL is that of a folder; False where its storage cannot tell."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        return bool(fs.isdir(path))
    except (OSError, ValueError, ImportError, NotImplementedError):
        return False


def _cache() -> Path:
    return Path(os.environ.get("REALUID_CACHE") or Path.home() / ".cache" / "realuid")


def _fetch(url: str, part: Path) -> None:
    try:
        with fsspec.open(url, "rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"cannot fetch {url}: {error}") from None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

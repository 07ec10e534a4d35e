"""sha256 of files."""

import hashlib
from pathlib import Path
from typing import Any

PIECE = 1 << 20


def sha256_of(file: Any) -> str:
    """sha256 in hexadecimal of what is left to read of a binary file."""
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """sha256 in hexadecimal of a local file."""
    with open(path, "rb") as file:
        return sha256_of(file)

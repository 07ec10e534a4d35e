"""One set in several formats, as shards and as loose files, on the local disk and on an S3 server of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realuid.conditions import Field
from realuid.data.preparation.conversion import convert
from realuid.data.preparation.prepare import Preparation
from realuid.data.shards.index import ShardIndex
from realuid.data.sources import Raw, Source
from realuid.utils.errors import RunError

SIDE, SHARDS, CLASSES = 64, 4, 10
TOKENS = (16, 64)
TEXT = Field("text", TOKENS, "float16")
FORMATS = ("png", "jpg", "npy", "latents")
"""Images of 64x64 pixels in three formats; latents [4, 16, 16] in float16 with embeddings [16, 64] beside them."""


@dataclass(frozen=True)
class Stored:
    """A set in one format at one place."""

    format: str
    url: str
    """Of a folder with `shards/` and `files/`."""
    count: int

    @property
    def shards(self) -> list[str]:
        index = ShardIndex.read(f"{self.url}/shards")
        return [f"{self.url}/shards/{shard.file}" for shard in index.splits["train"].shards]

    @property
    def files(self) -> list[str]:
        """One for each sample, in the order of storage; embeddings lie beside them."""
        return [f"{self.url}/files/{number:06d}.{kind(self.format)}" for number in range(self.count)]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (4, SIDE // 4, SIDE // 4) if self.format == "latents" else (3, SIDE, SIDE)

    @property
    def conditions(self) -> tuple[Field, ...]:
        return (TEXT,) if self.format == "latents" else ()


def kind(form: str) -> str:
    """The ending of a file in this format."""
    return "npy" if form == "latents" else form


class Made(Source):
    """Smoothed noise, or noise in place of latents and embeddings."""

    classes = tuple(str(number) for number in range(CLASSES))

    def __init__(self, form: str, count: int) -> None:
        self.form, self.count = form, count
        self.conditions = (TEXT,) if form == "latents" else ()

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        return f"{self.form} {self.count}"

    def members(self, number: int) -> tuple[bytes, Mapping[str, bytes]]:
        """The file of a sample, and what lies beside it."""
        rng = np.random.default_rng(number)
        if self.form == "latents":
            latents = rng.standard_normal((4, SIDE // 4, SIDE // 4)).astype(np.float16)
            return _npy(latents), {"text.npy": _npy(rng.standard_normal(TOKENS).astype(np.float16))}
        small = rng.normal(128, 50, (SIDE // 4, SIDE // 4, 3)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        if self.form == "npy":
            return _npy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))), {}
        file = io.BytesIO()
        image.save(file, "jpeg" if self.form == "jpg" else "png", quality=85)
        return file.getvalue(), {}

    def read(self, number: int) -> Raw:
        file, extras = self.members(number)
        return Raw(f"sample {number}", (kind(self.form), file), number % CLASSES, extras=extras)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def stored(form: str, url: str, count: int) -> Stored:
    """Makes the set at a place, shards and loose files."""
    source, made = Made(form, count), Stored(form, f"{url}/{form}", count)
    about: dict[str, Any] = {"name": form, "source": "a generator", "licence": "none", "workers": 0, "shuffle": None}
    convert({"train": source}, f"{made.url}/shards", preparation=Preparation(), shard_size=-(-count // SHARDS), **about)
    fs, _ = fsspec.core.url_to_fs(made.url)
    fs.makedirs(fs._strip_protocol(f"{made.url}/files"), exist_ok=True)
    for number, place in enumerate(made.files):
        file, extras = source.members(number)
        for name, content in {place: file, **{f"{place.removesuffix('npy')}{k}": v for k, v in extras.items()}}.items():
            fs.pipe_file(fs._strip_protocol(name), content)
    return made


def forget(folder: Path) -> None:
    """Has the kernel drop what it keeps of the files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what is not written yet cannot be dropped
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """A bucket's URL on a server in a process of its own (moto).

    Raises:
        RunError: if moto or s3fs are not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("moto", "s3fs", "flask")):
        raise RunError('reading from S3 needs `pip install "realuid[test]"`: or choose --places local')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", f"from moto.server import main; main(['-p', '{port}', '-H', '127.0.0.1'])"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    where |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    try:
        with patch.dict(os.environ, where):
            _await(port, server)
            fsspec.filesystem("s3").mkdir("reading")
            yield "s3://reading"
    finally:
        server.kill()
        server.wait()


def _await(port: int, server: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RunError("the S3 server did not start")

"""Small data sets in a temporary folder."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realuid.data.shards.writer import NewSample, write_shards


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of shards for each test."""
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., str]:
    """Writes one shard and an index that is right about its bytes, and says of its samples what it is told."""

    def pack(shard: bytes, samples: int, file: str = "train-000000.tar", **fields: object) -> str:
        folder = tmp_path / "set"
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes(shard)
        entry = {"file": file, "samples": samples, "bytes": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}
        record = {"name": "set", "image_size": 4, "channels": 1, "classes": ["even", "odd"]} | fields
        record["splits"] = {"train": {"samples": samples, "shards": [entry]}}
        (folder / "index.json").write_text(json.dumps(record))
        return str(folder)

    return pack


@pytest.fixture
def numbered(tmp_path: Path) -> Callable[..., str]:
    """Writes a set of up to 256 grey 2x2 images, image i of level i and label i % 3."""

    def numbered(count: int, shard_size: int = 100) -> str:
        dest = str(tmp_path / f"numbered-{count}")
        samples = [NewSample(np.full((1, 2, 2), i, np.uint8), i % 3) for i in range(count)]
        about = {"name": "numbered", "classes": "abc", "shape": (1, 2, 2), "source": "-", "licence": "-"}
        write_shards(samples, dest, split="train", shard_size=shard_size, **about)
        return dest

    return numbered

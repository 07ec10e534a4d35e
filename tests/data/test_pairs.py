"""Paired sources: x0 belongs to its x1, or is independent of it."""

import hashlib
import json

import numpy as np
import pytest
import torch

from realuid.conditions import LABEL
from realuid.data.degradations import Grey
from realuid.data.memory import InMemory
from realuid.data.pairs import Degraded, Unpaired
from realuid.utils.errors import DataError
from tests.data.handmade import encode, tar

CPU = torch.device("cpu")


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def members(count, source=True, name="target.png"):
    """Pairs of grey 4x4 images: level i, and its source of level 255 - i."""
    made = []
    for i in range(count):
        made.append((f"{i:03d}.{name}", encode(np.full((4, 4), i, np.uint8))))
        if source:
            made.append((f"{i:03d}.source.png", encode(np.full((4, 4), 255 - i, np.uint8))))
    return made


@pytest.mark.parametrize("name", ["target.png", "png"])
def test_pairs_in_a_set(pack, name):
    data = InMemory(path=pack(tar(members(20, name=name)), 20, classes=[]), shape=(1, 4, 4), pairs=True)
    assert data.has_sources
    data.open(seed=0, device=CPU)
    for batch in (data.batch(13, 17), data.examples(13, 17)):
        assert torch.equal(batch.images, 255 - batch.sources)


def test_one_half_of_the_pairs(pack):
    data = InMemory(path=pack(tar(members(20)), 20, classes=[]), shape=(1, 4, 4))
    data.open(seed=0, device=CPU)
    assert data.batch(0, 20).sources is None
    assert sorted(numbers(data.batch(0, 20).images)) == list(range(20))


def test_a_pair_without_source(pack):
    folder = pack(tar([*members(3), *[("004.target.png", members(5)[8][1])]]), 4, classes=[])
    data = InMemory(path=folder, shape=(1, 4, 4), pairs=True)
    with pytest.raises(DataError, match=r"sample 004: expected one source image member \(source.png, .*found none"):
        data.open(seed=0, device=CPU)


def test_two_images(pack):
    folder = pack(tar([("a.png", b""), ("a.target.png", b"")]), 1, classes=[])
    with pytest.raises(DataError, match=r"sample a: expected one image member .*found png, target.png"):
        InMemory(path=folder, shape=(1, 4, 4)).open(seed=0, device=CPU)


def test_degraded(numbered):
    data = InMemory(path=numbered(30), shape=(1, 2, 2), classes=3)

    class Negative(Grey):
        def __call__(self, images):
            return 255 - images

    pairs = Degraded(data=data, degradation=Negative())
    assert (pairs.has_sources, data.has_sources) == (True, False)
    pairs.open(seed=3, device=CPU)
    for mine, bare in ((pairs.batch(25, 10), data.batch(25, 10)), (pairs.examples(25, 10), data.examples(25, 10))):
        assert torch.equal(mine.images, bare.images)
        assert torch.equal(mine.condition[LABEL], bare.condition[LABEL])
        assert torch.equal(mine.sources, 255 - bare.images)
    assert (len(pairs), pairs.checksum) == (30, data.checksum)
    assert torch.equal(pairs.label_counts, data.label_counts)


def test_unpaired(numbered):
    data = InMemory(path=numbered(30), shape=(1, 2, 2), classes=3)
    source = InMemory(path=numbered(40), shape=(1, 2, 2))
    pairs = Unpaired(data=data, source=source)
    pairs.open(seed=3, device=CPU)
    epochs = pairs.batch(0, 120)
    assert sorted(numbers(epochs.images)) == sorted(list(range(30)) * 4)
    assert sorted(numbers(epochs.sources)) == sorted(list(range(40)) * 3)
    assert torch.equal(epochs.condition[LABEL], epochs.images[:, 0, 0, 0].long() % 3)
    # Independent: no image keeps its partner, and equal sets are not paired with themselves.
    partners = {(x1, x0) for x1, x0 in zip(numbers(epochs.images), numbers(epochs.sources), strict=True)}
    assert len(partners) > 100
    twin = Unpaired(data=InMemory(path=data.path, shape=(1, 2, 2)), source=InMemory(path=data.path, shape=(1, 2, 2)))
    twin.open(seed=3, device=CPU)
    given = twin.batch(0, 30)
    assert sum(a == b for a, b in zip(numbers(given.images), numbers(given.sources), strict=True)) < 8
    assert numbers(pairs.examples(28, 4).images) == [28, 29, 0, 1]
    assert numbers(pairs.examples(28, 4).sources) == [28, 29, 30, 31]


def test_unpaired_shapes(numbered, pack):
    with pytest.raises(ValueError, match=r"equal shapes, got \(1, 2, 2\) from sources \(1, 4, 4\)"):
        Unpaired(data=InMemory(path="a", shape=(1, 2, 2)), source=InMemory(path="b", shape=(1, 4, 4)))


def test_missing_names_either(numbered, monkeypatch, tmp_path):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path))
    here, gone = InMemory(path=numbered(5), shape=(1, 2, 2)), InMemory(path="gone", shape=(1, 2, 2))
    assert Unpaired(data=here, source=here).missing() is None
    assert "gone" in Unpaired(data=here, source=gone).missing()
    assert "gone" in Unpaired(data=gone, source=here).missing()
    assert "gone" in Degraded(data=gone, degradation=Grey()).missing()


def test_indices_of_others(tmp_path):
    """Shapes of index.json found with published sets: lists for splits, one split at the top, no channels."""
    shard = tar(members(4))
    entry = {"file": "a.tar", "samples": 4, "bytes": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}
    (tmp_path / "a.tar").write_bytes(shard)
    for record in (
        {"splits": {"val": [entry]}, "source": {"repo": "r", "commit": "c"}},
        {"split": "val", "samples": 4, "shards": [entry], "class_names": []},
    ):
        (tmp_path / "index.json").write_text(json.dumps({"name": "set", "image_size": 4} | record))
        data = InMemory(path=str(tmp_path), shape=(1, 4, 4), split="val", pairs=True)
        assert data.missing() is None
        data.open(seed=0, device=CPU)
        assert len(data) == 4
        with pytest.raises(DataError, match="has the splits val"):
            InMemory(path=str(tmp_path), shape=(1, 4, 4)).missing()
        # Grey images serve a set of RGB; the other way would lose colour.
        rgb = InMemory(path=str(tmp_path), shape=(3, 4, 4), split="val")
        rgb.open(seed=0, device=CPU)
        assert rgb.examples(0, 4).images.shape == (4, 3, 4, 4)

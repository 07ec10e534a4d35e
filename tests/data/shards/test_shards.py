"""Written shards read back exactly, wherever they lie, and are the same bytes every time."""

import dataclasses
import gzip
import hashlib
import io
import json
import re
import uuid

import fsspec
import numpy as np
import pytest

from realuid.data.shards.index import INDEX_FILE, ShardIndex, has_index
from realuid.data.shards.reader import read_shard
from realuid.data.shards.writer import NewSample, write_shards
from realuid.utils.errors import DataError
from tests.data.handmade import encode, tar

CLASSES = ("cat", "dog", "owl")


def random_samples(count, channels, size=5, seed=0):
    rng = np.random.default_rng(seed)
    return [
        NewSample(rng.integers(0, 256, (channels, size, size), np.uint8), int(rng.integers(3))) for _ in range(count)
    ]


def write(samples, dest, **changes):
    about = {
        "split": "train",
        "name": "random",
        "classes": CLASSES,
        "shape": (1, 5, 5),
        "source": "a generator",
        "licence": "none",
        "shard_size": 4,
    }
    return write_shards(iter(samples), str(dest), **about | changes)


def read(folder):
    index = ShardIndex.read(str(folder))
    return [sample for shard in index.splits["train"].shards for sample in read_shard(str(folder), shard, index.form())]


def assert_same(read_back, samples):
    assert len(read_back) == len(samples)
    for number, (sample, new) in enumerate(zip(read_back, samples, strict=True)):
        assert sample.key == f"{number:09d}"
        assert sample.label == new.label
        assert sample.image.dtype == np.uint8
        np.testing.assert_array_equal(sample.image, new.image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_round_trip(tmp_path, channels, count):
    samples = random_samples(count, channels)
    index = write(samples, tmp_path / "set", shape=(channels, 5, 5))
    assert ShardIndex.read(str(tmp_path / "set")) == index
    assert_same(read(tmp_path / "set"), samples)
    labels = [sample.label for sample in samples]
    assert index.splits["train"].labels == tuple(labels.count(k) for k in range(3))
    assert [shard.samples for shard in index.splits["train"].shards] == [4] * (count // 4) + [count % 4] * (
        count % 4 > 0
    )


@pytest.mark.parametrize("folder", ["a#b", "a b", "ä%20?", "dots.in.it"])
def test_awkward_folders(tmp_path, folder):
    samples = random_samples(5, 1)
    write(samples, tmp_path / folder)
    assert_same(read(tmp_path / folder), samples)


def test_memory_url():
    url = f"memory://{uuid.uuid4().hex}/set"
    samples = random_samples(9, 3)
    write(samples, url, shape=(3, 5, 5))
    assert_same(read(url), samples)
    fs, root = fsspec.core.url_to_fs(url)
    assert len(fs.ls(root)) == 7  # three shards with their layouts and the index, no temporary files
    fs.rm(root, recursive=True)


def test_gzipped_shards(tmp_path):
    samples = random_samples(9, 3)
    write(samples, tmp_path, shape=(3, 5, 5))
    record = json.loads((tmp_path / INDEX_FILE).read_text())
    for shard in record["splits"]["train"]["shards"]:
        data = gzip.compress((tmp_path / shard["file"]).read_bytes())
        (tmp_path / shard["file"]).unlink()
        shard |= {"file": shard["file"] + ".gz", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (tmp_path / shard["file"]).write_bytes(data)
    (tmp_path / INDEX_FILE).write_text(json.dumps(record))
    assert_same(read(tmp_path), samples)


def test_same_bytes_every_time(tmp_path):
    samples = random_samples(9, 3)
    assert write(samples, tmp_path / "a", shape=(3, 5, 5)) == write(samples, tmp_path / "b", shape=(3, 5, 5))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    for shard in ShardIndex.read(str(tmp_path / "a")).splits["train"].shards:
        data = (tmp_path / "a" / shard.file).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_never_overwrites(tmp_path):
    write(random_samples(3, 1), tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(DataError, match=f"{re.escape(str(tmp_path))} already holds a data set"):
        write(random_samples(5, 1, seed=1), tmp_path)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (NewSample(np.zeros((1, 5, 6), np.uint8)), r"sample 6 is uint8 \(1, 5, 6\), expected uint8 \(1, 5, 5\)"),
        (NewSample(np.zeros((1, 5, 5), np.float32)), "sample 6 is float32"),
        (NewSample(None), "sample 6 is no image, expected uint8"),
        (NewSample(np.zeros((1, 5, 5), np.uint8), 3), "sample 6 has label 3, expected 0 to 2"),
        (NewSample(np.zeros((1, 5, 5), np.uint8), -1), "sample 6 has label -1"),
    ],
)
def test_no_index_without_all_samples(tmp_path, bad, message):
    with pytest.raises(DataError, match=message):
        write([*random_samples(6, 1), bad], tmp_path)
    assert not has_index(str(tmp_path))


def test_no_samples(tmp_path):
    with pytest.raises(DataError, match="no samples"):
        write([], tmp_path)
    assert not has_index(str(tmp_path))


def test_without_classes(tmp_path):
    samples = [NewSample(sample.image) for sample in random_samples(5, 1)]
    index = write(samples, tmp_path, classes=())
    assert index.splits["train"].labels is None
    assert_same(read(tmp_path), samples)


def test_kinds_of_images(pack):
    """Lossless kinds read exactly; grey files serve a set of RGB."""
    rgb = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    grey = rgb[..., 0]
    npy = io.BytesIO()
    np.save(npy, rgb.transpose(2, 0, 1))
    members = [("a.PNG", encode(rgb)), ("b.png", encode(grey)), ("b.txt", b"a note"), ("sub.dir/c.npy", npy.getvalue())]
    samples = read(pack(tar(members), 3, channels=3, classes=[]))
    np.testing.assert_array_equal(samples[0].image, rgb.transpose(2, 0, 1))
    np.testing.assert_array_equal(samples[1].image, np.stack([grey] * 3))
    np.testing.assert_array_equal(samples[2].image, rgb.transpose(2, 0, 1))
    assert [sample.key for sample in samples] == ["a", "b", "sub.dir/c"]


@pytest.mark.parametrize(("suffix", "form"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_lossy_images(pack, suffix, form):
    rgb = np.full((4, 4, 3), 100, np.uint8)
    (sample,) = read(pack(tar([(f"a.{suffix}", encode(rgb, form)), ("a.cls", b"1\n")]), 1, channels=3))
    assert sample.label == 1
    assert np.abs(sample.image.astype(int) - 100).max() <= 2


def test_index_is_checked(tmp_path):
    write(random_samples(9, 1), tmp_path)
    good = json.loads((tmp_path / INDEX_FILE).read_text())

    def complaint(**changes):
        (tmp_path / INDEX_FILE).write_text(json.dumps(good | changes))
        with pytest.raises(DataError) as caught:
            ShardIndex.read(str(tmp_path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    train = good["splits"]["train"]
    assert "image_size is missing or no int" in complaint(image_size="5")
    assert "splits.train.shards is missing or no list" in complaint(splits={"train": {"samples": 9}})
    assert "splits.train.samples is 10, but its shards hold 9" in complaint(splits={"train": train | {"samples": 10}})
    assert "labels must count 9 samples over 3" in complaint(splits={"train": train | {"labels": [9]}})
    assert "splits.train.shards[0].sha256 is missing" in complaint(
        splits={"train": {"samples": 4, "shards": [{"file": "a", "samples": 4, "bytes": 1}]}}
    )
    (tmp_path / INDEX_FILE).write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        ShardIndex.read(str(tmp_path))
    (tmp_path / INDEX_FILE).unlink()
    with pytest.raises(DataError, match="there is no index"):
        ShardIndex.read(str(tmp_path))


def test_index_without_labels(tmp_path):
    """Indices written by others need not count their labels."""
    index = write(random_samples(9, 1), tmp_path / "a")
    bare = {"train": dataclasses.replace(index.splits["train"], labels=None)}
    (tmp_path / "b").mkdir()
    dataclasses.replace(index, splits=bare).write(str(tmp_path / "b"))
    assert "labels" not in (tmp_path / "b" / INDEX_FILE).read_text()
    assert ShardIndex.read(str(tmp_path / "b")).splits == bare

"""Built-in sets: right to the pixel, made when missing, safe to make twice at once."""

import hashlib
import multiprocessing
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from loguru import logger
from sklearn.datasets import load_digits

from realuid.data.builtin.sets import absence, ensure, make
from realuid.data.shards.index import ShardIndex, has_index
from realuid.data.shards.reader import read_shard
from realuid.utils.errors import DataError


@pytest.fixture
def data(monkeypatch, tmp_path):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_digits_are_sklearns(tmp_path):
    dest = str(tmp_path / "digits")
    index = make("digits", dest, shard_size=600)
    assert (index.channels, index.image_size, len(index.classes)) == (1, (8, 8), 10)
    samples = [s for shard in index.splits["train"].shards for s in read_shard(dest, shard, index.form())]
    truth = load_digits()
    levels = np.array([round(v * 255 / 16) for v in range(17)])
    expected = sorted(
        (int(label), levels[image.astype(int)].tobytes())
        for label, image in zip(truth.target, truth.images, strict=True)
    )
    assert sorted((s.label, s.image.astype(levels.dtype).tobytes()) for s in samples) == expected
    assert index.splits["train"].labels == tuple(np.bincount(truth.target))
    # Mixed: each tenth of the set has each class.
    for part in np.array_split([s.label for s in samples], 10):
        assert len(set(part)) == 10


def test_same_bytes_every_time(tmp_path):
    assert make("digits", str(tmp_path / "a")) == make("digits", str(tmp_path / "b"))


def test_ensure_makes_once_and_says_so(data):
    lines = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{message}")
    try:
        assert "is made on first use" in absence("digits")
        assert not data.exists()
        assert ensure("digits") == str(data / "digits")
        assert absence("digits") is None
        assert ensure("digits") == str(data / "digits")
    finally:
        logger.remove(sink)
    assert len(lines) == 1
    assert "digits" in lines[0]
    assert str(data) in lines[0]
    files = ["digits", "index.json", "train-000000.tar", "train-000000.tar.layout"]
    assert sorted(file.name for file in data.rglob("*")) == files


@pytest.mark.parametrize("path", ["digit", "/nowhere/digits", "memory://nowhere/digits", "cifar10"])
def test_ensure_makes_nothing_else(data, path):
    with pytest.raises(DataError) as caught:
        ensure(path)
    message = str(caught.value)
    assert message == absence(path)
    assert path in message
    assert "REALUID_DATA" in message
    assert "(digits, digits-text)" in message
    assert ("did you mean 'digits'?" in message) == (path == "digit")
    assert "\n" not in message
    assert not data.exists()


def test_a_folder_with_other_things_is_left_alone(data):
    (data / "digits").mkdir(parents=True)
    (data / "digits" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        ensure("digits")
    assert [file.name for file in data.rglob("*")] == ["digits", "notes.txt"]


def test_make_into_memory():
    url = f"memory://{uuid.uuid4().hex}/digits"
    index = make("digits", url)
    assert ShardIndex.read(url) == index
    fs, root = fsspec.core.url_to_fs(url)
    fs.rm(root, recursive=True)


def make_at_once(barrier, dests, lag, failures):
    for i, dest in enumerate(dests):
        barrier.wait()
        time.sleep(i * lag)
        try:
            index = make("digits", dest)
            for shard in index.splits["train"].shards:  # whole at once, not only by the time that it is read
                if hashlib.sha256((Path(dest) / shard.file).read_bytes()).hexdigest() != shard.sha256:
                    failures.put(f"{dest}/{shard.file} is not whole")
        except Exception as error:
            failures.put(f"{dest}: {error!r}")


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    """In step, and with one ever later into the work of the other."""
    fork = multiprocessing.get_context("fork")  # starts in no time, where spawn would import everything anew
    barrier, failures = fork.Barrier(2, timeout=60), fork.Queue()
    dests = [str(tmp_path / f"data-{i}" / "digits") for i in range(4)]
    processes = [fork.Process(target=make_at_once, args=(barrier, dests, lag, failures)) for lag in (0, 0.05)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert failures.empty()
    for i, dest in enumerate(dests):
        assert has_index(dest)
        assert [entry.name for entry in (tmp_path / f"data-{i}").iterdir()] == ["digits"]


@pytest.mark.parametrize("path", ["phots", "photo", "data/photo", "./photos2"])
def test_a_set_of_the_users_own_that_is_meant(path, tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "index.json").touch()
    line = absence(path)
    assert line is not None
    assert line.endswith("did you mean 'photos'?")

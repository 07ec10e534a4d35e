"""Fourteen ways in which a plain webdataset pipeline loses or repeats data without a word, each closed.

Where it is cheap, webdataset itself is shown to fall into the trap in the version that is installed: if that ever
changes, the test says so.
"""

import gc
import pickle
import tarfile

import numpy as np
import pytest
import torch
import webdataset

from realuid.data.memory import InMemory
from realuid.data.prefetched import Prefetched
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import encode, grey_members, numbered_members, numbered_set, numbers_of, shards_set, tar

CPU = torch.device("cpu")
READERS = pytest.mark.parametrize("reader", [InMemory, Streaming])


def opened(path, reader=Streaming, seed=0, **changes):
    data = reader(**{"path": str(path), "shape": (1, 2, 2), "classes": 3} | changes)
    data.open(seed=seed, device=CPU)
    return data


def given(path, reader=Streaming, **changes):
    data = opened(path, reader, **changes)
    return numbers_of(data.batch(0, len(data)).images)


def cut(path, share):
    """The first shard of a set, cut at a member's header."""
    file = next(path.glob("train-000000*"))
    with tarfile.open(file) as tar_:
        members = tar_.getmembers()
    place = members[int(share * len(members)) // 2 * 2].offset
    file.write_bytes(file.read_bytes()[:place])


@READERS
@pytest.mark.parametrize("into_header", [0, 100])
def test_1_a_shard_that_was_cut_at_a_header(tmp_path, reader, into_header):
    path = numbered_set(tmp_path / "set", [20])
    file = tmp_path / "set" / "train-000000.tar"
    whole = file.read_bytes()
    cut(tmp_path / "set", 0.5)
    file.write_bytes(whole[: file.stat().st_size + into_header])
    plain = webdataset.WebDataset(str(file), shardshuffle=False)
    assert len(list(plain)) == 10  # half of it, in silence
    with pytest.raises(DataError, match=r"holds 10 samples, the index says 20: is it cut short"):
        given(path, reader)


def test_1_without_an_index(tmp_path):
    """The blocks of zeros at the end of every tar are missed."""
    path = numbered_set(tmp_path / "set", [20])
    (tmp_path / "set" / "index.json").unlink()
    cut(tmp_path / "set", 0.5)
    with pytest.raises(DataError, match=r"train-000000.tar breaks off after 10 samples"):
        given(f"{path}/train-000000.tar")


def test_1_a_broken_header_without_an_index(tmp_path):
    """tarfile stops at a header that it cannot read as if that were the end."""
    path = numbered_set(tmp_path / "set", [20])
    (tmp_path / "set" / "index.json").unlink()
    file = tmp_path / "set" / "train-000000.tar"
    whole = bytearray(file.read_bytes())
    whole[whole.index(b"000000007.png") + 148] ^= 1  # in the checksum of the header
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"train-000000.tar breaks off after 7 samples"):
        given(f"{path}/train-000000.tar")


@READERS
def test_2_a_shard_that_was_cut_inside_a_member(tmp_path, reader):
    path = numbered_set(tmp_path / "set", [20])
    file = tmp_path / "set" / "train-000000.tar"
    cut(tmp_path / "set", 0.5)
    file.write_bytes(numbered_bytes(20)[: file.stat().st_size + 520])
    with pytest.raises(DataError, match=r"train-000000\.tar"):
        given(path, reader)


def test_2_what_is_tolerated_is_counted_to_the_last(tmp_path):
    path = numbered_set(tmp_path / "set", [20, 20])
    file = tmp_path / "set" / "train-000000.tar"
    cut(tmp_path / "set", 0.5)
    file.write_bytes(numbered_bytes(20)[: file.stat().st_size + 520])
    data = opened(path, tolerate=10)
    data.batch(0, 40)
    assert sum(data.faults().values()) == 10
    with pytest.raises(DataError, match="tolerate = 9"):
        opened(path, tolerate=9).batch(0, 40)


def numbered_bytes(count):
    return tar(numbered_members(0, count))


def test_3_another_order_of_shards_in_every_epoch(tmp_path):
    data = opened(numbered_set(tmp_path / "set", [2] * 10), shuffle=1)
    orders = {tuple(n // 2 for n in numbers_of(data.batch(20 * e, 20).images)[::2]) for e in range(6)}
    assert len(orders) == 6


def test_4_another_order_also_with_new_workers(tmp_path):
    """Workers that start anew each epoch know the epoch by the position."""
    path = numbered_set(tmp_path / "set", [5] * 4)
    epochs = []
    for epoch in range(3):
        data = Prefetched(data=Streaming(path=path, shape=(1, 2, 2), classes=3), workers=1)
        data.open(seed=0, device=CPU)
        epochs.append(tuple(n for i in range(0, 20, 4) for n in numbers_of(data.batch(20 * epoch + i, 4).images)))
    assert len(set(epochs)) == 3
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 3


def test_5_short_stretches_lose_nothing(tmp_path):
    """Stretches of 30 of 80 samples go on where the last one ended."""
    data = opened(numbered_set(tmp_path / "set", [20] * 4))
    seen = [n for start in range(0, 240, 30) for n in numbers_of(data.batch(start, 30).images)]
    assert [sorted(seen[i : i + 80]) for i in (0, 80, 160)] == [list(range(80))] * 3


@pytest.mark.parametrize("gz", [False, True])
def test_6_equal_names_never_meet_in_the_cache(tmp_path, gz):
    import fsspec

    fs = fsspec.filesystem("memory")
    urls = []
    for name, size in (("a", 6), ("b", 9)):
        folder = numbered_set(tmp_path / name, [size], gz=gz)
        fs.put(folder, f"/trap6-{gz}/{name}", recursive=True)
        urls.append(f"memory://trap6-{gz}/{name}")
    for url, size in zip(urls, (6, 9), strict=True):
        assert sorted(given(url)) == list(range(size))


def test_7_the_environment_says_nothing(tmp_path, monkeypatch):
    """Who reads what is asked for, and not read from RANK, which some launchers do not set."""
    path = numbered_set(tmp_path / "set", [5] * 4)
    expected = given(path)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert given(path) == expected
        data = Prefetched(data=Streaming(path=path, shape=(1, 2, 2), classes=3), workers=2)
        data.open(seed=0, device=CPU)
        assert [n for i in range(0, 20, 5) for n in numbers_of(data.batch(i, 5).images)] == expected


def test_8_the_seed_decides(tmp_path):
    path = numbered_set(tmp_path / "set", [5] * 4)
    assert given(path, seed=3) == given(path, seed=3) != given(path, seed=4)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_9_ranks_get_equally_many(tmp_path, world):
    """Four shards and three ranks: as many rows for each, and every sample once."""
    data = opened(numbered_set(tmp_path / "set", [20] * 4))
    rows = [[], [], [], [], []]
    for step in range(16):
        for rank in range(world):
            rows[rank] += numbers_of(data.batch(step * 5 * world + 5 * rank, 5).images)
    assert {len(part) for part in rows[:world]} == {80}
    for number in range(80):
        assert sum(part.count(number) for part in rows) == world


def test_10_more_workers_than_shards(tmp_path):
    path = numbered_set(tmp_path / "set", [3, 4])
    data = Prefetched(data=Streaming(path=path, shape=(1, 2, 2), classes=3), workers=4)
    data.open(seed=0, device=CPU)
    assert sorted(n for i in range(7) for n in numbers_of(data.batch(i, 1).images)) == list(range(7))


def test_10_workers_end_by_themselves(tmp_path):
    """When nobody holds the data set any longer, even in a cycle of garbage: none has to be terminated."""
    data = Prefetched(
        data=Streaming(path=numbered_set(tmp_path / "set", [3, 4]), shape=(1, 2, 2), classes=3), workers=2
    )
    data.open(seed=0, device=CPU)
    data.batch(0, 1)
    workers = data._samples.loader._iterator._workers
    data.itself = data
    del data
    gc.collect()
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_10_workers_end_when_the_set_is_opened_anew(tmp_path):
    data = Prefetched(
        data=Streaming(path=numbered_set(tmp_path / "set", [3, 4]), shape=(1, 2, 2), classes=3), workers=2
    )
    data.open(seed=0, device=CPU)
    data.batch(0, 1)
    workers = data._samples.loader._iterator._workers
    data.open(seed=0, device=CPU)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(n for i in range(7) for n in numbers_of(data.batch(i, 1).images)) == list(range(7))


class Collecting(Streaming):
    """Collects garbage in whatever process reads it."""

    def batch(self, start, count):
        gc.collect()
        return super().batch(start, count)


def test_10_a_worker_leaves_other_workers_alone(tmp_path):
    """A forked worker inherits what is garbage in the process that it was forked from: it ends nobody's workers."""
    path = numbered_set(tmp_path / "set", [3, 4])
    gc.collect()
    gc.disable()
    try:
        garbage = Prefetched(data=Streaming(path=path, shape=(1, 2, 2), classes=3), workers=2)
        garbage.open(seed=0, device=CPU)
        garbage.batch(0, 1)
        workers = garbage._samples.loader._iterator._workers
        garbage.itself = garbage
        del garbage
        data = Prefetched(data=Collecting(path=path, shape=(1, 2, 2), classes=3), workers=1)
        data.open(seed=0, device=CPU)
        assert sorted(n for i in range(7) for n in numbers_of(data.batch(i, 1).images)) == list(range(7))
        assert [worker.exitcode for worker in workers] == [None, None]
    finally:
        gc.enable()


@READERS
def test_11_dots_in_keys(tmp_path, reader):
    members = [(f"n01.tench_{i}.{kind}", data) for i in range(2) for kind, data in (("png", PNG), ("cls", b"0"))]
    path = shards_set(tmp_path / "set", [tar(members)], [2])
    (merged,) = webdataset.WebDataset(f"{path}/train-000000.tar", shardshuffle=False)
    assert "tench_1.png" in merged  # two samples in one
    with pytest.raises(DataError, match=r"member n01.tench_0.png: a dot in the key"):
        given(path, reader)


PNG = encode(np.zeros((2, 2), np.uint8))


def test_12_the_seed_of_the_environment(tmp_path, monkeypatch):
    path = numbered_set(tmp_path / "set", [5] * 4)
    expected = given(path)
    monkeypatch.setenv("WDS_SEED", "7")
    monkeypatch.setenv("WDS_EPOCH", "3")
    assert given(path) == expected


@READERS
@pytest.mark.parametrize("name", ["a#b", "a b", "a%20b", "50?", "ä", "a+b", "a[1]b"])
def test_13_odd_paths(tmp_path, reader, name):
    assert sorted(given(numbered_set(tmp_path / name, [3, 4]), reader)) == list(range(7))


def test_13_odd_paths_of_shards(tmp_path):
    path = numbered_set(tmp_path / "a#b", [3, 4])
    assert sorted(given(f"{path}/train-{{000000..000001}}.tar")) == list(range(7))


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("something was unpickled",)


@READERS
@pytest.mark.parametrize("kind", ["pyd", "pkl", "pickle", "pth"])
def test_14_nothing_is_unpickled(tmp_path, reader, kind):
    members = [("0.png", PNG), ("0.cls", b"0"), (f"0.{kind}", pickle.dumps(Bomb()))]
    assert len(given(shards_set(tmp_path / "set", [tar(members)], [1]), reader)) == 1


def test_14_no_command_is_run(tmp_path):
    proof = tmp_path / "proof"
    for path in (f"pipe:touch {proof}", f"pipe:touch {proof}; cat x.tar", f"pipe://touch {proof}/x.tar"):
        with pytest.raises((DataError, ValueError)):
            given(path)
    assert not proof.exists()


@READERS
def test_members_of_a_sample_that_lie_apart(tmp_path, reader):
    members = [("a.png", PNG), ("b.png", PNG), ("b.cls", b"0"), ("a.cls", b"0")]
    with pytest.raises(DataError, match=r"sample a: (the member cls|its members lie apart)"):
        given(shards_set(tmp_path / "set", [tar(members)], [2]), reader)


def test_duplicates(tmp_path):
    path = shards_set(tmp_path / "set", [tar([("a.png", PNG), ("a.png", PNG), ("a.cls", b"0")])], [1])
    with pytest.raises(DataError, match=r"a\.png: duplicate"):
        given(path)


def test_grey_members_are_read_by_both(tmp_path):
    path = shards_set(tmp_path / "set", [tar(grey_members(5))], [5], image_size=4, classes=["even", "odd"])
    one, other = (opened(path, reader, shape=(1, 4, 4), classes=2) for reader in (InMemory, Streaming))
    assert torch.equal(one.batch(0, 20).images, other.batch(0, 20).images)

"""What is damaged stops a run, or is counted by reason; nothing is passed over in silence."""

import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from realuid.commands.make_shards import main
from realuid.conditions import LABEL
from realuid.data.shards.layout import Layout
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import encode, numbered_members, numbered_set, numbers_of, shards_set, tar

CPU = torch.device("cpu")


def opened(path, **changes):
    data = Streaming(**{"path": str(path), "shape": (1, 2, 2), "classes": 3, "shuffle": 2} | changes)
    data.open(seed=0, device=CPU)
    return data


def damage(members, number, how):
    """The members of a set with one sample damaged; `how` is the reason that is expected."""
    png, cls = (f"{number:09d}.{kind}" for kind in ("png", "cls"))
    changed = []
    for name, data in members:
        if name == png:
            if how == "undecodable":
                data = data[:20]
            elif how == "size":
                data = encode(np.zeros((3, 3), np.uint8))
            elif how == "missing":
                continue
            elif how == "name":
                name = f"{number:09d}.old.png"
        elif name == cls and how == "label":
            data = b"3"
        changed.append((name, data))
    return changed


REASONS = ("undecodable", "size", "missing", "name", "label")


@pytest.mark.parametrize("how", REASONS)
def test_strict_by_default(tmp_path, how):
    """The shard and the key are named."""
    path = shards_set(tmp_path / "set", [tar(damage(numbered_members(0, 9), 4, how))], [9])
    data = opened(path)
    with pytest.raises(DataError, match=r"set/train-000000\.tar, (sample|member) 000000004") as caught:
        data.batch(0, 9)
    assert "\n" not in str(caught.value)
    assert data.faults() == {}


@pytest.mark.parametrize("how", REASONS)
def test_tolerated(tmp_path, how):
    """Another sample takes its place, the same for whoever asks; it is counted once, and no others are."""
    shards = [tar(damage(numbered_members(0, 9), 4, how)), tar(numbered_members(9, 5))]
    path = shards_set(tmp_path / "set", shards, [9, 5])
    clean = numbers_of(opened(numbered_set(tmp_path / "clean", [9, 5])).batch(0, 42).images)
    data = opened(path, tolerate=1)
    given = numbers_of(data.batch(0, 42).images)
    following = [clean[i + 1] if n == 4 else n for i, n in enumerate(clean[:-1])]
    assert given[:-1] == following
    assert data.faults() == {how: 1}
    ((place, reason),) = data.damaged().items()
    assert (reason, "train-000000.tar" in place) == (how, True)
    # Cut into other batches, by another reader.
    again = opened(path, tolerate=1)
    assert [n for i in range(0, 42, 7) for n in numbers_of(again.batch(i, 7).images)] == given
    labels = data.batch(0, 42).condition[LABEL]
    assert torch.equal(labels, torch.tensor(given) % 3)
    assert numbers_of(data.examples(3, 3).images) == [3, 5, 5]


def test_one_too_many(tmp_path):
    members = damage(damage(numbered_members(0, 9), 4, "size"), 6, "undecodable")
    data = opened(shards_set(tmp_path / "set", [tar(members)], [9]), tolerate=1)
    with pytest.raises(DataError, match=r"sample 00000000[46]: .* \(one more than tolerate = 1\)"):
        data.batch(0, 9)


def test_nothing_that_can_be_read(tmp_path):
    members = damage(damage(numbered_members(0, 2), 0, "size"), 1, "size")
    data = opened(shards_set(tmp_path / "set", [tar(members)], [2]), tolerate=100)
    with pytest.raises(DataError, match="holds no sample that can be read"):
        data.batch(0, 2)


def test_a_shard_that_is_gone(tmp_path):
    path = numbered_set(tmp_path / "set", [3, 20])
    (tmp_path / "set" / "train-000000.tar").unlink()
    with pytest.raises(DataError, match=r"train-000000.tar is in the index but cannot be opened"):
        opened(path).batch(0, 23)
    data = opened(path, tolerate=3)
    data.batch(0, 46)
    assert data.faults() == {"unreadable": 3}


def test_more_samples_than_the_index_says(tmp_path):
    path = shards_set(tmp_path / "set", [tar(numbered_members(0, 9))], [7])
    with pytest.raises(DataError, match="sample 000000007: the index counts only 7 samples"):
        opened(path, tolerate=100).batch(0, 7)


@pytest.mark.parametrize("gz", [False, True])
def test_changed_bytes(tmp_path, gz):
    """A label rewritten in place: only the checksum sees it."""
    path = numbered_set(tmp_path / "set", [9], gz=gz)
    members = numbered_members(0, 9)
    members[9] = (members[9][0], b"2")
    file = next((tmp_path / "set").glob("train*"))
    file.write_bytes(tar(members, "w:gz" if gz else "w"))
    with pytest.raises(DataError, match="the shard was changed or cut"):
        opened(path).batch(0, 9)


def test_a_repaired_shard_is_seen(tmp_path):
    path = numbered_set(tmp_path / "set", [9])
    file = tmp_path / "set" / "train-000000.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    with pytest.raises(DataError, match="is it cut short"):
        opened(path).batch(0, 9)
    file.write_bytes(whole)
    assert sorted(numbers_of(opened(path).batch(0, 9).images)) == list(range(9))


def made(tmp_path, count, shard_size):
    """A set written by make_shards, whose index knows each sample's bytes, with its samples' places."""
    source = numbered_set(tmp_path / "source", [count], labels=False)
    assert main([source, str(tmp_path / "made"), "--quiet", "--shard-size", str(shard_size)]) == 0
    shutil.rmtree(tmp_path / "cache")
    return tmp_path / "made"


def flip_byte(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x55]))


def test_own_shards_know_the_bytes_of_each_sample(tmp_path):
    """Any byte of an image is one fault; a byte of a header, which nobody reads, is none; a strict run stops at all."""
    path = made(tmp_path, 60, 20)
    places = Layout.from_bytes((path / "train-000001.tar.layout").read_bytes()).places[:, 0]
    for number in (3, 11):
        flip_byte(path / "train-000001.tar", int(places[number, 0] + places[number, 1] // 2))
    flip_byte(path / "train-000002.tar", 5)  # in the first name
    data = opened(path, classes=0, tolerate=2)
    data.batch(0, 60)
    assert data.faults() == {"changed": 2}
    for strict in (opened(path, classes=0), opened(path, classes=0, tolerate=1)):
        with pytest.raises(DataError, match=r"train-00000[12]\.tar"):
            strict.batch(0, 60)


def test_own_shards_cut(tmp_path):
    path = made(tmp_path, 60, 20)
    places = Layout.from_bytes((path / "train-000001.tar.layout").read_bytes()).places[:, 0]
    file = path / "train-000001.tar"
    file.write_bytes(file.read_bytes()[: int(places[15, 0]) + 10])
    data = opened(path, classes=0, tolerate=5)
    data.batch(0, 60)
    assert data.faults() == {"cut": 5}


def test_a_stored_layout_that_is_not_the_one(tmp_path):
    """It is searched instead."""
    path = made(tmp_path, 10, 10)
    expected = opened(path, classes=0).batch(0, 30).images
    layout = path / "train-000000.tar.layout"
    for change in (lambda: layout.write_bytes(b"?"), layout.unlink):
        shutil.rmtree(tmp_path / "cache")
        change()
        assert torch.equal(opened(path, classes=0).batch(0, 30).images, expected)


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.exhaustive)])
def test_an_epoch_with_thirty_corrupted_places(tmp_path, count):
    """It reports exactly thirty, by reason, in one epoch and in two; the order is otherwise the clean one."""
    size = count // 10
    rng = np.random.default_rng(0)
    numbers = rng.choice(count, 30, replace=False).tolist()
    hows = {number: REASONS[i % 5] for i, number in enumerate(numbers)}
    shards = []
    for first in range(0, count, size):
        members = [(name.replace(".png", ".png"), data) for name, data in wide_members(first, size)]
        for number, how in hows.items():
            if first <= number < first + size:
                members = damage(members, number, how)
        shards.append(tar(members))
    path = shards_set(tmp_path / "set", shards, [size] * 10)
    data = opened(path, tolerate=30)
    met = set()
    for epoch in range(2 if count < 10_000 else 1):
        for start in range(epoch * count, (epoch + 1) * count, 1000):
            met.update(wide_numbers(data.batch(start, 1000).images))
        assert data.faults() == Counter(hows.values())
        assert sum(data.faults().values()) == 30
    assert met == set(range(count)) - set(numbers)


def wide_members(first, count):
    """Images that hold numbers up to 2^24 in their first three pixels, and labels."""
    for number in range(first, first + count):
        pixels = np.array([[number >> 16, number >> 8 & 255], [number & 255, 0]], np.uint8)
        yield f"{number:09d}.png", encode(pixels)
        yield f"{number:09d}.cls", b"1"


def wide_numbers(images):
    flat = images.flatten(1).long()
    return (flat[:, 0] * 65536 + flat[:, 1] * 256 + flat[:, 2]).tolist()

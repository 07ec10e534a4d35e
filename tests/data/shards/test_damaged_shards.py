"""What webdataset reads in silence, or half, is an error here, and the error says where.

The index is right about the shard's bytes in these tests (except where it is the point), so that the checksum does not
hide the other checks.
"""

import io
import pickle
import tarfile

import numpy as np
import pytest

from realuid.data.shards.index import ShardIndex
from realuid.data.shards.reader import read_shard
from realuid.utils.errors import DataError
from tests.data.handmade import encode, grey_members, tar

SHARD = "train-000000.tar"
PNG = encode(np.random.default_rng(0).integers(0, 256, (4, 4), np.uint8))


def complaint(folder):
    """The reader's message; one line that names the shard."""
    index = ShardIndex.read(folder)
    with pytest.raises(DataError) as caught:
        list(read_shard(folder, index.splits["train"].shards[0], index.form()))
    message = str(caught.value)
    assert message.startswith(f"{folder}/{SHARD}")
    assert "\n" not in message
    return message


def header_of(shard, name):
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        return archive.getmember(name).offset


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def test_cut_between_samples(pack):
    shard = tar(grey_members(20))
    message = complaint(pack(shard[: header_of(shard, "010.png")], 20))
    assert "holds 10 samples, the index says 20: is it cut short?" in message


def test_cut_in_a_header(pack):
    shard = tar(grey_members(20))
    message = complaint(pack(shard[: header_of(shard, "010.png") + 100], 20))
    assert "holds 10 samples, the index says 20" in message


def test_cut_inside_a_member(pack):
    shard = tar(grey_members(20))
    message = complaint(pack(shard[: header_of(shard, "010.png") + 512 + 10], 20))
    assert "is damaged in 010.png: unexpected end of data" in message


def test_cut_between_the_members_of_a_sample(pack):
    shard = tar(grey_members(20))
    message = complaint(pack(shard[: header_of(shard, "010.cls")], 20))
    assert "holds 11 samples, the index says 20: is it cut short?" in message


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_cut_gzip(pack, share):
    shard = tar(grey_members(200), "w:gz")
    complaint(pack(shard[: int(share * len(shard))], 200))


def test_no_tar_at_all(pack):
    message = complaint(pack(b"<html>not found</html>" * 100, 1))
    assert "holds 0 samples, the index says 1: is it cut short? (it is a web page)" in message


def test_empty_file(pack):
    complaint(pack(b"", 1))


def test_more_samples_than_counted(pack):
    assert "sample 003: the index counts only 3 samples" in complaint(pack(tar(grey_members(5)), 3))


def test_other_bytes(pack, tmp_path):
    """The end of a tar is padding: only the checksum sees it go."""
    shard = tar(grey_members(5))
    folder = pack(shard, 5)
    (tmp_path / "set" / SHARD).write_bytes(shard[:-512])
    assert "the shard was changed or cut" in complaint(folder)


def test_shard_is_absent(pack, tmp_path):
    folder = pack(b"", 1)
    (tmp_path / "set" / SHARD).unlink()
    assert "is in the index but cannot be opened" in complaint(folder)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("n01.tench_1.png", PNG), ("n01.tench_1.cls", b"0")], "member n01.tench_1.png: a dot in the key"),
        ([("README", b"?"), ("a.png", PNG), ("a.cls", b"0")], "member README: expected a name like KEY.png"),
        ([("a.cls", b"0"), ("a.txt", b"?")], "sample a: expected one image member"),
        ([("a.png", PNG), ("a.jpg", PNG), ("a.cls", b"0")], "found png, jpg"),
        ([("a.png", PNG), ("a.png", PNG), ("a.cls", b"0")], "a.png: duplicate file name"),
        ([("a.png", PNG), ("b.png", PNG), ("a.cls", b"0"), ("b.cls", b"0")], "sample a: its members lie apart"),
        ([("a.png", PNG), ("a.cls", b"2")], "sample a: its label is b'2', expected 0 to 1"),
        ([("a.png", PNG), ("a.cls", b"-1")], "sample a: its label is b'-1'"),
        ([("a.png", PNG), ("a.cls", b"")], "sample a: its label is b''"),
        ([("a.png", b"no image"), ("a.cls", b"0")], "sample a: the image cannot be decoded"),
        ([("a.png", PNG[:-30]), ("a.cls", b"0")], "sample a: the image cannot be decoded"),
        ([("a.png", encode(np.zeros((4, 5), np.uint8))), ("a.cls", b"0")], "5x4 pixels in mode L, the index says 4x4"),
        ([("a.png", encode(np.zeros((4, 4, 3), np.uint8))), ("a.cls", b"0")], "mode RGB, the index says 4x4 with 1"),
        ([("a.npy", npy(np.zeros((1, 4, 4), np.float32))), ("a.cls", b"0")], "sample a: the npy member is no uint8"),
        ([("a.npy", npy(np.zeros((4, 4), np.uint8))), ("a.cls", b"0")], "an image of shape (4, 4), the index says (1,"),
        ([("a.npy", b"\x93NUMPY"), ("a.cls", b"0")], "sample a: the npy member cannot be read"),
    ],
)
def test_wrong_members(pack, members, message):
    assert message in complaint(pack(tar(members), 1))


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("something was unpickled",)


@pytest.mark.parametrize("kind", ["npy", "pyd", "pickle", "pth", "cls"])
def test_never_unpickles(pack, kind):
    bomb = npy(np.array([Bomb()], dtype=object)) if kind == "npy" else pickle.dumps(Bomb())
    members = {"cls": b"0", "png": PNG} | {kind: bomb}
    if kind == "npy":
        del members["png"]
    folder = pack(tar([(f"a.{suffix}", data) for suffix, data in members.items()]), 1)
    if kind in ("npy", "cls"):
        complaint(folder)
    else:  # passed over
        index = ShardIndex.read(folder)
        assert len(list(read_shard(folder, index.splits["train"].shards[0], index.form()))) == 1

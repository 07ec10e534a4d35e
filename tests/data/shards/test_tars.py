"""Tars as programs write them: concatenated, with links, sparse. No sample of them is lost, and none is wrong."""

import io
import os
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
import torch

from realuid.commands.make_shards import main
from realuid.data.memory import InMemory
from realuid.data.shards.tars import SparseMembers, walk
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import encode, grey_members, numbered_members, numbers_of, shards_set, tar
from tests.data.making import stored

CPU = torch.device("cpu")


def opened(path, cls=Streaming, **changes):
    data = cls(**{"path": str(path), "shape": (1, 2, 2), "classes": 3} | changes)
    data.open(seed=0, device=CPU)
    return data


def numbers(data):
    return sorted(numbers_of(data.examples(0, len(data)).images))


@pytest.mark.parametrize("blocks", [0, 1, 40])
def test_concatenated(tmp_path, blocks):
    """Three tars by `cat`, with more or fewer zeros between them: all samples, with and without an index."""
    parts = [tar(numbered_members(first, 4)) + bytes(512 * blocks) for first in (0, 4, 8)]
    (tmp_path / "all.tar").write_bytes(b"".join(parts))
    assert numbers(opened(tmp_path / "all.tar")) == list(range(12))
    path = shards_set(tmp_path / "set", [b"".join(parts)], [12])
    for cls in (InMemory, Streaming):
        assert numbers(opened(path, cls)) == list(range(12))
    assert main([str(tmp_path / "all.tar"), str(tmp_path / "out"), "--quiet"]) == 0
    assert sorted(numbers_of(stored(tmp_path / "out").images[:, :1])) == list(range(12))


def test_concatenated_and_compressed(tmp_path):
    """Gzip files may be joined as well."""
    parts = [tar(numbered_members(first, 3), "w:gz") for first in (0, 3)]
    (tmp_path / "all.tar.gz").write_bytes(b"".join(parts))
    assert numbers(opened(tmp_path / "all.tar.gz")) == list(range(6))


def test_an_index_that_counts_the_first_of_two(tmp_path):
    both = tar(numbered_members(0, 4)) + tar(numbered_members(4, 4))
    path = shards_set(tmp_path / "set", [both], [4])
    for cls in (InMemory, Streaming):
        with pytest.raises(DataError, match="the index counts only 4 samples"):
            numbers(opened(path, cls))


def test_equal_keys_in_both(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(numbered_members(0, 2)) + tar(numbered_members(0, 2)))
    with pytest.raises(DataError, match="its members lie apart, or it comes twice"):
        numbers(opened(tmp_path / "x.tar"))


def test_something_else_behind_the_end(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(numbered_members(0, 2)) + b"<html>" * 200)
    with pytest.raises(DataError, match="breaks off after 2 samples"):
        numbers(opened(tmp_path / "x.tar"))
    path = shards_set(tmp_path / "set", [(tmp_path / "x.tar").read_bytes()], [2])
    assert numbers(opened(path)) == [0, 1]  # an index vouches for what there is


def with_links(kind, target, later=False):
    """Five samples, of which the image of the last is a link."""
    file = io.BytesIO()
    members = numbered_members(0, 5)
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if name == "000000004.png" if not later else name == "000000000.png":
                info.type, info.linkname = kind, target
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize("cls", [InMemory, Streaming])
@pytest.mark.parametrize(
    ("kind", "target", "later"),
    [
        (tarfile.LNKTYPE, "000000001.png", False),
        (tarfile.SYMTYPE, "000000001.png", False),
        (tarfile.SYMTYPE, "./000000001.png", False),
        (tarfile.SYMTYPE, "000000003.png", True),
    ],
)
def test_links_are_what_they_lead_to(tmp_path, cls, kind, target, later):
    path = shards_set(tmp_path / "set", [with_links(kind, target, later)], [5])
    given = numbers_of(opened(path, cls).examples(0, 5).images)
    assert given == ([3, 1, 2, 3, 4] if later else [0, 1, 2, 3, 1])


@pytest.mark.parametrize("target", ["/etc/passwd", "../000000001.png", "nothing.png", "000000004.png"])
def test_links_that_lead_nowhere(tmp_path, target):
    path = shards_set(tmp_path / "set", [with_links(tarfile.SYMTYPE, target)], [5])
    for cls in (InMemory, Streaming):
        with pytest.raises(DataError, match=r"000000004.png: it is a link to .*, which is not in the tar"):
            numbers(opened(path, cls))
    data = opened(path, tolerate=1)
    assert numbers(data) == [0, 0, 1, 2, 3]
    assert data.faults() == {"missing": 1}


def test_links_of_tar_itself(tmp_path):
    """A folder in which two names are one file."""
    (tmp_path / "in").mkdir()
    for name, data in numbered_members(0, 3):
        (tmp_path / "in" / name).write_bytes(data)
    os.link(tmp_path / "in" / "000000001.png", tmp_path / "in" / "000000003.png")
    (tmp_path / "in" / "000000003.cls").symlink_to("000000001.cls")
    subprocess.run(["tar", "--sort=name", "-C", tmp_path / "in", "-cf", tmp_path / "x.tar", "."], check=True)
    assert numbers(opened(tmp_path / "x.tar")) == [0, 1, 1, 2]


@pytest.fixture
def sparse(tmp_path):
    """An array with holes, packed by GNU tar in either of its ways: levels 1 at the beginning and 7 at the end."""
    if not shutil.which("tar"):
        pytest.skip("no tar")
    image = np.zeros((3, 160, 160), np.uint8)
    image[0, :2], image[2, 150:] = 1, 7
    (tmp_path / "in").mkdir()
    for key in ("a", "b"):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(image))
        with open(tmp_path / "in" / f"{key}.npy", "wb") as file:
            file.write(head.getvalue())
            file.write(image[0, :2].tobytes())
            file.seek(len(head.getvalue()) + image.nbytes - 1600)
            file.write(image[2, 150:].tobytes())
        (tmp_path / "in" / f"{key}.cls").write_bytes(b"1")
    return image


@pytest.mark.parametrize("form", ["gnu", "pax"])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_members_with_holes(tmp_path, sparse, form, suffix):
    """Right pixels, with and without an index, streaming and in memory, packed anew, and again from the cache."""
    file = tmp_path / f"x.{suffix}"
    options = ["-S", f"--format={form}", "--sort=name", "-C", tmp_path / "in"]
    subprocess.run(
        ["tar", *options, f"-c{'z' * file.name.endswith('gz')}f", file, "a.cls", "a.npy", "b.cls", "b.npy"], check=True
    )
    if suffix == "tar":
        with open(file, "rb") as plain, pytest.raises(SparseMembers):
            walk(plain)
    path = shards_set(tmp_path / "set", [file.read_bytes()], [2], suffix=suffix, image_size=160, channels=3)
    for _ in range(2):
        for place, cls in ((file, Streaming), (path, Streaming), (path, InMemory)):
            images = opened(place, cls, shape=(3, 160, 160)).examples(0, 2).images.numpy()
            assert np.array_equal(images, np.stack([sparse] * 2))
    assert main([str(file), str(tmp_path / "out"), "--quiet"]) == 0
    assert np.array_equal(stored(tmp_path / "out").images.numpy(), np.stack([sparse] * 2))


def test_files_of_macos_are_no_samples(tmp_path):
    members = [("._000.png", b"?"), *grey_members(2), ("__MACOSX/._001.png", b"?"), (".DS_Store", b"?")]
    (tmp_path / "x.tar").write_bytes(tar(members))
    assert len(opened(tmp_path / "x.tar", shape=(1, 4, 4), classes=2)) == 2


@pytest.mark.parametrize(
    ("content", "nature"),
    [
        (b"", "empty"),
        (bytes(5120), "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (tar(numbered_members(0, 3), "w:gz"), "compressed by gzip"),
        (encode(np.zeros((2, 2), np.uint8)), "3: is it cut short"),
    ],
    ids=["nothing", "zeros", "LFS", "web page", "gzip", "another file"],
)
@pytest.mark.parametrize("own", [False, True])
def test_shards_without_one_member(tmp_path, content, nature, own):
    """One line that says what it is; where that is tolerated, its samples count as cut, and the others are read."""
    path = shards_set(tmp_path / "set", [tar(numbered_members(first, 3)) for first in (0, 3)], [3, 3])
    if own:
        assert main([path, str(tmp_path / "own"), "--quiet", "--shard-size", "3"]) == 0
        path = str(tmp_path / "own")
    (tmp_path / ("own" if own else "set") / "train-000001.tar").write_bytes(content)
    for cls in (InMemory, Streaming):
        with pytest.raises(DataError, match=f"train-000001.tar holds 0 samples, the index says .*{nature}") as caught:
            opened(path, cls).batch(0, 6)
        assert "\n" not in str(caught.value)
    data = opened(path, tolerate=100)
    assert set(numbers_of(data.batch(0, 12).images)) == {0, 1, 2}
    assert data.faults() == {"cut": 3}

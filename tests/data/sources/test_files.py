"""Folders and zips of images, and the labels that belong to them."""

import json
import os
import uuid
import zipfile
from pathlib import Path

import fsspec
import pytest
import torch

from realuid.data.memory import InMemory
from realuid.data.streaming import Streaming
from tests.data.handmade import encode
from tests.data.making import as_set, expected, fill, images, make, refused, stored


def test_flat_folder(tmp_path):
    pixels = images(7)
    fill(tmp_path / "in", [f"{i}.png" for i in range(7)], pixels)
    (tmp_path / "in" / "notes.txt").write_text("passed over")
    index = make(tmp_path / "in", tmp_path / "out", "--shard-size", "3")
    assert (index.classes, index.name, [s.samples for s in index.splits["train"].shards]) == ((), "out", [3, 3, 1])
    for reader in (InMemory, Streaming):
        assert as_set(stored(tmp_path / "out", cls=reader)) == expected(pixels, [0] * 7)
    # Mixed, and only as asked.
    plain = make(tmp_path / "in", tmp_path / "other", "--shuffle", "1")
    assert not torch.equal(stored(tmp_path / "other").images, stored(tmp_path / "out").images)
    assert plain.splits["train"].samples == 7


@pytest.mark.parametrize("kind", ["folder", "zip", "memory"])
def test_class_folders(tmp_path, kind):
    pixels = images(6)
    names = ["b/0.png", "b/sub/1.png", "a/2.png", "a/3.png", "c d/4.png", "a/5.png"]
    source: Path | str = tmp_path / "in"
    if kind == "zip":
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name, image in zip(names, pixels, strict=True):
                archive.writestr(name, encode(image))
    else:
        fill(tmp_path / "in", names, pixels)
    if kind == "memory":
        source = f"memory://{uuid.uuid4().hex}"
        fsspec.filesystem("memory").put(str(tmp_path / "in"), source.removeprefix("memory:/"), recursive=True)
    index = make(source, tmp_path / "out")
    assert index.classes == ("a", "b", "c d")
    assert index.splits["train"].labels == (3, 2, 1)
    assert as_set(stored(tmp_path / "out")) == expected(pixels, [1, 1, 0, 0, 2, 0])


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("windows", [False, True])
def test_folders_around_everything(tmp_path, windows):
    """One more folder, or Windows' separators, and the labels are still there; also in dataset.json."""
    pixels, names = images(3), ["cat/0.png", "dog/1.png", "cat/2.png"]
    separator = "\\" if windows else "/"
    pictures = [encode(image) for image in pixels]
    around = {f"set/deep/{name}".replace("/", separator): p for name, p in zip(names, pictures, strict=True)}
    index = make(zipped(tmp_path / "a.zip", around), tmp_path / "classes")
    assert index.classes == ("cat", "dog")
    table = json.dumps({"labels": [[name.replace("/", separator), i] for i, name in enumerate(names)]})
    with_table = around | {"set/deep/dataset.json".replace("/", separator): table}
    index = make(zipped(tmp_path / "b.zip", with_table), tmp_path / "table")
    assert as_set(stored(tmp_path / "table")) == expected(pixels, [0, 1, 2])
    fill(tmp_path / "in", [f"set/{name}" for name in names], pixels)
    assert as_set(stored_of(tmp_path / "in", tmp_path / "folder")) == expected(pixels, [0, 1, 0])


def stored_of(source, dest, *options, **changes):
    make(source, dest, *options)
    return stored(dest, **changes)


def test_folders_that_no_user_made(tmp_path, capsys):
    """They are no classes, in folders and in zips, and what lies in them is counted."""
    pixels, names = images(2), ["cat/0.png", "dog/1.png"]
    fill(tmp_path / "in", names, pixels)
    junk = [".ipynb_checkpoints/x.png", "@eaDir/cat/x.png", "__MACOSX/cat/._0.png", "cat/._0.png", "$RECYCLE.BIN/x.png"]
    fill(tmp_path / "in", junk, images(5))
    (tmp_path / "in" / "Thumbs.db").write_bytes(b"?")
    assert as_set(stored_of(tmp_path / "in", tmp_path / "out")) == expected(pixels, [0, 1])
    assert "6 files are passed over" in capsys.readouterr().out
    files = {str(f.relative_to(tmp_path / "in")): f.read_bytes() for f in (tmp_path / "in").rglob("*") if f.is_file()}
    assert make(zipped(tmp_path / "a.zip", files), tmp_path / "zip").classes == ("cat", "dog")


def test_splits_are_no_classes(tmp_path, capsys):
    pixels = images(4)
    fill(tmp_path / "in", ["train/cat/0.png", "train/dog/1.png", "val/dog/2.png", "val/dog/3.png"], pixels)
    index = make(tmp_path / "in", tmp_path / "out")
    assert (list(index.splits), index.classes) == (["train", "val"], ("cat", "dog"))
    assert as_set(stored(tmp_path / "out", "train")) == expected(pixels[:2], [0, 1])
    assert as_set(stored(tmp_path / "out", "val")) == expected(pixels[2:], [1, 1])
    assert list(make(tmp_path / "in", tmp_path / "val", "--split", "val").splits) == ["val"]
    fill(tmp_path / "in", ["owl/4.png"], images(1))
    assert "which look like splits, beside owl" in refused(capsys, tmp_path / "in", tmp_path / "no")


def test_splits_with_a_folder_of_images_each(tmp_path, capsys):
    pixels = images(3)
    fill(tmp_path / "in", ["Train/images/cat/0.png", "Train/images/dog/1.png", "Test/images/cat/2.png"], pixels)
    index = make(tmp_path / "in", tmp_path / "out")
    assert index.classes == ("cat", "dog")
    assert as_set(stored(tmp_path / "out", "Test")) == expected(pixels[2:], [0])
    fill(tmp_path / "flat", ["train/cat/0.png", "train/dog/1.png", "val/2.png"], pixels)
    assert "train has classes, val has none" in refused(capsys, tmp_path / "flat", tmp_path / "no")
    index = make(tmp_path / "flat", tmp_path / "none", "--labels", "none")
    assert (list(index.splits), index.classes) == (["train", "val"], ())


def test_a_stray_image_does_not_drop_the_labels(tmp_path, capsys):
    """Beside many folders, beside one, and beside a folder around everything."""
    for i, names in enumerate(
        (["cat/0.png", "dog/1.png"], ["cat/0.png", "cat/1.png"], ["set/cat/0.png", "set/dog/1.png"])
    ):
        fill(tmp_path / f"in{i}", [*names, "x.png"], images(3))
        assert "x.png does not: are the folders classes?" in refused(capsys, tmp_path / f"in{i}", tmp_path / "out")


def test_numbered_folders_of_edms_tools_are_no_classes(tmp_path):
    fill(tmp_path / "in", ["00000/img00000000.png", "00000/img00000999.png", "00001/img00001000.png"], images(3))
    assert make(tmp_path / "in", tmp_path / "out").classes == ()


def test_what_is_passed_over_is_counted(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png"], images(1))
    for name in ("0.bmp", "1.tif", "2.gif", "3.avif", "4.heic", "5.bmp", "notes.md", "Makefile"):
        (tmp_path / "in" / name).write_bytes(b"?")
    (tmp_path / "in" / "6.jfif").write_bytes(encode(images(1)[0], "JPEG"))  # a JPEG by another name
    assert make(tmp_path / "in", tmp_path / "out").splits["train"].samples == 2
    assert "8 files are passed over: 2 .bmp" in capsys.readouterr().out
    for file in (*(tmp_path / "in").glob("*.png"), tmp_path / "in" / "6.jfif"):
        file.unlink()
    assert "there are 2 .bmp" in refused(capsys, tmp_path / "in", tmp_path / "no")


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b"\x1b[31m"])
def test_classes_that_an_index_cannot_hold(tmp_path, capsys, name):
    """They are told of before anything is written."""
    fill(tmp_path / "in", ["tea/0.png"], images(1))
    folder = os.path.join(os.fsencode(tmp_path / "in"), name)
    os.mkdir(folder)
    with open(os.path.join(folder, b"1.png"), "wb") as file:
        file.write(encode(images(1)[0]))
    assert "cannot be the name of a class: rename it" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pipes_links_and_circles(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png", "deep/b.png"], images(2))
    (tmp_path / "in" / "deep").rename(tmp_path / "deep")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "deep" / "b.png")
    os.mkfifo(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "d.png").symlink_to("nowhere")
    assert make(tmp_path / "in", tmp_path / "out").splits["train"].samples == 2
    assert "2 files are passed over: 1 pipes and devices, 1 broken links" in capsys.readouterr().out
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert "are the same folder, by a link" in refused(capsys, tmp_path / "in", tmp_path / "no")
    assert "neither a folder nor a file" in refused(capsys, tmp_path / "in" / "c.png", tmp_path / "no")


def test_flipped_bytes_in_a_zip(tmp_path, capsys):
    path = zipped(tmp_path / "a.zip", {f"{i}.png": encode(images(1, 40, 40, seed=i)[0]) for i in range(3)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    line = refused(capsys, path, tmp_path / "out")
    assert "1.png cannot be" in line
    path.write_bytes(bytes(data[:-30]))
    assert "a.zip cannot be read" in refused(capsys, path, tmp_path / "out2")
    assert "holds 0.png twice" in refused(capsys, twice(tmp_path / "b.zip"), tmp_path / "out3")


def twice(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", encode(images(1)[0]))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("0.png", encode(images(1, seed=1)[0]))
    return path

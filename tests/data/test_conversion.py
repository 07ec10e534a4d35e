"""make_shards: every kind of source, the pixels that were asked for, the same bytes, nothing overwritten."""

import csv
import gzip
import io
import json
import pickle
import struct
import tarfile
import uuid
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from handmade import encode, numbered_set, numbers_of
from PIL import Image

from realuid.commands.make_shards import main
from realuid.data import writer
from realuid.data.index import ShardIndex
from realuid.data.layout import Layout
from realuid.data.memory import InMemory
from realuid.data.streaming import Streaming
from realuid.errors import DataError

CPU = torch.device("cpu")


def images(count, height=6, width=6, channels=3, seed=0):
    shape = (count, height, width) + ((channels,) if channels > 1 else ())
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def make(source, dest, *options):
    assert main([str(source), str(dest), "--quiet", *options]) == 0
    return ShardIndex.read(str(dest))


def refused(capsys, source, dest, *options):
    assert main([str(source), str(dest), "--quiet", *options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("make_shards: ")
    assert line.count("\n") == 1
    return line


def stored(dest, split="train", cls=InMemory, **changes):
    """What a data set gives back, in the order of storage."""
    index = ShardIndex.read(str(dest))
    shape = (index.channels, index.image_size, index.image_size)
    data = cls(**{"path": str(dest), "shape": shape, "classes": len(index.classes), "split": split} | changes)
    data.open(seed=0, device=CPU)
    return data.examples(0, len(data))


def as_set(batch):
    """Images with labels, whatever their order."""
    return sorted(
        (image.numpy().tobytes(), int(label)) for image, label in zip(batch.images, batch.labels, strict=True)
    )


def expected(pixels, labels):
    arrays = [image[None] if image.ndim == 2 else image.transpose(2, 0, 1) for image in pixels]
    return sorted((image.tobytes(), int(label)) for image, label in zip(arrays, labels, strict=True))


def fill(folder, names, pixels, form="PNG"):
    for name, image in zip(names, pixels, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(image, form))


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


@pytest.mark.parametrize("zipped", [False, True])
def test_edms_dataset_json(tmp_path, zipped):
    pixels, labels = images(5), [3, 0, 1, 3, 2]
    names = [f"00000/img{i:08d}.png" for i in range(5)]
    table = json.dumps({"labels": [list(row) for row in zip(names, labels, strict=True)]})
    fill(tmp_path / "in", names, pixels)
    (tmp_path / "in" / "dataset.json").write_text(table)
    source = tmp_path / "in"
    if zipped:
        source = tmp_path / "edm.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in sorted((tmp_path / "in").rglob("*.*")):
                archive.write(file, file.relative_to(tmp_path / "in"))
    index = make(source, tmp_path / "out")
    assert index.classes == ("0", "1", "2", "3")
    assert as_set(stored(tmp_path / "out")) == expected(pixels, labels)
    assert make(source, tmp_path / "none", "--labels", "none").classes == ()


def test_label_files(tmp_path, capsys):
    pixels, labels = images(3), [1, 0, 1]
    fill(tmp_path / "in", ["a.png", "b.png", "c.png"], pixels)
    table = dict(zip(["a.png", "b.png", "c.png"], labels, strict=True))
    (tmp_path / "labels.json").write_text(json.dumps(table))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table.items())
    for i, name in enumerate(("labels.json", "labels.csv")):
        make(tmp_path / "in", tmp_path / f"out{i}", "--labels", str(tmp_path / name))
        assert as_set(stored(tmp_path / f"out{i}")) == expected(pixels, labels)
    (tmp_path / "labels.json").write_text('{"a.png": 1}')
    line = refused(capsys, tmp_path / "in", tmp_path / "x", "--labels", str(tmp_path / "labels.json"))
    assert "no label for b.png and 1 others" in line
    assert "cannot be read" in refused(capsys, tmp_path / "in", tmp_path / "x", "--labels", "/nowhere.csv")


def cifar_files(folder, rng):
    """CIFAR-10's binary and pickled batches of the same 12 images: two in each."""
    data, labels = rng.integers(0, 256, (12, 3072), np.uint8), rng.integers(0, 10, 12)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    (folder / "bin").mkdir(parents=True)
    (folder / "py").mkdir()
    for i, name in enumerate(names):
        rows = slice(2 * i, 2 * i + 2)
        binary = np.concatenate([labels[rows, None].astype(np.uint8), data[rows]], axis=1)
        (folder / "bin" / f"{name}.bin").write_bytes(binary.tobytes())
        batch = {"data": data[rows], "labels": labels[rows].tolist(), "batch_label": "x", "filenames": ["a", "b"]}
        (folder / "py" / name).write_bytes(pickle.dumps(batch, protocol=2))
    for kind, file in (("py", "cifar-10-python.tar.gz"), ("bin", "cifar-10-binary.tar.gz")):
        with tarfile.open(folder / file, "w:gz") as tar:
            tar.add(folder / kind, "cifar-10-batches")
    return data.reshape(12, 3, 32, 32).transpose(0, 2, 3, 1), labels


@pytest.mark.parametrize("kind", ["bin", "py", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"])
def test_cifar10(tmp_path, kind):
    pixels, labels = cifar_files(tmp_path / "in", np.random.default_rng(0))
    index = make(tmp_path / "in" / kind, tmp_path / "out")
    assert index.classes[:3] == ("airplane", "automobile", "bird")
    assert as_set(stored(tmp_path / "out", "train")) == expected(pixels[:10], labels[:10])
    assert as_set(stored(tmp_path / "out", "test")) == expected(pixels[10:], labels[10:])
    only = make(tmp_path / "in" / kind, tmp_path / "test", "--split", "test")
    assert list(only.splits) == ["test"]


def test_cifar10_packed_again_and_cut_short(tmp_path, capsys):
    pixels, labels = cifar_files(tmp_path / "in", np.random.default_rng(0))
    for file in (tmp_path / "in" / "py").iterdir():
        batch = pickle.loads(file.read_bytes())
        file.write_bytes(pickle.dumps({name.encode(): value for name, value in batch.items()}))
    make(tmp_path / "in" / "py", tmp_path / "out")
    assert as_set(stored(tmp_path / "out", "test")) == expected(pixels[10:], labels[10:])
    for folder, name in (("py", "data_batch_2"), ("bin", "data_batch_2.bin")):
        file = tmp_path / "in" / folder / name
        file.write_bytes(file.read_bytes()[:-1])
        line = refused(capsys, tmp_path / "in" / folder, tmp_path / folder)
        assert "data_batch_2 is no batch of CIFAR-10, or cut short" in line


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("something was run",)


def test_pickles_build_arrays_only(tmp_path, capsys):
    cifar_files(tmp_path / "in", np.random.default_rng(0))
    (tmp_path / "in" / "py" / "data_batch_3").write_bytes(pickle.dumps({"data": Bomb()}))
    line = refused(capsys, tmp_path / "in" / "py", tmp_path / "out")
    assert "it is not one, and nothing of it was run" in line


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist(tmp_path, suffix):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    pixels, labels = images(8, 28, 28, 1), np.arange(8, dtype=np.uint8)
    for prefix, rows in (("train", slice(0, 6)), ("t10k", slice(6, 8))):
        part = pixels[rows]
        for kind, head, body in (
            ("images-idx3", struct.pack(">IIII", 0x803, len(part), 28, 28), part.tobytes()),
            ("labels-idx1", struct.pack(">II", 0x801, len(part)), labels[rows].tobytes()),
        ):
            data = head + body
            (folder / f"{prefix}-{kind}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    index = make(folder, tmp_path / "out")
    assert (index.channels, index.image_size, index.classes[9]) == (1, 28, "Ankle boot")
    assert as_set(stored(tmp_path / "out", "train")) == expected(pixels[:6], labels[:6])
    assert as_set(stored(tmp_path / "out", "test")) == expected(pixels[6:], labels[6:])


def test_idx_cut_short(tmp_path, capsys):
    for kind, data in (("images-idx3", struct.pack(">IIII", 0x803, 2, 28, 28)), ("labels-idx1", b"")):
        (tmp_path / f"train-{kind}-ubyte").write_bytes(data)
    assert "cut short" in refused(capsys, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_downsampled_imagenet(tmp_path, workers):
    pixels, labels = images(7, 4, 4), [999, 0, 5, 3, 3, 7, 1]
    flat = pixels.transpose(0, 3, 1, 2).reshape(7, -1)
    (tmp_path / "in").mkdir()
    for i, rows in ((1, slice(0, 4)), (2, slice(4, 7))):
        np.savez(tmp_path / "in" / f"train_data_batch_{i}.npz", data=flat[rows], labels=[n + 1 for n in labels[rows]])
    index = make(tmp_path / "in", tmp_path / "out", "--workers", workers, "--shard-size", "4")
    assert len(index.classes) == 1000
    assert as_set(stored(tmp_path / "out")) == expected(pixels, labels)


def test_pairs_from_two_folders(tmp_path, capsys):
    ones, others = images(4), images(4, seed=1)
    names = [f"{i}.png" for i in range(4)]
    fill(tmp_path / "photos", names, ones)
    fill(tmp_path / "maps", names, others)
    make(tmp_path / "photos", tmp_path / "out", "--pairs", str(tmp_path / "maps"), "--split", "val")
    for reader in (InMemory, Streaming):
        batch = stored(tmp_path / "out", "val", cls=reader, pairs=True)
        joined = torch.cat([batch.images, batch.sources], dim=1).permute(0, 2, 3, 1).numpy()
        assert {pair.tobytes() for pair in joined} == {
            pair.tobytes() for pair in np.concatenate([ones, others], axis=3)
        }
    (tmp_path / "maps" / "3.png").rename(tmp_path / "maps" / "x.png")
    assert "do not pair up: 3.png stands alone" in refused(
        capsys, tmp_path / "photos", tmp_path / "no", "--pairs", str(tmp_path / "maps")
    )


@pytest.mark.parametrize("half", ["left", "right"])
def test_pairs_side_by_side(tmp_path, half):
    wide = images(3, 6, 12)
    fill(tmp_path / "in", [f"{i}.png" for i in range(3)], wide)
    make(tmp_path / "in", tmp_path / "out", "--side-by-side", half)
    batch = stored(tmp_path / "out", pairs=True)
    left, right = (batch.sources, batch.images) if half == "left" else (batch.images, batch.sources)
    joined = torch.cat([left, right], dim=3).permute(0, 2, 3, 1).numpy()
    assert {image.tobytes() for image in joined} == {image.tobytes() for image in wide}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_latents(tmp_path, dtype):
    latents = np.random.default_rng(0).normal(size=(5, 4, 8, 8)).astype(dtype)
    for i, latent in enumerate(latents):
        (tmp_path / "in" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "in" / str(i % 2) / f"{i}.npy", latent)
    index = make(tmp_path / "in", tmp_path / "out", "--format", "npy")
    assert (index.channels, index.image_size, index.dtype) == (4, 8, dtype)
    for reader in (InMemory, Streaming):
        batch = stored(tmp_path / "out", cls=reader)
        assert batch.images.dtype == getattr(torch, dtype)
        assert as_set(batch) == sorted((latents[i].tobytes(), i % 2) for i in range(5))


def test_latents_that_are_none(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for array, message in (
        (np.zeros((4, 4)), "no array [C, H, W]"),
        (np.full((4, 8, 8), np.nan, np.float32), "not finite"),
        (np.array([Bomb()], dtype=object), "cannot be read as an array"),
    ):
        np.save(tmp_path / "in" / "a.npy", array, allow_pickle=True)
        assert message in refused(capsys, tmp_path / "in", tmp_path / "out")
    np.save(tmp_path / "in" / "a.npy", np.zeros((4, 8, 8), np.float32))
    assert "without resizing" in refused(capsys, tmp_path / "in", tmp_path / "out2", "--resolution", "4")


def test_shards_packed_anew(tmp_path):
    path = numbered_set(tmp_path / "set", [5, 9, 2], gz=True)
    index = make(path, tmp_path / "out", "--shard-size", "6")
    assert [shard.samples for shard in index.splits["train"].shards] == [6, 6, 4]
    assert index.channels == 1
    assert numbers_of(stored(tmp_path / "out").images) == list(range(16))  # mixed once is mixed
    assert torch.equal(stored(tmp_path / "out").labels, torch.arange(16) % 3)
    with (
        tarfile.open(tmp_path / "set" / "train-000000.tar.gz") as old,
        tarfile.open(tmp_path / "out" / "train-000000.tar") as new,
    ):
        for member in old:  # the files themselves are kept
            assert new.extractfile(member.name).read() == old.extractfile(member).read()
    pattern = make(f"{path}/train-00000[02].tar.gz", tmp_path / "some")
    assert pattern.splits["train"].samples == 7
    assert pattern.classes == ("0", "1", "2")


def pil(image):
    return Image.fromarray(image)


@pytest.mark.parametrize("filter", ["lanczos", "bicubic", "bilinear", "hamming", "box"])
def test_resizing_is_pillows(tmp_path, filter):
    pixels = images(2, 10, 10)
    fill(tmp_path / "in", ["0.png", "1.png"], pixels)
    make(tmp_path / "in", tmp_path / "out", "--resolution", "4", "--filter", filter)
    resample = Image.Resampling[filter.upper()]
    resized = [np.asarray(pil(image).resize((4, 4), resample)) for image in pixels]
    assert as_set(stored(tmp_path / "out")) == expected(resized, [0, 0])


@pytest.mark.parametrize(("crop", "box"), [("centre", (2, 0, 8, 6)), ("4", (3, 1, 7, 5))])
def test_crops(tmp_path, crop, box):
    pixels = images(2, 6, 10)
    fill(tmp_path / "in", ["0.png", "1.png"], pixels)
    make(tmp_path / "in", tmp_path / "out", "--crop", crop)
    left, top, right, bottom = box
    assert as_set(stored(tmp_path / "out")) == expected(pixels[:, top:bottom, left:right], [0, 0])


def test_adms_crop(tmp_path):
    """Halved by box while twice too large, then bicubic, then the middle, here written with numpy and one resize."""
    (image,) = images(1, 40, 26)
    fill(tmp_path / "in", ["0.png"], [image])
    make(tmp_path / "in", tmp_path / "out", "--crop", "adm", "--resolution", "8")
    half = np.rint(image.reshape(20, 2, 13, 2, 3).mean(axis=(1, 3)) + 1e-9)  # Pillow rounds ties up
    small = np.asarray(pil(half.astype(np.uint8)).resize((8, round(20 * 8 / 13)), Image.BICUBIC))
    top = (small.shape[0] - 8) // 2
    difference = stored(tmp_path / "out").images[0].permute(1, 2, 0).numpy().astype(int) - small[top : top + 8]
    assert np.abs(difference).max() <= 1


def test_formats(tmp_path):
    smooth = np.linspace(0, 255, 16 * 16 * 3).reshape(1, 16, 16, 3).astype(np.uint8)
    fill(tmp_path / "in", ["0.jpg"], smooth, "JPEG")
    original = (tmp_path / "in" / "0.jpg").read_bytes()
    decoded = np.asarray(Image.open(io.BytesIO(original))).transpose(2, 0, 1)
    for form, exact in (("keep", True), ("jpg", True), ("png", True), ("webp", True), ("npy", True)):
        make(tmp_path / "in", tmp_path / form, "--format", form)
        with tarfile.open(tmp_path / form / "train-000000.tar") as tar:
            (member,) = tar.getmembers()
            data = tar.extractfile(member).read()
        assert member.name == f"000000000.{'jpg' if form == 'keep' else form}"
        if form in ("keep", "jpg"):
            assert data == original  # encoding a JPEG again would only lose
        batch = stored(tmp_path / form)
        assert np.array_equal(batch.images[0].numpy(), decoded) == exact
    make(tmp_path / "in", tmp_path / "small", "--format", "jpg", "--resolution", "8", "--quality", "90")
    small = np.asarray(pil(decoded.transpose(1, 2, 0)).resize((8, 8), Image.LANCZOS)).astype(int)
    assert np.abs(stored(tmp_path / "small").images[0].permute(1, 2, 0).numpy() - small).max() < 16


def test_grey(tmp_path):
    fill(tmp_path / "in", ["0.png", "1.png"], [*images(1), np.asarray(pil(images(1)[0]).convert("L"))])
    assert make(tmp_path / "in", tmp_path / "rgb").channels == 3
    assert make(tmp_path / "in", tmp_path / "grey", "--grey").channels == 1
    one, other = stored(tmp_path / "grey").images
    assert torch.equal(one, other)


def test_what_would_be_lost_is_refused(tmp_path, capsys):
    folder = tmp_path / "in"
    cases = [
        (Image.new("RGBA", (4, 4), (1, 2, 3, 128)), "0.png is transparent in places"),
        (Image.new("I;16", (4, 4), 40000), "0.png has more than 8 bits"),
        (Image.new("RGB", (4, 5)), "0.png is 4x5, not square: --crop centre takes the middle"),
    ]
    for image, message in cases:
        folder.mkdir(exist_ok=True)
        image.save(folder / "0.png")
        assert message in refused(capsys, folder, tmp_path / "out")
    opaque = Image.new("RGBA", (4, 4), (1, 2, 3, 255))
    opaque.save(folder / "0.png")
    make(folder, tmp_path / "opaque")
    assert stored(tmp_path / "opaque").images[0, :, 0, 0].tolist() == [1, 2, 3]
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:40])
    assert "0.png cannot be decoded" in refused(capsys, folder, tmp_path / "out2")
    fill(tmp_path / "small", ["a.png"], images(1))
    assert "a.png is 6x6, smaller than the crop of 9" in refused(
        capsys, tmp_path / "small", tmp_path / "x", "--crop", "9"
    )


def test_sizes_must_agree(tmp_path, capsys):
    fill(tmp_path / "in", ["0.png", "1.png"], [images(1, 4, 4)[0], images(1, 6, 6)[0]])
    assert "say --resolution" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "say --resolution" in refused(capsys, tmp_path / "in", tmp_path / "one", "--shard-size", "1")
    make(tmp_path / "in", tmp_path / "good", "--resolution", "4")


def test_same_bytes_with_any_workers(tmp_path):
    fill(tmp_path / "in", [f"{k}/{i}.png" for k in "ab" for i in range(9)], images(18))
    options = ("--shard-size", "4", "--resolution", "5", "--name", "set")
    for i, workers in enumerate(("0", "0", "2")):
        make(tmp_path / "in", tmp_path / f"out{i}", *options, "--workers", workers)
    files = {file.name: file.read_bytes() for file in (tmp_path / "out0").iterdir()}
    assert len(files) == 11  # five shards, five layouts, the index; nothing else is left
    for i in (1, 2):
        assert {file.name: file.read_bytes() for file in (tmp_path / f"out{i}").iterdir()} == files


def test_resumes(tmp_path, monkeypatch, capsys):
    """Stopped in the middle, it goes on, and ends at the same bytes; finished shards are not written again."""
    fill(tmp_path / "in", [f"{'ab'[i % 2]}/{i:02d}.png" for i in range(20)], images(20))
    options = ("--shard-size", "4", "--name", "set")
    make(tmp_path / "in", tmp_path / "whole", *options)
    write, calls = writer._write_shard, []

    def stopped(dest, file, samples):
        calls.append(file)
        if len(calls) == 3:
            raise OSError("no space left")
        return write(dest, file, samples)

    monkeypatch.setattr(writer, "_write_shard", stopped)
    assert "no space left" in refused(capsys, tmp_path / "in", tmp_path / "out", *options)
    with pytest.raises(DataError, match="holds no data set"):
        ShardIndex.read(str(tmp_path / "out"))
    # Something else is not mixed into it.
    assert "beginning of another conversion" in refused(capsys, tmp_path / "in", tmp_path / "out", "--shard-size", "5")
    make(tmp_path / "in", tmp_path / "out", *options)
    assert calls[3:] == ["train-000002.tar", "train-000003.tar", "train-000004.tar"]
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == whole


def test_overwrites_nothing(tmp_path, capsys):
    fill(tmp_path / "in", ["0.png"], images(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "is not empty and is left alone" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]
    make(tmp_path / "in", tmp_path / "set")
    assert "already holds a data set" in refused(capsys, tmp_path / "in", tmp_path / "set")


def test_into_memory(tmp_path):
    fill(tmp_path / "in", ["0.png"], images(1))
    url = f"memory://{uuid.uuid4().hex}/set"
    assert make(tmp_path / "in", url).splits["train"].samples == 1


def test_nothing_to_read(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert "holds no images" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "holds no images" in refused(capsys, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert "cannot be read" in refused(capsys, tmp_path / "a.zip", tmp_path / "out")
    fill(tmp_path / "in", ["a/0.png", "b/1.png", "2.png"], images(3))
    assert "2.png does not: are the folders classes?" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "has the splits train, test, not 'val'" in refused(
        capsys, _cifar(tmp_path / "cifar"), tmp_path / "out", "--split", "val"
    )


def _cifar(folder):
    cifar_files(folder, np.random.default_rng(0))
    return folder / "bin"


def test_a_bar_is_drawn(tmp_path, capsys):
    fill(tmp_path / "in", ["0.png"], images(1))
    assert main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert "1/1" in capsys.readouterr().err


def test_layouts_lie_where_samples_are(tmp_path):
    """The places in the index's own layouts are those of a tar reader; the layout, not a search, is what is used."""
    fill(tmp_path / "in", [f"{i}.png" for i in range(5)], images(5))
    make(tmp_path / "in", tmp_path / "out")
    layout = Layout.from_bytes((tmp_path / "out" / "train-000000.tar.layout").read_bytes())
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        places = [[info.offset_data, info.size] for info in tar]
    assert layout.places[:, 0].tolist() == places

"""Well-known sets, from the files in which they are published."""

import gzip
import pickle
import struct
import tarfile

import numpy as np
import pytest

from realuid.data.sources.arrays import Arrays
from tests.data.making import as_set, expected, images, make, refused, stored


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
    assert (index.channels, index.image_size, index.classes[9]) == (1, (28, 28), "Ankle boot")
    assert as_set(stored(tmp_path / "out", "train")) == expected(pixels[:6], labels[:6])
    assert as_set(stored(tmp_path / "out", "test")) == expected(pixels[6:], labels[6:])


def test_idx_cut_short(tmp_path, capsys):
    for kind, data in (("images-idx3", struct.pack(">IIII", 0x803, 2, 28, 28)), ("labels-idx1", b"")):
        (tmp_path / f"train-{kind}-ubyte").write_bytes(data)
    assert "cut short" in refused(capsys, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_downsampled_imagenet(tmp_path, workers):
    pixels, labels = images(7, 4, 4), [999, 0, 5, 3, 3, 7, 1]
    flat = pixels.transpose(0, 3, 1, 2).reshape(7, -1)
    (tmp_path / "in").mkdir()
    for i, rows in ((1, slice(0, 4)), (2, slice(4, 7))):
        np.savez(tmp_path / "in" / f"train_data_batch_{i}.npz", data=flat[rows], labels=[n + 1 for n in labels[rows]])
    index = make(tmp_path / "in", tmp_path / "out", "--workers", workers, "--shard-size", "4")
    assert len(index.classes) == 1000
    assert as_set(stored(tmp_path / "out")) == expected(pixels, labels)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["train_data_batch_1.npz", "train_data_batch_2.npz", "train_data_batch_4.npz"], "train_data_batch_3.npz"),
        (["train_data_batch_2.npz", "train_data_batch_3.npz"], "train_data_batch_1.npz"),
        (["data_batch_1.bin", "data_batch_2.bin", "data_batch_4.bin", "data_batch_5.bin"], "data_batch_3.bin"),
        (["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"], "test_batch"),
        (["train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"], "train-labels-idx1-ubyte"),
        (["t10k-labels-idx1-ubyte.gz"], "t10k-images-idx3-ubyte"),
    ],
)
def test_a_part_that_is_missing_is_not_passed_over(tmp_path, capsys, names, missing):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"")
    assert f"lacks {missing}, which belongs" in refused(capsys, tmp_path / "in", tmp_path / "out")


def test_labels_may_be_left_out_and_not_replaced(tmp_path, capsys):
    """A table of labels has no use where the source knows its own: it is not ignored."""
    cifar_files(tmp_path / "in", np.random.default_rng(0))
    index = make(tmp_path / "in" / "bin", tmp_path / "out", "--labels", "none")
    assert (index.classes, index.splits["train"].labels) == ((), None)
    (tmp_path / "labels.csv").write_text("a,1\n")
    for source in (tmp_path / "in" / "bin", tmp_path / "in" / "cifar-10-python.tar.gz"):
        line = refused(capsys, source, tmp_path / "x", "--labels", str(tmp_path / "labels.csv"))
        assert "has labels of its own" in line


def test_counts_and_types_must_agree(tmp_path, capsys):
    """One label too few, and numbers that would be rounded."""
    pixels = images(4, 4, 4).transpose(0, 3, 1, 2).reshape(4, -1)
    for name, labels, message in (
        ("short", [1, 2, 3], "4 images and 3 labels"),
        ("floats", [1.0, 2.5, 3.0, 1.0], "labels of float64"),
    ):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "train_data_batch_1.npz", data=pixels, labels=np.array(labels))
        assert message in refused(capsys, tmp_path / name, tmp_path / "x")
    batch = {"data": np.full((2, 3072), 0.7), "labels": [0, 1]}
    (tmp_path / "cifar").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (tmp_path / "cifar" / name).write_bytes(pickle.dumps(batch))
    assert "images of float64" in refused(capsys, tmp_path / "cifar", tmp_path / "x")


def idx(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


BATCH, LABELS, MNIST = np.zeros((4, 12), np.uint8), np.ones(4, np.int64), np.zeros((4, 5, 5), np.uint8)
CIFAR = np.zeros((4, 3072), np.uint8)


@pytest.mark.parametrize(
    ("kind", "pixels", "labels", "message"),
    [
        ("npz", BATCH, np.eye(4, dtype=np.int64), "labels of (4, 4)"),
        ("npz", BATCH, LABELS[:, None], "labels of (4, 1)"),
        ("npz", BATCH, np.array(1), "labels of ()"),
        ("npz", BATCH[0], LABELS, "data are uint8 (12,)"),
        ("npz", np.array(1, np.uint8), LABELS, "data are uint8 ()"),
        ("npz", BATCH[:0], LABELS[:0], "data are uint8 (0, 12)"),
        ("idx", MNIST, np.zeros((4, 10), np.uint8), "labels of (4, 10)"),
        ("idx", MNIST.reshape(4, 25), np.zeros(4, np.uint8), "images of the shape (4, 1, 25)"),
        ("idx", np.zeros((4, 5, 5, 3), np.uint8), np.zeros(4, np.uint8), "images of the shape (4, 1, 5, 5, 3)"),
        ("idx", np.zeros(4, np.uint8), MNIST, "images of the shape (4, 1)"),
        ("idx", MNIST[:0], np.zeros(0, np.uint8), "is empty"),
        ("cifar", CIFAR, [[0], [1], [2], [3]], "labels of (4, 1)"),
        ("cifar", CIFAR[:0], np.zeros(0, np.int64), "is empty"),
    ],
)
def test_arrays_of_other_shapes(tmp_path, capsys, kind, pixels, labels, message):
    """Labels one-hot or in a column, pixels in a row, colours behind, the two files exchanged, nothing at all."""
    place = tmp_path / "in"
    place.mkdir()
    if kind == "npz":
        np.savez(place / "train_data_batch_1.npz", data=pixels, labels=labels)
    elif kind == "idx":
        (place / "train-images-idx3-ubyte").write_bytes(idx(pixels))
        (place / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    else:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            (place / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}))
    assert message in refused(capsys, place, tmp_path / "x")


def test_other_labels_or_pixels_are_another_source():
    """By which a conversion that was interrupted is not continued with them."""
    pixels, labels = images(300, 2, 2).transpose(0, 3, 1, 2), np.arange(300) % 7

    def fingerprint(pixels, labels):
        return Arrays("x", [(pixels, labels)], ("a",) * 7).fingerprint()

    first, others, other = fingerprint(pixels, labels), labels.copy(), pixels.copy()
    others[-1] += 1
    other[200] += 1
    assert fingerprint(pixels.copy(), labels.copy()) == first
    assert len({first, fingerprint(pixels, others), fingerprint(other, labels)}) == 3


def test_an_archive_cut_short(tmp_path, capsys):
    cifar_files(tmp_path / "in", np.random.default_rng(0))
    for name in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"):
        file = tmp_path / "in" / name
        file.write_bytes(file.read_bytes()[:-200])
        assert f"{name} cannot be unpacked" in refused(capsys, file, tmp_path / "x")


def test_a_stray_archive_of_arrays_is_no_data_set(tmp_path):
    """Features or statistics that lie among images."""
    from tests.data.making import fill

    fill(tmp_path / "in", ["a.png", "b.png"], images(2))
    np.savez(tmp_path / "in" / "statistics.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert make(tmp_path / "in", tmp_path / "out").splits["train"].samples == 2

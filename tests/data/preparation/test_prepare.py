"""From files to members: the pixels that were asked for, and nothing lost unseen."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from realuid.data.memory import InMemory
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import shards_set, tar
from tests.data.making import as_set, expected, fill, images, make, refused, stored
from tests.data.sources.test_published import Bomb


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_latents(tmp_path, dtype):
    latents = np.random.default_rng(0).normal(size=(5, 4, 8, 8)).astype(dtype)
    for i, latent in enumerate(latents):
        (tmp_path / "in" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "in" / str(i % 2) / f"{i}.npy", latent)
    index = make(tmp_path / "in", tmp_path / "out", "--format", "npy")
    assert (index.channels, index.image_size, index.dtype) == (4, (8, 8), dtype)
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
        (Image.new("RGBA", (4, 4), (1, 2, 3, 128)), "0.png is not taken: it is transparent in places"),
        (Image.new("I;16", (4, 4), 40000), "0.png is not taken: it has more than 8 bits"),
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


@pytest.mark.parametrize("reader", [InMemory, Streaming])
@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).normal(size=(4, 4, 8)).astype(np.float32),
        np.random.default_rng(0).normal(size=(4, 8, 4)).astype(np.float16),
        np.random.default_rng(0).normal(size=(4, 8, 8)).astype(">f4"),
        np.random.default_rng(0).normal(size=(4, 8, 8)).astype(">f2"),
        np.asfortranarray(np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)),
        np.random.default_rng(0).integers(0, 256, (3, 4, 6)).astype(np.uint8),
    ],
    ids=["wide", "tall", "big-endian", "big-endian halves", "Fortran's order", "pixels"],
)
def test_what_is_accepted_can_be_read(tmp_path, reader, array):
    """Arrays that are not square, or of another byte order."""
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", array)
    index = make(tmp_path / "in", tmp_path / "out")
    assert (index.channels, *index.image_size) == array.shape
    found = stored(tmp_path / "out", cls=reader).images[0].numpy()
    assert found.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(found, array)


def test_big_endian_members_of_others(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(">f4")
    file = io.BytesIO()
    np.save(file, array)
    about = {"image_size": 8, "channels": 4, "classes": [], "dtype": "float32"}
    path = shards_set(tmp_path / "set", [tar([("a.npy", file.getvalue())])], [1], **about)
    for reader in (InMemory, Streaming):
        assert np.array_equal(stored(path, cls=reader).images[0].numpy(), array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((32, 32, 4), np.float32), "looks like [H, W, C]"),
        (np.zeros((48, 64, 3), np.uint8), "looks like [H, W, C]"),
        (np.zeros((64, 64, 16), np.float16), "looks like [H, W, C]"),
        (np.zeros((4, 8, 8), np.float64), "is no array [C, H, W] of uint8, float16, float32, but float64"),
        (np.zeros((4, 0, 8), np.float32), "is no array [C, H, W]"),
        (np.zeros((4, 8, 8), np.complex64), "is no array [C, H, W]"),
    ],
)
def test_arrays_that_no_reader_takes(tmp_path, capsys, array, message):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", array)
    assert message in refused(capsys, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("shape", [(128, 4, 4), (32, 4, 4), (4, 8, 4), (16, 16, 16), (3, 64, 2)])
def test_latents_of_many_channels_are_taken(tmp_path, shape):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", np.zeros(shape, np.float32))
    assert make(tmp_path / "in", tmp_path / "out").channels == shape[0]


def test_a_header_that_claims_too_much(tmp_path, capsys):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (4, 10**6, 10**6)})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npy").write_bytes(file.getvalue() + bytes(64))
    assert "more than its bytes" in refused(capsys, tmp_path / "in", tmp_path / "out")
    about = {"image_size": 8, "channels": 4, "classes": [], "dtype": "float32"}
    path = shards_set(tmp_path / "set", [tar([("a.npy", file.getvalue() + bytes(64))])], [1], **about)
    with pytest.raises(DataError, match="sample a: the npy member cannot be read: it claims"):
        stored(path)


def test_images_that_are_not_square(tmp_path, capsys):
    """Stored as they are; resized only to their own shape, or cropped to another."""
    pixels = images(3, 12, 16)
    fill(tmp_path / "in", [f"{i}.png" for i in range(3)], pixels)
    index = make(tmp_path / "in", tmp_path / "out")
    assert index.image_size == (12, 16)
    for reader in (InMemory, Streaming):
        assert as_set(stored(tmp_path / "out", cls=reader)) == expected(pixels, [0] * 3)
    assert make(tmp_path / "in", tmp_path / "small", "--resolution", "8x6").image_size == (6, 8)
    resized = [np.asarray(pil(image).resize((8, 6), Image.LANCZOS)) for image in pixels]
    assert as_set(stored(tmp_path / "small")) == expected(resized, [0] * 3)
    for size in ("6x8", "8"):
        line = refused(capsys, tmp_path / "in", tmp_path / "no", "--resolution", size)
        assert "is 16x12, not of the shape of" in line
    make(tmp_path / "in", tmp_path / "middle", "--crop", "centre", "--resolution", "6x8")
    cropped = [np.asarray(pil(image).crop((3, 0, 12, 12)).resize((6, 8), Image.LANCZOS)) for image in pixels]
    assert as_set(stored(tmp_path / "middle")) == expected(cropped, [0] * 3)
    make(tmp_path / "in", tmp_path / "window", "--crop", "10x4")
    assert as_set(stored(tmp_path / "window")) == expected(pixels[:, 4:8, 3:13], [0] * 3)
    assert "the preparation of ADM gives squares" in refused(
        capsys, tmp_path / "in", tmp_path / "no", "--crop", "adm", "--resolution", "8x6"
    )


def test_halves_that_are_not_square(tmp_path):
    wide = images(2, 6, 20)
    fill(tmp_path / "in", ["a.png", "b.png"], wide)
    index = make(tmp_path / "in", tmp_path / "out", "--side-by-side", "left")
    assert index.image_size == (6, 10)
    batch = stored(tmp_path / "out", pairs=True)
    joined = torch.cat([batch.sources, batch.images], dim=3).permute(0, 2, 3, 1).numpy()
    assert {image.tobytes() for image in joined} == {image.tobytes() for image in wide}

"""Pictures come out as every viewer shows them, wherever they are read, and nothing of them is lost unseen."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from realuid.data.image_files import read_images
from realuid.data.memory import InMemory
from realuid.data.pictures import flat, opened, upright
from realuid.data.shards.decode import DamagedSample, Form, decode_image
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import shards_set, tar
from tests.data.making import as_set, fill, images, make, refused, stored


def turned(orientation, kind="PNG", width=6, height=4):
    """A file that tells an orientation; the pixels are blocks, so that JPEG keeps them apart."""
    pixels = np.kron(images(1, height, width, seed=orientation)[0] // 128 * 200, np.ones((8, 8, 1), np.uint8))
    image, file = Image.fromarray(pixels), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    image.save(file, kind, exif=exif, **options)
    return file.getvalue()


def seen(data):
    """By Pillow's own function for it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")).transpose(2, 0, 1)


def png(pixels, colour, depth=16, extra=b""):
    """A PNG put together by hand: Pillow writes none of 16 bits with colours. `colour` is 0 grey, 2 RGB, 4 grey with
    alpha, 6 RGBA."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in pixels)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation, kind):
    """All eight, on images that are not square, and in the shape that is seen."""
    data = turned(orientation, kind)
    shape = (3, 32, 48) if orientation < 5 else (3, 48, 32)
    pixels = decode_image("x", kind.lower().replace("jpeg", "jpg"), data, Form(shape, 0))
    assert np.array_equal(pixels, seen(data))
    with pytest.raises(DamagedSample, match="pixels in mode RGB, the index says"):
        decode_image("x", "png", data, Form((3, shape[2], shape[1]), 0))


def test_orientation_in_xmp_alone():
    """As some editors write it."""
    note = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    file = io.BytesIO()
    Image.fromarray(images(1, 8, 16)[0]).save(file, "WEBP", lossless=True, xmp=note)
    assert upright(opened(file.getvalue())).size == seen(file.getvalue()).shape[:0:-1] == (8, 16)


@pytest.mark.parametrize("form", ["keep", "png", "jpg", "npy"])
def test_orientation_is_not_lost_on_the_way(tmp_path, form):
    """Into shards, in whatever format, and out of shards of others; each is turned once."""
    files = {"a.jpg": turned(6, "JPEG"), "b.png": turned(3, height=6, width=4), "c.webp": turned(1, "WEBP", 4, 6)}
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    make(tmp_path / "in", tmp_path / "out", "--format", form, "--quality", "95")
    pixels = [seen(data).tobytes() for data in files.values()]
    found = sorted(int(image.sum()) for image in stored(tmp_path / "out").images)
    expected = sorted(int(seen(data).sum()) for data in files.values())
    assert np.allclose(found, expected, rtol=0.002 if form == "jpg" else 0)
    if form != "jpg":
        assert {image for image, _ in as_set(stored(tmp_path / "out"))} == {
            seen(data).tobytes() for data in files.values()
        }
    shard = tar(list(files.items()))
    path = shards_set(tmp_path / "set", [shard], [3], image_size=[48, 32], channels=3, classes=[])
    for reader in (InMemory, Streaming):
        batch = stored(path, cls=reader, shape=(3, 48, 32), classes=0)
        assert [image.numpy().tobytes() for image in batch.images] == pixels
    given = read_images(str(tmp_path / "in"), (3, 48, 32))
    assert [image.numpy().tobytes() for image in given] == pixels


WIDE = np.arange(4 * 4 * 4, dtype=np.uint16).reshape(4, 4, 4) * 1000
OPAQUE = np.concatenate([WIDE[..., :3], np.full((4, 4, 1), 65535, np.uint16)], axis=2)


@pytest.mark.parametrize(
    "data",
    [
        png(WIDE[..., :3], 2),
        png(OPAQUE, 6),
        png(WIDE[..., :1], 0),
        png(OPAQUE[..., 2:], 4),
    ],
    ids=["RGB", "opaque RGBA", "grey", "grey and alpha"],
)
def test_sixteen_bits_are_refused_everywhere(tmp_path, capsys, data):
    """Pillow would drop the lower eight of all but grey without a word."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(data)
    line = refused(capsys, tmp_path / "in", tmp_path / "out", "--skip-damaged")
    assert "a.png is not taken: it has more than 8 bits a channel" in line
    with pytest.raises(DamagedSample, match="more than 8 bits"):
        decode_image("x", "png", data, Form((3, 4, 4), 0))
    with pytest.raises(DataError, match="more than 8 bits"):
        read_images(str(tmp_path / "in"), (3, 4, 4))


def test_a_background_for_what_is_transparent(tmp_path, capsys):
    """Composed as alpha says: c = a f + (1 - a) b; refused without one, also a palette with a transparent colour."""
    rgba = images(1, channels=4, seed=3)[0]
    palette = Image.new("P", (6, 6), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.info["transparency"] = 1
    keyed = png(np.full((6, 6, 3), 7), 2, depth=8, extra=chunk_of_transparent(7))
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=1)
    sources = {"rgba": encoded(rgba), "palette": file.getvalue(), "keyed": keyed}
    for name, data in sources.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(data)
        assert "a.png is not taken: it is transparent" in refused(capsys, tmp_path / name, tmp_path / "out")
        with pytest.raises(DataError, match="transparent"):
            read_images(str(tmp_path / name), (3, 6, 6))
    make(tmp_path / "rgba", tmp_path / "red", "--background", "#ff0000")
    alpha = rgba[..., 3:].astype(float) / 255
    expected = alpha * rgba[..., :3] + (1 - alpha) * np.array([255, 0, 0])
    found = stored(tmp_path / "red").images[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1
    for name in ("palette", "keyed"):
        make(tmp_path / name, tmp_path / f"{name} out", "--background", "white")
        assert stored(tmp_path / f"{name} out").images.min() == 255


def test_transparency_in_shards_of_others():
    """A palette with a transparent colour has a mode that readers take: it is not flattened unseen."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30])
    for transparent, message in ((None, None), (0, "transparent in places")):
        file = io.BytesIO()
        image.save(file, "PNG", **({} if transparent is None else {"transparency": transparent}))
        if message is None:
            assert decode_image("x", "png", file.getvalue(), Form((3, 4, 4), 0))[:, 0, 0].tolist() == [10, 20, 30]
        else:
            with pytest.raises(DamagedSample, match=message):
                decode_image("x", "png", file.getvalue(), Form((3, 4, 4), 0))


def test_pictures_of_cameras(tmp_path):
    """MPO: a JPEG with another picture behind it. It is kept as it is, and read."""
    first, second = (Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (50, 200))
    (tmp_path / "in").mkdir()
    first.save(tmp_path / "in" / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "in" / "a.jpg").format == "MPO"
    for form in ("keep", "jpg", "png"):
        make(tmp_path / "in", tmp_path / form, "--format", form)
        for reader in (InMemory, Streaming):
            assert (stored(tmp_path / form, cls=reader).images.int() - 50).abs().max() <= 2
    assert read_images(str(tmp_path / "in"), (3, 16, 16)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_not_their_first_picture(tmp_path, capsys, kind):
    frames = [Image.fromarray(image) for image in images(3)]
    (tmp_path / "in").mkdir()
    frames[0].save(tmp_path / "in" / "a.png", kind, save_all=True, append_images=frames[1:])
    assert "an animation of 3 pictures" in refused(capsys, tmp_path / "in", tmp_path / "out")
    with pytest.raises(DamagedSample, match="an animation of 3 pictures"):
        decode_image("x", "png", (tmp_path / "in" / "a.png").read_bytes(), Form((3, 6, 6), 0))


def test_messages_name_the_file_and_no_object(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png"], images(1))
    for content in (b"", b"GIF89a", b"<html>", b"\x89PNG\r\n\x1a\n", (tmp_path / "in" / "a.png").read_bytes()[:60]):
        (tmp_path / "in" / "a.png").write_bytes(content)
        line = refused(capsys, tmp_path / "in", tmp_path / "out")
        assert "a.png cannot be decoded: " in line
        assert "<_io" not in line
        with pytest.raises(DataError) as caught:
            read_images(str(tmp_path / "in"), (3, 6, 6))
        assert "<_io" not in str(caught.value)


def test_opaque_pictures_are_flat():
    opaque = Image.fromarray(np.concatenate([images(1)[0], np.full((6, 6, 1), 255, np.uint8)], axis=2))
    assert np.array_equal(np.asarray(flat(opaque, "RGB")), images(1)[0])


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def chunk_of_transparent(level):
    data = struct.pack(">HHH", level, level, level)
    return struct.pack(">I", 6) + b"tRNS" + data + struct.pack(">I", zlib.crc32(b"tRNS" + data))

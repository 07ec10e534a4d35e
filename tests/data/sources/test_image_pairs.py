"""Pairs from two folders, or in one image each."""

import numpy as np
import pytest
import torch

from realuid.data.memory import InMemory
from realuid.data.streaming import Streaming
from tests.data.handmade import encode
from tests.data.making import fill, images, make, refused, stored


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


def joined(dest, **changes):
    batch = stored(dest, pairs=True, **changes)
    return {pair.tobytes() for pair in torch.cat([batch.images, batch.sources], dim=1).numpy()}


def chw(pixels):
    return pixels.transpose(0, 3, 1, 2)


def test_partners_are_told_apart_by_their_whole_name(tmp_path, capsys):
    """a.png and a.jpg are two images: each has the partner of its own name, or nobody can tell."""
    ones, others = images(2), images(2, seed=1)
    for folder, pixels in (("x1", ones), ("x0", others)):
        fill(tmp_path / folder, ["a.png", "a.webp"], pixels)
        (tmp_path / folder / "a.webp").write_bytes(encode(pixels[1]))  # misnamed, so that it loses nothing
    make(tmp_path / "x1", tmp_path / "out", "--pairs", str(tmp_path / "x0"))
    pairs = np.concatenate([chw(ones), chw(others)], axis=1)
    assert joined(tmp_path / "out") == {pair.tobytes() for pair in pairs}
    (tmp_path / "x0" / "a.webp").rename(tmp_path / "x0" / "a.jpeg")
    line = refused(capsys, tmp_path / "x1", tmp_path / "no", "--pairs", str(tmp_path / "x0"))
    assert "a.png and a.webp could both be the partner of a" in line


def test_partners_of_another_kind(tmp_path):
    ones, others = images(3), images(3, seed=1)
    fill(tmp_path / "x0", [f"{i}.png" for i in "cab"], others)
    (tmp_path / "x1").mkdir()
    for name, image in zip("cab", ones, strict=True):  # misnamed, so that it loses nothing
        (tmp_path / "x1" / f"{name}.webp").write_bytes(encode(image))
    make(tmp_path / "x1", tmp_path / "out", "--pairs", str(tmp_path / "x0"))
    pairs = np.concatenate([chw(ones), chw(others)], axis=1)
    assert joined(tmp_path / "out") == {pair.tobytes() for pair in pairs}


def test_pairs_in_splits(tmp_path, capsys):
    ones, others = images(2), images(2, seed=1)
    fill(tmp_path / "x1", ["train/a.png", "val/b.png"], ones)
    fill(tmp_path / "x0", ["train/a.png", "val/b.png"], others)
    index = make(tmp_path / "x1", tmp_path / "out", "--pairs", str(tmp_path / "x0"))
    assert list(index.splits) == ["train", "val"]
    pairs = np.concatenate([chw(ones), chw(others)], axis=1)
    assert joined(tmp_path / "out", split="val") == {pairs[1].tobytes()}
    (tmp_path / "x0" / "val").rename(tmp_path / "x0" / "test")
    line = refused(capsys, tmp_path / "x1", tmp_path / "no", "--pairs", str(tmp_path / "x0"))
    assert "has the splits train, val" in line

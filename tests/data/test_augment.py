"""Flips and crops: by position, so that cutting the order into other batches changes nothing."""

import numpy as np
import pytest
import torch

from realuid.data.augment import Cropped, Flipped
from realuid.data.degradations import Grey
from realuid.data.memory import InMemory
from realuid.data.order import bits
from realuid.data.pairs import Degraded
from realuid.data.shards.writer import NewSample, write_shards

CPU = torch.device("cpu")


@pytest.fixture
def noise(tmp_path):
    """40 images of noise, 3x6x6."""
    rng = np.random.default_rng(0)
    samples = [NewSample(rng.integers(0, 256, (3, 6, 6), np.uint8)) for _ in range(40)]
    about = {"name": "noise", "classes": (), "shape": (3, 6, 6), "source": "-", "licence": "-"}
    write_shards(samples, str(tmp_path / "noise"), split="train", shard_size=100, **about)
    return InMemory(path=str(tmp_path / "noise"), shape=(3, 6, 6))


def test_half_are_flipped(noise):
    data = Flipped(data=noise)
    data.open(seed=0, device=CPU)
    given, bare = data.batch(0, 4000).images, noise.batch(0, 4000).images
    same = (given == bare).flatten(1).all(1)
    mirrored = (given == bare.flip(-1)).flatten(1).all(1)
    assert torch.equal(same, ~mirrored)
    assert abs(mirrored.sum() - 2000) < 4 * 1000**0.5
    # An image is not flipped for ever: each is in both ways over the epochs.
    assert torch.equal(data.examples(0, 40).images, noise.examples(0, 40).images)
    assert data.checksum == noise.checksum


@pytest.mark.parametrize("wrap", [lambda d: Flipped(data=d), lambda d: Cropped(data=d, size=4)])
def test_however_it_is_cut(noise, wrap):
    data = wrap(noise)
    data.open(seed=5, device=CPU)
    whole = data.batch(0, 100).images
    parts = torch.cat([data.batch(a, b - a).images for a, b in ((0, 1), (1, 38), (38, 79), (79, 100))])
    assert torch.equal(whole, parts)
    other = wrap(noise)
    other.open(seed=6, device=CPU)
    assert not torch.equal(other.batch(0, 100).images, whole)


@pytest.mark.parametrize("wrap", [lambda d: Flipped(data=d), lambda d: Cropped(data=d, size=4, padding=1)])
def test_sources_alike(noise, wrap):
    """Grey is pixel by pixel: degrading after is degrading before, if the source is treated as its image is."""
    after, before = Degraded(data=wrap(noise), degradation=Grey()), wrap(Degraded(data=noise, degradation=Grey()))
    assert before.has_sources
    for data in (after, before):
        data.open(seed=1, device=CPU)
    for one, other in (
        (after.batch(3, 50), before.batch(3, 50)),
        (after.examples(0, 40), before.examples(0, 40)),
    ):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.sources, other.sources)


def test_crops_come_from_everywhere(noise):
    data = Cropped(data=noise, size=4)
    assert data.shape == (3, 4, 4)
    data.open(seed=0, device=CPU)
    given, bare = data.batch(0, 3600).images, noise.batch(0, 3600).images
    places = np.zeros((3, 3), int)
    for top in range(3):
        for left in range(3):
            places[top, left] = (given == bare[..., top : top + 4, left : left + 4]).flatten(1).all(1).sum()
    assert places.sum() == 3600
    assert ((places - 400) ** 2 / 400).sum() < 30  # chi-squared, 8 degrees of freedom
    assert torch.equal(data.examples(0, 40).images, noise.examples(0, 40).images[..., 1:5, 1:5])
    assert data.checksum != noise.checksum


def test_padding_mirrors(noise):
    data = Cropped(data=noise, size=6, padding=2)
    data.open(seed=0, device=CPU)
    given, bare = data.batch(0, 40).images.numpy(), noise.batch(0, 40).images.numpy()
    padded = np.pad(bare, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    for image, wide in zip(given, padded, strict=True):
        cuts = [wide[:, t : t + 6, l : l + 6] for t in range(5) for l in range(5)]  # noqa: E741
        assert sum(np.array_equal(image, cut) for cut in cuts) == 1
    assert torch.equal(data.examples(0, 40).images, noise.examples(0, 40).images)
    assert data.checksum == noise.checksum


@pytest.mark.parametrize("arguments", [{"size": 7}, {"size": 0}, {"size": 4, "padding": 6}, {"size": 4, "padding": -1}])
def test_crops_that_do_not_fit(noise, arguments):
    with pytest.raises(ValueError, match="Cropped takes no"):
        Cropped(data=noise, **arguments)


def test_bits_by_position():
    """However the positions are cut; the bits are balanced and unrelated to those of their neighbours."""
    whole = bits(12345, 10, 100_000)
    np.testing.assert_array_equal(np.concatenate([bits(12345, 10, 999), bits(12345, 1009, 99_001)]), whole)
    assert not np.array_equal(bits(12346, 10, 100_000), whole)
    unpacked = np.unpackbits(whole.view(np.uint8).reshape(-1, 8), axis=1)
    assert np.abs(unpacked.mean(axis=0) - 0.5).max() < 5 * 0.5 / 100_000**0.5
    neighbours = (unpacked[1:] == unpacked[:-1]).mean(axis=0)
    assert np.abs(neighbours - 0.5).max() < 5 * 0.5 / 100_000**0.5


def test_bits_are_splitmix():
    """The first numbers of splitmix64 started at zero, as published with xoshiro."""
    assert [hex(value) for value in bits(0, 0, 3)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]

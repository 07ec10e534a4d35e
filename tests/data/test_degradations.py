"""Degradations against independent implementations; each image by itself, for ever the same."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from realuid.data.degradations import CentreMask, DownUp, Edges, Grey, JPEGDegradation, RandomMask

ALL = [
    DownUp(factor=4),
    DownUp(factor=2, filter="bilinear"),
    DownUp(factor=4, filter="bicubic"),
    JPEGDegradation(quality=10),
    CentreMask(fraction=0.5),
    RandomMask(fraction=0.3),
    Grey(),
    Edges(),
]


@pytest.fixture(scope="module")
def images():
    """Smooth colour images with some noise, uint8 [12, 3, 16, 16]."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(12, 3, 16, 16)), (0, 0, 2, 2)) * 400
    return torch.from_numpy((128 + smooth + rng.normal(size=smooth.shape) * 5).clip(0, 255).astype(np.uint8))


def pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("degrade", ALL, ids=lambda d: type(d).__name__)
def test_a_function_of_each_image_alone(images, degrade):
    together = degrade(images)
    assert together.shape == images.shape
    assert together.dtype == torch.uint8
    assert together.is_contiguous()
    assert not torch.equal(together, images)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(degrade(images[order]), together[order])
    for image, expected in zip(images, together, strict=True):
        assert torch.equal(degrade(image[None])[0], expected)


@pytest.mark.parametrize("degrade", ALL, ids=lambda d: type(d).__name__)
def test_grey_sets(images, degrade):
    assert degrade(images[:, :1]).shape == images[:, :1].shape


@pytest.mark.parametrize("degrade", ALL, ids=lambda d: type(d).__name__)
def test_images_stay_as_they_are(images, degrade):
    before = images.clone()
    degrade(images)
    assert torch.equal(images, before)


def test_box_is_the_mean_of_blocks(images):
    means = images.numpy().reshape(12, 3, 4, 4, 4, 4).mean(axis=(3, 5))
    expected = np.rint(means).repeat(4, axis=2).repeat(4, axis=3)
    np.testing.assert_array_equal(DownUp(factor=4)(images).numpy(), expected)


@pytest.mark.parametrize(("filter", "kind"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_filters_are_pillows(images, filter, kind):
    images = (images * 0.4 + 80).to(torch.uint8)  # away from the ends, where Pillow also cuts between its two passes
    for image, ours in zip(images, DownUp(factor=4, filter=filter)(images), strict=True):
        theirs = pil(image).resize((4, 4), kind).resize((16, 16), kind)
        assert np.abs(np.asarray(theirs).astype(int) - ours.permute(1, 2, 0).numpy()).max() <= 2  # Pillow rounds thrice


def test_jpeg_is_pillows(images):
    for image, ours in zip(images, JPEGDegradation(quality=20)(images), strict=True):
        file = io.BytesIO()
        pil(image).save(file, "JPEG", quality=20)
        np.testing.assert_array_equal(np.asarray(Image.open(file)), ours.permute(1, 2, 0).numpy())


def test_centre_mask(images):
    masked = CentreMask(fraction=0.5, fill=7)(images)
    assert (masked[..., 4:12, 4:12] == 7).all()
    masked[..., 4:12, 4:12] = images[..., 4:12, 4:12]
    assert torch.equal(masked, images)


def test_random_mask_is_a_square_anywhere(images):
    rng = np.random.default_rng(1)
    noise = torch.from_numpy(rng.integers(1, 256, (2000, 1, 8, 8), np.uint8))
    holes = RandomMask(fraction=0.5, fill=0)(noise) == 0
    tops = holes[:, 0].any(dim=2).int().argmax(dim=1)
    lefts = holes[:, 0].any(dim=1).int().argmax(dim=1)
    for hole, top, left in zip(holes, tops, lefts, strict=True):
        assert hole.sum() == 16
        assert hole[0, top : top + 4, left : left + 4].all()
    # 25 places, uniform and independent: a chi-squared of 24 degrees of freedom stays below 60.
    places = np.bincount((tops * 5 + lefts).numpy(), minlength=25)
    assert ((places - 80) ** 2 / 80).sum() < 60


def test_random_mask_follows_each_pixel():
    """Images that differ in one level are masked independently of each other."""
    base = torch.full((64, 3, 8, 8), 100, dtype=torch.uint8)
    base.view(64, -1)[torch.arange(64), torch.arange(64)] += 1
    holes = RandomMask(fraction=0.5, fill=0)(base)[:, 0] == 0
    assert len({hole.numpy().tobytes() for hole in holes}) > 15


def test_random_mask_is_frozen():
    """Runs are resumed by later versions: the place of a hole may never change."""
    images = torch.arange(3 * 64).reshape(3, 1, 8, 8).to(torch.uint8)
    holes = RandomMask(fraction=0.25, fill=255)(images)[:, 0] != images[:, 0]
    assert [hole.nonzero()[0].tolist() for hole in holes] == [[3, 3], [5, 2], [1, 4]]


def test_grey_is_pillows_luma(images):
    for image, ours in zip(images, Grey()(images), strict=True):
        assert torch.equal(ours[0], ours[1])
        assert torch.equal(ours[0], ours[2])
        assert np.abs(np.asarray(pil(image).convert("L")).astype(int) - ours[0].numpy()).max() <= 1


def test_edges_are_scipys_sobel(images):
    luma = (images.double() * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]).sum(1).numpy()
    for one, ours in zip(luma, Edges()(images)[:, 1].numpy(), strict=True):
        expected = np.hypot(*(ndimage.sobel(one, axis=axis, mode="mirror") for axis in (0, 1))).clip(0, 255)
        assert np.abs(ours - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DownUp(factor=1), "factor from 2"),
        (lambda: DownUp(factor=2, filter="lanczos"), "box, bilinear, bicubic"),
        (lambda: DownUp(factor=3)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), "3 does not divide images of 8x8"),
        (lambda: JPEGDegradation(quality=0), "quality is 1 to 95"),
        (lambda: CentreMask(fraction=0.0), r"fraction in \(0, 1\]"),
        (lambda: RandomMask(fill=256), "fill of 0 to 255"),
    ],
)
def test_wrong_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from realuid.evaluation.paired import LPIPS, PSNR, SSIM
from realuid.utils.errors import DataError


def pairs(count=6, size=24, channels=1):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 200, (count, channels, size, size), generator=generator, dtype=torch.uint8)
    return images, images + torch.randint(0, 40, images.shape, generator=generator, dtype=torch.uint8)


def measured(metric, one, other, pieces=1):
    for some, truth in zip(one.tensor_split(pieces), other.tensor_split(pieces), strict=True):
        metric.update(some, truth)
    return metric.compute()


def test_psnr_is_over_all_pixels_together():
    one, other = pairs()
    error = (one.double() - other.double()).square().mean().item()
    assert measured(PSNR(), one, other, pieces=4) == pytest.approx(10 * math.log10(255**2 / error))
    assert measured(PSNR(), one, one) == pytest.approx(148.13, abs=0.01)


def test_ssim_is_the_published_formula():
    one, other = pairs()
    blur = {"sigma": 1.5, "truncate": 5 / 1.5, "mode": "reflect"}  # eleven pixels
    values = []
    for a, b in zip(one[:, 0].double().numpy(), other[:, 0].double().numpy(), strict=True):
        ma, mb = gaussian_filter(a, **blur), gaussian_filter(b, **blur)
        va, vb = gaussian_filter(a * a, **blur) - ma**2, gaussian_filter(b * b, **blur) - mb**2
        cab = gaussian_filter(a * b, **blur) - ma * mb
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        index = (2 * ma * mb + c1) * (2 * cab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
        values.append(index[5:-5, 5:-5].mean())
    assert measured(SSIM(), one, other, pieces=3) == pytest.approx(np.mean(values), rel=1e-4)
    assert measured(SSIM(), one, one) == pytest.approx(1)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(DataError, match="window of 11 pixels: images of 8x8 are too small"):
        SSIM().prepare((1, 8, 8), "cpu")


def test_lpips_without_its_weights_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: (_ for _ in ()).throw(OSError("no net")))
    with torch.random.fork_rng(devices=[]), pytest.raises(DataError, match="LPIPS needs torchvision and the weights"):
        LPIPS().prepare((3, 64, 64), "cpu")


def test_refusals():
    one, _ = pairs()
    with pytest.raises(TypeError, match="PSNR takes uint8 images"):
        PSNR().update(one.float(), one)
    with pytest.raises(ValueError, match="alex, vgg or squeeze"):
        LPIPS(network="resnet")

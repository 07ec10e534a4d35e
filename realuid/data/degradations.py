"""Degradations: what makes the source image x0 of a restoration problem out of an image x1.

Each is a function of the image alone. Whatever is random is seeded by a hash of the pixels, so that an image keeps its
degraded self in every epoch, order and process.
"""

import io
from abc import ABC, abstractmethod

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from realuid.utils.errors import DataError
from realuid.utils.keys import key

__all__ = ["CentreMask", "Degradation", "DownUp", "Edges", "Grey", "JPEGDegradation", "RandomMask"]

FILTERS = ("box", "bilinear", "bicubic")


class Degradation(ABC):
    """Images uint8 [n, C, H, W] to degraded ones of the same shape and type, each by itself."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor: ...


def degraded(wrapper: str, degradation: Degradation, images: Tensor) -> Tensor:
    """What `degradation` makes of a batch's images.

    Raises:
        DataError: they are latents; the line names the data set that wraps them.
    """
    if images.dtype != torch.uint8:
        raise DataError(f"{wrapper}.data gives {images.dtype} arrays: degradations are of uint8 images")
    return degradation(images)


class DownUp(Degradation):
    """Fewer pixels and back to the same size by the same filter, as in super-resolution.

    With `box` a block of factor x factor pixels becomes its mean (the sr4x-pool of I2SB, arXiv 2302.05872, appendix);
    the others are torch's antialiased filters.

    Args:
        factor: by which either side shrinks; must divide it.
        filter: `box`, `bilinear` or `bicubic`.
    """

    def __init__(self, *, factor: int, filter: str = "box") -> None:
        if factor < 2 or filter not in FILTERS:
            raise ValueError(f"DownUp takes a factor from 2 and one of {', '.join(FILTERS)}, got {factor}, {filter!r}")
        self.factor, self.filter = factor, filter

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(f"DownUp.factor = {self.factor} does not divide images of {height}x{width}")
        x = images.to(torch.float32)
        if self.filter == "box":
            x = F.interpolate(F.avg_pool2d(x, self.factor), scale_factor=self.factor, mode="nearest")
        else:
            size = (height // self.factor, width // self.factor)
            # Levels between the passes, too: the small image is an image.
            x = _levels(F.interpolate(x, size, mode=self.filter, antialias=True)).to(torch.float32)
            x = F.interpolate(x, (height, width), mode=self.filter, antialias=True)
        return _levels(x)


class JPEGDegradation(Degradation):
    """JPEG's losses, by Pillow, which runs on the CPU.

    Args:
        quality: 1 to 95; 10 shows blocks, 5 is what I2SB restores.
    """

    def __init__(self, *, quality: int = 10) -> None:
        if not 1 <= quality <= 95:
            raise ValueError(f"JPEGDegradation.quality is 1 to 95, got {quality}")
        self.quality = quality

    def __call__(self, images: Tensor) -> Tensor:
        given = images.permute(0, 2, 3, 1).cpu().numpy()
        taken = np.empty_like(given)
        for image, out in zip(given, taken, strict=True):
            file = io.BytesIO()
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=self.quality)
            with Image.open(file, formats=("JPEG",)) as decoded:
                out[...] = np.asarray(decoded).reshape(out.shape)
        return torch.from_numpy(taken).to(images.device).permute(0, 3, 1, 2).contiguous()


class CentreMask(Degradation):
    """A square in the middle replaced by one level, as in inpainting.

    Args:
        fraction: side of the square as a share of the image's, in (0, 1], rounded to whole pixels.
        fill: the level, 0 to 255.
    """

    def __init__(self, *, fraction: float = 0.5, fill: int = 128) -> None:
        _check_mask(fraction, fill)
        self.fraction, self.fill = fraction, fill

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        tall, wide = round(self.fraction * height), round(self.fraction * width)
        top, left = (height - tall) // 2, (width - wide) // 2
        masked = images.clone()
        masked[..., top : top + tall, left : left + wide] = self.fill
        return masked


class RandomMask(Degradation):
    """A square at a random place replaced by one level; the place is drawn by a hash of the pixels.

    Args:
        fraction: side of the square as a share of the image's, in (0, 1], rounded to whole pixels.
        fill: the level, 0 to 255.
    """

    def __init__(self, *, fraction: float = 0.5, fill: int = 128) -> None:
        _check_mask(fraction, fill)
        self.fraction, self.fill = fraction, fill

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        tall, wide = round(self.fraction * height), round(self.fraction * width)
        hashes = _hashes(images)
        tops = (hashes >> 1) % (height - tall + 1)
        lefts = (hashes >> 31) % (width - wide + 1)
        rows = torch.arange(height, device=images.device) - tops[:, None]
        columns = torch.arange(width, device=images.device) - lefts[:, None]
        inside = ((rows >= 0) & (rows < tall))[:, None, :, None] & ((columns >= 0) & (columns < wide))[:, None, None, :]
        return images.masked_fill(inside, self.fill)


class Grey(Degradation):
    """Luma (ITU-R BT.601) in every channel, as for colourisation."""

    def __call__(self, images: Tensor) -> Tensor:
        return _levels(_luma(images)).expand_as(images).contiguous()


class Edges(Degradation):
    """The length of the luma's Sobel gradient in every channel, cut at 255, with mirrored borders."""

    def __call__(self, images: Tensor) -> Tensor:
        luma = F.pad(_luma(images), (1, 1, 1, 1), mode="reflect")
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device)
        gradient = F.conv2d(luma, torch.stack([across, across.T])[:, None])
        return _levels(gradient.square().sum(dim=1, keepdim=True).sqrt()).expand_as(images).contiguous()


def _levels(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def _luma(images: Tensor) -> Tensor:
    """Float32 [n, 1, H, W] in 0..255."""
    x = images.to(torch.float32)
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device)
    return (x * weights[:, None, None]).sum(dim=1, keepdim=True)


def _hashes(images: Tensor) -> Tensor:
    """A non-negative int64 for each image, [n]: whole numbers only, so that all devices agree."""
    flat = images.flatten(1).to(torch.int64)
    random = np.random.RandomState(np.random.Philox(key=key("hash of pixels")))
    odd = random.randint(0, 2**62, flat.shape[1], np.int64) * 2 + 1
    value = (flat * torch.from_numpy(odd).to(flat.device)).sum(dim=1)  # modulo 2^64
    value = (value ^ ((value >> 29) & (2**35 - 1))) * -4658895280553007687  # splitmix64's finish
    return (value ^ ((value >> 32) & (2**32 - 1))) & (2**63 - 1)


def _check_mask(fraction: float, fill: int) -> None:
    if not 0 < fraction <= 1 or not 0 <= fill <= 255:
        raise ValueError(f"a mask takes a fraction in (0, 1] and a fill of 0 to 255, got {fraction} and {fill}")

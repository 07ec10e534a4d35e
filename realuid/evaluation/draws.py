"""The seeded draws of an evaluation: noise, labels, and the images made from them.

Image i of an evaluation has the same noise and the same label whatever the batch size, the number of images or the
number of processes: both depend on the seed and on i alone. A student and its teacher can be shown side by side from
the same noise, and an evaluation with more images contains the smaller one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from realuid.data.pixels import to_uint8
from realuid.keys import key

__all__ = ["balanced_labels", "generate", "noise"]


def _image_seed(seed: int, index: int) -> int:
    """A hash of ("evaluation", seed, index) into [0, 2^32), without collisions between indices of one seed.

    torch's CPU generator keeps only 32 bits of its seed, and among 50,000 random 32-bit numbers two agree with
    probability 1/4. So the key of the seed is added to the index and the sum mixed by a bijection of the 32-bit
    numbers (the finaliser of MurmurHash3).
    """
    mask = 0xFFFFFFFF
    h = (key("evaluation", seed) + index) & mask
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & mask
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & mask
    return h ^ (h >> 16)


def noise(seed: int, start: int, count: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise [count, *shape], float32 on the CPU, of the images start, start + 1, ...

    The global random state is neither read nor moved.
    """
    generator = torch.Generator()
    out = torch.empty(count, *shape)
    for offset in range(count):
        generator.manual_seed(_image_seed(seed, start + offset))
        out[offset].normal_(generator=generator)
    return out


def balanced_labels(label_counts: Tensor | Sequence[int], start: int, count: int) -> Tensor:
    """Labels [count] (int64, CPU) of the images start, start + 1, ..., in proportion to the data's frequencies.

    The j-th image (from 0) of a class with n images stands at (j + 1/2)/n; all images in that order, ties by class,
    give the sequence, repeated after sum(label_counts) images. Its first m labels are thus the apportionment of m
    seats by the method of Sainte-Laguë: near the exact share for every m, and exact after a whole period.

    Args:
        label_counts: images of each class in the data [classes]; empty for unconditional data, whose labels are all 0.
    """
    counts = torch.as_tensor(label_counts, dtype=torch.int64).cpu()
    if len(counts) == 0:
        return torch.zeros(count, dtype=torch.int64)
    total = int(counts.sum())
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    firsts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    # Quotients of integers are rounded correctly, so equal positions are equal numbers and ties are decided by class.
    positions = (2 * (torch.arange(total) - firsts) + 1).double() / (2 * counts[labels]).double()
    sequence = labels[positions.argsort(stable=True)]
    return sequence[(start + torch.arange(count)) % total]


def generate(
    sample_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    shape: Sequence[int],
    label_counts: Tensor | Sequence[int],
    count: int,
    seed: int = 0,
    batch: int = 500,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The first `count` images of an evaluation, uint8 [count, C, H, W] on the CPU.

    Args:
        sample_fn: maps noise [b, *shape] (float32) and labels [b] (int64), both on `device`, to images in [-1, 1].
        shape: of one noise sample.
        label_counts: see `balanced_labels`.
        batch: images a call.

    Raises:
        FloatingPointError: `sample_fn` returned a value that is not finite (as a byte it would pass for a pixel).
    """
    labels = balanced_labels(label_counts, 0, count).to(device)
    parts = []
    for start in range(0, count, batch):
        size = min(batch, count - start)
        with torch.no_grad():
            images = sample_fn(noise(seed, start, size, shape).to(device), labels[start : start + size])
        if not images.isfinite().all():
            raise FloatingPointError(f"generated images {start} to {start + size - 1} hold values that are not finite")
        parts.append(to_uint8(images).cpu())
    return torch.cat(parts)

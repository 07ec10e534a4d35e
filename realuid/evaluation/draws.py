"""The seeded draws of an evaluation: noise and labels.

Image i of an evaluation has the same noise and the same label whatever the batch size, the number of images or the
number of processes: both depend on the seed and on i alone. A student and its teacher can be shown side by side from
the same noise, and an evaluation with more images contains the smaller one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.utils.keys import key

__all__ = ["balanced_labels", "noise"]


def _image_seed(seed: int, draw: int, index: int) -> int:
    """A hash of ("evaluation", seed, draw, index) into [0, 2^32), without collisions between indices of one draw.

    torch's CPU generator keeps only 32 bits of its seed, and among 50,000 random 32-bit numbers two agree with
    probability 1/4. So the key of the seed is added to the index and the sum mixed by a bijection of the 32-bit
    numbers (the finaliser of MurmurHash3).
    """
    mask = 0xFFFFFFFF
    h = (key("evaluation", seed, *(draw,) * (draw > 0)) + index) & mask
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & mask
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & mask
    return h ^ (h >> 16)


def noise(seed: int, start: int, count: int, shape: Sequence[int], draw: int = 0) -> Tensor:
    """Standard normal noise [count, *shape], float32 on the CPU, of the images start, start + 1, ...

    Different `draw`s are independent: 0 is where a Gaussian source starts from, others are drawn on the way.

    The global random state is neither read nor moved.
    """
    generator = torch.Generator()
    out = torch.empty(count, *shape)
    for offset in range(count):
        generator.manual_seed(_image_seed(seed, draw, start + offset))
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

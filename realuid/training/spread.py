"""How far samples differ from each other, out of means that add up over micro-batches, processes and steps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spread", "spread_terms"]

LIMIT = 4096
"""Entries of a sample that are looked at, evenly spaced over all."""


def spread_terms(samples: Tensor) -> Tensor:
    """What `spread` is computed from, for samples `[B, ...]`: the mean square of an entry, and the mean of each entry
    `[1 + entries]`. A spread is no mean over samples, but these are."""
    entries = samples.detach().flatten(1).float()
    entries = entries[:, :: -(-entries.shape[1] // LIMIT)]
    return torch.cat([entries.square().mean()[None], entries.mean(0)])


def spread(terms: Tensor) -> float:
    """Root of the mean variance of an entry, of all samples that the means `terms` `[1 + entries]` are over."""
    square, *_ = terms = terms.double()
    return float((square - terms[1:].square().mean()).clamp(min=0).sqrt())

"""What the machine says while a run is at work."""

from __future__ import annotations

import resource
import sys

import torch

GIB = 1024**3


def memory_gib(device: torch.device) -> float:
    """The most memory that this process has used so far: of its CUDA device, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def arithmetic(flops: int, images_per_s: float, batch: int, devices: int, peak: float | None) -> dict[str, float]:
    """Floating-point operations a second, and the share of the devices' peak (MFU) where one is given.

    Args:
        flops: of one step, forward and backward passes of all networks.
        images_per_s: speed of the run.
        batch: images of a step.
        devices: how many work together.
        peak: operations a second of one device.
    """
    reached = flops / batch * images_per_s
    return {"flop_per_s": reached} | ({} if peak is None else {"mfu": reached / (devices * peak)})

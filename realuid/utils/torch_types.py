"""torch's types of numbers by their names."""

from __future__ import annotations

import torch

__all__ = ["TORCH_TYPES"]

TORCH_TYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
"""`float32` to `torch.float32`, and so on, with torch's short names such as `half`."""

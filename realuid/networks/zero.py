"""Layers that start at zero, as the last of a residual branch and of a network should."""

from torch import nn


class _Zero(nn.Module):
    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class ZeroConv1d(_Zero, nn.Conv1d):
    """A one-dimensional convolution."""


class ZeroConv2d(_Zero, nn.Conv2d):
    """A two-dimensional convolution."""


class ZeroLinear(_Zero, nn.Linear):
    """A linear layer."""

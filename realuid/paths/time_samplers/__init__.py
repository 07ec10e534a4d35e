"""Time samplers t ~ p(t) of the regression and distillation losses. `__all__` lists those that a gin file may name.

base           quantile functions: what every time sampler is
noise_levels   stated for the noise level s in [0, 1], s = 1 the source; they reach native time by `Interpolant.time`
sigma          stated for sigma, noise over data: EDM's
wrappers       another time sampler, shifted or truncated
"""

from realuid.paths.time_samplers.base import SMALLEST as SMALLEST
from realuid.paths.time_samplers.base import TimeSampler as TimeSampler
from realuid.paths.time_samplers.noise_levels import (
    CosMapTime,
    ExpressionTime,
    LogitNormalTime,
    ModeTime,
    UniformTime,
    UShapedTime,
)
from realuid.paths.time_samplers.noise_levels import NoiseLevelTime as NoiseLevelTime
from realuid.paths.time_samplers.sigma import KarrasTime, LogNormalTime
from realuid.paths.time_samplers.sigma import SigmaTime as SigmaTime
from realuid.paths.time_samplers.wrappers import ShiftedTime, TruncatedTime
from realuid.paths.time_samplers.wrappers import shifted as shifted

__all__ = [
    "CosMapTime",
    "ExpressionTime",
    "KarrasTime",
    "LogNormalTime",
    "LogitNormalTime",
    "ModeTime",
    "ShiftedTime",
    "TruncatedTime",
    "UShapedTime",
    "UniformTime",
]

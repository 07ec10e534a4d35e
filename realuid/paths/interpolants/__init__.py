"""Interpolants: the paths between source and data. `__all__` lists those that a gin file may name."""

from realuid.paths.interpolants.base import Coefficients as Coefficients
from realuid.paths.interpolants.base import Interpolant as Interpolant
from realuid.paths.interpolants.base import combine as combine
from realuid.paths.interpolants.bridges import (
    BrownianInterpolant,
    DDBMVEInterpolant,
    DDBMVPInterpolant,
    I2SBInterpolant,
)
from realuid.paths.interpolants.ddpm import DDPMInterpolant
from realuid.paths.interpolants.expression import ExpressionInterpolant
from realuid.paths.interpolants.gaussian import (
    CosineInterpolant,
    EDMInterpolant,
    LinearInterpolant,
    LinearVPInterpolant,
    LipmanInterpolant,
    PolynomialInterpolant,
    TrigFlowInterpolant,
    VEInterpolant,
    VPInterpolant,
)
from realuid.paths.interpolants.stochastic import (
    BrownianGamma,
    EncoderDecoderInterpolant,
    MirrorInterpolant,
    QuadraticGamma,
    SigmoidGamma,
    SineSquaredGamma,
    TrigonometricInterpolant,
    TwoSidedInterpolant,
)
from realuid.paths.interpolants.stochastic import Gamma as Gamma

__all__ = [
    "BrownianGamma",
    "BrownianInterpolant",
    "CosineInterpolant",
    "DDBMVEInterpolant",
    "DDBMVPInterpolant",
    "DDPMInterpolant",
    "EDMInterpolant",
    "EncoderDecoderInterpolant",
    "ExpressionInterpolant",
    "I2SBInterpolant",
    "LinearInterpolant",
    "LinearVPInterpolant",
    "LipmanInterpolant",
    "MirrorInterpolant",
    "PolynomialInterpolant",
    "QuadraticGamma",
    "SigmoidGamma",
    "SineSquaredGamma",
    "TrigFlowInterpolant",
    "TrigonometricInterpolant",
    "TwoSidedInterpolant",
    "VEInterpolant",
    "VPInterpolant",
]

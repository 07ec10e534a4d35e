"""Many-step sampling of any matching model.

grids        where the steps lie in time
base         what all samplers share
ode          along the probability flow: Euler, Heun
sde          with noise added on the way: Euler-Maruyama, EDM's churn
posterior    through the data prediction: DDIM, DDPM and their like on bridges
"""

from realuid.samplers.base import FreshNoise, Sampler
from realuid.samplers.grids import KarrasGrid, ShiftedGrid, UniformGrid
from realuid.samplers.ode import Euler, Heun
from realuid.samplers.posterior import Posterior
from realuid.samplers.sde import EDMStochastic, EulerMaruyama, ExpressionDiffusion, NaturalDiffusion

__all__ = [
    "EDMStochastic",
    "Euler",
    "EulerMaruyama",
    "ExpressionDiffusion",
    "FreshNoise",
    "Heun",
    "KarrasGrid",
    "NaturalDiffusion",
    "Posterior",
    "Sampler",
    "ShiftedGrid",
    "UniformGrid",
]

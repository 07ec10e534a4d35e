"""Many-step sampling of any matching model.

grids        where the steps lie in time
base         what all samplers share
ode          along the probability flow: Euler, Heun
sde          with noise added on the way: Euler-Maruyama, EDM's churn
posterior    through the data prediction: DDIM, ancestral sampling, and anything between
multistep    through several data predictions: DPM-Solver++
"""

from realuid.samplers.base import FreshNoise, Sampler
from realuid.samplers.multistep import DPMSolver
from realuid.samplers.ode import Euler, Heun
from realuid.samplers.posterior import DDIM, Ancestral, Posterior
from realuid.samplers.sde import EDMStochastic, EulerMaruyama, ExpressionDiffusion, NaturalDiffusion
from realuid.samplers.time_grids import KarrasGrid, ShiftedGrid, UniformGrid

__all__ = [
    "DDIM",
    "Ancestral",
    "DPMSolver",
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

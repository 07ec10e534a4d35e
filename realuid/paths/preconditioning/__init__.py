r"""Preconditioning: what surrounds a network F,

.. math:: \hat f_i(x, t) = c_{skip,i}(t)\, x + c_{out,i}(t)\, F_i(c_{in}(t)\, x,\ c_{noise}(t))

for every row i of the target. By the principle of Karras et al. 2206.00364, appendix B.6, the network's input and the
part of the target that is left to it have unit variance, with the least c_out. That needs first and second moments
alone: x_t and the sampled target are linear in (x0, x1, z), so the scalings of any target on any path are linear
algebra. EDM's and DDBM's published scalings are special cases.

base              scalings and their checks; none at all
statistics        second moments of a path
unit_variance     scalings from those: for any target, EDM's, DDBM's
data_prediction   published for a data prediction alone: VP, VE, iDDPM, I2SB

`__all__` lists those that a gin file may name.
"""

from realuid.paths.preconditioning.base import NoPreconditioning
from realuid.paths.preconditioning.base import Preconditioning as Preconditioning
from realuid.paths.preconditioning.base import Scalings as Scalings
from realuid.paths.preconditioning.data_prediction import (
    I2SBPreconditioning,
    IDDPMPreconditioning,
    VEPreconditioning,
    VPPreconditioning,
)
from realuid.paths.preconditioning.statistics import PathStatistics as PathStatistics
from realuid.paths.preconditioning.unit_variance import (
    DDBMPreconditioning,
    EDMPreconditioning,
    UnitVariancePreconditioning,
)

__all__ = [
    "DDBMPreconditioning",
    "EDMPreconditioning",
    "I2SBPreconditioning",
    "IDDPMPreconditioning",
    "NoPreconditioning",
    "UnitVariancePreconditioning",
    "VEPreconditioning",
    "VPPreconditioning",
]

r"""The distillation losses: RealUID (arXiv 2509.22459) and its relatives.

All of them read the same four things: the frozen teacher f*, the fake network f that learns the generator's own
function, the sampled target c, and the weight w(t). With d = f* - f, for a generator that gives c and x_t:

| loss | the generator descends | the fake network learns from |
|---|---|---|
| `RealUID` | alpha <d, f* + f> - 2 beta <d, c> | generated and real samples |
| `GeneralRealUID` | -gamma |d|^2 + 2 alpha <d, f*> - 2 beta <d, c> | generated and real samples |
| `NormalisedRealUID` | <d / |d|, alpha f* - beta c> | generated and real samples |
| `RealSiD` | -2 a alpha |d|^2 + 2 alpha <d, f*> - 2 beta <d, c>, over omega if normalised | as RealUID |
| `SiD` | RealSiD with alpha = beta = 1 | generated samples |
| `FGM` | SiD with a = 1, not normalised | generated samples |
| `DiffInstruct` | sg(f - f*) . x1 | generated samples, or a mixture |
| `DMD` | the same over omega | generated samples, or a mixture |
| `Reflected` | one of these without real data | generated samples, and real ones with 2 f* - c for c |

Sums run over pixels, means over the batch: the gradient clipping at 1 depends on it.
"""

from realuid.losses.base import DistillationLoss as DistillationLoss
from realuid.losses.base import Terms as Terms
from realuid.losses.base import gap as gap
from realuid.losses.base import inner as inner
from realuid.losses.divergences import DMD, DiffInstruct
from realuid.losses.normalised import NormalisedRealUID
from realuid.losses.realuid import GeneralRealUID, RealUID
from realuid.losses.reflected import Reflected
from realuid.losses.sid import FGM, RealSiD, SiD

__all__ = [
    "DMD",
    "FGM",
    "DiffInstruct",
    "GeneralRealUID",
    "NormalisedRealUID",
    "RealSiD",
    "RealUID",
    "Reflected",
    "SiD",
]

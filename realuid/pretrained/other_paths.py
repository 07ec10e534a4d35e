"""Settings of diffusers' schedulers that change the path of a model."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from realuid.utils.errors import CheckpointError

OTHER_PATHS = {
    "rescale_betas_zero_snr": (False, "leaves no signal at the last step"),
    "invert_sigmas": (False, "counts time from the data to the noise"),
    "snr_shift_scale": (1.0, "shifts the noise of every step"),
}
"""By name: the usual value, and what another one does."""


def refuse_other_paths(config: Mapping[str, Any], origin: str) -> None:
    """Raises CheckpointError if the configuration of a scheduler has one of them; `origin` names it in the message."""
    for setting, (usual, what) in OTHER_PATHS.items():
        if config.get(setting, usual) != usual:
            value = reprlib.repr(config[setting])
            raise CheckpointError(f"{origin}: {setting} = {value} {what}, which no path of ours does")

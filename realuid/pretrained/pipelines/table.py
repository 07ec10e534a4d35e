"""The classes of diffusers' pipelines that can be teachers: one entry a class."""

from __future__ import annotations

from realuid.pretrained.pipelines.family import Family
from realuid.pretrained.pipelines.flux import Flux
from realuid.pretrained.pipelines.pixart import PixArtSigma
from realuid.pretrained.pipelines.qwen import QwenImage
from realuid.pretrained.pipelines.sana import Sana
from realuid.pretrained.pipelines.sd3 import StableDiffusion3
from realuid.pretrained.pipelines.stable_diffusion import StableDiffusion, StableDiffusionXL

ENTRIES = (StableDiffusion3, Flux, Sana, PixArtSigma, StableDiffusionXL, StableDiffusion, QwenImage)
FAMILIES: dict[str, Family] = {entry.pipeline: entry() for entry in ENTRIES}


def family_of(pipeline: str) -> Family:
    """The entry of a class of pipelines. Raises ValueError if there is none."""
    if pipeline not in FAMILIES:
        raise ValueError(f"there is no entry for the pipeline {pipeline!r}, only for {', '.join(FAMILIES)}")
    return FAMILIES[pipeline]

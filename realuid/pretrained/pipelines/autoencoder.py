"""The autoencoder of a pipeline."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.data.autoencoders import Autoencoder
from realuid.data.pixels import to_float
from realuid.pretrained.pipelines.family import Config, Family
from realuid.pretrained.pipelines.folders import PipelineFolder
from realuid.pretrained.pipelines.table import family_of
from realuid.pretrained.remote_folders import wanted
from realuid.pretrained.scaling import units
from realuid.utils.building import Building
from realuid.utils.checksums import sha256_of_file
from realuid.utils.errors import CheckpointError, RunError
from realuid.utils.libraries import class_in
from realuid.utils.remote import first_line
from realuid.utils.torch_files import check_folder

__all__ = ["PipelineAutoencoder"]

PART = "vae"


class PipelineAutoencoder(Autoencoder):
    """The autoencoder of a diffusers pipeline, from pictures to latents; needs the package diffusers.

    It computes in float32. Its weights are not read before the first picture.

    Args:
        folder: path or URL of the pipeline's folder, as of `Teacher.checkpoint`.
        pipeline: its class, such as `StableDiffusion3Pipeline`.
        batch: pictures a pass.

    Raises:
        ValueError: if there is no such pipeline, or `batch` is not positive.
    """

    def __init__(self, *, folder: str, pipeline: str, batch: int = 4) -> None:
        if batch < 1:
            raise ValueError(f"batch must be positive, got {batch}")
        self.family, self.folder, self.batch = family_of(pipeline), folder, batch
        self.has_deviation = self.family.has_deviation

    @property
    def name(self) -> str:
        return self.family.autoencoder

    @cached_property
    def checksum(self) -> str:
        """Of its weights and its configuration, but for the notes that diffusers leaves in that."""
        place = place_of(self.folder, "PipelineAutoencoder")
        config = {name: value for name, value in self._config.items() if not name.startswith("_")}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        there = [path.name for path in sorted(place.iterdir()) if path.is_file() and path.name != "config.json"]
        for name in wanted(there, ("",)):
            digest.update(f"{name} {sha256_of_file(place / name)}".encode())
        return digest.hexdigest()

    @property
    def units(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return units(self.family.latents(self._config))

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        model, height, width = self._ready, *pictures.shape[2:]
        try:
            parts = [
                self.family.encode_pictures(model, to_float(part.to(model.device))).float().cpu()
                for part in pictures.split(self.batch)
            ]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # AutoencoderDC takes no sides that do not divide
            raise RunError(
                f"pictures of {width}x{height} cannot be encoded by {self.folder}: {first_line(error)}: choose another "
                "--resolution"
            ) from error
        latents = torch.cat(parts)
        rows, columns = latents.shape[2:]
        if height % rows or width % columns or height // rows != width // columns:
            raise RunError(
                f"pictures of {width}x{height} do not divide into the latents of {self.folder}, of which they give "
                f"{columns}x{rows}: choose another --resolution"
            )
        return latents

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:
        """Pictures `[B, 3, H, W]` in about [-1, 1] that it makes again of its own latents `[B, C, h, w]`."""
        model = self._ready
        parts = [self.family.decode(model, part.to(model.device)).float().cpu() for part in latents.split(self.batch)]
        return torch.cat(parts)

    def __getstate__(self) -> dict[str, Any]:
        """Without its weights: another process reads them anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_loaded"}

    @cached_property
    def _config(self) -> Config:
        return config_of(self.folder, self.family, "PipelineAutoencoder")

    @property
    def _ready(self) -> Any:
        """The autoencoder where it computes."""
        return self._loaded.to("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _loaded(self) -> Any:
        return load_autoencoder(self.folder, self.family, "PipelineAutoencoder")


def config_of(url: str, family: Family, who: str) -> Config:
    """The configuration of a pipeline's autoencoder.

    Raises:
        RunError: if there is none, or it is of another class; the line begins with `who`.
    """
    try:
        config = PipelineFolder(url).needed(PART)
    except CheckpointError as error:
        raise RunError(f"{who}: {error}") from None
    if config.get("_class_name") != family.autoencoder:
        raise RunError(f"{who}: {url}/{PART} is a {config.get('_class_name')}, not a {family.autoencoder}")
    return config


def place_of(url: str, who: str) -> Path:
    """The folder of a pipeline's autoencoder on this machine. Raises RunError as `config_of`."""
    try:
        return PipelineFolder(url).local((PART,)) / PART
    except CheckpointError as error:
        raise RunError(f"{who}: {error}") from None


def load_autoencoder(url: str, family: Family, who: str) -> Any:
    """A pipeline's autoencoder in float32, frozen. Raises RunError as `config_of`, or if diffusers is missing."""
    try:
        import diffusers
    except ImportError:
        raise RunError(f"{who} needs `pip install realuid[pipelines]`") from None
    config_of(url, family, who)
    place, kind = place_of(url, who), class_in(diffusers, family.autoencoder)
    try:
        with Building(check_folder(place)):
            model = kind.from_pretrained(str(place), torch_dtype=torch.float32, local_files_only=True)
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunError(f"{who}: {place} cannot be read: {reason}") from None
    return model.eval().requires_grad_(False)

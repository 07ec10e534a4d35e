"""From latents to pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.utils.building import Building
from realuid.utils.errors import RunError
from realuid.utils.torch_files import check_folder

__all__ = ["DiffusersDecoder"]


class Decoder(ABC):
    """Turns the samples of a model of latents into pictures."""

    @abstractmethod
    def __call__(self, latents: Tensor) -> Tensor:
        """Pictures `[B, 3, H, W]` in about [-1, 1] from latents `[B, C, h, w]` in the model's units.

        Raises:
            RunError: one line, if what it needs is not there.
        """


class DiffusersDecoder(Decoder):
    """The decoder of an autoencoder in diffusers' form (`AutoencoderKL`); needs the package diffusers.

    Nothing is downloaded: for SiT and DiT it is the folder of https://huggingface.co/stabilityai/sd-vae-ft-ema.

    Args:
        folder: the autoencoder's, or that of a pipeline with a `vae` in it.
        mean: of the encoder's latents, that `Latents` took away; one number for all channels, or one for each.
        deviation: of them, likewise; Stable Diffusion's factor 0.18215 is a deviation of 5.48998.
        batch: latents a pass.

    Raises:
        ValueError: if a deviation or `batch` is not positive.
    """

    def __init__(
        self,
        *,
        folder: str,
        mean: tuple[float, ...] = (0.0,),
        deviation: tuple[float, ...] = (5.48998,),
        batch: int = 8,
    ) -> None:
        if batch < 1 or not deviation or min(deviation) <= 0:
            raise ValueError(f"deviations and batch must be positive, got {deviation} and {batch}")
        self.folder, self.mean, self.deviation, self.batch = folder, mean, deviation, batch
        self._model: Any = None

    def __call__(self, latents: Tensor) -> Tensor:
        model = self._loaded(latents.device)
        mean, deviation = (
            torch.tensor(values, device=latents.device)[:, None, None] for values in (self.mean, self.deviation)
        )
        with torch.no_grad():
            return torch.cat([model.decode(part * deviation + mean).sample for part in latents.split(self.batch)])

    def _loaded(self, device: torch.device) -> Any:
        if self._model is None:
            try:
                from diffusers import AutoencoderKL
            except ImportError:
                raise RunError("Teacher.decoder: DiffusersDecoder needs `pip install realuid[diffusers]`") from None
            place = Path(self.folder, "vae") if Path(self.folder, "vae", "config.json").is_file() else self.folder
            if not Path(place, "config.json").is_file():
                raise RunError(f"Teacher.decoder: {self.folder} is no folder of an autoencoder: it has no config.json")
            try:
                with Building(check_folder(Path(place))):
                    model = AutoencoderKL.from_pretrained(str(place), torch_dtype=torch.float32, local_files_only=True)
            except (ValueError, OSError, RuntimeError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise RunError(f"Teacher.decoder: {place} cannot be read: {reason}") from None
            self._model = model.eval().requires_grad_(False)
        return self._model.to(device)

"""CLIP and its relatives: networks that see images and read prompts in one space (Radford et al. 2103.00020)."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from realuid.data.dataset import Dataset
from realuid.evaluation.pretrained_features import Pretrained
from realuid.evaluation.resizing import bicubic
from realuid.utils.building import Building
from realuid.utils.checksums import sha256_of_file
from realuid.utils.errors import CheckpointError, DataError
from realuid.utils.torch_files import check_folder

__all__ = ["CLIP"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the images that CLIP and its relatives were trained on, in [0, 1]."""
BATCH = 256
"""Prompts a pass."""


class CLIP(Pretrained):
    """Images and prompts in one space: its features are the projected embeddings of images, and `PromptScore` is the
    cosine to the prompt's. Needs transformers (`pip install realuid[clip]`) and a folder of its `CLIPModel`.

    Preference models of the same shape, such as PickScore, are folders of `CLIPModel` as well. Files of open_clip are
    for `OpenCLIP`.

    Args:
        folder: local folder with `config.json`, `model.safetensors` and the tokeniser's files.
        scale: by what cosines are multiplied: 100 as in CLIP scores, and in PickScore's, about.
    """

    reads_prompts = True
    files: ClassVar[tuple[str, ...]] = ("config.json", "model.safetensors")
    """That the folder has in any case."""

    def __init__(self, *, folder: str, scale: float = 100.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"{type(self).__name__}.scale must be positive, got {scale}")
        self.folder, self.scale = folder, scale
        self.name = "clip"
        self.num_features = 0  # known once it is loaded
        self.resize = "centre square, antialiased bicubic to the network's size, CLIP's mean and deviation"
        self._tokenizer: Any = None
        self._mean, self._deviation = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))

    def check(self, data: Dataset) -> None:
        super().check(data)
        if importlib.util.find_spec("transformers") is None:
            raise DataError("CLIP needs transformers: pip install 'realuid[clip]'")
        if missing := [name for name in self.files if not (self._place / name).is_file()]:
            raise CheckpointError(f"{type(self).__name__}.folder: there is no {self._place / missing[0]}")

    def _path(self) -> str | None:
        return None

    @property
    def _place(self) -> Path:
        return Path(self.folder)

    def _loaded(self) -> nn.Module:
        transformers = importlib.import_module("transformers")
        with self._of_folder():
            with Building(check_folder(self._place), "CLIP"):
                body = transformers.CLIPModel.from_pretrained(
                    self.folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
                )
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        self.num_features, self._size = body.config.projection_dim, body.config.vision_config.image_size
        return body

    @contextmanager
    def _of_folder(self) -> Iterator[None]:
        """Makes one line of what is wrong with the folder."""
        try:
            yield
        except (ValueError, OSError, RuntimeError, TypeError, KeyError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{type(self).__name__}.folder: {self.folder} cannot be read: {reason}") from None

    def embed(self, images: Tensor) -> Tensor:
        body: Any = self.body
        seen = body.vision_model(pixel_values=self._seen(images.expand(-1, 3, -1, -1)))
        return body.visual_projection(seen.pooler_output)

    def _seen(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = images[:, :, top : top + side, left : left + side]
        shown = square.float() if side == self._size else bicubic(square, self._size)
        return (shown - self._mean.to(images.device)) / self._deviation.to(images.device)

    def scores(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        texts = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        with self._plain():
            read = F.normalize(torch.cat(list(self._read(list(texts)))), dim=1)
            seen = F.normalize(features.to(self.device), dim=1)
            return self.scale * (seen * read[[texts[prompt] for prompt in prompts]]).sum(dim=1)

    def _read(self, prompts: Sequence[str]) -> Iterator[Tensor]:
        """Embeddings of prompts `[n, d]`, some at a time; longer ones are cut."""
        body: Any = self.body
        length = body.config.text_config.max_position_embeddings
        for start in range(0, len(prompts), BATCH):
            part = list(prompts[start : start + BATCH])
            told = self._tokenizer(part, padding=True, truncation=True, max_length=length, return_tensors="pt")
            ids, mask = (told[name].to(self.device) for name in ("input_ids", "attention_mask"))
            yield body.text_projection(body.text_model(input_ids=ids, attention_mask=mask).pooler_output)

    def provenance(self) -> dict[str, object]:
        files = sorted(path for path in self._place.iterdir() if path.name.startswith(("tokenizer", "vocab", "merges")))
        tokenizer = {path.name: sha256_of_file(path)[:16] for path in files}
        return super().provenance() | {"scale": self.scale, "tokenizer": tokenizer}

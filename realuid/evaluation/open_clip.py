"""CLIP from the files of open_clip, in which most models of its kind are published, HPSv2 among them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import fsspec
from torch import Tensor, nn

from realuid import checkpoints
from realuid.data.dataset import Dataset
from realuid.evaluation.clip import CLIP, DEVIATION, MEAN
from realuid.evaluation.open_clip_names import to_transformers, weights_of
from realuid.evaluation.pretrained_features import filled, refuse_code
from realuid.utils import budget, remote
from realuid.utils.building import Building, stored
from realuid.utils.errors import CheckpointError

__all__ = ["OpenCLIP"]

CONFIG = "open_clip_config.json"
TOKENIZERS = ("tokenizer.json", "vocab.json")
PLAIN = {
    "vision_cfg": {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
"""What open_clip's configurations say of a CLIP and its weights tell as well."""


class OpenCLIP(CLIP):
    """A CLIP in open_clip's names, as `CLIP` in all else: LAION's, DataComp's, OpenAI's as open_clip's hub repositories
    have them, and preference models trained with it, such as HPSv2. Needs transformers (`pip install realuid[clip]`).

    The architecture follows from the tensors; it must be a CLIP of two transformers (no ResNet, SigLIP or CoCa).

    Args:
        weights: path or URL of a state dict: `open_clip_model.safetensors`, or a `.pt`, maybe under `state_dict` as
            training keeps it. It is read without running anything in it.
        folder: local folder with the tokeniser's files of a CLIP. An `open_clip_config.json` there or beside the
            weights is compared with what is bound.
        activation: `quick_gelu` for OpenAI's weights and those trained like them (open_clip's `-quickgelu` models),
            which no tensor tells.
        scale: by what cosines are multiplied: 100 as in CLIP scores; 1 gives HPSv2's cosines.
    """

    files: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        weights: str,
        folder: str,
        activation: Literal["gelu", "quick_gelu"] = "gelu",
        scale: float = 100.0,
    ) -> None:
        super().__init__(folder=folder, scale=scale)
        self.weights, self.activation = weights, activation

    def check(self, data: Dataset) -> None:
        super().check(data)
        if not any((self._place / name).is_file() for name in TOKENIZERS):
            raise CheckpointError(f"OpenCLIP.folder: there is no {self._place / TOKENIZERS[0]}, nor {TOKENIZERS[1]}")
        for place in (self._place, *(() if "://" in self.weights else (Path(self.weights).parent,))):
            if (place / CONFIG).is_file():
                self._compare(place / CONFIG)

    def _path(self) -> str | None:
        return self.weights

    def _loaded(self) -> nn.Module:
        transformers = importlib.import_module("transformers")
        with self._of_folder():
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        state = read_weights(self.weights)
        config, weights = to_transformers(state, self.weights)
        text, words = config["text_config"], len(self._tokenizer)
        if text["vocab_size"] != words:
            raise CheckpointError(
                f"{self.weights} knows {text['vocab_size']:,} tokens, the tokeniser in {self.folder} {words:,}"
            )
        told = self._tokenizer
        text |= {
            "bos_token_id": told.bos_token_id,
            "eos_token_id": told.eos_token_id,
            "pad_token_id": told.pad_token_id,
        }
        for part in (text, config["vision_config"]):
            part["hidden_act"] = self.activation
        try:
            with Building(stored(state), "CLIP"):
                body = transformers.CLIPModel(transformers.CLIPConfig(**config))
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.weights}: {remote.reason(error)}") from None
        self.num_features, self._size = config["projection_dim"], config["vision_config"]["image_size"]
        return filled(body, weights, self.weights)

    def _compare(self, file: Path) -> None:
        """Compares what open_clip's configuration says with what is bound here and with what transformers' CLIP is.

        Raises:
            CheckpointError: naming the first difference.
        """
        try:
            told = budget.parsed(file.read_bytes(), str(file))
        except ValueError as error:
            raise CheckpointError(str(error)) from None
        model, shown = (
            part if isinstance(part := _of(told, name), dict) else {} for name in ("model_cfg", "preprocess_cfg")
        )
        right = "quick_gelu" if model.get("quick_gelu") else "gelu"
        if right != self.activation:
            raise CheckpointError(f"{file}: its activation is {right}: bind OpenCLIP.activation = {right!r}")
        for tower, names in PLAIN.items():
            if odd := next((name for name in _of(model, tower) or () if name not in names), None):
                raise CheckpointError(f"{file}: its {tower} has {odd}: it is no CLIP of two plain transformers")
        for name, mine in (("mean", MEAN), ("std", DEVIATION)):
            if name in shown and tuple(shown[name]) != mine:
                raise CheckpointError(f"{file}: its images have the {name} {shown[name]}, CLIP's {list(mine)}")

    def provenance(self) -> dict[str, object]:
        return super().provenance() | {"activation": self.activation}


def _of(told: Any, name: str) -> Any:
    return told.get(name) if isinstance(told, Mapping) else None


def read_weights(path: str) -> dict[str, Tensor]:
    """The weights in a file by open_clip's names. Raises CheckpointError if it cannot be read."""
    import safetensors
    import safetensors.torch

    refuse_code(path, "give open_clip's own weights, a state dict")
    try:
        with fsspec.open(path, "rb") as file:
            start = file.read(9)
        if start[8:9] != b"{":
            return weights_of(checkpoints.load(path), path)
        if "://" not in path:
            return weights_of(safetensors.torch.load_file(path), path)
        with fsspec.open(path, "rb") as file:
            return weights_of(safetensors.torch.load(file.read()), path)
    except (OSError, ImportError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {remote.reason(error)}") from None

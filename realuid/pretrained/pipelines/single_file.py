"""The denoising network of a pipeline in one file, in the names of its own project (LDM's, SAI's, Black Forest Labs').

ComfyUI and most places that offer models use these names. Functions of diffusers, or of a family here, make diffusers'
own of them, on tensors that are mapped into memory. What they return is compared with the network of the pipeline's
folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from realuid.pretrained import sources, torchfile
from realuid.pretrained.pipelines.family import Config, Family
from realuid.pretrained.pipelines.network import built
from realuid.pretrained.pipelines.table import FAMILIES
from realuid.pretrained.remote_folders import HUB
from realuid.utils.building import Building, stored
from realuid.utils.errors import CheckpointError

__all__ = ["SingleFile", "is_file", "is_network"]

ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
PREFIX = "model.diffusion_model."
"""Of the network's weights, in a file that holds other parts as well."""
AVERAGES = "model_ema."
"""Of their averages, whose names have no further dots."""
MARKS = ("v_pred", "ztsnr")
"""Tensors without numbers by which some files say how they were trained."""
ADAPTERS = re.compile(r"(^|[._])(lora|lokr|hada)_|\.lora\.|\.dora_scale$")
PRECISIONS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
PREDICTIONS = {"epsilon": "noise", "v": "v", "v_prediction": "v"}
"""Targets by what the metadata of a file call them."""
NATURES = {b"PK\x03\x04": "a .ckpt or .pt file", b"\x80\x02": "a .ckpt or .pt file", b"GGUF": "GGUF, a quantised copy"}
"""What is taken for safetensors, by its first bytes."""


def is_file(url: str) -> bool:
    """Whether a path or URL is that of a file, not of a pipeline's folder."""
    if PurePosixPath(url.partition("?")[0]).suffix.lower() in ENDINGS:
        return True
    return not url.startswith(HUB) and not sources.is_folder(url)


def is_network(names: Mapping[str, Any]) -> bool:
    """Whether weights of these names are a network of a pipeline; guided-diffusion's have those of LDM's U-Nets."""
    known = {family.original for family in FAMILIES.values() if family.place == "transformer"}
    return any(name.startswith(PREFIX) or name in known for name in names)


class SingleFile:
    """A file of safetensors on this machine with the weights of a pipeline's network.

    Args:
        path: where it lies.
        url: how it is named in messages.
        which: `ema` or `model`, of a file that has both; None for the averages if there are any.

    Raises:
        CheckpointError: if it is no safetensors, is damaged, or holds adapters.
    """

    def __init__(self, path: Path, url: str, which: str | None = None) -> None:
        self.path, self.url, self.which = path, url, which
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:9] != b"{":
            nature = next((kind for head, kind in NATURES.items() if start.startswith(head)), "something else")
            raise CheckpointError(f"{url} is {nature}, not safetensors, the only form in which a network is read")
        self.tensors = torchfile.map_safetensors(path, url)
        if adapter := next((name for name in self.tensors if ADAPTERS.search(name)), None):
            raise CheckpointError(
                f"{url} holds {adapter}, of a LoRA: adapters are no network; bind a file of the model that they were "
                "merged into"
            )

    def compare_target(self, target: str | None) -> None:
        """Compares what the file says that its network predicts with the target of the folder's scheduler.

        Raises:
            CheckpointError: if they differ, or the file says that its schedule ends in pure noise.
        """
        import safetensors

        with safetensors.safe_open(self.path, "pt") as file:
            told = PREDICTIONS.get((file.metadata() or {}).get("modelspec.prediction_type", ""))
        told = "v" if "v_pred" in self.tensors else told
        if told is not None and told != target:
            raise CheckpointError(f"{self.url} says that it predicts {told}, the folder's scheduler {target}")
        if "ztsnr" in self.tensors:
            raise CheckpointError(f"{self.url} says that its schedule ends in pure noise, which no table here does")

    def weights(self, family: Family, config: Config, folder: str) -> tuple[str, dict[str, Tensor]]:
        """Which of its sets of weights these are, and the weights by diffusers' names, in the precision of the file.

        Args:
            family: of the pipeline.
            config: arguments of the network's class, of the folder.
            folder: how that is named in messages.

        Raises:
            CheckpointError: if they are not those of the network that the folder describes, or quantised.
        """
        which, own = self._own()
        if odd := next((name for name, value in own.items() if value.dtype not in PRECISIONS), None):
            raise CheckpointError(
                f"{self.url}: {odd} is {str(own[odd].dtype)[6:]}, of a quantised copy: take the file in 16 or 32 bits"
            )
        if family.original not in own and (other := _other(own, family)):
            raise CheckpointError(f"{self.url} holds a {other.model}, {folder} is a {family.pipeline}")
        try:
            with torch.device("meta"), Building(stored(own), f"the {family.model} of {folder}"):
                wanted = built(family.model, config).state_dict()
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{self.url} does not suit the {family.model} of {folder}: {error}") from None
        if not wanted.keys() <= own.keys():
            own = self._converted(own, family, config)
        self._compare(own, wanted, f"the {family.model} of {folder}")
        return which, own

    def _own(self) -> tuple[str, dict[str, Tensor]]:
        """Which set of weights is taken, and the network's weights in it, without the prefix."""
        own = {name.removeprefix(PREFIX): name for name in self.tensors if name.startswith(PREFIX)}
        if not own:
            own = {name: name for name in self.tensors if name not in MARKS}
        averages = {name: AVERAGES + f"diffusion_model{name.replace('.', '')}" for name in own}
        sets = {"model": own}
        if any(name in self.tensors for name in averages.values()):
            sets = {"ema": averages, "model": own}
        which = self.which or next(iter(sets))
        if which not in sets:
            raise CheckpointError(f"{self.url} has no weights {which!r}, only {' and '.join(sets)}")
        if missing := next((name for name in sets[which].values() if name not in self.tensors), None):
            raise CheckpointError(f"{self.url} lacks the average {missing}: bind Teacher.ema = 'model'")
        return which, {name: self.tensors[place] for name, place in sets[which].items()}

    def _converted(self, own: dict[str, Tensor], family: Family, config: Config) -> dict[str, Tensor]:
        """The weights by diffusers' names."""
        if family.original is None:
            raise CheckpointError(
                f"{self.url}: diffusers converts no {family.model}: only a file in its own names, or a folder, is read"
            )
        if family.original not in own:
            raise CheckpointError(f"{self.url} holds no {family.model}: it lacks {family.original}")
        given = {(PREFIX if family.place == "unet" else "") + name: value for name, value in own.items()}
        try:
            made = family.from_original(given)
            if made is None:
                made = self._by_diffusers(given, family, config)
        except KeyError as error:
            raise CheckpointError(f"{self.url} lacks {error.args[0]}, which a {family.model} has") from None
        except (RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{self.url} is no {family.model} that is converted: {reason}") from None
        used = {id(value) for value in made.values()}  # what is split is taken away
        if left := next((name for name, value in given.items() if id(value) not in used), None):
            raise CheckpointError(f"{self.url} has {left}, for which the {family.model} of the folder has no place")
        return made

    def _by_diffusers(self, given: dict[str, Tensor], family: Family, config: Config) -> dict[str, Tensor]:
        """As `Family.from_original`, by the function that diffusers has for the class."""
        import diffusers

        try:
            from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

            convert = SINGLE_FILE_LOADABLE_CLASSES[family.model]["checkpoint_mapping_fn"]
        except (ImportError, KeyError):
            raise CheckpointError(
                f"{self.url}: diffusers {diffusers.__version__} converts no {family.model}; the folder's own weights "
                "are read"
            ) from None
        made: dict[str, Tensor] = convert(checkpoint=given, config=dict(config))
        return made

    def _compare(self, own: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
        for name, value in wanted.items():
            if name not in own:
                raise CheckpointError(f"{self.url} lacks {name}, which {what} has")
            if own[name].shape != value.shape:
                raise CheckpointError(f"{self.url}: {name} is {list(own[name].shape)}, {what} has {list(value.shape)}")
        if extra := next((name for name in own if name not in wanted), None):
            raise CheckpointError(f"{self.url} has {extra}, which {what} lacks")


def _other(own: Mapping[str, Any], family: Family) -> Family | None:
    """The entry of the table whose network these weights are; None if they are of none, or of this one's class."""
    found = (other for other in FAMILIES.values() if other.original in own)
    return next((other for other in found if other.model != family.model), None)

"""The folder of a pipeline: its configurations and weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from realuid.pretrained import torchfile
from realuid.pretrained.remote_folders import local_folder
from realuid.utils import budget
from realuid.utils.errors import CheckpointError

INDEX = "model_index.json"
STEMS = ("diffusion_pytorch_model", "model")


class PipelineFolder:
    """A pipeline's folder on this machine, or a copy of the parts of a remote one that are asked for.

    Args:
        url: path or fsspec URL of the folder; `hf://owner/name@revision` for the hub of Hugging Face.

    Raises:
        CheckpointError: if it is no pipeline's folder, or cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.index = self.config("", INDEX)
        if self.index is None:
            raise CheckpointError(f"{url} is no folder of a pipeline: it has no {INDEX}")

    @property
    def pipeline(self) -> str:
        """Class of the pipeline."""
        return str((self.index or {}).get("_class_name"))

    def has(self, part: str) -> bool:
        """Whether the pipeline has this part."""
        entry = (self.index or {}).get(part)
        return isinstance(entry, list) and len(entry) == 2 and bool(entry[0])

    def local(self, parts: Iterable[str]) -> Path:
        """The folder on this machine, with these parts and the pipeline's index in it; others may be missing."""
        return local_folder(self.url, (INDEX, *(f"{part}/" for part in parts)))

    def config(self, part: str, name: str = "config.json") -> dict[str, Any] | None:
        """The configuration of a part; None if there is none.

        Raises:
            CheckpointError: if it is not JSON.
        """
        wanted = f"{part}/{name}" if part else name
        path = local_folder(self.url, (wanted,)) / wanted
        if not path.is_file():
            return None
        try:
            content = budget.parsed(path.read_bytes(), f"{self.url}/{wanted}")
        except ValueError as error:
            raise CheckpointError(str(error)) from None
        return content if isinstance(content, dict) else None

    def needed(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """The configuration of a part. Raises CheckpointError if there is none."""
        found = self.config(part, name)
        if found is None:
            raise CheckpointError(f"{self.url} has no {part}/{name}")
        return found

    def weights(self, part: str) -> dict[str, Tensor]:
        """The weights of a part, in the precision of the files; those of safetensors are mapped, not copied.

        Raises:
            CheckpointError: if there are none, or they are damaged.
        """
        place = self.local((part,)) / part
        for stem in STEMS:
            for name in (f"{stem}.safetensors", f"{stem}.safetensors.index.json", f"{stem}.bin"):
                if (place / name).is_file():
                    return _read(place, name, f"{self.url}/{part}")
        raise CheckpointError(f"{self.url}/{part} has no {STEMS[0]}.safetensors")


def _read(place: Path, name: str, origin: str) -> dict[str, Tensor]:
    if name.endswith(".bin"):
        with (place / name).open("rb") as file:
            content = torchfile.load(file, f"{origin}/{name}")
        if not torchfile.is_state(content):
            raise CheckpointError(f"{origin}/{name} is no state dict")
        return dict(content)
    names = [name]
    if name.endswith(".json"):
        try:
            listed = budget.parsed((place / name).read_bytes(), f"{origin}/{name}")
            names = sorted({str(file) for file in listed["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{origin}/{name} lists no files of weights: {error}") from None
        if odd := [part for part in names if "/" in part or not (place / part).is_file()]:
            raise CheckpointError(f"{origin} lacks {odd[0]}, which {name} lists")
    state: dict[str, Tensor] = {}
    for part in names:
        state |= torchfile.map_safetensors(place / part, f"{origin}/{part}")
    return state

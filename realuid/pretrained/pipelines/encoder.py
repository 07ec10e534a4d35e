"""The text encoders of a pipeline."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.conditions.text import TextEncoder
from realuid.pretrained import torchfile
from realuid.pretrained.pipelines.family import Config, Family
from realuid.pretrained.pipelines.folders import PipelineFolder
from realuid.pretrained.pipelines.table import family_of
from realuid.pretrained.remote_folders import wanted
from realuid.utils.atomic import write_atomically
from realuid.utils.building import Building
from realuid.utils.cache_folder import cache_folder
from realuid.utils.checksums import sha256_of_file
from realuid.utils.errors import CheckpointError, RunError
from realuid.utils.libraries import class_in
from realuid.utils.limits import check_at_most
from realuid.utils.torch_files import check_folder
from realuid.utils.torch_types import TORCH_TYPES

__all__ = ["PipelineEncoder"]

LIBRARIES = ("transformers", "diffusers")
"""Where the classes of its parts may come from: a file cannot make this package import anything else."""
BATCH = 16
"""Prompts a pass."""


class PipelineEncoder(TextEncoder):
    """The text encoders of a diffusers pipeline: the fields that its `PipelineNetwork` reads.

    Needs the packages diffusers and transformers. Nothing is read before the first prompt.

    Args:
        folder: path or URL of the pipeline's folder, as of `Teacher.checkpoint`.
        pipeline: its class, such as `StableDiffusion3Pipeline`.
        config: of its denoising network, as bound for `PipelineNetwork`: the widths of the embeddings.
        tokens: length of the field `text`; None for the pipeline's usual one.
        dtype: of the embeddings, and what the encoders compute in.

    Raises:
        ValueError: if there is no such pipeline or type.
    """

    def __init__(
        self,
        *,
        folder: str,
        pipeline: str,
        config: Mapping[str, Any],
        tokens: int | None = None,
        dtype: str = "bfloat16",
    ) -> None:
        self.family = family_of(pipeline)
        self.folder, self.dtype = folder, dtype
        self.tokens = self.family.tokens if tokens is None else tokens
        check_at_most(100_000, tokens=self.tokens)
        fields = self.family.fields(config, self.tokens)
        self.fields = tuple(
            replace(field, dtype=dtype) if field.torch_dtype.is_floating_point else field for field in fields
        )

    @property
    def name(self) -> str:
        return f"{self.family.pipeline}({self.tokens}, {self.dtype})"

    @cached_property
    def checksum(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for name, place in self._files:
            digest.update(f"{name} {sha256_of_file(place)}".encode())
        return digest.hexdigest()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Condition:
        """The conditions of the prompts, in their order, on the CPU.

        Raises:
            RunError: if an encoder is missing, cannot be read, or gives other fields than the network's.
        """
        parts = []
        for start in range(0, len(prompts), BATCH):
            found = self.family.encode(self._ready, prompts[start : start + BATCH], self.tokens)
            parts.append(Condition(found).to("cpu"))
        return self._checked(Condition.cat(parts))

    @torch.no_grad()
    def null(self) -> Condition:
        """The condition that tells nothing, of one sample, for guidance without a classifier.

        Raises:
            RunError: as for prompts.
        """
        return self._checked(Condition(self.family.encode_null(self._ready, self.tokens)).to("cpu"))

    def _checked(self, condition: Condition) -> Condition:
        for field in self.fields:
            given = tuple(condition[field.name].shape[1:]) if field.name in condition else None
            if given != field.shape:
                raise RunError(f"{self.name}: the encoders of {self.folder} give {field.name} {given}, not {field}")
        return Condition({field.name: condition[field.name].to(field.torch_dtype) for field in self.fields})

    @property
    def _ready(self) -> Any:
        """The pipeline where it computes."""
        return self._loaded.to("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _place(self) -> Path:
        with _told():
            return _with_encoders(PipelineFolder(self.folder), self.family)

    @property
    def _files(self) -> list[tuple[str, Path]]:
        """The files on which the answers depend, by their names in the folder: those that a copy of it would hold."""
        found = []
        for part in sorted(self.family.encoders):
            files = sorted(path for path in (self._place / part).rglob("*") if path.is_file())
            found += wanted([path.relative_to(self._place).as_posix() for path in files], (f"{part}/",))
        return [(name, self._place / name) for name in found]

    def __getstate__(self) -> dict[str, Any]:
        """Without the pipeline's weights: another process reads them anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_loaded"}

    @cached_property
    def _loaded(self) -> Any:
        """The pipeline, of which nothing is there but the encoders."""
        try:
            import diffusers
            import transformers
        except ImportError:
            raise RunError("PipelineEncoder needs `pip install realuid[pipelines]`") from None
        index = PipelineFolder(self.folder).index or {}
        for part in self.family.encoders:
            _check_part(self._place / part, index[part], {"transformers": transformers, "diffusers": diffusers})
        kind = class_in(diffusers, self.family.pipeline)
        parts = kind._get_signature_keys(kind)[0]
        absent = {part: None for part in parts if part not in self.family.encoders}
        try:
            size = sum(check_folder(self._place / part) for part in self.family.encoders)
            with Building(size, "a text encoder"):
                return kind.from_pretrained(
                    str(self._place),
                    torch_dtype=TORCH_TYPES[self.dtype],
                    local_files_only=True,
                    trust_remote_code=False,
                    **absent,
                )
        except (ValueError, OSError, RuntimeError, TypeError, ImportError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(f"{self.folder}: its text encoders cannot be read: {reason}") from None


def _check_part(place: Path, entry: list[str], libraries: Mapping[str, Any]) -> None:
    """Some versions of diffusers import a module that lies beside a part, and a part may be a pipeline of its own, with
    an index that nobody has looked at.

    Raises:
        RunError: if a part is no model, tokeniser or processor of its library, or has Python files beside it.
    """
    library, name = entry
    if code := next(iter(sorted(place.rglob("*.py"))), None):
        raise RunError(f"{code} is code, which is not run: remove it")
    transformers, diffusers = libraries["transformers"], libraries["diffusers"]
    kinds = (
        transformers.PreTrainedModel,
        transformers.PreTrainedTokenizerBase,
        transformers.ProcessorMixin,
        diffusers.ModelMixin,
    )
    if class_in(libraries[library], name, *kinds) is None:
        raise RunError(f"{place}: {library} has no model, tokeniser or processor {name}")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise RunError(str(error)) from None


def _with_encoders(folder: PipelineFolder, family: Family) -> Path:
    """The pipeline's folder on this machine with its text encoders. Raises CheckpointError if it lacks one."""
    if folder.pipeline != family.pipeline:
        raise CheckpointError(f"{folder.url} is a {folder.pipeline}, not a {family.pipeline}")
    for part in family.encoders:
        if not folder.has(part):
            raise CheckpointError(f"{folder.url} has no {part}, which a {family.pipeline} needs")
        if (library := (folder.index or {})[part][0]) not in LIBRARIES:
            raise CheckpointError(f"{folder.url}: its {part} is of {library!r}, not of {' or '.join(LIBRARIES)}")
    return folder.local(family.encoders)


def null_condition(folder: PipelineFolder, family: Family, config: Config, tokens: int) -> dict[str, Tensor]:
    """The condition that tells nothing, one row without the dimension of samples, in float32.

    It is computed by the pipeline's own encoders, and kept beside the copies of remote files.

    Raises:
        CheckpointError: if the pipeline lacks an encoder, or one cannot be read.
    """
    if family.zero_null(folder.index or {}):
        return {
            field.name: torch.zeros(field.sizes, dtype=field.torch_dtype) for field in family.fields(config, tokens)
        }
    encoder = PipelineEncoder(
        folder=folder.url, pipeline=family.pipeline, config=config, tokens=tokens, dtype="float32"
    )
    try:
        key = hashlib.sha256(f"{encoder.checksum} {family.null_prompt!r}".encode()).hexdigest()
        kept = cache_folder() / "nulls" / f"{key}.safetensors"
        if kept.is_file():
            return torchfile.map_safetensors(kept, str(kept))
        found = {name: value[0].contiguous() for name, value in encoder.null().items()}
    except RunError as error:
        raise CheckpointError(str(error)) from None
    import safetensors.torch

    write_atomically(kept, lambda part: safetensors.torch.save_file(found, part))
    return found

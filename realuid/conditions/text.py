"""Text encoders: from prompts to the tensors that a model is conditioned on."""

from __future__ import annotations

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.conditions.condition import Condition
from realuid.conditions.fields import Field
from realuid.utils.errors import RunError
from realuid.utils.limits import check_at_most

__all__ = ["WordLlama"]


class TextEncoder(ABC):
    """Turns prompts into conditions. A data set states the encoder that made its embeddings, and is read with no other.

    Attributes:
        fields: of the conditions that it gives.
    """

    fields: tuple[Field, ...]

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called beside its checksum, settings included."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """sha256 in hexadecimal of all that its answers depend on.

        Raises:
            RunError: if its weights are not there.
        """

    @abstractmethod
    def __call__(self, prompts: Sequence[str]) -> Condition:
        """The conditions of the prompts, in their order, on the CPU.

        Raises:
            RunError: if its weights are not there.
        """


class WordLlama(TextEncoder):
    """Static token embeddings of 256 numbers (WordLlama, https://github.com/dleemiller/WordLlama, MIT licence).

    The weights, 16 MB, lie in the package wordllama: `pip install realuid[text]`. Fields: `text` [length, 256] in
    float16, and `mask` [length], which is true where there is a token. It is a table: each token has one embedding,
    whatever stands around it.

    Args:
        length: tokens of a prompt; longer ones are cut.

    Raises:
        ValueError: if `length` is less than one, or beyond reason.
    """

    WIDTH = 256

    def __init__(self, *, length: int = 16) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        check_at_most(100_000, length=length)
        self.length = length
        self.fields = (Field("text", (length, self.WIDTH), "float16"), Field("mask", (length,), "bool"))

    @property
    def name(self) -> str:
        return f"WordLlama({self.length})"

    @cached_property
    def checksum(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for file in self._files():
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def __call__(self, prompts: Sequence[str]) -> Condition:
        tokenizer, table = self._loaded
        text = torch.zeros(len(prompts), self.length, self.WIDTH, dtype=torch.float16)
        mask = torch.zeros(len(prompts), self.length, dtype=torch.bool)
        for row, encoded in enumerate(tokenizer.encode_batch(list(prompts), add_special_tokens=False)):
            tokens = encoded.ids[: self.length]
            text[row, : len(tokens)], mask[row, : len(tokens)] = table[tokens], True
        return Condition({"text": text, "mask": mask})

    @cached_property
    def _loaded(self) -> tuple[Any, Tensor]:
        """The tokenizer, and the embeddings `[32000, 256]` in float16."""
        weights, tokens = self._files()
        try:
            from safetensors.torch import load_file
            from tokenizers import Tokenizer
        except ImportError:
            raise RunError("WordLlama needs `pip install realuid[text]`") from None
        return Tokenizer.from_file(str(tokens)), load_file(weights)["embedding.weight"]

    def _files(self) -> tuple[Path, Path]:
        """Weights and tokenizer. The package is not imported: it would bring more than its files."""
        package = importlib.util.find_spec("wordllama")
        places = package.submodule_search_locations if package else None
        if not places:
            raise RunError("WordLlama needs `pip install realuid[text]`")
        folder = Path(places[0])
        files = folder / "weights/l2_supercat_256.safetensors", folder / "tokenizers/l2_supercat_tokenizer_config.json"
        for file in files:
            if not file.is_file():
                raise RunError(f"the package wordllama holds no {file.name}: install wordllama 0.4")
        return files

"""Whether generated images show what their prompts say, and how much images of one prompt differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.evaluation.metric import Metric, Samples
from realuid.utils.errors import DataError

__all__ = ["PromptScore", "PromptSpread"]

LENGTH = 1024
"""Bytes of a prompt; no network reads more."""


def coded(prompts: Sequence[str]) -> Tensor:
    """Prompts as a tensor, uint8 `[n, LENGTH]`: UTF-8 with zeros behind, so that processes can exchange them."""
    table = torch.zeros(len(prompts), LENGTH, dtype=torch.uint8)
    for row, prompt in zip(table, prompts, strict=True):
        content = prompt.encode()[:LENGTH]
        row[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else row[:0]
    return table


def prompts_of(table: Tensor) -> list[str]:
    """The prompts that `coded` made a tensor of."""
    return [bytes(row.tolist()).rstrip(b"\0").decode(errors="ignore") for row in table.cpu()]


class PromptScore(Metric):
    """`prompt_score`: how well images fit their prompts, the mean of the feature network's scores.

    With `CLIP` it is the CLIP score (Hessel et al. 2104.08718, whose factor is 2.5 in place of 100), with a preference
    model its own."""

    names = ("prompt_score",)
    higher_is_better = True
    reads = ("scores",)
    reads_real = ()
    least = 1

    def measure(self, real: Samples, generated: Samples) -> dict[str, float]:
        return {"prompt_score": generated["scores"].double().mean().item()}


class PromptSpread(Metric):
    """`prompt_spread`: Euclidean distance in features between two images of one prompt from different noise, the mean
    over all pairs of a prompt, and over the prompts. Zero if the noise changes nothing.

    Bind `Evaluator.images_per_prompt`: prompts of a single image do not count.
    """

    names = ("prompt_spread",)
    higher_is_better = True
    reads = ("features", "prompt")
    reads_real = ()

    def measure(self, real: Samples, generated: Samples) -> dict[str, float]:
        _, group = generated["prompt"].unique(dim=0, return_inverse=True)
        spreads = []
        for number in range(int(group.max()) + 1):
            features = generated["features"][group == number].double()
            if len(features) > 1:
                spreads.append(torch.pdist(features).mean())
        if not spreads:
            raise DataError("PromptSpread compares images of one prompt: bind Evaluator.images_per_prompt = 4, or more")
        return {"prompt_spread": torch.stack(spreads).mean().item()}

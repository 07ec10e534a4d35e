"""Captioned pictures and a small text-to-image pipeline, for gin/tiny_text.gin."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from loguru import logger

from realuid.data.builtin.shapes import COLOURS, SHAPES, WORDINGS, drawing
from realuid.pretrained.pipelines.tiny import save_tiny

__all__ = ["SIDE", "draw", "vocabulary", "work"]

SIDE = 16
"""Of a picture, in pixels."""


def work(arguments: argparse.Namespace) -> int:
    """Fills the folder; returns the exit status."""
    folder = Path(arguments.folder)
    pictures = draw(folder / "pictures", arguments.pictures)
    logger.info("{} pictures in {}", len(pictures), folder / "pictures")
    error = save_tiny(folder / "pipeline", pictures, vocabulary(), steps=arguments.steps)
    logger.info("a pipeline in {}; its autoencoder is off by {:.3f} of 2", folder / "pipeline", error)
    return 0


def draw(folder: Path, count: int) -> torch.Tensor:
    """Writes the pictures with their captions, and returns them, `[N, 3, H, W]` in [-1, 1]."""
    pixels = []
    for number in range(count):
        picture, caption, name = drawing(number, SIDE)
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture.save(folder / name / f"{number:05d}.png")
        (folder / name / f"{number:05d}.txt").write_text(f"{caption}\n", encoding="utf-8")
        pixels.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return torch.stack(pixels) / 127.5 - 1


def vocabulary() -> list[str]:
    """The words of all captions."""
    words = {word for wording in WORDINGS for word in wording.split() if word.isalpha()}
    return sorted({*words, *COLOURS, *SHAPES})

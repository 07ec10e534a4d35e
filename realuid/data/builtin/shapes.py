"""Coloured shapes with captions: pictures that are drawn, for recipes that need no download."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from realuid.utils.keys import key

__all__ = ["CLASSES", "COLOURS", "SHAPES", "WORDINGS", "Drawing", "drawing"]

COLOURS = {"red": (220, 40, 40), "green": (40, 190, 70), "blue": (50, 80, 230), "yellow": (235, 210, 50)}
SHAPES = ("circle", "square", "triangle")
WORDINGS = ("a {0} {1}", "{0} {1}", "the {1} is {0}", "a {1} in {0}", "one {0} {1} on grey")
CLASSES = tuple(f"{colour}_{shape}" for colour, shape in itertools.product(COLOURS, SHAPES))
"""Names of folders, one for each colour and shape."""
FINER = 8
"""Drawn so many times larger than stored, for smooth edges."""


class Drawing(NamedTuple):
    """A picture, its caption, and which of `CLASSES` it shows."""

    picture: Image.Image
    caption: str
    name: str


def drawing(number: int, side: int) -> Drawing:
    """One shape on grey, at a place and of a size that belong to `number`; the classes come in turn."""
    name = CLASSES[number % len(CLASSES)]
    colour, shape = name.split("_")
    random = np.random.RandomState(np.random.Philox(key=key("shapes", number)))
    radius = side * random.uniform(0.28, 0.4)
    x, y = random.uniform(radius, side - radius, 2)
    grey = int(random.randint(40, 100))
    picture = Image.new("RGB", (FINER * side, FINER * side), (grey, grey, grey))
    corners = {"circle": 64, "square": 4, "triangle": 3}[shape]
    turn = math.pi / 4 if shape == "square" else math.pi / 2
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    points = [(FINER * (x + radius * math.cos(a)), FINER * (y - radius * math.sin(a))) for a in angles]
    ImageDraw.Draw(picture).polygon(points, fill=COLOURS[colour])
    wording = WORDINGS[random.randint(len(WORDINGS))]
    small = picture.resize((side, side), Image.Resampling.BOX)
    return Drawing(small, wording.format(colour, shape), name)

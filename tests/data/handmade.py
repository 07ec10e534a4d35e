"""Images and tars put together by hand, so that the reader is not tested against our own writer alone."""

import io
import tarfile

import numpy as np
from PIL import Image


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
    """An array [H, W] or [H, W, 3] as an image file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=form)
    return file.getvalue()


def tar(members: list[tuple[str, bytes]], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def grey_members(count: int) -> list[tuple[str, bytes]]:
    """`count` grey 4x4 images, each pixel of image i with level i, and its label i % 2."""
    members = []
    for i in range(count):
        members += [
            (f"{i:03d}.png", encode(np.full((4, 4), i, np.uint8))),
            (f"{i:03d}.cls", str(i % 2).encode()),
        ]
    return members

"""Pictures out of files that may come from anywhere: as every viewer shows them, nothing of them lost unseen, and no
more pixels than the file's size allows."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from realuid.utils import budget

__all__ = ["FORMATS", "Animation", "Unfit", "flat", "opened", "seen_size", "upright"]

FORMATS = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp"}
"""Pillow's names, by content: in published sets some files are misnamed. MPO is what cameras call a JPEG with another
picture behind it. Pillow knows formats that start programs (EPS)."""
SCANS = 100
"""Passes over a progressive JPEG, each of which decodes all of it."""
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation, what turns the stored pixels into what is seen."""
ORIENTATION = 0x0112
TURNED_ASIDE = range(5, 9)
"""Orientations that exchange height and width."""
NOTES = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow keeps what may tell an orientation."""
DEPTH_AT = 24
"""Where a PNG says how many bits a channel has."""
LATE = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Parts of a PNG that may tell an orientation, also behind the pixels."""


class Unfit(ValueError):
    """A whole picture of which something would be lost; one line."""


class Animation(Unfit):
    """A file of several pictures, of which none is meant more than the others."""


def opened(data: bytes) -> Image.Image:
    """The picture in a file, not decoded yet.

    Raises:
        Unfit: it has more than 8 bits a channel.
        Animation: it moves.
        Exception: what Pillow raises for damage; a ValueError, in one line, for a file of no known kind, for a picture
            that is too large for its file, or that would be decoded too many times.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
    except UnidentifiedImageError:
        raise ValueError("it is no PNG, JPEG or WebP") from None
    budget.spend(4 * image.width * image.height, len(data), f"a picture of {image.width}x{image.height} pixels")
    if FORMATS[str(image.format)] == "jpg" and data.count(b"\xff\xda") > SCANS:
        raise budget.Excess(f"a JPEG of more than {SCANS} scans")
    if image.mode.startswith(("I", "F")) or (image.format == "PNG" and data[DEPTH_AT] > 8):
        raise Unfit("it has more than 8 bits a channel: make it one of 8 bits first")
    if image.format in ("PNG", "WEBP") and image.is_animated:  # type: ignore[attr-defined]
        raise Animation(f"it is an animation of {image.n_frames} pictures")  # type: ignore[attr-defined]
    return image


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its orientation says; itself if it is upright already."""
    image.load()  # a PNG may tell its orientation behind its pixels
    if not any(name in image.info for name in NOTES):
        return image
    turned = TURNED.get(image.getexif().get(ORIENTATION, 1))
    if turned is None:
        return image
    seen = image.transpose(turned)
    for name in NOTES:  # Pillow would write some of them into a file again
        seen.info.pop(name, None)
    return seen


def seen_size(data: bytes) -> tuple[int, int]:
    """Height and width of the picture in a file as it is seen; its pixels are decoded only where that decides.

    Raises:
        Exception: as of `opened`.
    """
    image = opened(data)
    if image.format == "PNG":
        image = upright(image) if any(part in data for part in LATE) else image
    elif image.getexif().get(ORIENTATION, 1) in TURNED_ASIDE:
        return image.width, image.height
    return image.height, image.width


def flat(image: Image.Image, mode: str, background: tuple[int, int, int] | None = None) -> Image.Image:
    """The picture in `mode`, "L" or "RGB"; one that is transparent in places is put on the background.

    Raises:
        Unfit: it is transparent in places, and there is no background.
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            if background is None:
                raise Unfit("it is transparent in places: put it on a background first (make_shards --background)")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
    return image if image.mode == mode else image.convert(mode)

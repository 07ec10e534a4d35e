"""An HTML page that needs nothing else, and its parts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from PIL import Image

from realuid.utils.atomic import write_atomically

__all__ = ["columns", "page", "picture", "save_text"]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, body: str) -> str:
    """A page with the project's style sheet; `body` is HTML."""
    return PAGE.format(title=escape(title), style=style(), body=body)


def save_text(path: Path, text: str) -> None:
    """Writes a text file, atomically, making its folder if needed."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def style() -> str:
    """The style sheet of pages and charts."""
    return resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")


def picture(image: Path | Image.Image, caption: str) -> str:
    """A <figure> of a PNG file, or of an image, inside the page."""
    if isinstance(image, Path):
        content = image.read_bytes()
    else:
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        content = buffer.getvalue()
    data, text = base64.b64encode(content).decode("ascii"), escape(caption)
    return f'<figure><figcaption>{text}</figcaption><img alt="{text}" src="data:image/png;base64,{data}"></figure>'


def columns(captions: Sequence[str]) -> str:
    """The captions of a grid's columns, from the left; nothing if it has none."""
    items = "".join(f"<li>{escape(caption)}</li>" for caption in captions)
    return f'<p class="note">The columns, from the left:</p><ol class="captions">{items}</ol>' if items else ""

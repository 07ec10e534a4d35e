"""What may be said in a folder that is given away."""

from __future__ import annotations

import re

__all__ = ["without_credentials"]

URL = re.compile(r"""([A-Za-z][\w+.-]*://)(?:[^\s/'"@]*@)?([^\s'"?]*)(?:\?[^\s'"]*)?""")


def without_credentials(text: str) -> str:
    """A text whose URLs have lost their user names, passwords and queries, where presigned addresses hold a key."""
    return URL.sub(r"\1\2", text)

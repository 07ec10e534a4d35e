"""Where copies of remote files lie on this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`REALUID_CACHE` (an environment variable), or `realuid` in the user's folder for caches: `XDG_CACHE_HOME`, or
    `~/.cache`."""
    if folder := os.environ.get("REALUID_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realuid"

"""Which commit of a repository some code, or a folder, is at."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["commit_of", "commit_of_code"]


def commit_of(place: Path, but: Path | None = None) -> str:
    """The commit of the repository that a folder lies in, with `+` where tracked files differ from it.

    `unknown` without a repository.

    Args:
        place: a folder.
        but: a folder inside the repository whose files may differ, as those that a study writes itself.
    """
    try:
        commit = _git(place, "rev-parse", "--short=9", "HEAD")
        top = _git(place, "rev-parse", "--show-toplevel")
        spared = (
            [f":(exclude,top){but.resolve().relative_to(top)}"] if but and but.resolve().is_relative_to(top) else []
        )
        return commit + "+" * bool(_git(place, "status", "--porcelain", "--untracked-files=no", "--", ":/", *spared))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def commit_of_code() -> str:
    """The commit of this package's own code; `unknown` where it is installed without its repository."""
    file = Path(__file__).resolve()
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
    except (OSError, subprocess.CalledProcessError):  # another project's repository may hold the environment
        return "unknown"
    return commit_of(file.parent)


def _git(place: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True, check=True).stdout.strip()

"""Pairs of images: from two folders, or the two halves of each."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from realuid.data.sources.base import Raw, Source
from realuid.data.sources.files import Files
from realuid.utils.errors import DataError

__all__ = ["SideBySide", "TwoFolders"]


class TwoFolders(Source):
    """Pairs from two folders or zips: the source image is the file of the same name, or of the same name with another
    ending where no two files differ in nothing but that.

    Raises:
        DataError: an image has no partner, or nobody could tell which.
    """

    pairs = True

    def __init__(self, images: Files, sources: Files) -> None:
        self.images, self.sources, self.classes = images, sources, images.classes
        self.notes = (*images.notes, *sources.notes)
        partners = {name: i for i, name in enumerate(sources.names)}
        if set(images.names) != set(sources.names):
            mine, theirs = (_by_stem(files) for files in (images, sources))
            if alone := sorted(mine.keys() ^ theirs.keys()):
                example = (mine | theirs)[alone[0]]
                raise DataError(f"{images.path} and {sources.path} do not pair up: {example} stands alone")
            partners = {mine[stem]: partners[theirs[stem]] for stem in mine}
        self._partners = [partners[name] for name in images.names]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, number: int) -> Raw:
        return self.images.read(number)._replace(source=self.sources.read(self._partners[number]).image)

    def would_take(self, place: Path) -> str | None:
        return self.images.would_take(place) or self.sources.would_take(place)

    def fingerprint(self) -> str:
        return self.images.fingerprint() + self.sources.fingerprint()


class SideBySide(Source):
    """Pairs in one image each: one half is the source image, as in pix2pix's sets.

    Args:
        images: files of twice the width.
        source: the half that holds the source image, "left" or "right".
    """

    pairs = True

    def __init__(self, images: Files, source: str) -> None:
        self.images, self.source, self.classes, self.notes = images, source, images.classes, images.notes

    def __len__(self) -> int:
        return len(self.images)

    def read(self, number: int) -> Raw:
        raw = self.images.read(number)
        return raw._replace(source=raw.image, half="right" if self.source == "left" else "left")

    def would_take(self, place: Path) -> str | None:
        return self.images.would_take(place)

    def fingerprint(self) -> str:
        return f"{self.images.fingerprint()} {self.source}"


def _by_stem(files: Files) -> dict[str, str]:
    """Names by what they are without their ending."""
    found: dict[str, str] = {}
    for name in files.names:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in found:
            raise DataError(f"{files.path}: {found[stem]} and {name} could both be the partner of {stem}")
        found[stem] = name
    return found

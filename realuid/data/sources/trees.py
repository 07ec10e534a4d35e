"""Folders and zips of files, and what in them are samples."""

from __future__ import annotations

import collections
import os
import stat
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from realuid.data.shards.location import open_folder, reaching
from realuid.utils import archives, remote
from realuid.utils.errors import DataError

__all__ = ["Tree", "ending", "folders_of", "open_tree"]

HIDDEN = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "~snapshot", "$recycle.bin"),
        *("system volume information", "__macosx", "__pycache__", "lost+found"),
    }
)
"""Folders that no user made, in small letters; so are those that begin with a dot."""
JUNK = frozenset({"thumbs.db", "desktop.ini"})


class Tree(ABC):
    """Files by their names, with `/` between folders.

    Attributes:
        path: what complaints call it.
        sizes: bytes of each file.
        left_out: what is passed over, by a word for its kind.
    """

    def __init__(
        self, path: str, names: Mapping[str, str], sizes: Mapping[str, int], stamps: Mapping[str, object]
    ) -> None:
        self.path, self._stamps = path, stamps
        self.left_out: collections.Counter[str] = collections.Counter()
        self._names = {}
        for name, stored in names.items():
            hidden = next((part for part in PurePosixPath(name).parts if _hidden(part)), None)
            if hidden is None:
                self._names[name] = stored
            else:
                self.left_out[f"in {hidden}" if hidden != name.rpartition("/")[2] else "hidden"] += 1
        self.sizes = {name: sizes[name] for name in self._names}

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises OSError or ValueError, each in one line."""
        return self._content(self._names[name])

    def stamp(self, name: str) -> str:
        """Changes when the file does, as far as its place tells without reading it: size, and date or checksum."""
        return f"{self.sizes[name]} {self._stamps[self._names[name]]}"

    @abstractmethod
    def _content(self, stored: str) -> bytes: ...

    def inside(self, folder: str) -> Tree:
        """A folder of the tree as a tree, which knows nothing of what lies outside."""
        other = self._copy()
        other.path = f"{self.path}/{folder}"
        other.left_out = collections.Counter()
        prefix = f"{folder}/"
        other._names = {name.removeprefix(prefix): s for name, s in self._names.items() if name.startswith(prefix)}
        other.sizes = {name.removeprefix(prefix): n for name, n in self.sizes.items() if name.startswith(prefix)}
        return other

    def outside(self, folders: Iterable[str]) -> collections.Counter[str]:
        """What is passed over if these folders alone are read, by a word for its kind."""
        others = [name for name in self.sizes if name.partition("/")[0] not in set(folders)]
        return self.left_out + collections.Counter(map(ending, others))

    def holds(self, place: Path) -> str | None:
        """The folder of all files, of which parts of the tree know as well, if it is local and `place` lies in it."""
        return None

    @abstractmethod
    def _copy(self) -> Tree: ...


def ending(name: str) -> str:
    """The kind of a file, as messages count it."""
    return PurePosixPath(name).suffix.lower() or "without ending"


def folders_of(names: Iterable[str]) -> list[str | None]:
    """The first folder of each name; None for files that lie in none."""
    return [name.partition("/")[0] if "/" in name else None for name in names]


def open_tree(path: str) -> Tree:
    """The files in a folder (any fsspec URL) or a zip.

    Raises:
        DataError: it cannot be read.
    """
    return _Zip(path) if path.lower().endswith(".zip") else _Folder(path)


class _Folder(Tree):
    def __init__(self, path: str) -> None:
        self._place = path
        self._fs, self._root = open_folder(path)
        left_out: collections.Counter[str] = collections.Counter()
        if isinstance(self._fs, LocalFileSystem):
            sizes, stamps, left_out = _walked(path, self._root)
        else:
            with reaching(path):
                found = self._fs.find(self._root, detail=True)
            prefix = self._root.rstrip("/") + "/"
            sizes = {str(name).removeprefix(prefix): int(info.get("size") or 0) for name, info in found.items()}
            stamps = {str(name).removeprefix(prefix): remote.told(info) for name, info in found.items()}
        super().__init__(path, {name: name for name in sizes}, sizes, stamps)
        self.left_out += left_out

    def holds(self, place: Path) -> str | None:
        local = isinstance(self._fs, LocalFileSystem) and Path(self._root).resolve() in place.resolve().parents
        return self._place if local else None

    def _content(self, stored: str) -> bytes:
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{stored}"))
        except Exception as error:  # file systems raise kinds of their own
            raise OSError(remote.reason(error)) from error

    def _copy(self) -> Tree:
        other = object.__new__(_Folder)
        other.__dict__.update(self.__dict__)
        return other


class _Zip(Tree):
    def __init__(self, path: str) -> None:
        self._place = path
        self._fs, self._root = open_folder(path)
        self._archive: zipfile.ZipFile | None = None
        with self._opened() as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
        # Windows' own archiver separates folders by backslashes.
        windows = not any("/" in info.filename for info in infos)
        names: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for info in infos:
            name = info.filename.replace("\\", "/") if windows else info.filename
            name = str(PurePosixPath(name))
            if name in names:
                raise DataError(f"{path} holds {name} twice")
            if not name.endswith("/"):
                names[name], sizes[name] = info.filename, info.file_size
        super().__init__(path, names, sizes, {info.filename: info.CRC for info in infos})

    def _content(self, stored: str) -> bytes:
        self._archive = self._archive or self._opened()
        return archives.member(self._archive, stored)

    def _opened(self) -> zipfile.ZipFile:
        try:
            return archives.opened_zip(self._fs.open(self._root, "rb"))
        except Exception as error:  # file systems raise kinds of their own
            raise DataError(f"{self._place} cannot be read: {remote.reason(error)}") from error

    def _copy(self) -> Tree:
        other = object.__new__(_Zip)
        other.__dict__.update(self.__getstate__())
        return other

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_archive": None}


def _hidden(part: str) -> bool:
    return part.startswith(".") or part.lower() in HIDDEN | JUNK


def _walked(path: str, root: str) -> tuple[dict[str, int], dict[str, object], collections.Counter[str]]:
    """The files below a local folder, links followed, with their sizes and dates; and what is no file."""
    sizes: dict[str, int] = {}
    stamps: dict[str, object] = {}
    left_out: collections.Counter[str] = collections.Counter()

    def stop(error: OSError) -> None:
        raise DataError(f"{path} cannot be read: {remote.reason(error)}: {error.filename}") from error

    seen: dict[str, str] = {}
    for folder, _, files in os.walk(root, onerror=stop, followlinks=True):
        real = os.path.realpath(folder)
        if (before := seen.setdefault(real, folder)) != folder:
            raise DataError(f"{path}: {folder} and {before} are the same folder, by a link: its files would come twice")
        for file in files:
            full = os.path.join(folder, file)
            try:
                state = os.stat(full)
            except OSError:
                left_out["broken links"] += 1
                continue
            if stat.S_ISREG(state.st_mode):
                name = os.path.relpath(full, root).replace(os.sep, "/")
                sizes[name], stamps[name] = state.st_size, state.st_mtime_ns
            else:
                left_out["pipes and devices"] += 1
    return sizes, stamps, left_out

"""Where gin files are found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from realuid.config.errors import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent


def recipe_folder() -> Path:
    """The project's gin files: inside an installed package, or beside the package in the repository."""
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "gin"


def find_file(name: str, folders: Iterable[Path], place: str) -> Path:
    """The file called `name` in the first of `folders` that has it, or else among the recipes.

    Raises ConfigError, beginning with `place`, if there is none; it names the nearest recipes.
    """
    recipe = name.removeprefix("gin/")
    candidates = [*(folder / Path(name).expanduser() for folder in folders), recipe_folder() / recipe]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    if name and any(candidate.is_dir() for candidate in candidates):
        raise ConfigError(f"{place} {name!r} is a folder: name a gin file")
    recipes = [path.relative_to(recipe_folder()).as_posix() for path in sorted(recipe_folder().rglob("*.gin"))]
    raise ConfigError(f"{place} {name!r}: there is no such file{nearest(recipe, recipes)}")


def find_all(names: Iterable[str]) -> list[Path]:
    """The files of `--gin`: as given, or among the recipes.

    Raises ConfigError if one is missing.
    """
    return [find_file(name, [Path.cwd()], "--gin") for name in names]


def read(path: Path) -> str:
    """The text of a gin file. Raises ConfigError if it cannot be read or is not text."""
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        raise ConfigError(f"{shown(path)}: cannot be read as a gin file: it is no text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read as a gin file: {error}") from None


def shown(path: Path) -> str:
    """`path` as a message shows it: relative where that is shorter."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

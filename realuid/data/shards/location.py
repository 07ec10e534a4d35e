"""Where data sets lie: any place that fsspec reaches."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from realuid.utils import remote
from realuid.utils.errors import DataError

__all__ = ["locate", "open_folder", "reaching", "read_file", "split_url"]


def locate(path: str) -> str:
    """The place of a data set: `path` itself if it is a URL or absolute, else `path` inside `REALUID_DATA`.

    `REALUID_DATA` is an environment variable, a folder or a URL; unset or empty, it is `data` in the working directory.
    """
    if "://" in path or "::" in path or os.path.isabs(path):
        return path
    return f"{(os.environ.get('REALUID_DATA') or 'data').rstrip('/')}/{path}"


def open_folder(url: str) -> tuple[Any, str]:
    """The fsspec file system of a folder, and the folder's path in it, without a slash at the end.

    Raises:
        DataError: nothing installed can open this kind of URL, or its host cannot be reached.
    """
    with reaching(url, "opened"):
        fs, root = fsspec.core.url_to_fs(url)
    return fs, root.rstrip("/")


@contextmanager
def reaching(place: str, done: str = "read") -> Iterator[None]:
    """Makes one DataError of whatever a file system raises: `place` cannot be read, and why."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # every file system has errors of its own
        raise DataError(f"{place} cannot be {done}: {remote.reason(error)}") from error


def read_file(url: str, name: str) -> bytes | None:
    """The file `name` in the folder at `url`; None if there is none.

    It is read rather than asked for: fsspec says of every file on an HTTP server that fails that it does not exist.

    Raises:
        DataError: nobody knows whether there is one: access is denied, the host cannot be reached, the server fails.
    """
    fs, root = open_folder(url)
    with reaching(f"{url}/{name}"):
        try:
            return bytes(fs.cat_file(f"{root}/{name}"))
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, NotADirectoryError) or remote.is_missing(error):
                return None
            raise


def split_url(path: str) -> tuple[str, str]:
    """The folder and the name of a file; what follows the `?` of a web address belongs to the name."""
    before, query = path, ""
    if path.startswith(("http://", "https://")):
        before, mark, after = path.partition("?")
        query = mark + after
    folder, _, name = before.rpartition("/")
    return folder, name + query

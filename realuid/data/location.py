"""Where data sets lie: any place that fsspec reaches."""

import os
from typing import Any

import fsspec

from realuid.errors import DataError

__all__ = ["locate", "open_folder"]


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
        DataError: nothing installed can open this kind of URL.
    """
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise DataError(f"{url} cannot be opened: {error}") from error
    return fs, root.rstrip("/")

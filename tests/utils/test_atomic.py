"""Files that are whole or absent."""

import errno
import os

import pytest

from realuid.utils.atomic import write_atomically


def test_a_full_disk_names_the_file(tmp_path):
    """And leaves what was there."""
    path = tmp_path / "x.txt"
    path.write_text("before")

    def write(part):
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*x\.txt'$"):
        write_atomically(path, write)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.txt", "before")]

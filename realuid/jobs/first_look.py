"""Mistakes in a run that are seen at once, before networks are built: in its data sets, weights and run folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import fsspec

from realuid import config as configuration
from realuid.checkpoints import CheckpointStore
from realuid.config import Config
from realuid.config.files import recipe_folder
from realuid.data.builtin.sets import MADE
from realuid.data.dataset import Dataset
from realuid.pretrained import remote_folders
from realuid.pretrained.pipelines.folders import INDEX
from realuid.training.run_folder import RunFolder
from realuid.utils import remote
from realuid.utils.errors import CheckpointError, DataError, RunError
from realuid.utils.places import check_folder
from realuid.utils.printed import plain

__all__ = ["look_at_run", "look_at_weights", "weights_of"]

WEIGHTS = (("method", "teacher", "checkpoint"), ("method", "student_init"), ("method", "fake_init"))
"""Arguments below the Trainer that name files of weights."""
WORDS = ("teacher", "random")
"""What an initialisation may be instead."""
NATURES = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"version https://git-lfs": "a Git LFS pointer: `git lfs pull` fetches the file itself",
    b"<": "a web page: the address of the file itself is needed",
}
"""What is taken for a checkpoint, by its first bytes."""
HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def look_at_run(config: Config, folder: RunFolder) -> None:
    """Reads indices and first bytes; builds data sets and no network.

    Raises:
        RunError: if the run folder, or the folder of the checkpoints, cannot be written to; if what is to become the
            run folder holds other folders.
        CheckpointError: if the folder of the checkpoints cannot be reached; if weights that are bound are not there, or
            are something else.
        DataError: if a data set is not there, or not as it is declared.
        ConfigError: if a data set cannot be built.
    """
    check_folder(folder.path, "--out")
    _look_for_others(folder, config.name)
    _look_at_store(configuration.value(config, "checkpoints", "folder"))
    for path, argument in weights_of(config):
        look_at_weights(path, argument)
    for argument in ("data", "prompts"):
        if (alone := configuration.alone(config, argument)) is None:
            continue
        data = configuration.build(alone)
        assert isinstance(data, Dataset)
        line = data.missing()
        if line is not None and not line.endswith(MADE):
            raise DataError(line)


def weights_of(config: Config) -> Iterator[tuple[str, str]]:
    """The files of weights that a run is to start from, each with the argument that names it."""
    for place in WEIGHTS:
        bound = configuration.value(config, *place)
        if isinstance(bound, str) and bound not in WORDS:
            yield bound, f"{configuration.value(config, *place[:-1]).kind.name}.{place[-1]}"


def _look_for_others(folder: RunFolder, name: str) -> None:
    """Somebody's home, or the current folder, is not to become a run folder: --fresh would move it away. Files alone
    may lie there, such as the output of a job."""
    if not folder.path.is_dir() or folder.config.exists():
        return
    others = sorted(entry.name for entry in os.scandir(folder.path) if entry.is_dir() and entry.name[0] != ".")
    if others:
        shown = ", ".join(map(plain, others[:3])) + ", ..." * (len(others) > 3)
        raise RunError(
            f"--out {folder} holds folders ({shown}) and no run: name a folder of its own, such as {folder.path / name}"
        )


def _look_at_store(url: object) -> None:
    """Makes sure that checkpoints can be kept where they are wanted."""
    if isinstance(url, str) and "://" not in url and "::" not in url:
        check_folder(url, "Checkpoints.folder")
    elif isinstance(url, str):
        CheckpointStore(url).steps()


def look_at_weights(path: str, argument: str) -> None:
    """Makes sure that there is a checkpoint at a path or URL, and that it is none of the things that are often taken
    for one. Whether its weights fit is told by reading it.

    Args:
        path: path or URL of a file, or of a folder.
        argument: how the user named it, for messages.

    Raises:
        CheckpointError: see above; if there is none, with where to get it.
    """
    if "://" not in path and "::" not in path and Path(path).is_dir():
        _look_at_folder(Path(path), argument)
        return
    head = b""
    try:
        fs, target = fsspec.core.url_to_fs(path)
        folder = "://" in path and fs.isdir(target)
        if not folder:
            with fs.open(target, "rb") as file:
                head = file.read(64)
    except Exception as error:  # every kind of storage has errors of its own
        if remote.is_missing(error):
            raise CheckpointError(f"{argument}: there is no checkpoint {path}{_where(path)}") from None
        raise CheckpointError(f"{argument}: {path} cannot be read: {remote.reason(error)}") from None
    if folder:
        if path.startswith(remote_folders.HUB):  # the files of a gated repository are listed, and may not be read
            remote_folders.local_folder(path, (INDEX,))
        return
    if not head:
        raise CheckpointError(f"{argument}: {path} is empty")
    for start, nature in NATURES.items():
        if head.lstrip().startswith(start):
            raise CheckpointError(f"{argument}: {path} is no checkpoint, but {nature}")


def _look_at_folder(path: Path, argument: str) -> None:
    if not (path / "config.gin").is_file():
        return  # of diffusers, or a sharded checkpoint
    store = RunFolder(path).store
    steps = store.steps()
    remedy = f"bind one of its checkpoints, such as {store.newest()}" if steps else "it has no checkpoint yet"
    raise CheckpointError(f"{argument}: {path} is a run folder: {remedy}")


def _where(path: str) -> str:
    """The end of a message: where weights of this name are published, if a shipped description of a teacher says it."""
    name = path.rpartition("/")[2]
    for description in sorted((recipe_folder() / "teachers").glob("*.gin")):
        text = description.read_text(encoding="utf-8")
        found = re.search(rf"^# *Weights +(\S*{re.escape(name)}.*)$", text, re.MULTILINE)
        if found and name:
            return f": download it ({found[1]}), and bind the path where it lies"
    if "://" not in path and HUB.fullmatch(path) and not Path(path).parent.exists():
        return f": a path or a URL is needed; a model of the Hugging Face hub is hf://{path}"
    return ": bind the path or URL where it lies"

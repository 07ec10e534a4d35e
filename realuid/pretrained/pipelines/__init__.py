"""Teachers that are pipelines of diffusers: text to image, in latents.

family, table      what there is to know about a class of pipelines, and the classes; one file for each of them
network, encoder   its denoising network, its text encoders
schedule, grids    path, target, time and steps, from the scheduler's configuration
folders, reading   the folder and what is read from it
single_file        the network's weights in one file, in the names of its own project
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from realuid.pretrained.conventions import Foreign
from realuid.pretrained.pipelines.folders import INDEX, PipelineFolder
from realuid.pretrained.pipelines.reading import read
from realuid.pretrained.pipelines.single_file import SingleFile, is_file, is_network
from realuid.pretrained.pipelines.table import FAMILIES
from realuid.pretrained.remote_folders import local_file, local_folder
from realuid.utils.errors import CheckpointError

__all__ = ["folder_of", "is_file", "is_network", "read_file", "read_pipeline"]


def folder_of(url: str) -> PipelineFolder | None:
    """The folder of a pipeline whose class is in the table; None if it is another one, or no pipeline's.

    Raises:
        CheckpointError: if there is no such folder, or it cannot be reached.
    """
    if not (local_folder(url, (INDEX,)) / INDEX).is_file():
        return None
    folder = PipelineFolder(url)
    return folder if folder.pipeline in FAMILIES else None


def read_pipeline(folder: PipelineFolder, known: Mapping[str, Any] | None, sha256: str | None) -> Foreign:
    """Reads a pipeline. Raises CheckpointError as `read`, or if a checksum is asked for: a revision pins a folder."""
    if sha256 is not None:
        raise CheckpointError(f"{folder.url} is a folder of several files: pin hf://owner/name@commit, not a sha256")
    return read(folder, {name: value for name, value in (known or {}).items() if name != "folder"})


def read_file(url: str, known: Mapping[str, Any], weights: str | None, sha256: str | None) -> Foreign:
    """Reads a pipeline whose network's weights are a single file.

    Args:
        url: path or URL of the file.
        known: what else `read` takes, and `folder`: path or URL of the folder that has all other parts.
        weights: `ema` or `model`, where the file has both; None for the averages.
        sha256: of the file.

    Raises:
        CheckpointError: if the folder's pipeline is not in the table, or the file does not hold its network.
    """
    place = str(known["folder"])
    if (folder := folder_of(place)) is None:
        raise CheckpointError(f"{place} is no folder of a pipeline of {', '.join(FAMILIES)}")
    others = {name: value for name, value in known.items() if name != "folder"}
    return read(folder, others, SingleFile(local_file(url, sha256), url, weights))

"""One function for every format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from realuid.pretrained import diffusers, dit, edm, guided, pipelines, sources, torchfile
from realuid.pretrained.conventions import Foreign
from realuid.utils.errors import CheckpointError

FORMATS = ("edm", *guided.CONVENTIONS, "dit", "sit", "diffusers")


def read(
    url: str,
    format: str | None = None,
    *,
    weights: str | None = None,
    known: Mapping[str, Any] | None = None,
    sha256: str | None = None,
) -> Foreign:
    """Reads a foreign checkpoint: its architecture, weights and conventions. Nothing in it is executed.

    Args:
        url: path or fsspec URL of a file, or of a diffusers folder; what is far is copied to this machine once
            (`sources.local`).
        format: one of `FORMATS`; None to tell by the content. A file in safetensors has the names of one of them.
        weights: which set of weights to take where the file has several; None for the first average.
        known: what the file does not tell, see the readers; `folder`, if it holds a pipeline's network alone.
        sha256: of the file, or of the weights in the folder; another content is refused.

    Raises:
        CheckpointError: one line, if the checkpoint is missing, damaged, hostile, of no known format, or does not fit
            the network that it claims to be.
    """
    if format is not None and format not in FORMATS:
        raise CheckpointError(f"there is no format {format!r}, only {', '.join(FORMATS)}")
    try:
        foreign = _read(url, format, weights, known, sha256)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {url}") from None
    except Exception as error:  # a damaged file can lead a reader anywhere
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise CheckpointError(
            f"{url} is damaged, or no {format or 'known'} format: {type(error).__name__} {reason}"
        ) from error
    foreign.verify()
    return foreign


def _read(
    url: str, format: str | None, weights: str | None, known: Mapping[str, Any] | None, sha256: str | None
) -> Foreign:
    if format in (None, "diffusers") and known and "folder" in known and pipelines.is_file(url):
        return pipelines.read_file(url, known, weights, sha256)
    if format == "diffusers" or (format is None and sources.is_folder(url)):
        if (folder := pipelines.folder_of(url)) is not None:
            return pipelines.read_pipeline(folder, known, sha256)

        def open_file(name: str) -> BinaryIO:
            pin = sha256 if name.endswith(diffusers.WEIGHTS) else None
            return sources.local(f"{url.rstrip('/')}/{name}", pin).open("rb")

        return diffusers.read(open_file, url)
    path = sources.local(url, sha256)
    if format == "edm" or (format is None and _is_plain_pickle(path)):
        with path.open("rb") as file:
            return edm.read(file, url)
    if _is_safetensors(path) and pipelines.is_network(torchfile.map_safetensors(path, url)):
        raise CheckpointError(
            f"{url} holds the network of a text-to-image pipeline alone: the folder of its other parts is needed, as "
            "in Teacher.known = {'folder': 'hf://owner/name'}, or inspect --known folder=hf://owner/name"
        )
    content = _content(path, url)
    if format in ("dit", "sit") or (format is None and dit.knows(content)):
        format = format or dit.told(content)
        if format is None:
            raise CheckpointError(f"{url} may be of DiT or of SiT: give format='dit' or format='sit'")
        return dit.read(content, url, format=format, weights=weights, known=known)
    return guided.read(content, url, format=format, weights=weights, known=known)


def _is_plain_pickle(path: Path) -> bool:
    """Whether the file is a pickle but none of torch.save's, whose first pickle is its magic number."""
    with path.open("rb") as file:
        start = file.read(16)
    return start[:1] == b"\x80" and start[2:4] != b"\x8a\x0a"


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as these do: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"


def _content(path: Path, url: str) -> Any:
    with path.open("rb") as file:
        if _is_safetensors(path):
            return torchfile.load_safetensors(file, url)[0]
        return torchfile.load(file, url)

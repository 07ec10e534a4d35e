"""Folders of any place that fsspec reaches, copied file by file to this machine; hubs' repositories at one commit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath

import fsspec
from loguru import logger

from realuid.pretrained import sources
from realuid.utils import remote
from realuid.utils.atomic import write_atomically
from realuid.utils.cache_folder import cache_folder
from realuid.utils.errors import CheckpointError

HUB = "hf://"
LISTING = ".files.json"
COMMIT = re.compile(r"[0-9a-f]{40}")
TOLD = (".json", ".txt", ".model", ".safetensors", ".bin", ".jinja")
"""Endings of the files that a pipeline needs; repositories hold the same weights for other programs as well."""
VARIANTS = re.compile(r"\.(fp16|fp32|bf16|non_ema|ema_only)[.-]|^(flax|tf|rust|openvino)_|\.onnx")


def local_folder(url: str, names: Iterable[str]) -> Path:
    """A folder on this machine: itself, or a copy that holds at least the files of these names that there are.

    Args:
        url: path or fsspec URL of the folder; `hf://owner/name@revision` for the hub of Hugging Face. A branch or a tag
            is resolved to its commit once a process.
        names: of files in it, or of folders, which end with a slash; '' is the whole folder.

    Raises:
        CheckpointError: one line, if there is no such folder, it may not be read, or it cannot be reached.
    """
    if "://" not in url and "::" not in url:
        path = Path(url)
        if not path.is_dir():
            raise CheckpointError(f"there is no folder {url}")
        return path
    pinned = at_one_commit(url.rstrip("/"))
    copy = cache_folder() / hashlib.sha256(pinned.encode()).hexdigest()[:16] / PurePosixPath(url.rstrip("/")).name
    there = _listing(pinned, copy)
    for name in wanted(list(there), tuple(names)):
        file = f"{pinned}/{name}"
        # Listings of web servers tell names alone.
        state = None if pinned.startswith(HUB) else there[name] or remote.state_of(file)
        try:
            with _hub_errors(file):
                sources.update(copy / name, file, state=state)
        except FileNotFoundError:
            raise CheckpointError(f"{url} lists {name}, and there is no such file") from None
    return copy


def local_file(url: str, sha256: str | None = None) -> Path:
    """A file on this machine, as by `sources.local`; `hf://owner/name@revision/path` is one at a commit.

    Raises:
        CheckpointError: one line, if there is no such file, it may not be read, or it has another checksum.
    """
    try:
        if not url.startswith(HUB):
            return sources.local(url, sha256)
        owner, _, rest = url.removeprefix(HUB).partition("/")
        name, _, path = rest.partition("/")
        if not path:
            raise CheckpointError(f"{url}: a file of the hub is hf://owner/name/path, with @revision behind the name")
        with _hub_errors(url):
            return sources.local(f"{at_one_commit(f'{HUB}{owner}/{name}')}/{path}", sha256, fixed=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {url}") from None


def wanted(there: Sequence[str], names: Sequence[str]) -> list[str]:
    """The files of a folder that are meant by these names, without a second copy of the same weights."""

    def is_meant(file: str) -> bool:
        return any(file == name or (file.startswith(name) and name[-1:] in ("/", "")) for name in names)

    meant = [file for file in there if is_meant(file) and file.endswith(TOLD)]
    meant = [file for file in meant if not VARIANTS.search(PurePosixPath(file).name)]
    safe = {str(PurePosixPath(file).parent) for file in meant if file.endswith(".safetensors")}
    return [file for file in meant if not (file.endswith((".bin", ".bin.index.json")) and _parent(file) in safe)]


def _parent(file: str) -> str:
    return str(PurePosixPath(file).parent)


@cache
def at_one_commit(url: str) -> str:
    """The URL of a repository of the hub with the commit that its branch or tag stands for; any other URL as it is.

    Raises:
        CheckpointError: if there is no such repository or revision, it may not be read, or the hub does not answer.
    """
    if not url.startswith(HUB):
        return url
    place, _, revision = url.partition("@")
    if COMMIT.fullmatch(revision):
        return url
    try:
        import huggingface_hub
    except ImportError:
        raise CheckpointError(f"{url} needs `pip install realuid[pipelines]`") from None
    name = place.removeprefix(HUB)
    if name.count("/") != 1:
        raise CheckpointError(f"{url}: a repository of the hub is hf://owner/name, with @revision if wanted")
    try:
        fs, _ = fsspec.core.url_to_fs(url)
        hub = huggingface_hub.HfApi(endpoint=fs.endpoint, token=fs.token)
        commit = str(hub.repo_info(name, revision=revision or None, timeout=remote.timeout_s()).sha)
    except Exception as error:  # the hub's client raises kinds of its own
        raise CheckpointError(f"cannot read {url}: {why(error, url)}") from None
    logger.info("{} is at {}: write {}@{} to keep it", url, commit[:12], place, commit)
    return f"{place}@{commit}"


def why(error: BaseException, url: str) -> str:
    """What went wrong with a repository of the hub, in one line."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    page = "https://huggingface.co/" + "/".join(url.removeprefix(HUB).partition("@")[0].split("/")[:2])
    if "GatedRepoError" in kinds:
        return f"it is gated: accept its licence at {page} and set HF_TOKEN"
    if "RevisionNotFoundError" in kinds:
        return "the repository has no such revision"
    if "RepositoryNotFoundError" in kinds:
        return "there is no such repository, or it is private: then set HF_TOKEN"
    return remote.reason(error)


@cache
def _listing(url: str, copy: Path) -> dict[str, str | None]:
    """Names of all files in a remote folder, each with its `remote.state`. The storage is asked once a process; names
    of a commit are kept, since they cannot change."""
    kept = copy / LISTING
    fixed = url.startswith(HUB)
    if fixed and kept.is_file():
        return dict.fromkeys(json.loads(kept.read_text(encoding="utf-8")))
    try:
        fs, root = fsspec.core.url_to_fs(url)
        found = fs.find(root, detail=True)
    except Exception as error:  # every file system raises kinds of its own
        raise CheckpointError(f"cannot read {url}: {why(error, url)}") from None
    prefix = f"{root.rstrip('/')}/"
    states = {_inside(str(name), prefix): remote.state(entry) for name, entry in found.items()}
    if not states:
        raise CheckpointError(f"there is no folder {url}")
    if fixed:
        write_atomically(kept, lambda part: part.write_text(json.dumps(list(states)), encoding="utf-8"))
    return states


def _inside(name: str, prefix: str) -> str:
    inside = name.removeprefix(prefix)
    if inside == name or ".." in PurePosixPath(inside).parts or inside.startswith("/"):
        raise CheckpointError(f"{prefix} lists {name}, which does not lie in it")
    return inside


@contextmanager
def _hub_errors(file: str) -> Iterator[None]:
    """Says what the hub's own errors mean."""
    try:
        yield
    except CheckpointError as error:
        cause = error.__context__
        if cause is not None and "HfHubHTTPError" in {kind.__name__ for kind in type(cause).__mro__}:
            raise CheckpointError(f"cannot read {file}: {why(cause, file)}") from None
        raise

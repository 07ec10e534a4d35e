"""Giving an export away: a commit to a repository of the hub of Hugging Face."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from realuid.utils import remote
from realuid.utils.errors import RunError
from realuid.utils.links import stray

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check(name: str) -> None:
    """Looks at the repository before anything is written, so that a long export is not in vain.

    Args:
        name: `owner/name` of a repository of models that exists.

    Raises:
        RunError: one line, if the name is none, there is no token, or the repository is missing or may not be written.
    """
    if not NAME.fullmatch(name):
        raise RunError(f"--push {name}: a repository is owner/name")
    hub = _hub(name)
    if "write" not in inspect.signature(hub.auth_check).parameters:
        raise RunError("--push needs `pip install 'huggingface_hub>=1.5'`")
    try:
        hub.auth_check(name, write=True)
    except Exception as error:  # the hub's client raises kinds of its own
        raise RunError(f"--push {name}: {_why(error, name, hub)}") from None


def push(name: str, folder: Path, files: Sequence[str]) -> str:
    """Adds files of a folder to a repository, in one commit; others of the folder stay at home.

    Args:
        name: `owner/name`.
        folder: the export's.
        files: names of files and folders in it.

    Returns:
        The commit's address.

    Raises:
        RunError: one line, if the folder holds a link out of it, the commit is refused, or the hub cannot be reached.
    """
    if (what := stray(folder)) is not None:
        raise RunError(f"--push {name}: {what}")
    hub, patterns = _hub(name), [f"{file}/*" if (folder / file).is_dir() else file for file in files]
    logger.info("pushing {} to {}/{}", ", ".join(files), hub.endpoint, name)
    try:
        return str(
            hub.upload_folder(
                repo_id=name, folder_path=folder, allow_patterns=patterns, commit_message="A student of RealUID"
            ).commit_url
        )
    except Exception as error:
        raise RunError(f"--push {name}: {_why(error, name, hub)}") from None


def _hub(name: str) -> Any:
    """The hub's client, with the user's token."""
    try:
        import huggingface_hub
    except ImportError:
        raise RunError("--push needs `pip install realuid[pipelines]`") from None
    token = huggingface_hub.get_token()
    if token is None:
        raise RunError(f"--push {name}: there is no token: set HF_TOKEN to one that may write, or run `hf auth login`")
    return huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)


def _why(error: BaseException, name: str, hub: Any) -> str:
    """What went wrong, in one line."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = remote.status_of(error)
    if status == 401 and "RepositoryNotFoundError" not in kinds:
        return "the token is not valid: set HF_TOKEN to another"
    if status == 403:
        return f"the token may not write to {name}: give it write access, or take a repository of your own"
    if "RepositoryNotFoundError" in kinds:
        return f"there is no such repository, or the token may not see it: make it at {hub.endpoint}/new"
    return remote.reason(error)

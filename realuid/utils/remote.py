"""Places that fsspec reaches: how long a server is waited for, and in a line what went wrong with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.config import conf

from realuid.utils import budget

VARIABLE = "REALUID_TIMEOUT_S"
DEFAULT_S = 15.0
CONNECTION = frozenset(
    {
        "ClientConnectionError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectTimeoutError",
        "ConnectionError",
        "EndpointConnectionError",
        "gaierror",
    }
)
"""Names of the exceptions by which aiohttp, httpx, requests, botocore and Python say that nobody answers."""
CIRCLE = "TooManyRedirects"
"""The name by which aiohttp and requests say that a server sends them on and on."""
CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"})
WHOLE_ALONE = ("Cannot seek streaming HTTP file", "doesn't appear to support range requests")
"""What fsspec says of servers that give a file from its beginning to its end, and in no other way."""
GONE = (404, 410)
PIECE = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
TELLING = (
    "mtime",
    "created",
    "ETag",
    "etag",
    "LastModified",
    "Last-Modified",
    "last_modified",
    "Content-MD5",
    "Digest",
    "md5Hash",
    "generation",
    "blob_id",
)
"""What file systems tell of a file beside its size that changes when it does."""


def timeout_s() -> float:
    """Seconds without a byte after which a server counts as silent: `REALUID_TIMEOUT_S`, an environment variable."""
    try:
        return float(os.environ.get(VARIABLE) or DEFAULT_S)
    except ValueError:
        return DEFAULT_S


async def _session(**settings: Any) -> Any:
    """A session of aiohttp that unpacks nothing by itself: an answer may claim to be packed, and be a bomb."""
    import aiohttp

    class Bounded(aiohttp.ClientResponse):
        """An answer that is read whole; one of unknown length only as far as any file may go (`budget.py`)."""

        async def read(self) -> bytes:
            if self._body is not None or self.content_length is not None:
                return await super().read()
            pieces, total = [], 0
            async for piece in self.content.iter_chunked(PIECE):
                pieces.append(piece)
                total += len(piece)
                if total > budget.FREE:
                    self.close()
                    raise budget.Excess(f"the server sends more than {budget.written(budget.FREE)} and no end")
            self._body = b"".join(pieces)
            return self._body

    silence = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s(), sock_read=timeout_s())
    ours = {"timeout": silence, "auto_decompress": False, "response_class": Bounded}
    headers = {"Accept-Encoding": "identity"} | dict(settings.pop("headers", None) or {})  # else aiohttp asks for gzip
    return aiohttp.ClientSession(**{**ours, **settings, "headers": headers})


def limit_silence() -> None:
    """Tells fsspec, which would wait for minutes, what to do by default; settings that are there already stand.

    Boto3 tries nothing again by itself then, for s3fs does.
    """
    for protocol in ("http", "https"):
        conf.setdefault(protocol, {}).setdefault("get_client", _session)
    seconds = {"connect_timeout": timeout_s(), "read_timeout": timeout_s(), "retries": {"total_max_attempts": 1}}
    for protocol in ("s3", "s3a"):
        conf.setdefault(protocol, {}).setdefault("config_kwargs", seconds)
    for protocol in ("gs", "gcs"):
        conf.setdefault(protocol, {}).setdefault("requests_timeout", timeout_s())


def is_missing(error: BaseException) -> bool:
    """Whether there is no such file. fsspec says so of every HTTP server that fails, and gives the cause."""
    return isinstance(error, FileNotFoundError) and not (error.__cause__ and _is_failure(error.__cause__))


def _is_failure(cause: BaseException) -> bool:
    names = {cls.__name__ for cls in type(cause).__mro__}
    refused = status_of(cause) not in (None, *GONE)
    return refused or bool(names & {*CONNECTION, CIRCLE}) or isinstance(cause, TimeoutError)


def reason(error: BaseException) -> str:
    """What went wrong with a file, in one line, also where the error itself is silent."""
    names = {cls.__name__ for cls in type(error).__mro__}
    status = status_of(error)
    if isinstance(error, FileNotFoundError):
        if is_missing(error):
            return "there is no such file"
        assert error.__cause__ is not None
        return reason(error.__cause__)
    if names & CREDENTIALS:
        return (
            f"it needs credentials ({first_line(error)}): set those of the store, for S3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY or a profile"
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"access is denied ({status or first_line(error)})"
    if CIRCLE in names:
        return "the server redirects without end"
    if "ClientPayloadError" in names:
        return "the server's answer breaks off, or is packed in another way than it says"
    if status is not None and status >= 400:
        return f"the server {'fails' if status >= 500 else 'refuses'} with status {status}"
    if any(words in str(error) for words in WHOLE_ALONE):
        return "the server gives no parts of files: download it first"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the disk is full ({first_line(error)})"
    if isinstance(error, TimeoutError):
        return f"no answer in {timeout_s():g} s ({VARIABLE})"
    return f"it cannot be reached: {first_line(error)}" if names & CONNECTION else first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def status_of(error: BaseException) -> int | None:
    """The status with which an HTTP server answered, if that is what went wrong."""
    response = getattr(error, "response", None)
    found = getattr(error, "status", None) or getattr(response, "status_code", None)
    if isinstance(response, dict):  # botocore's
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found if isinstance(found, int) else None


def bytes_at(url: str) -> int:
    """Bytes of a file, or of all files of a folder; 0 where its storage cannot tell."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        return int(fs.du(path))
    except Exception:  # every kind of storage has errors of its own
        return 0


def told(entry: Mapping[str, Any]) -> list[str]:
    """What a file system tells of a file that changes when the file does."""
    return [f"{name} {entry[name]}" for name in ("size", *TELLING) if entry.get(name) is not None]


def state(entry: Mapping[str, Any]) -> str | None:
    """All that a file system tells of a file that changes when it does; None if that is its size at most."""
    return "; ".join(told(entry)) if any(entry.get(name) is not None for name in TELLING) else None


def state_of(url: str) -> str | None:
    """The `state` of a file; None where its storage tells none, or cannot be reached."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        fs.invalidate_cache(path)
        return state(fs.info(path))
    except Exception:  # every kind of storage has errors of its own; what is wrong, fetching says
        return None

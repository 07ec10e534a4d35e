"""Errors that a user can read: one line each, with the nearest valid names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from realuid.utils.printed import plain


class ConfigError(Exception):
    """The user's mistake, in one line: the place, the binding, what is wrong and what would be right."""

    def __init__(self, message: str):
        super().__init__(plain(" ".join(message.split())))


class Wrong(Exception):
    """What is wrong with a statement, raised where its place in the files is not known."""


@contextmanager
def blaming(place: object) -> Iterator[None]:
    """Turns a `Wrong` of the block into a ConfigError that begins with `place`."""
    try:
        yield
    except Wrong as wrong:
        raise ConfigError(f"{place}: {wrong}") from None


def nearest(name: str, options: Iterable[str], otherwise: str = "") -> str:
    """The question whether one of the options closest to `name` was meant, or `otherwise` if none is close."""
    spellings: dict[str, str] = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(name.casefold(), spellings, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(spellings[match] for match in close)}?" if close else otherwise

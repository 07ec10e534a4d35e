"""The gin that describes a checkpoint, of this project or of another."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from realuid import checkpoints
from realuid.config import Config, ConfigError
from realuid.pretrained.description import described
from realuid.pretrained.loading import is_ours
from realuid.pretrained.reading import read
from realuid.training.run_folder import RunFolder
from realuid.utils.errors import CheckpointError, RunError
from realuid.utils.printed import plain


def work(arguments: argparse.Namespace) -> int:
    """Prints the gin that describes a checkpoint; returns the exit status."""
    file = newest_of_run(arguments.file)
    if arguments.format is None and is_ours(file):
        print(_ours(file), end="")
    else:
        known = known_of(arguments.known)
        print(described(read(file, arguments.format, weights=arguments.ema, known=known), file))
    return 0


def newest_of_run(path: str) -> str:
    """The newest checkpoint if the path is that of a run folder, or of its checkpoints; else the path itself.

    Raises:
        CheckpointError: if the run has none.
    """
    places = [Path(path), *([Path(path).parent] if Path(path).name == "checkpoints" else [])]
    place = next((place for place in places if (place / "config.gin").is_file()), None)
    if place is None:
        return path
    folder = RunFolder(place)
    try:
        folder.check_links()
        return folder.store.newest()
    except RunError as error:
        raise CheckpointError(str(error)) from None


def known_of(options: Sequence[str]) -> dict[str, object]:
    """What options `name=value` tell of a file. Raises RunError if one is of another form."""
    return dict(_known(text) for text in options)


def _ours(path: str) -> str:
    """The configuration that one of our checkpoints carries, and what is in it; or the names of plain tensors."""
    state = checkpoints.load(path)
    if isinstance(state.get("config"), str):
        averages = ", ".join(map(plain, state["ema"]["weights"])) if "ema" in state else "none"
        images = state.get("images")
        counted = f"{images:,}" if isinstance(images, int) else "unknown"
        head = f"# step {state.get('step')}, {counted} images, averages {averages}"
        return "\n".join([plain(head), *_configuration(state["config"], path)]) + "\n"
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    lines = [f"# {plain(name)}: {list(value.shape)} {str(value.dtype)[6:]}" for name, value in tensors.items()]
    return "\n".join(["# named tensors without a configuration: bind the network that they are of", *lines]) + "\n"


def _configuration(text: str, path: str) -> list[str]:
    """Its lines. As comments, if it asks for code: saved as a gin file, it would be the user's own and run it."""
    lines = ["", *map(plain, text.splitlines())]
    try:
        Config.from_text(text, name=path)
    except ConfigError as error:
        return [f"# {plain(str(error))}", *(f"# {line}".rstrip() for line in lines)]
    return lines


def _known(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    value = value.strip().removeprefix("(").removesuffix(")")
    if not (name.strip().isidentifier() and equals and all(value.split(","))):
        raise RunError(f"--known {text}: name=value is needed, as in shape=3,32,32 or guidance=2.5")
    name, parts = name.strip(), [_value(part.strip()) for part in value.split(",")]
    return name, tuple(parts) if len(parts) > 1 else parts[0]


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text

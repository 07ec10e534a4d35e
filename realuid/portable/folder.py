"""The exported folder: model.safetensors and model.json, which any later version of this package reads."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import torch
from torch import nn

from realuid.atomic import write_atomically
from realuid.errors import CheckpointError
from realuid.portable.student import Step, Student

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1
NETWORKS = {
    "UNet": "realuid.networks.unet",
    "MLP": "realuid.networks.mlp",
    "SongUNet": "realuid.networks.edm_unet",
    "DhariwalUNet": "realuid.networks.edm_unet",
    "EDM2UNet": "realuid.networks.edm2_unet",
    "DiT": "realuid.networks.dit",
}
"""The networks that a description may name: a file cannot make this package import or call anything else."""


def save(
    folder: Path, student: Student, *, network: str, arguments: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Writes weights and description.

    Args:
        folder: made if it is not there.
        student: what is exported.
        network: class of its network, one of `NETWORKS`.
        arguments: all of its constructor's, JSON's types only.
        facts: what else the description says: `scaling`, `path`, `metrics`, `config`, ...

    Raises:
        CheckpointError: if the network is of a class that cannot be described, or safetensors is not installed.
    """
    if network not in NETWORKS:
        raise CheckpointError(f"a network {network} cannot be described; only {', '.join(NETWORKS)} can")
    tensors = {name: value.detach().cpu().contiguous() for name, value in student.network.state_dict().items()}
    content = _safetensors().save(tensors, metadata={"format": "pt"})
    description = {
        "format": "realuid-student",
        "version": FORMAT,
        "network": network,
        "arguments": dict(arguments),
        "step": asdict(student.step),
        "shape": student.shape,
        "classes": student.classes,
        "sha256": hashlib.sha256(content).hexdigest(),
        **facts,
    }
    try:
        text = json.dumps(description, indent=1)
    except TypeError as error:
        raise CheckpointError(f"{network} has arguments that JSON cannot hold: {error}") from None
    write_atomically(folder / WEIGHTS, lambda part: part.write_bytes(content))
    write_atomically(folder / DESCRIPTION, lambda part: part.write_text(text + "\n", encoding="utf-8"))


def load(path: str, device: str | torch.device = "cpu") -> Student:
    """Opens an exported student.

    Args:
        path: path or fsspec URL of the folder.
        device: where to.

    Raises:
        CheckpointError: one line, if there is no exported student, or it is damaged.
    """
    root = str(path).rstrip("/")
    try:
        description = json.loads(_content(f"{root}/{DESCRIPTION}"))
        if not isinstance(description, dict) or description.get("format") != "realuid-student":
            raise CheckpointError(f"{root}/{DESCRIPTION} describes no student of this project")
        if description["version"] > FORMAT:
            raise CheckpointError(f"{root} was written by a newer version of this package")
        if description["network"] not in NETWORKS:
            raise CheckpointError(f"{root} names the network {description['network']}, which this package lacks")
        content = _content(f"{root}/{WEIGHTS}")
        if hashlib.sha256(content).hexdigest() != description["sha256"]:
            raise CheckpointError(f"{root}/{WEIGHTS} is not the file that {DESCRIPTION} describes: its sha256 differs")
        network = _network(description)
        network.load_state_dict(_safetensors().load(content))
        step = description["step"]
        student = Student(
            network=network,
            step=Step(step["skip"], tuple(step["out"]), step["into"], step["time"]),
            shape=description["shape"],
            classes=description["classes"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{root} is not a readable export: {reason}") from None
    return student.to(device)


def _network(description: Mapping[str, Any]) -> nn.Module:
    name = description["network"]
    return getattr(importlib.import_module(NETWORKS[name]), name)(**description["arguments"])


def _content(url: str) -> bytes:
    try:
        with fsspec.open(url, "rb") as file:
            return file.read()
    except (OSError, ImportError, ValueError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error
        raise CheckpointError(f"cannot read {url}: {reason}") from None


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise CheckpointError("exports need `pip install safetensors`") from None

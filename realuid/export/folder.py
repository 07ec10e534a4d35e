"""The exported folder: model.safetensors and model.json, which any later version of this package reads."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import torch

from realuid.conditions import Field, class_label
from realuid.export.student import Evaluation, ExportedStudent, Weights
from realuid.networks.base import Network
from realuid.pretrained.conventions import NETWORKS, network_class
from realuid.utils import budget, remote
from realuid.utils.atomic import write_atomically
from realuid.utils.building import Building
from realuid.utils.errors import CheckpointError

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 2


def save(
    folder: Path, student: ExportedStudent, *, network: str, arguments: Mapping[str, Any], facts: Mapping[str, Any]
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
    check(network, arguments)
    tensors = {name: value.detach().cpu().contiguous() for name, value in student.network.state_dict().items()}
    content = _safetensors().save(tensors, metadata={"format": "pt"})
    description = {
        "format": "realuid-student",
        "version": FORMAT,
        "network": network,
        "arguments": dict(arguments),
        "evaluations": [asdict(evaluation) for evaluation in student.evaluations],
        "result": student.result,
        "draws": student.draws,
        "from_images": student.from_images,
        "shape": student.shape,
        "conditions": [asdict(field) for field in student.conditions],
        "sha256": hashlib.sha256(content).hexdigest(),
        **facts,
    }
    text = json.dumps(description, indent=1)
    write_atomically(folder / WEIGHTS, lambda part: part.write_bytes(content))
    write_atomically(folder / DESCRIPTION, lambda part: part.write_text(text + "\n", encoding="utf-8"))


def check(network: str, arguments: Mapping[str, Any]) -> None:
    """Makes sure that `save` can describe a network; arguments and errors as of it."""
    if network not in NETWORKS:
        raise CheckpointError(f"a network {network} cannot be described; only {', '.join(NETWORKS)} can")
    try:
        json.dumps(dict(arguments))
    except TypeError as error:
        raise CheckpointError(f"{network} has arguments that JSON cannot hold: {error}") from None
    _safetensors()


def load(path: str, device: str | torch.device = "cpu") -> ExportedStudent:
    """Opens an exported student.

    Args:
        path: path or fsspec URL of the folder.
        device: where to.

    Raises:
        CheckpointError: one line, if there is no exported student, or it is damaged.
    """
    root = str(path).rstrip("/")
    try:
        description = budget.parsed(_content(f"{root}/{DESCRIPTION}"), f"{root}/{DESCRIPTION}")
        if not isinstance(description, dict) or description.get("format") != "realuid-student":
            raise CheckpointError(f"{root}/{DESCRIPTION} describes no student of this project")
        if description["version"] > FORMAT:
            raise CheckpointError(f"{root} was written by a newer version of this package")
        if description["network"] not in NETWORKS:
            raise CheckpointError(f"{root} names the network {description['network']}, which this package lacks")
        content = _content(f"{root}/{WEIGHTS}")
        if hashlib.sha256(content).hexdigest() != description["sha256"]:
            raise CheckpointError(f"{root}/{WEIGHTS} is not the file that {DESCRIPTION} describes: its sha256 differs")
        budget.check_header(content)
        with Building(len(content)):
            network = _network(description)
        network.load_state_dict(_safetensors().load(content))
        shape, (evaluations, result, draws) = description["shape"], _form(description)
        if not all(type(number) is int and number >= 0 for number in shape):
            raise ValueError(f"shape {shape} is none")
        budget.spend(4 * math.prod(shape), len(content), "an image")
        student = ExportedStudent(
            network=network,
            evaluations=evaluations,
            result=result,
            draws=draws,
            shape=shape,
            conditions=_conditions(description, len(content)),
            from_images=bool(description.get("from_images", False)),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{root} is not a readable export: {reason}") from None
    return student.to(device)


def _network(description: Mapping[str, Any]) -> Network:
    return network_class(description["network"])(**description["arguments"])


def _form(description: Mapping[str, Any]) -> tuple[list[Evaluation], Weights, int]:
    """The arguments of `ExportedStudent` of these names. Raises ValueError if a number is not finite."""
    evaluations, result, draws = _told_form(description)
    inputs = (weight for evaluation in evaluations for row in evaluation.inputs for weight in row)
    if not all(map(math.isfinite, (*result, *(one.time for one in evaluations), *inputs))):
        raise ValueError("a time or weight of its evaluations is not finite")
    return evaluations, result, draws


def _told_form(description: Mapping[str, Any]) -> tuple[list[Evaluation], Weights, int]:
    if "step" in description:  # of version 1, which knew students of one step alone
        step = description["step"]
        only = Evaluation(float(step["time"]), ((float(step["into"]),),))
        return [only], (float(step["skip"]), *map(float, step["out"])), 0
    evaluations = [
        Evaluation(float(told["time"]), tuple(tuple(map(float, weights)) for weights in told["inputs"]))
        for told in description["evaluations"]
    ]
    return evaluations, tuple(map(float, description["result"])), int(description["draws"])


def _conditions(description: Mapping[str, Any], size: int) -> tuple[Field, ...]:
    """The fields that a student with weights of `size` bytes is told. Raises ValueError if they are too large."""
    if "conditions" not in description:  # of version 0.1, which knew class labels alone
        fields = class_label(description["classes"])
    else:
        fields = tuple(Field(**{**field, "shape": tuple(field["shape"])}) for field in description["conditions"])
    for field in fields:
        budget.spend(8 * max(field.classes, math.prod(field.sizes)), size, f"the condition {field}")
    return fields


def _content(url: str) -> bytes:
    try:
        with fsspec.open(url, "rb") as file:
            return file.read()
    except (OSError, ImportError, ValueError) as error:
        reason = "there is no such file" if remote.is_missing(error) else remote.reason(error)
        raise CheckpointError(f"cannot read {url}: {reason}") from None


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise CheckpointError("exports need `pip install safetensors`") from None

"""Everything that an export writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realuid.atomic import write_atomically
from realuid.portable import card, folder, pipeline, programs
from realuid.portable.student import Student

FORMATS = {"onnx": "model.onnx", "torch": "model.pt2", "diffusers": "diffusers"}
"""What may be written beside weights and description, and the file or folder it becomes."""


def write(
    out: Path,
    student: Student,
    *,
    name: str,
    network: str,
    arguments: Mapping[str, Any],
    facts: Mapping[str, Any],
    formats: Sequence[str] = (),
) -> list[str]:
    """Writes model.safetensors, model.json, README.md (the model card), and further formats.

    Args:
        out: the folder; made if it is not there.
        student: what is exported.
        name: title of the model card.
        network: class of its network.
        arguments: all of its constructor's.
        facts: `scaling`, `path`, `metrics`, `config` and so on, for description and card.
        formats: of `FORMATS`.

    Returns:
        Names of the files and folders in `out`.

    Raises:
        CheckpointError: if the network cannot be described.
        RunError: if the student cannot be written in a format.
    """
    out.mkdir(parents=True, exist_ok=True)
    folder.save(out, student, network=network, arguments=arguments, facts=facts)
    if "onnx" in formats:
        programs.to_onnx(student, out / FORMATS["onnx"])
    if "torch" in formats:
        programs.to_torch(student, out / FORMATS["torch"])
    if "diffusers" in formats:
        pipeline.save(out / FORMATS["diffusers"], student, arguments)
    files = [folder.WEIGHTS, folder.DESCRIPTION, *(FORMATS[format] for format in formats)]
    text = card.card(student, name=name, network=network, facts=facts, files=files)
    write_atomically(out / "README.md", lambda part: part.write_text(text, encoding="utf-8"))
    return [*files, "README.md"]

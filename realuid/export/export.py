"""Everything that an export writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from realuid.export import card, folder, pipeline, programs, text_to_image
from realuid.export.student import ExportedStudent
from realuid.pretrained.pipelines.network import PipelineNetwork
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import RunError

FORMATS = {"onnx": "model.onnx", "torch": "model.pt2", "diffusers": "diffusers"}
"""What may be written beside weights and description, and the file or folder it becomes."""


def write(
    out: Path,
    student: ExportedStudent,
    *,
    name: str,
    network: str,
    arguments: Mapping[str, Any],
    facts: Mapping[str, Any],
    formats: Sequence[str] = (),
    base: str | None = None,
    weights: str | None = None,
    adapters: Sequence[str] = (),
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
        base: path or URL of the teacher's pipeline, for the diffusers format of its students.
        weights: path or URL of the file with the network of that pipeline; None for its own.
        adapters: files and folders of the student's adapters, which are there already.

    Returns:
        Names of the files and folders in `out`.

    Raises:
        CheckpointError: if the network cannot be described.
        RunError: if the student cannot be written in a format, or the folder holds something else; nothing is written.
    """
    check(out, student, network=network, arguments=arguments, formats=formats, base=base)
    out.mkdir(parents=True, exist_ok=True)
    logger.info("writing weights and description")
    folder.save(out, student, network=network, arguments=arguments, facts=facts)
    files = [folder.WEIGHTS, folder.DESCRIPTION, *adapters]
    for known in (known for known in FORMATS if known in formats):
        place = out / FORMATS[known]
        logger.info("writing {}", place.name)
        if known == "onnx":
            files += programs.to_onnx(student, place)
            continue
        if known == "torch":
            programs.to_torch(student, place)
        elif isinstance(student.network, PipelineNetwork):
            text_to_image.save(_empty(place), student, base)
        else:
            pipeline.save(_empty(place), student, arguments)
        files.append(place.name)
    is_pipeline = "diffusers" in formats and isinstance(student.network, PipelineNetwork)
    is_adapted = text_to_image.SCHEDULER in adapters
    call = text_to_image.call(student) if is_pipeline or is_adapted else None
    scheduler = text_to_image.scheduler_of(student)["_class_name"] if is_adapted else None
    text = card.card(
        student,
        name=name,
        network=network,
        facts=facts,
        files=files,
        call=call,
        base=base,
        weights=weights,
        scheduler=scheduler,
    )
    write_atomically(out / "README.md", lambda part: part.write_text(text, encoding="utf-8"))
    return [*files, "README.md"]


def check(
    out: Path,
    student: ExportedStudent,
    *,
    network: str,
    arguments: Mapping[str, Any],
    formats: Sequence[str] = (),
    base: str | None = None,
) -> None:
    """Makes sure that `write` can write into the folder what the options ask for; arguments and errors as of it."""
    folder.check(network, arguments)
    if (out / "README.md").exists() and not (out / folder.DESCRIPTION).exists():
        raise RunError(f"{out / 'README.md'} is of something else, and would be replaced: choose another --out")
    if "diffusers" in formats:
        _empty(out / FORMATS["diffusers"])
        if isinstance(student.network, PipelineNetwork):
            text_to_image.check(student, base)
        else:
            pipeline.check(student, arguments)


def _empty(place: Path) -> Path:
    """A folder for files whose names are not known before: what an earlier export left there would go along.

    Raises:
        RunError: if it holds something.
    """
    if place.is_dir() and any(place.iterdir()):
        raise RunError(f"{place} is of an earlier export: remove it, or choose another --out")
    return place

"""A run's student in forms that others can use."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from loguru import logger
from torch import nn

from realuid.config.assembly import Component
from realuid.config.configuration import Config
from realuid.config.outlines import plan
from realuid.data.dataset import Wrapped
from realuid.data.shard_set import ShardSet
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import Student
from realuid.distillation.teachers import Teacher
from realuid.export import adapters, export, hub, text_to_image, to_exported
from realuid.export.public import without_credentials
from realuid.jobs import runs
from realuid.models.matching import MatchingModel
from realuid.networks.lora import LoRA
from realuid.pretrained.pipelines import is_file
from realuid.pretrained.pipelines.decoder import PipelineDecoder
from realuid.pretrained.pipelines.network import PipelineNetwork
from realuid.utils.errors import RunError
from realuid.utils.printed import plain

LORA = "lora"
"""The format of a student's adapters alone, for pipelines of diffusers."""
PIXELS = {"name": "pixels", "low": -1.0, "high": 1.0}


def work(arguments: argparse.Namespace) -> int:
    """Writes the formats that the options ask for, and pushes them where they are wanted; returns the exit status."""
    if arguments.push:
        hub.check(arguments.push)
    files = _written(arguments)
    logger.info("{}: {}", arguments.out, ", ".join(files))
    if arguments.push:
        logger.info("pushed: {}", hub.push(arguments.push, Path(arguments.out), files))
    return 0


def _written(arguments: argparse.Namespace) -> list[str]:
    """Writes everything, once all of it is known to be possible; returns the names of files and folders."""
    model = runs.reopen(arguments)
    trained, data = model.trainer.method.ema.averaged(arguments.ema), model.trainer.data
    if not isinstance(trained, Student):
        raise RunError("this run trains a teacher; only students of a distillation are exported")
    matching, formats = trained.model, [name for name in arguments.formats if name != LORA]
    component, teacher = _network(model.config), model.trainer.method.teacher
    out, adapted = Path(arguments.out), matching.network
    if LORA in arguments.formats:
        if isinstance(teacher, Teacher):
            _check_base(adapted, teacher)
        adapters.check(adapted)
        if not formats and not adapters.can_merge(adapted):
            return [adapters.save(out, adapted)]
    if isinstance(adapted, LoRA):
        matching.network = adapted.merged()
    trained = trained.cpu().float()

    student = to_exported(matching, trained, shape=data.shape, conditions=data.conditions)
    network = component.kind.target.__name__
    told = {name: argument.value for name, argument in component.arguments.items()}
    base = _base(teacher) if isinstance(teacher, Teacher) else None
    export.check(out, student, network=network, arguments=told, formats=formats, base=base)
    written: list[str] = []
    if LORA in arguments.formats:
        has_scheduler = isinstance(student.network, PipelineNetwork)
        if has_scheduler:
            text_to_image.scheduler_of(student)  # or a line that says why there is none
        written.append(adapters.save(out, adapted))
        if has_scheduler:
            written.append(text_to_image.save_scheduler(out, student))
    return export.write(
        out,
        student,
        name=arguments.name or (model.folder.path.resolve().name if model.folder else model.config.name),
        network=network,
        arguments=told,
        facts=_facts(model, matching),
        formats=formats,
        base=base,
        weights=_weights(teacher) if isinstance(teacher, Teacher) else None,
        adapters=written,
    )


def _check_base(network: nn.Module, teacher: Teacher) -> None:
    """Refuses adapters of weights that no pipeline has: those of a teacher that was trained here."""
    if isinstance(network, LoRA) and isinstance(network.model, PipelineNetwork) and teacher.foreign is None:
        raise RunError(
            f"--formats lora: the teacher {teacher.checkpoint} was trained here, so that a pipeline which opens the "
            "adapters has other weights under them: leave the format out, and the merged student is exported"
        )


def _base(teacher: Teacher) -> str | None:
    """The pipeline whose other parts the student is exported with: that of the teacher's decoder, else the teacher."""
    if isinstance(teacher.decoder, PipelineDecoder):
        return teacher.decoder.folder
    return (teacher.known or {}).get("folder", teacher.checkpoint)


def _weights(teacher: Teacher) -> str | None:
    """The file with the network of the teacher's pipeline; None if it is the pipeline's own."""
    if teacher.checkpoint is None or "folder" not in (teacher.known or {}) or not is_file(teacher.checkpoint):
        return None
    return _public(teacher.checkpoint)


def _network(config: Config) -> Component:
    """The student's network as the configuration has it; where it adapts the teacher's, that one."""
    method = plan(config).arguments["method"].value
    component = method.arguments["student"].value.arguments["model"].value.arguments["network"].value
    if component.kind.target is not LoRA:
        return component
    model = method.arguments["teacher"].value.arguments["model"].value
    while "network" not in model.arguments:  # guided, or on another path
        model = model.arguments["model"].value
    return model.arguments["network"].value


def _facts(model: runs.Model, matching: MatchingModel) -> dict[str, Any]:
    checkpoint, latents = Path(model.provenance["checkpoint"]), model.trainer.data.latent_scaling
    folder, teacher, data = model.folder, model.trainer.method.teacher, model.trainer.data.main
    while isinstance(data, Wrapped):
        data = data.data
    started = (folder.read_json(folder.start) if folder else None) or {}
    return {
        "scaling": PIXELS if latents is None else {"name": "latents", "mean": latents[0], "deviation": latents[1]},
        "path": type(matching.interpolant).__name__,
        "target": type(matching.target).__name__,
        "loss": type(method.loss).__name__ if isinstance(method := model.trainer.method, Distillation) else None,
        "weights": f"{checkpoint.name}, average {model.provenance['ema']}",
        "teacher": _public(teacher.checkpoint) if isinstance(teacher, Teacher) and teacher.checkpoint else None,
        "data": _public(data.path) if isinstance(data, ShardSet) else None,
        "command": without_credentials(str(started["command"])) if "command" in started else None,
        "metrics": (folder.read_json(folder.summary) if folder else None) or {},
        "config": without_credentials(model.config.text),
    }


def _public(place: str) -> str:
    return plain(without_credentials(place))

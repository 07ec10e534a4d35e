"""`tools/export.py`: a run's student in forms that others can use."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loguru import logger
from torch import Tensor

from realuid.commands import runs
from realuid.commands.console import guarded
from realuid.config.assembly import Component
from realuid.config.configuration import Config, plan
from realuid.errors import RunError
from realuid.matching import MatchingModel
from realuid.portable import export, portable
from realuid.training.distillation import Distillation

PIXELS = {"name": "pixels", "low": -1.0, "high": 1.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="export.py", description=__doc__)
    runs.add_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--formats", nargs="+", default=[], choices=list(export.FORMATS), help="further formats")
    parser.add_argument("--name", help="title of the model card (default: name of the run)")
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.teacher:
            raise RunError("only students are exported; a teacher's checkpoint is used as it is")
        model = runs.reopen(arguments)
        procedure = model.trainer.procedure
        if not isinstance(procedure, Distillation):
            raise RunError("this run trains a teacher; only students of a distillation are exported")
        data = model.trainer.data
        trained = procedure.ema.averaged(arguments.ema).cpu().float()
        matching = trained.model
        assert isinstance(matching, MatchingModel)

        def generate(x0: Tensor, labels: Tensor) -> Tensor:
            return trained(x0, labels, _no_fresh_noise)

        student = portable(matching, generate, height=matching.target.height, shape=data.shape, classes=data.classes)
        component = _network(model.config)
        files = export.write(
            Path(arguments.out),
            student,
            name=arguments.name or (model.folder.path.resolve().name if model.folder else model.config.name),
            network=component.kind.target.__name__,
            arguments={name: argument.value for name, argument in component.arguments.items()},
            facts=_facts(model),
            formats=arguments.formats,
        )
        logger.info("{}: {}", arguments.out, ", ".join(files))
        return 0

    return guarded("export.py", work)


def _no_fresh_noise(index: int) -> Tensor:
    raise RunError("the student draws fresh noise on its way; it cannot be exported")


def _network(config: Config) -> Component:
    """The student's network as the configuration has it."""
    component = plan(config)
    for argument in ("procedure", "student", "model", "network"):
        component = component.arguments[argument].value
    return component


def _facts(model: runs.Model) -> dict[str, Any]:
    procedure = model.trainer.procedure
    assert isinstance(procedure, Distillation)
    matching = procedure.student.model
    checkpoint, latents = Path(model.stamp["checkpoint"]), model.trainer.data.latent_scaling
    folder = model.folder
    return {
        "scaling": PIXELS if latents is None else {"name": "latents", "mean": latents[0], "deviation": latents[1]},
        "path": type(matching.interpolant).__name__,
        "target": type(matching.target).__name__,
        "weights": f"{checkpoint.name}, average {model.stamp['ema']}",
        "metrics": (folder.read_json(folder.summary) if folder else None) or {},
        "config": model.config.text,
    }

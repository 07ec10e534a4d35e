"""A pipeline of diffusers as a checkpoint: its network, weights and conventions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from realuid.pretrained.conventions import Convention, Foreign
from realuid.pretrained.pipelines.encoder import null_condition
from realuid.pretrained.pipelines.family import Family
from realuid.pretrained.pipelines.folders import PipelineFolder
from realuid.pretrained.pipelines.schedule import schedule
from realuid.pretrained.pipelines.single_file import SingleFile
from realuid.pretrained.pipelines.table import FAMILIES
from realuid.utils.errors import CheckpointError
from realuid.utils.libraries import class_in
from realuid.utils.torch_types import TORCH_TYPES

BOUND = ("shape", "tokens", "guidance", "dtype")
"""Arguments of `PipelineNetwork` that no pipeline tells: resolution, length of the text, guidance and precision."""
GUIDANCE = 3.5
"""The scale that a network with embedded guidance is told where nothing else is asked for, as in FLUX.1-dev."""


def read(folder: PipelineFolder, known: Mapping[str, Any] | None = None, file: SingleFile | None = None) -> Foreign:
    """Reads a pipeline whose class is in the table.

    Args:
        folder: the pipeline's.
        known: any of `BOUND`.
        file: with the network's weights, in place of the folder's.

    Raises:
        CheckpointError: if a part is missing, or is not of the class or form that the pipeline's class stands for.
    """
    origin, family = folder.url, FAMILIES[folder.pipeline]
    if unknown := sorted(set(known or {}) - set(BOUND)):
        raise CheckpointError(f"{origin}: known has {unknown[0]!r}, not one of {', '.join(BOUND)}")
    told = folder.needed(family.place)
    if told.get("_class_name") != family.model:
        raise CheckpointError(f"{origin}/{family.place} holds a {told.get('_class_name')}, not a {family.model}")
    config = arguments_of(told, family, origin)
    arguments = settings(family, told, dict(known or {}))
    sides = (int(arguments["shape"][1]), int(arguments["shape"][2]))
    plan = schedule(
        folder.needed("scheduler", "scheduler_config.json"),
        family,
        family.image_tokens(told, sides),
        family.per_step(told),
        origin,
    )
    if file is None:
        name, own = "model", folder.weights(family.place)
    else:
        file.compare_target(plan.target)
        name, own = file.weights(family, config, origin)
    state = {f"model.{weight}": value for weight, value in own.items()}
    if family.guided:
        kind = TORCH_TYPES[arguments["dtype"]]
        empty = null_condition(folder, family, told, arguments["tokens"])
        state |= {f"null_{field}": _in(value, kind) for field, value in empty.items()}
    return Foreign(
        network="PipelineNetwork",
        arguments={"pipeline": family.pipeline, "config": config, "time_scale": plan.time_scale, **arguments},
        state=state,
        path=plan.path,
        target=plan.target,
        preconditioning=Convention("none"),
        scaling=family.latents(folder.needed("vae")),
        classes=0,
        null=family.guided,
        weights=name,
        format="diffusers",
        steps=plan.steps,
        sampler=plan.sampler,
        folder=None if file is None else origin,
    )


def settings(family: Family, config: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `BOUND` of a network: those that are known, else what the pipeline's class does by default."""
    guidance = GUIDANCE if family.embeds_guidance(config) else None
    shape = (family.channels(config), *family.default_sides(config))
    _check_known(known)
    usual = {"shape": shape, "tokens": family.tokens, "guidance": guidance, "dtype": "float32"}
    return usual | {name: value for name, value in known.items() if value is not None}


def _check_known(known: Mapping[str, Any]) -> None:
    shape, tokens, guidance = (known.get(name) for name in ("shape", "tokens", "guidance"))
    if shape is not None and not (len(shape) == 3 and all(type(n) is int for n in shape)):
        raise CheckpointError(f"known has shape = {shape!r}, not three whole numbers: channels, height, width")
    if tokens is not None and type(tokens) is not int:
        raise CheckpointError(f"known has tokens = {tokens!r}, not a whole number")
    if guidance is not None and not isinstance(guidance, int | float):
        raise CheckpointError(f"known has guidance = {guidance!r}, not a number")


def arguments_of(told: Mapping[str, Any], family: Family, origin: str) -> dict[str, Any]:
    """The arguments of the network's class among what its `config.json` says. Others are named in the log."""
    try:
        import diffusers
    except ImportError:
        raise CheckpointError(f"{origin} needs `pip install realuid[pipelines]`") from None
    kind = class_in(diffusers, family.model)
    if kind is None:
        raise CheckpointError(f"{origin} needs a {family.model}, which diffusers {diffusers.__version__} lacks")
    known = inspect.signature(kind.__init__).parameters
    given = {name: value for name, value in told.items() if not name.startswith("_")}
    if strange := [name for name, value in given.items() if name not in known and value is not None]:
        logger.warning(
            "{}/{}: diffusers {} ignores {}", origin, family.place, diffusers.__version__, ", ".join(strange)
        )
    return {name: value for name, value in given.items() if name in known}


def _in(value: Tensor, kind: torch.dtype) -> Tensor:
    return value.to(kind) if value.is_floating_point() else value

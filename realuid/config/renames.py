"""Names of version 0.1 that still work for one version: each is read as its new name, with one line that says so."""

from __future__ import annotations

from functools import cache
from typing import Any

from loguru import logger

COMPONENTS = {
    "ConstantRate": "ConstantLR",
    "CosineRate": "CosineLR",
    "Latent": "PathNoise",
    "Replicated": "DDP",
    "Sharded": "FSDP",
}
"""Component of 0.1: its name now."""

ARGUMENTS = {
    ("Adam", "rate"): "lr_schedule",
    ("MatchingModel", "conditioned"): "source_conditioned",
    ("Trainer", "boards"): "loggers",
    ("Trainer", "distribution"): "parallelism",
    ("Trainer", "procedure"): "method",
    ("TeacherTraining", "label_dropout"): "condition_dropout",
    ("EDMStochastic", "churn"): "S_churn",
    ("EDMStochastic", "low"): "S_min",
    ("EDMStochastic", "high"): "S_max",
    ("EDMStochastic", "noise"): "S_noise",
    **{
        (network, old): new
        for network in ("DhariwalUNet", "DiT", "EDM2UNet", "MLP", "SongUNet", "UNet")
        for old, new in (("height", "out_multiplier"), ("inputs", "in_multiplier"))
    },
}
"""Component, by its name now, and argument of 0.1: the argument's name now."""


DROPPED = {("GuidedModel", "classes"): "the network says it"}
"""Component and argument of 0.1 that are not needed any more, and why."""


VALUES = {("TorchModule", "call"): {"labels": "label"}}
"""Component and argument whose texts name inputs, `y=NAME` among them: an input of 0.1, and its name now."""


def component(name: str) -> str:
    """The name now of a component that a gin file calls `name`, which may stand behind the names of modules."""
    short = name.rpartition(".")[2]
    if short not in COMPONENTS:
        return name
    _warn(short, COMPONENTS[short])
    return COMPONENTS[short]


def argument(component: str, name: str) -> str:
    """The name now of an argument that a gin file calls `name`."""
    new = ARGUMENTS.get((component, name), name)
    if new != name:
        _warn(f"{component}.{name}", f"{component}.{new}")
    return new


def value(component: str, argument: str, leaf: Any) -> Any:
    """A leaf of an argument's value as it is written now."""
    if not isinstance(leaf, str):
        return leaf
    head, equals, name = leaf.rpartition("=")
    new = VALUES.get((component, argument), {}).get(name, name)
    if new != name:
        _warn(f"{name} of {component}.{argument}", new)
    return f"{head}{equals}{new}"


@cache
def dropped(component: str, name: str) -> bool:
    """Whether a binding of this argument is read past, with one line that says why."""
    reason = DROPPED.get((component, name))
    if reason is not None:
        logger.warning("{}.{} is not needed any more ({}); it is an error in the next version", component, name, reason)
    return reason is not None


@cache
def _warn(old: str, new: str) -> None:
    logger.warning("{} is called {} now; the old name goes with the next version", old, new)

"""Which of our components a foreign checkpoint's conventions are, and whether a model binds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from realuid.models.matching import MatchingModel
from realuid.paths.interpolants import (
    CosineInterpolant,
    DDPMInterpolant,
    EDMInterpolant,
    ExpressionInterpolant,
    I2SBInterpolant,
    Interpolant,
    LinearInterpolant,
)
from realuid.paths.preconditioning import (
    EDMPreconditioning,
    I2SBPreconditioning,
    IDDPMPreconditioning,
    NoPreconditioning,
    Preconditioning,
    VEPreconditioning,
    VPPreconditioning,
)
from realuid.paths.targets import Data, Noise, Score, Target, Velocity, VPrediction
from realuid.pretrained.conventions import Convention, Foreign
from realuid.pretrained.pipelines.grids import FlowMatchGrid, TableGrid
from realuid.samplers.time_grids import TimeGrid
from realuid.utils.errors import CheckpointError

TARGETS: dict[str, type[Target]] = {
    "velocity": Velocity,
    "data": Data,
    "noise": Noise,
    "score": Score,
    "v": VPrediction,
    "i2sb": Data,  # behind I2SB's scalings
}


@dataclass(frozen=True)
class Part:
    """One of our components by its class and arguments."""

    kind: type
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Raises CheckpointError if the class refuses the arguments."""
        try:
            return self.kind(**self.arguments)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"no component of ours is {self}: {error}") from None

    def __str__(self) -> str:
        """As gin binds it: `@EDMInterpolant() with sigma_max = 80.0`."""
        numbers = ", ".join(f"{name} = {value!r}" for name, value in self.arguments.items())
        return f"@{self.kind.__name__}()" + (f" with {numbers}" if numbers else "")


def path(convention: Convention) -> Part:
    """The interpolant that a foreign path is, in the path's own time.

    Raises:
        CheckpointError: if we have none.
    """
    numbers = dict(convention.numbers)
    if convention.name not in PATHS:
        raise CheckpointError(f"no interpolant of ours is the path {spoken(convention)}")
    return PATHS[convention.name](numbers)


def _linear(numbers: Mapping[str, Any]) -> Part:
    if (numbers["t_source"], numbers["t_data"]) == (0.0, 1.0):
        return Part(LinearInterpolant)
    return Part(ExpressionInterpolant, {"a": "t", "b": "1 - t", "t_source": 1.0, "t_data": 0.0})


def _sit_vp(numbers: Mapping[str, Any]) -> Part:
    low, high = numbers["beta_min"], numbers["beta_max"]
    integral = f"{(high - low) / 2} * (1 - t)**2 + {low} * (1 - t)"
    return Part(ExpressionInterpolant, {"a": f"sqrt(1 - exp(-({integral})))", "b": f"exp(-({integral}) / 2)"})


PATHS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "linear": _linear,
    "edm": lambda numbers: Part(EDMInterpolant, {"sigma_max": numbers["sigma_max"]}),
    "ddpm": lambda numbers: Part(DDPMInterpolant, numbers),
    "gvp": lambda numbers: Part(CosineInterpolant),
    "vp": _sit_vp,
    "i2sb": lambda numbers: Part(I2SBInterpolant, {"beta_max": numbers["beta_max"], "steps": numbers["steps"]}),
}


def preconditioning(convention: Convention, target: str | None) -> Part:
    """The scalings that a foreign network is meant to stand in.

    Raises:
        CheckpointError: if we have none.
    """
    numbers, name = dict(convention.numbers), convention.name
    if target == "i2sb" and name == "none":
        return Part(I2SBPreconditioning)
    if (name == "vp" and numbers.pop("steps") != 1000) or name not in PRECONDITIONINGS:
        raise CheckpointError(f"no preconditioning of ours is {spoken(convention)}")
    return Part(PRECONDITIONINGS[name], numbers)


PRECONDITIONINGS: dict[str, type[Preconditioning]] = {
    "none": NoPreconditioning,
    "edm": EDMPreconditioning,
    "vp": VPPreconditioning,
    "ve": VEPreconditioning,
    "iddpm": IDDPMPreconditioning,
}


def grid(convention: Convention) -> Part:
    """The time grid of a foreign sampler's steps."""
    return Part(GRIDS[convention.name], dict(convention.numbers))


GRIDS: dict[str, type[TimeGrid]] = {"flow_match": FlowMatchGrid, "table": TableGrid}


def tell_of_other_steps(foreign: Foreign, times: Tensor, interpolant: Interpolant, origin: str) -> None:
    """Warns if a model is sampled at other times `[steps + 1]` of its path than its own scheduler visits in as many
    steps, by another shift for instance. The weights are the same, the samples are not."""
    if foreign.steps is None:
        return
    right = grid(foreign.steps)
    try:
        wanted = right.build()(interpolant, len(times) - 1)
    except ValueError:  # so many steps it does not take
        return
    if wanted.shape != times.shape or not torch.allclose(wanted, times, rtol=1e-4, atol=1e-6):
        logger.warning(
            "{} ({}): its scheduler visits other times than Teacher.sampler: its own samples take {}",
            origin,
            foreign.format,
            right,
        )


def spoken(convention: Convention) -> str:
    """`ddpm(steps=1000, betas='linear')`."""
    return f"{convention.name}({', '.join(f'{name}={value!r}' for name, value in convention.numbers.items())})"


def compare(foreign: Foreign, model: MatchingModel, origin: str) -> None:
    """Makes sure that a model binds the conventions that the weights were trained with. Components are compared by what
    they compute: any that agree on the common range of times will do.

    Args:
        foreign: what was read.
        model: what its weights are meant for.
        origin: name of the file, for messages.

    Raises:
        CheckpointError: one line that names the binding and the component that belongs there.
    """
    name = f"{origin} ({foreign.format})"

    def refuse(fact: str, argument: str, bound: object, right: object) -> CheckpointError:
        return CheckpointError(
            f"{name} {fact}, the gin file binds MatchingModel.{argument} = {_shown(bound)}: bind {right}"
        )

    if foreign.path is None or foreign.target is None:  # a diffusers model without a scheduler that we know
        logger.warning("{} does not say on which path it predicts what: it is taken for what the gin file binds", name)
        return
    native = path(foreign.path)
    right = native.build()
    if not _same_path(right, model.interpolant):
        raise refuse(f"predicts {foreign.target} on {spoken(foreign.path)}", "interpolant", model.interpolant, native)
    gaussian = foreign.path.name != "i2sb"
    if model.coupling.gaussian_source != gaussian:
        raise refuse(
            f"starts from {'noise' if gaussian else 'images'}",
            "coupling",
            model.coupling,
            "@IndependentCoupling()" if gaussian else "@PairedCoupling()",
        )
    target = TARGETS[foreign.target]
    if type(model.target) is not target and not _same_target(target(), model.target, right):
        fact = f"predicts {foreign.target} on {spoken(foreign.path)}"
        raise refuse(fact, "target", model.target, f"@{target.__name__}()")
    scalings = preconditioning(foreign.preconditioning, foreign.target)
    if not _same_scalings(scalings.build(), model.preconditioning, model):
        fact = f"stands in the preconditioning {spoken(foreign.preconditioning)}"
        if foreign.target == "i2sb":
            fact = "predicts i2sb's own target"
        raise refuse(fact, "preconditioning", model.preconditioning, scalings)
    source_conditioned = foreign.arguments.get("in_multiplier", 1) == 2
    if model.source_conditioned != source_conditioned:
        fact = "is given x0 beside x_t" if source_conditioned else "is given x_t alone"
        raise refuse(fact, "source_conditioned", model.source_conditioned, source_conditioned)


def _shown(bound: object) -> str:
    if isinstance(bound, bool):
        return str(bound)
    numbers = {name: value for name, value in vars(bound).items() if isinstance(value, (int, float, str))}
    inside = ", ".join(f"{name.lstrip('_')}={value!r}" for name, value in numbers.items())
    return f"@{type(bound).__name__}({inside})"


def _times(one: Interpolant, other: Interpolant) -> Tensor:
    """Times inside of both paths; empty where they have none in common, or run in opposite directions."""
    if (one.t_source < one.t_data) != (other.t_source < other.t_data):
        return torch.empty(0, dtype=torch.float64)
    low = max(min(one.t_source, one.t_data), min(other.t_source, other.t_data))
    high = min(max(one.t_source, one.t_data), max(other.t_source, other.t_data))
    share = torch.linspace(0.001, 0.999, 97, dtype=torch.float64)
    return low + (high - low) * share if low < high else share[:0]


def _same_path(right: Interpolant, bound: Interpolant) -> bool:
    times = _times(right, bound)
    if not len(times) or (right.t_data != bound.t_data and type(right) is not type(bound)):
        return False
    k, j = right.at(times), bound.at(times)
    return all(_close(x, y) for x, y in ((k.a, j.a), (k.b, j.b), (k.g_squared, j.g_squared)))


def _same_target(right: Target, bound: Target, on: Interpolant) -> bool:
    k = on.at(_times(on, on))
    mine, theirs = right.rows(k), bound.rows(k)
    return len(mine) == len(theirs) and all(
        _close(x, y) for r, s in zip(mine, theirs, strict=True) for x, y in zip(r.sampled, s.sampled, strict=True)
    )


def _same_scalings(right: Preconditioning, bound: Preconditioning, model: MatchingModel) -> bool:
    k = model.interpolant.at(_times(model.interpolant, model.interpolant))
    mine = right(k, model.target)
    try:
        theirs = bound(k, model.target)
    except ValueError:
        return False
    if mine is None or theirs is None:
        return mine is theirs
    pairs = (
        (*mine.c_skip, *mine.c_out, mine.c_in, mine.c_noise),
        (*theirs.c_skip, *theirs.c_out, theirs.c_in, theirs.c_noise),
    )
    return all(_close(x, y) for x, y in zip(*pairs, strict=True))


def _close(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=1e-6, atol=1e-9)

"""Initial weights keyed by the run's seed and the network's role, whatever was built or drawn before."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realuid.distillation.teachers import Teacher
from realuid.models.matching import MatchingModel, PosteriorMean, matching_model_of
from realuid.networks.lora import LoRA
from realuid.pretrained.loading import load_weights
from realuid.utils.keys import key

WARM = "'random', with Distillation.warm_start = @WarmStart()"


@runtime_checkable
class Resettable(Protocol):
    """A torch module that draws its own weights anew."""

    def reset_parameters(self) -> None: ...


def initialise(network: nn.Module, seed: int, role: str) -> None:
    """Draws all weights anew, by torch's convention that a module's `reset_parameters` does that for its own.

    Modules without that method keep the weights they were built with.
    """
    with torch.random.fork_rng():
        torch.manual_seed(key("weights", seed, role))
        for module in network.modules():
            if isinstance(module, Resettable):
                module.reset_parameters()


Roles = Mapping[str, tuple[PosteriorMean, str, str | None]]
"""Models by role, each with the name of what says where it starts (`teacher`, `random`, or the path of a checkpoint),
and which average of that checkpoint it takes."""


def share_teacher(teacher: PosteriorMean, roles: Roles) -> set[str]:
    """Gives the teacher's network to the roles that are adapters of it (`LoRA`).

    Args:
        teacher: whose weights are shared.
        roles: the other models.

    Returns:
        The roles that share them.

    Raises:
        ValueError: if the teacher has no weights or another target, or the role is to start at random.
    """
    sharing = set()
    for role, (posterior, start, _) in roles.items():
        model, source = matching_model_of(posterior), matching_model_of(teacher)
        if model is None or not isinstance(model.network, LoRA):
            continue
        if source is None:
            raise ValueError(f"the {role} is @LoRA(), an adapter of the teacher's network, but the teacher has none")
        if start == "random":
            raise ValueError(f"the {role} is @LoRA(), an adapter of the teacher: bind {role}_init = 'teacher'")
        if start != "teacher":
            raise ValueError(f"the {role} is @LoRA(), which starts as the teacher: {role}_init = {start!r} cannot be")
        if model.target != source.target:
            raise ValueError(f"the {role} is @LoRA() of a teacher that predicts {source.target}, not {model.target}")
        model.network.adapt(source.network)
        sharing.add(role)
    return sharing


def start_roles(roles: Roles, teacher: Teacher, seed: int) -> None:
    """Gives each model its first weights.

    Args:
        roles: student and fake network.
        teacher: loaded; its format is that of the checkpoints.
        seed: of the run.

    Raises:
        ValueError: if a model has no weights, or cannot start as the teacher.
        CheckpointError: if a checkpoint cannot be read, or is of another network.
    """
    for role, (posterior, source, ema) in roles.items():
        model = matching_model_of(posterior)
        if model is None:
            raise ValueError(f"the {role} is a closed form: it has nothing to train")
        if isinstance(model.network, LoRA):
            start_adapter(model.network, seed, role)
        elif source == "random":
            initialise(model, seed, role)
        elif source == "teacher":
            start_from(model, teacher.model)
        else:
            load_weights(posterior, source, ema=ema, format=teacher.format, known=teacher.known)


def start_adapter(network: LoRA, seed: int, role: str) -> None:
    """Draws the adapters anew; the network starts as its base."""
    with torch.random.fork_rng():
        torch.manual_seed(key("weights", seed, role))
        network.reset_adapters()


def start_from(model: MatchingModel, teacher: PosteriorMean) -> None:
    """Copies the teacher's weights. Input channels that the teacher lacks (a student's noise) start at zero.

    Raises:
        ValueError: if the teacher has no weights, predicts another target, or the architectures differ in more than
            input channels.
    """
    source = matching_model_of(teacher)
    if source is None:
        raise ValueError(f"an exact teacher has no weights to start from: bind student_init and fake_init to {WARM}")
    if model.target != source.target:
        raise ValueError(
            f"cannot start from the teacher: it predicts {source.target}, this model {model.target}; bind its init to "
            f"{WARM}"
        )
    own = model.network.state_dict()
    weights = {
        name: _widened(value, own[name]) if name in own else value
        for name, value in source.network.state_dict().items()
    }
    if (reason := _difference(weights, own)) is not None:
        raise ValueError(f"cannot start from the teacher, whose network differs: {reason}; bind its init to {WARM}")
    model.network.load_state_dict(weights)


def _difference(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """In what a network with the weights `own` is not one with the weights `theirs`, the teacher's, in a few words."""
    for only, others, words in (
        (own, theirs, "this one has {} that the teacher's lacks, such as {}"),
        (theirs, own, "the teacher's has {} that this one lacks, such as {}"),
    ):
        if names := [name for name in only if name not in others]:
            return words.format("a weight" if len(names) == 1 else f"{len(names)} weights", names[0])
    for name, value in theirs.items():
        if value.shape != own[name].shape:
            return f"{name} is {list(value.shape)} in the teacher's and {list(own[name].shape)} in this one"
    return None


def _widened(weight: Tensor, like: Tensor) -> Tensor:
    """`weight` `[out, in, ...]` with zeros for more input channels, if that is all that `like` has more."""
    if weight.ndim < 2 or weight.ndim != like.ndim or like.shape[1] <= weight.shape[1]:
        return weight
    missing = like.shape[1] - weight.shape[1]
    return F.pad(weight, (*(0, 0) * (weight.ndim - 2), 0, missing))

"""Initial weights keyed by the run's seed and the network's role, whatever was built or drawn before."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realuid.keys import key
from realuid.matching import MatchingModel, PosteriorMean, matching_model_of


def initialise(network: nn.Module, seed: int, role: str) -> None:
    """Draws all weights anew, by torch's convention that a module's `reset_parameters` does that for its own.

    Modules without that method keep the weights they were built with.
    """
    with torch.random.fork_rng():
        torch.manual_seed(key("weights", seed, role))
        for module in network.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()


def start_from(model: MatchingModel, teacher: PosteriorMean) -> None:
    """Copies the teacher's weights. Input channels that the teacher lacks (a student's noise) start at zero.

    Raises:
        ValueError: if the teacher has no weights, predicts another target, or the architectures differ in more than
            input channels.
    """
    source = matching_model_of(teacher)
    if source is None:
        raise ValueError("an exact teacher has no weights to start from: bind student_init and fake_init to random")
    if model.target != source.target:
        raise ValueError(f"cannot start from the teacher: it predicts {source.target}, this model {model.target}")
    own = model.network.state_dict()
    weights = {
        name: _widened(value, own[name]) if name in own else value
        for name, value in source.network.state_dict().items()
    }
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"cannot start from the teacher, whose network differs: {reason}") from None


def _widened(weight: Tensor, like: Tensor) -> Tensor:
    """`weight` `[out, in, ...]` with zeros for more input channels, if that is all that `like` has more."""
    if weight.ndim < 2 or weight.ndim != like.ndim or like.shape[1] <= weight.shape[1]:
        return weight
    missing = like.shape[1] - weight.shape[1]
    return F.pad(weight, (*(0, 0) * (weight.ndim - 2), 0, missing))

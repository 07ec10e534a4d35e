"""Initial weights keyed by the run's seed and the network's role, whatever was built or drawn before."""

import torch
from torch import nn

from realuid.keys import key


def initialise(network: nn.Module, seed: int, role: str) -> None:
    """Draws all weights anew, by torch's convention that a module's `reset_parameters` does that for its own.

    Modules without that method keep the weights they were built with.
    """
    with torch.random.fork_rng():
        torch.manual_seed(key("weights", seed, role))
        for module in network.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()

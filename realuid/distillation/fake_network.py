"""The fake network of a distillation: trained in its own steps, frozen but differentiated in the generator's."""

from __future__ import annotations

from torch import Tensor, nn

from realuid.losses.adversarial import Adversary
from realuid.models.matching import PosteriorMean
from realuid.networks.lora import load_own, own_parameters, own_state
from realuid.training.optimizers import Adam
from realuid.training.parallelism import Parallelism


class FakeNetwork:
    """The network f, with the head of a GAN if one is bound, and their optimiser.

    Args:
        model: f; same path as the teacher.
        optimizer: of f and the head.
        adversary: whose head reads f's middle features; None for none.
    """

    def __init__(self, model: PosteriorMean, optimizer: Adam, adversary: Adversary | None) -> None:
        self.model, self.optimizer = model, optimizer
        self.networks: list[nn.Module] = [model] if adversary is None else [model, adversary.head]
        self.index()

    def index(self) -> None:
        """Lists modules and weights once; again after they were placed. To walk through networks twice in every step is
        slow."""
        self._modules = [module for network in self.networks for module in network.modules()]
        self._own_train = any(type(module).train is not nn.Module.train for module in self._modules)
        self._weights = [weight for network in self.networks for weight in own_parameters(network)]

    def attach(self, parallelism: Parallelism) -> None:
        """Gives the weights, by now where they stay, to the optimiser, ready to be trained: a run that goes back to a
        checkpoint leaves a generator's step, which has frozen them."""
        self.index()
        self.train(True, parallelism)
        self.optimizer.attach(self._weights)

    def train(self, training: bool, parallelism: Parallelism) -> None:
        """Makes the networks ready for fake steps (True), or freezes them for the generator's (False)."""
        parallelism.settle(self._modules)
        if self._own_train:
            for network in self.networks:
                network.train(training)
        else:
            for module in self._modules:
                vars(module)["training"] = training  # past torch's own check of every attribute
        for weight in self._weights:
            weight.requires_grad_(training)

    def step(self, images: int) -> Tensor:
        """Updates the weights; returns the norm of their gradient."""
        return self.optimizer.step(images)

    def state_dict(self) -> list[dict]:
        """The weights of each network, those aside that it shares."""
        return [own_state(network) for network in self.networks]

    def load_state_dict(self, state: list[dict]) -> None:
        for network, weights in zip(self.networks, state, strict=True):
            load_own(network, weights)

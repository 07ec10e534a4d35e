"""Whether a gin file binds the network that a pipeline holds."""

from __future__ import annotations

import reprlib
from typing import Any

import torch

from realuid.models.guidance import GuidedModel
from realuid.models.matching import DerivedModel, PosteriorMean, matching_model_of
from realuid.pretrained.conventions import Foreign
from realuid.pretrained.pipelines.guidance import RenormalisedGuidedModel
from realuid.pretrained.pipelines.network import PipelineNetwork
from realuid.utils.errors import CheckpointError


def compare_networks(foreign: Foreign, network: PipelineNetwork, origin: str) -> None:
    """Compares class and configuration; arguments that neither side gives have the defaults of the class.

    Raises:
        CheckpointError: naming the first argument in which the two differ.
    """
    theirs = foreign.arguments["pipeline"]
    if theirs != network.pipeline:
        raise CheckpointError(
            f"{origin} is a {theirs}, the gin file binds PipelineNetwork.pipeline = {network.pipeline!r}"
        )
    with torch.device("meta"):
        right = PipelineNetwork(**foreign.arguments)
    bound, found = dict(network.model.config), dict(right.model.config)
    for name, value in found.items():
        if not name.startswith("_") and _plain(bound.get(name)) != _plain(value):
            raise CheckpointError(
                f"{origin}: its {right.family.model} has {name} = {reprlib.repr(_plain(value))}, the gin file binds "
                f"PipelineNetwork.config with {reprlib.repr(_plain(bound.get(name)))}"
            )


def compare_guidance(posterior: PosteriorMean, origin: str) -> None:
    """Makes sure that a guided model guides as the pipeline of its network does; models that are not guided will do.

    Raises:
        CheckpointError: naming the class that belongs there.
    """
    while isinstance(posterior, DerivedModel):
        if isinstance(posterior, GuidedModel):
            model = matching_model_of(posterior)
            network = None if model is None else model.network
            if isinstance(network, PipelineNetwork):
                right = RenormalisedGuidedModel if network.family.renormalised else GuidedModel
                if type(posterior) is not right:
                    raise CheckpointError(
                        f"{origin}: a {network.pipeline} guides by @{right.__name__}(), the gin file binds "
                        f"@{type(posterior).__name__}()"
                    )
        posterior = posterior.model


def _plain(value: Any) -> Any:
    """Lists as JSON gives them are tuples in Python."""
    return tuple(_plain(part) for part in value) if isinstance(value, (list, tuple)) else value

"""What a foreign checkpoint is, once read: an architecture of ours, its weights, and how they are meant to be used."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from realuid.networks.base import Network
from realuid.utils import budget
from realuid.utils.building import Building, stored
from realuid.utils.errors import CheckpointError

NETWORKS = {
    "UNet": "realuid.networks.unet",
    "MLP": "realuid.networks.mlp",
    "SongUNet": "realuid.networks.edm_unet",
    "DhariwalUNet": "realuid.networks.edm_unet",
    "EDM2UNet": "realuid.networks.edm2_unet",
    "DiT": "realuid.networks.dit",
    "PipelineNetwork": "realuid.pretrained.pipelines.network",
}
"""The networks that a file may describe, and their modules: it makes this package import and call nothing else."""


def network_class(name: str) -> type[Network]:
    """The class of this name in `NETWORKS`, imported. Raises KeyError if there is none."""
    return getattr(importlib.import_module(NETWORKS[name]), name)


@dataclass(frozen=True)
class Convention:
    """A thing by the name it has below, with its numbers.

    Paths, x_t = a x0 + b x1 (+ g z) with x0 the source and x1 the data, in the time that the sampler counts:
        `linear` (t_source, t_data): a runs from 1 to 0 linearly, b = 1 - a.
        `edm` (sigma_min, sigma_max): a = sigma = time, b = 1.
        `ddpm` (steps, betas: `linear`, `scaled_linear` or `squaredcos_cap_v2`, beta_start, beta_end): time is the index
            0 .. steps - 1 of Ho et al.; b^2 is the running product of 1 - beta, a^2 = 1 - b^2.
        `gvp`: a = cos(pi t / 2), b = sin(pi t / 2), t from 0 to 1.
        `vp` (beta_min, beta_max): the continuous variance-preserving path of SiT, t from 0 to 1.
        `i2sb` (steps, beta_max, t0, t1): the bridge of I2SB between two images; step i of 0 .. steps - 1 is shown to
            the network as steps (t0 + (t1 - t0) i / (steps - 1)).

    Preconditionings, around the network: `none`; `edm` (sigma_data); `vp` (beta_d, beta_min, steps); `ve`;
        `iddpm` (c1, c2, steps), all as in table 1 of 2206.00364.

    Scalings of the data: `pixels` (low, high) or `latents` (factor, shift; autoencoder): latents were multiplied by
        `factor` after `shift` was taken away.

    Steps of a many-step sampler: `flow_match` (shift, first, last, terminal) and `table` (spacing, offset), as
        `FlowMatchGrid` and `TableGrid`.
    """

    name: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Foreign:
    """A checkpoint that was read; nothing in it has been executed.

    Attributes:
        network: name of the class that receives the weights, see `NETWORKS`.
        arguments: of its constructor.
        state: its weights by name, float32; those of a pipeline as the files have them.
        path: None where the file's format does not tell.
        target: `velocity` (along the path's own time), `data`, `noise`, `score`, `v` (b noise - a data) or `i2sb`
            (x_t less the data, over the bridge's forward deviation); None where the format does not tell.
        preconditioning: around the network; gives the time it is shown.
        scaling: of the data.
        classes: number of class labels, 0 for none; the label `classes` is the null class if `null` is true.
        null: whether the model was made to be asked without a class.
        weights: which of the file's sets of weights these are (`ema 0.999`, ...).
        format: the reader's name.
        steps: where its own project evaluates it in many steps; None where nothing tells, or we have no such grid.
        sampler: by which its own project samples in many steps, `Euler`, `DDIM` or `DPMSolver`; None where nothing
            tells.
        folder: of the pipeline that all else was read from, where the weights are a single file.
        extra: weights in the file that the network has no place for, by name: the GAN head of RealUID's authors.
    """

    network: str
    arguments: Mapping[str, Any]
    state: Mapping[str, Tensor]
    path: Convention | None
    target: str | None
    preconditioning: Convention
    scaling: Convention
    classes: int
    null: bool
    weights: str
    format: str
    steps: Convention | None = None
    sampler: str | None = None
    folder: str | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def verify(self) -> None:
        """Compares the weights with the network that the arguments describe, without allocating it.

        Raises:
            CheckpointError: if the arguments or the weights do not suit the network, or a weight is not finite.
        """
        try:
            size = stored(self.state)
            budget.spend(4 * math.prod(self.arguments.get("shape", ())), size, "an image")
            with torch.device("meta"), Building(size):
                network = self.kind(**self.arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the {self.format} file does not suit {self.network}: {error}") from None
        check(self.state, {name: tuple(value.shape) for name, value in network.state_dict().items()}, self.format)

    def build(self) -> nn.Module:
        """The network with its weights, in evaluation mode."""
        network = self.kind(**self.arguments)
        network.load_state_dict(dict(self.state))
        return network.eval()

    @property
    def kind(self) -> type[Network]:
        return network_class(self.network)


def check(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], format: str) -> None:
    """Compares weights with a network's names and shapes, both ways.

    Raises:
        CheckpointError: naming the first weight that is missing, left over, of another shape or not finite.
    """
    for name, shape in wanted.items():
        if name not in state:
            raise CheckpointError(f"the {format} file lacks the weight {name}")
        if tuple(state[name].shape) != shape:
            raise CheckpointError(f"the {format} file: {name} is {list(state[name].shape)}, not {list(shape)}")
        if not bool(torch.isfinite(state[name]).all()):
            raise CheckpointError(f"the {format} file: {name} is not finite")
    for name in state:
        if name not in wanted:
            raise CheckpointError(f"the {format} file has the weight {name}, which the network lacks")

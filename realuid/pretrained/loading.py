"""Weights of any origin into a model that a gin file binds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import fsspec
import torch

from realuid import checkpoints
from realuid.models.matching import PosteriorMean, matching_model_of
from realuid.networks.base import Network
from realuid.networks.dit import DiT
from realuid.networks.unet import UNet
from realuid.pretrained import components, dit, guided, pipelines, sources
from realuid.pretrained.conventions import Foreign
from realuid.pretrained.pipelines.comparing import compare_guidance, compare_networks
from realuid.pretrained.pipelines.network import PipelineNetwork
from realuid.pretrained.reading import read
from realuid.pretrained.remote_folders import why
from realuid.pretrained.torchfile import is_state
from realuid.utils import remote
from realuid.utils.errors import CheckpointError

IGNORED = {"training", "p", "shape", "classes", "conditions"}
"""Attributes of a module in which networks of the same weights may differ: dropout, and how labels are counted."""


def load_weights(
    posterior: PosteriorMean,
    path: str,
    *,
    ema: str | None = None,
    format: str | None = None,
    known: Mapping[str, Any] | None = None,
    sha256: str | None = None,
) -> tuple[str | None, Foreign | None]:
    """Loads a checkpoint into the network of a model: ours, a plain file of named tensors, or another project's.

    A bare state dict counts as a plain file unless `format` says whose it is.

    Args:
        posterior: the model, maybe guided or re-expressed.
        path: path or URL of a file, or of a diffusers folder; of a file with a pipeline's network if `known` has the
            `folder` of its other parts.
        ema: which set of weights to take; None for the first average.
        format: one of `realuid.pretrained.FORMATS`; None to tell by the content.
        known: what a foreign file does not tell, see the readers; shape and attention heads are the network's own.
        sha256: of the file; another content is refused.

    Returns:
        The name of the set of weights it took, and if it was another project's what was read, without the weights.

    Raises:
        CheckpointError: one line, if the file cannot be read, its weights are not those of the network that the gin
            file binds, or they were trained with other conventions than it binds.
    """
    model = matching_model_of(posterior)
    if model is None:
        raise CheckpointError(f"{path} cannot be loaded: a closed form has no weights")
    # A bare state dict could be plain weights of ours; with this ending it is Stable Diffusion's.
    original = isinstance(model.network, PipelineNetwork) and path.endswith(".ckpt")
    if format is None and not original and is_ours(path):
        if sha256 is not None and sources.is_folder(path):
            raise CheckpointError(f"{path} is a folder of many files: Teacher.sha256 pins a single file")
        # Once and for all the file that has the checksum: what lies at a URL may change in between.
        pinned = path if sha256 is None else str(sources.local(path, sha256))
        return checkpoints.load_network(model.network, pinned, ema), None
    told = _untold(model.network, format) | dict(known or {})
    if isinstance(model.network, PipelineNetwork) and "folder" not in told and pipelines.is_file(path):
        raise CheckpointError(
            f"{path} is a file, which can hold the network of a pipeline and not its other parts: bind Teacher.known = "
            "{'folder': %TEACHER} as well, the pipeline's folder (beside TeacherTraining.init, TeacherTraining.known)"
        )
    foreign = read(path, format, weights=ema, known=told, sha256=sha256)
    _same_network(foreign, model.network, path)
    components.compare(foreign, model, path)
    compare_guidance(posterior, path)
    model.network.load_state_dict(dict(foreign.state))
    return foreign.weights, replace(foreign, state={})


def is_ours(path: str) -> bool:
    """Whether a checkpoint is one of this project, or a plain file of named tensors.

    Raises:
        CheckpointError: if there is none, or it cannot be reached.
    """
    if sources.is_folder(path):
        return checkpoints.is_sharded(path)
    try:
        with fsspec.open(path, "rb") as file:
            start = file.read(16)
    except Exception as error:  # every kind of storage has errors of its own
        if remote.is_missing(error):
            raise CheckpointError(f"there is no checkpoint {path}") from None
        raise CheckpointError(f"cannot read {path}: {why(error, path)}") from None
    if start[8:9] == b"{" or (start[:1] == b"\x80" and start[2:4] != b"\x8a\x0a"):  # safetensors; a plain pickle
        return False
    try:
        content = checkpoints.load(path)
    except CheckpointError:
        return False  # another project's, with more in it than tensors; or damaged, which its reader will say
    return is_state(content) or (isinstance(content.get("ema"), dict) and "weights" in content["ema"])


def _untold(network: Network, format: str | None) -> dict[str, Any]:
    """What files do not tell and the bound network does."""
    told: dict[str, Any] = {}
    if isinstance(network, UNet) and (format is None or format in guided.CONVENTIONS):
        told = {"shape": network.shape, "head_channels": network.head_channels, "heads": network.heads}
    elif isinstance(network, DiT) and network.width not in dit.HEADS:
        told = {"heads": network.heads}
    elif isinstance(network, PipelineNetwork):
        told = {"shape": network.shape, "tokens": network.tokens, "guidance": network.guidance, "dtype": network.dtype}
    return {name: value for name, value in told.items() if value is not None}


def _same_network(foreign: Foreign, network: Network, origin: str) -> None:
    own, kind = network.state_dict(), foreign.kind
    if not isinstance(network, kind):
        raise CheckpointError(
            f"{origin} ({foreign.format}) holds a {foreign.network}, the gin file binds MatchingModel.network = "
            f"@{type(network).__name__}()"
        )
    if isinstance(network, PipelineNetwork):
        compare_networks(foreign, network, origin)
    for name, value in own.items():
        theirs = foreign.state.get(name)
        if theirs is None:
            raise CheckpointError(f"{origin} lacks the weight {name} of the network that the gin file binds")
        if theirs.shape != value.shape:
            raise CheckpointError(
                f"{origin}: {name} is {list(theirs.shape)}, the network that the gin file binds has {list(value.shape)}"
            )
    if extra := next((name for name in foreign.state if name not in own), None):
        raise CheckpointError(f"{origin} has the weight {extra}, which the network that the gin file binds lacks")
    with torch.device("meta"):
        right = kind(**foreign.arguments)
    mine = dict(network.named_modules())
    for place, module in right.named_modules():
        bound = vars(mine[place]) if place in mine else {}
        for name, value in vars(module).items():
            if name.startswith("_") or name in IGNORED or not isinstance(value, (bool, int, float, str, tuple)):
                continue
            if name in bound and bound[name] != value:
                raise CheckpointError(
                    f"{origin} ({foreign.format}): its {foreign.network} has {name} = {value!r}"
                    f"{f' in {place}' if place else ''}, the one that the gin file binds {bound[name]!r}"
                )

"""The encoders of a pipeline for a data set that is to be encoded."""

from __future__ import annotations

from torch import Tensor

from realuid.data.pixels import to_uint8
from realuid.data.preparation.encoding import Encoding
from realuid.pretrained.pipelines.autoencoder import PipelineAutoencoder
from realuid.pretrained.pipelines.encoder import PipelineEncoder
from realuid.pretrained.pipelines.folders import PipelineFolder
from realuid.pretrained.pipelines.table import FAMILIES
from realuid.utils.errors import CheckpointError

__all__ = ["encoding_of", "pictures_of"]


def encoding_of(url: str, tokens: int | None) -> Encoding:
    """Text encoders and autoencoder of a pipeline.

    Args:
        url: path or URL of the pipeline's folder, as of `Teacher.checkpoint`.
        tokens: length of the field `text`; None for the pipeline's usual one.

    Raises:
        CheckpointError: if there is no such pipeline, or its class is not in the table.
    """
    folder = PipelineFolder(url)
    family = FAMILIES.get(folder.pipeline)
    if family is None:
        raise CheckpointError(f"{url} is a {folder.pipeline}, not one of {', '.join(FAMILIES)}")
    config = folder.needed(family.place)
    encoder = PipelineEncoder(folder=url, pipeline=family.pipeline, config=config, tokens=tokens)
    return Encoding(encoder, PipelineAutoencoder(folder=url, pipeline=family.pipeline))


def pictures_of(encoding: Encoding, latents: Tensor) -> Tensor:
    """Pictures uint8 `[B, 3, H, W]` that a pipeline's autoencoder makes again of stored latents, of their means."""
    autoencoder = encoding.autoencoder
    assert isinstance(autoencoder, PipelineAutoencoder)
    means = latents.float().chunk(2, dim=1)[0] if autoencoder.has_deviation else latents.float()
    return to_uint8(autoencoder.pictures(means))

"""The encoders of the pipeline that a gin file describes."""

from __future__ import annotations

from realuid import config as configuration
from realuid.config import ConfigError
from realuid.data.preparation.encoding import Encoding
from realuid.pretrained.pipelines.autoencoder import PipelineAutoencoder
from realuid.pretrained.pipelines.encoder import PipelineEncoder

__all__ = ["described_encoding"]


def described_encoding(file: str) -> Encoding:
    """Text encoders and autoencoder of the teacher in a gin file (of gin/teachers/, or a recipe), without its network.

    Raises:
        ConfigError: if the file is wrong, or binds no `Teacher.encoder = @PipelineEncoder()`.
    """
    alone = configuration.alone(configuration.load_part(file, root="Teacher"), "encoder")
    encoder = None if alone is None else configuration.build(alone)
    if not isinstance(encoder, PipelineEncoder):
        raise ConfigError(f"{file} binds no Teacher.encoder = @PipelineEncoder(), whose pipeline would encode the data")
    return Encoding(encoder, PipelineAutoencoder(folder=encoder.folder, pipeline=encoder.family.pipeline))

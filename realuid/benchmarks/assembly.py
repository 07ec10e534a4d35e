"""A recipe's distillation made ready to step, on noise in place of its data and with random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from realuid import config as configuration
from realuid.conditions import Condition, labelled
from realuid.config import Config, ConfigError
from realuid.data.dataset import Batch, Dataset
from realuid.distillation.distillation import Distillation
from realuid.models.matching import PosteriorMean, matching_model_of
from realuid.networks.no_init_weights import no_init_weights
from realuid.training.method import Context
from realuid.training.trainer import Trainer
from realuid.training.world import World


class Noise(Dataset):
    """Uniform noise on the device, of the form of another data set.

    Args:
        like: whose shape, classes and kind of samples are taken.
        count: number of images.
    """

    def __init__(self, like: Dataset, count: int = 1024) -> None:
        self.shape, self.classes, self.count = like.shape, like.classes, count

    def missing(self) -> str | None:
        return None

    def open(self, *, seed: int, device: torch.device) -> None:
        generator = torch.Generator(device).manual_seed(seed)
        self.images, self.sources = (
            torch.randint(0, 256, (self.count, *self.shape), generator=generator, device=device, dtype=torch.uint8)
            for _ in range(2)
        )
        self.labels = torch.arange(self.count, device=device) % max(self.classes, 1)

    def __len__(self) -> int:
        return self.count

    @property
    def label_counts(self) -> Tensor:
        return torch.bincount(self.labels.cpu(), minlength=self.classes)[: self.classes]

    @property
    def checksum(self) -> str:
        return "noise"

    def batch(self, start: int, count: int) -> Batch:
        rows = torch.arange(start, start + count, device=self.images.device) % self.count
        return Batch(
            self.images[rows], labelled(self.labels[rows]) if self.classes else Condition(), self.sources[rows]
        )

    def examples(self, start: int, count: int) -> Batch:
        return self.batch(start, count)


def assembled(config: Config, folder: Path) -> Trainer:
    """What a configuration describes, its networks with random weights, which are written to the folder: those of
    teacher and fake network are independent, the student starts as the teacher. They are the same every time.

    Raises:
        ConfigError: if it describes no distillation of a network.
    """
    with no_init_weights():
        trainer = configuration.build(config)
    assert isinstance(trainer, Trainer)
    made = trainer.method
    if not isinstance(made, Distillation) or matching_model_of(made.teacher.model) is None:
        raise ConfigError("only the distillation of a network can be measured")
    made.teacher.checkpoint = _weights(made.teacher.model, folder / "teacher.pt", seed=1)
    made.student_init, made.fake_init = "teacher", _weights(made.fake, folder / "fake.pt", seed=2)
    made.teacher.ema = made.teacher.sha256 = made.teacher.format = None
    return trainer


def distillation(config: Config, device: torch.device, world: World | None = None) -> tuple[Distillation, Context]:
    """The same on noise in place of the data, started; alone, or as one of the processes of a world."""
    with tempfile.TemporaryDirectory(prefix="realuid-benchmark-") as folder:
        trainer = assembled(config, Path(folder))
        trainer.data = Noise(trainer.data)
        trainer.data.open(seed=0, device=device)
        context = trainer.context(world or World(device))
        if trainer.data.classes:
            context.frequencies.copy_(trainer.data.label_counts)
        made = trainer.method
        assert isinstance(made, Distillation)
        made.start(context)
    return made, context


def _weights(posterior: PosteriorMean, path: Path, seed: int) -> str:
    """Writes random weights for the network, none of them zero; features neither grow nor vanish."""
    model = matching_model_of(posterior)
    assert model is not None
    generator = torch.Generator().manual_seed(seed)
    state = {name: _random(value, generator) for name, value in model.network.state_dict().items()}
    torch.save(state, path)
    return str(path)


def _random(value: Tensor, generator: torch.Generator) -> Tensor:
    if value.ndim > 1:
        return torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5
    return 1 + 0.1 * torch.randn(value.shape, generator=generator)


def network_of(posterior: PosteriorMean) -> nn.Module:
    """The network behind a model."""
    model = matching_model_of(posterior)
    assert model is not None
    return model.network

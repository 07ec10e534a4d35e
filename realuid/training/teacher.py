"""Training a teacher: regression of the target on real data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from realuid.checkpoints import checksum
from realuid.data.pixels import to_float
from realuid.matching import MatchingModel, regression_loss
from realuid.samplers import Sampler
from realuid.time_samplers import TimeSampler, Weight
from realuid.training.ema import EMA
from realuid.training.initialisation import initialise
from realuid.training.optimizers import Adam
from realuid.training.procedure import Context, Generator, Procedure, draw_path

__all__ = ["TeacherTraining"]


class TeacherTraining(Procedure):
    """Minimises the matching loss (arXiv 2509.22459, definition 1) over the data.

    Args:
        model: the matching model to train.
        sampler: how the teacher is sampled for grids and evaluation.
        time_sampler: law of the times.
        weight: w(t).
        optimizer: of the model.
        ema: averages of the model's weights.

    Raises:
        ValueError: if times or sampler do not fit the path, or the prediction does not determine the velocity.
    """

    trained = ("teacher",)

    def __init__(
        self,
        *,
        model: MatchingModel,
        sampler: Sampler,
        time_sampler: TimeSampler,
        weight: Weight,
        optimizer: Adam,
        ema: EMA,
    ) -> None:
        self.model, self.sampler = model, sampler
        self.time_sampler, self.weight = time_sampler, weight
        self.optimizer, self.ema = optimizer, ema
        time_sampler.span(model.interpolant)  # refuses times outside the path
        sampler.times(model)  # and a sampler that the prediction or the path does not allow

    def networks(self) -> dict[str, nn.Module]:
        return {"teacher": self.model}

    def start(self, context: Context) -> None:
        self.context = context
        initialise(self.model, context.randomness.seed, "teacher")
        self.model.to(context.device).train()
        self.optimizer.attach(self.model.parameters())
        self.ema.attach(self.model)

    def step(self, index: int) -> dict[str, Tensor]:
        batch = self.context.batch
        images, labels = self.context.data.batch(index * batch, batch)
        loss = self._loss(self.context, index, to_float(images), labels)
        loss.backward()
        norm = self.optimizer.step(index * batch)
        self.ema.update()
        return {"teacher_loss": loss.detach(), "teacher_grad_norm": norm}

    def _loss(self, context: Context, index: int, x1: Tensor, labels: Tensor) -> Tensor:
        draws = draw_path(context, self.model.interpolant, self.time_sampler, index)
        x0, x1 = self.model.coupling.pair(draws.x0, x1)
        return regression_loss(self.model, x0=x0, x1=x1, z=draws.z, t=draws.t, labels=labels, weight=self.weight)

    def generators(self, ema: str | None = None) -> dict[str, Generator]:
        model = self.ema.averaged(ema)
        assert isinstance(model, MatchingModel)
        return {"teacher": lambda x0, labels: self.sampler(model, x0, labels)}

    def sampling(self, role: str) -> dict[str, str | None]:
        weights = checksum(self.ema.averaged())
        return {"sampler": self.sampler.name, "ema": self.ema.names[0], "weights": weights}

    def passes(self, context: Context) -> dict[str, tuple[int, Callable[[], Tensor]]]:
        def teacher_step() -> Tensor:
            x1 = torch.zeros((context.batch, *context.shape), device=context.device)
            labels = torch.zeros(context.batch, dtype=torch.int64, device=context.device)
            return self._loss(context, 0, x1, labels)

        return {"teacher": (1, teacher_step)}

    def state_dict(self) -> dict:
        return {"teacher": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["teacher"])
        self.optimizer.load_state_dict(state["optimizer"])

"""Training a teacher: regression of the target on real data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from realuid.checkpoints import checksum
from realuid.data.dataset import Batch
from realuid.data.pixels import to_float
from realuid.foreign.loading import load_weights
from realuid.matching import MatchingModel, regression_loss
from realuid.samplers import Sampler
from realuid.time_samplers import TimeSampler
from realuid.training.ema import EMA
from realuid.training.initialisation import initialise
from realuid.training.optimizers import Adam
from realuid.training.procedure import (
    Context,
    Generator,
    Procedure,
    backward,
    check_groups,
    draw_path,
    empty_batch,
    source_images,
)
from realuid.weights import Weight

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
        init: where the weights start: `random`, or a checkpoint's path or URL, to train a teacher further; another
            project's must have the conventions that are bound.
        label_dropout: share of the labels replaced by `classes`, the label that means none, for classifier-free
            guidance (`GuidedModel`); the network needs that label (`UNet.null_label`).

    Raises:
        ValueError: if times or sampler do not fit the path, the prediction does not determine what the sampler needs,
            or `label_dropout` leaves [0, 1).
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
        init: str = "random",
        label_dropout: float = 0.0,
    ) -> None:
        if not 0 <= label_dropout < 1:
            raise ValueError(f"label_dropout must lie in [0, 1), got {label_dropout}")
        self.model, self.sampler, self.coupling = model, sampler, model.coupling
        self.init, self.label_dropout = init, label_dropout
        self.time_sampler, self.weight = time_sampler, weight
        self.optimizer, self.ema = optimizer, ema
        model.check_network()
        k = model.interpolant.at(time_sampler.span(model.interpolant))  # refuses times outside the path
        weight.check(k)
        model.preconditioning.check(k, model.target)
        sampler.times(model)  # and a sampler that the prediction or the path does not allow

    def networks(self) -> dict[str, nn.Module]:
        return {"teacher": self.model}

    def optimizers(self) -> dict[str, Adam]:
        return {"teacher": self.optimizer}

    def start(self, context: Context) -> None:
        self.check(context)
        self.context = context
        if self.init == "random":
            initialise(self.model, context.randomness.seed, "teacher")
        else:
            load_weights(self.model, self.init)
        self.model.to(context.device).train()
        context.compute.prepare([self.model], context.device)
        context.distribution.place(context.world, [self.model])
        self._objective = context.distribution.objective([self.model], self._loss)
        self.optimizer.attach(self.model.parameters())
        self.ema.attach(self.model, context.distribution.template(self.model))

    def check(self, context: Context) -> None:
        check_groups(context, self.coupling, batch=context.batch)
        self.ema.check(context.distribution, context.world)
        if self.label_dropout and not (context.data.classes and getattr(self.model.network, "null_label", True)):
            raise ValueError(
                "TeacherTraining.label_dropout needs classes, and a network with a label that means none: bind "
                f"{type(self.model.network).__name__}.null_label = True"
            )

    def step(self, index: int) -> dict[str, Tensor]:
        context = self.context
        batches = context.read(index * context.batch, context.batch)
        scalars = backward(context, "regression", self._objective, [(index, batch) for batch in batches])
        scalars["teacher_grad_norm"] = self.optimizer.step(index * context.batch)
        self.ema.update()
        return scalars

    def _loss(self, context: Context, index: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x1, labels = to_float(batch.images), batch.labels
        x0 = None if self.coupling.gaussian_source else source_images(batch)
        draws = draw_path(context, self.model.interpolant, self.time_sampler, index, x0)
        x0 = self.coupling.pair(draws.x0, x1, labels)
        if self.label_dropout:
            dropped = context.randomness.uniform("label dropout", index, context.batch) < self.label_dropout
            labels = torch.where(dropped, context.data.classes, labels)
        loss = regression_loss(self.model, x0=x0, x1=x1, z=draws.z, t=draws.t, labels=labels, weight=self.weight)
        return loss, {"teacher_loss": loss}

    def generators(self, ema: str | None = None) -> dict[str, Generator]:
        model = self.ema.averaged(ema)
        assert isinstance(model, MatchingModel)
        return {"teacher": lambda x0, labels, noise: self.sampler(model, x0, labels, noise)}

    def sampling(self, role: str) -> dict[str, str | None]:
        weights = checksum(self.ema.averaged())
        return {"sampler": self.sampler.name, "ema": self.ema.names[0], "weights": weights}

    def passes(self, context: Context) -> dict[str, tuple[int, Callable[[], Tensor]]]:
        def teacher_step() -> Tensor:
            return self._loss(context, 0, empty_batch(context, context.batch))[0]

        self.check(context)
        return {"teacher": (1, teacher_step)}

    def state_dict(self) -> dict:
        return {"teacher": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["teacher"])
        self.optimizer.load_state_dict(state["optimizer"])

"""Training a teacher: regression of the target on real data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from realuid.checkpoints import checksum
from realuid.data.dataset import Batch
from realuid.data.pixels import to_float
from realuid.distillation.initialisation import initialise
from realuid.models.decoders import Decoder
from realuid.models.matching import MatchingModel, regression_loss
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight
from realuid.pretrained.loading import load_weights
from realuid.pretrained.scaling import check_scaling
from realuid.samplers import Sampler
from realuid.training.ema import EMA
from realuid.training.method import (
    Context,
    Generator,
    Method,
    backward,
    check_groups,
    draw_path,
    empty_batch,
    source_images,
)
from realuid.training.optimizers import Adam

__all__ = ["TeacherTraining"]


class TeacherTraining(Method):
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
        known: what such a file does not tell, as `Teacher.known`.
        condition_dropout: share of the samples that are told nothing, for classifier-free guidance (`GuidedModel`);
            the network needs a null condition (`UNet.null_label`).
        decoder: turns samples into pictures, for a model of latents.

    Raises:
        ValueError: if times or sampler do not fit the path, the prediction does not determine what the sampler needs,
            or `condition_dropout` leaves [0, 1).
    """

    trained = ("teacher",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {"teacher": ("model", "sampler", "decoder")}

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
        condition_dropout: float = 0.0,
        decoder: Decoder | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 <= condition_dropout < 1:
            raise ValueError(f"condition_dropout must lie in [0, 1), got {condition_dropout}")
        self.model, self.sampler, self.coupling = model, sampler, model.coupling
        self.init, self.known, self.condition_dropout, self.decoder = init, known, condition_dropout, decoder
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
            _, foreign = load_weights(self.model, self.init, known=self.known)
            if foreign is not None:
                check_scaling(foreign, context.data, self.init)
        self.model.to(context.device).train()
        context.compute.prepare([self.model], context.device, len(context.data.shapes))
        context.parallelism.place(context.world, [self.model])
        self._objective = context.parallelism.objective([self.model], self._loss)
        self.optimizer.attach(self.model.parameters())
        self.ema.attach(self.model, context.parallelism.template(self.model))

    def check(self, context: Context) -> None:
        check_groups(context, self.coupling, batch=context.batch)
        self.ema.check(context.parallelism, context.world)
        if self.condition_dropout and not self.model.network.has_null:
            network = self.model.network
            raise ValueError(
                f"TeacherTraining.condition_dropout needs a null condition, which this {type(network).__name__} lacks: "
                f"{network.null_remedy}"
            )

    def step(self, index: int) -> dict[str, Tensor]:
        context = self.context.of_step(index)
        batches = context.read((index - context.elsewhere) * context.batch, context.batch)
        scalars = backward(context, "regression", self._objective, [(index, batch) for batch in batches])
        scalars["teacher_grad_norm"] = self.optimizer.step(index * context.batch)
        self.ema.update()
        return scalars

    def _loss(self, context: Context, index: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x1, condition = to_float(batch.images), batch.condition
        x0 = None if self.coupling.gaussian_source else source_images(batch)
        x0, z, t = draw_path(context, self.model.interpolant, self.time_sampler, index, x0)
        x0 = self.coupling.pair(x0, x1, condition)
        if self.condition_dropout:
            dropped = context.randomness.uniform("label dropout", index, context.batch) < self.condition_dropout
            condition = self.model.network.null(condition).where(dropped, condition)
        loss = regression_loss(self.model, x0=x0, x1=x1, z=z, t=t, condition=condition, weight=self.weight)
        return loss, {"teacher_loss": loss}

    def generators(self, ema: str | None = None) -> dict[str, Generator]:
        model = self.ema.averaged(ema)
        assert isinstance(model, MatchingModel)
        return {"teacher": lambda x0, condition, noise: self.sampler(model, x0, condition, noise)}

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

r"""A student apart from its training: a few evaluations of its network between linear combinations of images.

What is known grows on the way: the noise x0, further noise z_1 .. z_m, then the rows of each answer of the network.

.. math:: F_i = F\Big(\sum_j C_{ij}\, u_j,\ c_i,\ condition\Big), \qquad x = \sum_j A_j\, u_j,
          \qquad u = (x_0, z_1, \ldots, z_m, F_1, F_2, \ldots)

Every student of `realuid.distillation.students` has this form, whatever its path, target and preconditioning. One that
asks its network once, on noise alone, is a `Step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, Field, classes_of
from realuid.evaluation.draws import noise as drawn
from realuid.networks.base import Network

BATCH = 250

Weights = tuple[float, ...]
"""Of what is known: x0, further noise, rows of the network's answers."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the network.

    Attributes:
        time: that it is told.
        inputs: the weights of each image that it is given.
    """

    time: float
    inputs: tuple[Weights, ...]


@dataclass(frozen=True)
class Step:
    """A student with one evaluation of a network on noise: x = skip x0 + sum_i out_i F_i(into x0, time)."""

    skip: float
    out: tuple[float, ...]
    into: float
    time: float


class ExportedStudent(nn.Module):
    """A generator of a few evaluations of a network: `student(source [B, C, H, W], condition) -> [B, C, H, W]`.

    Args:
        network: its raw network.
        evaluations: in their order, at least one.
        result: the weights of the image.
        draws: how many further images of noise it is given.
        shape: (C, H, W) of an image.
        conditions: the fields that the network reads, as the data gave them.
        from_images: whether it starts from source images (bridges) in the place of noise.

    Raises:
        ValueError: if the numbers of weights do not fit together.
    """

    def __init__(
        self,
        *,
        network: Network,
        evaluations: Sequence[Evaluation],
        result: Weights,
        draws: int = 0,
        shape: Sequence[int],
        conditions: Sequence[Field] = (),
        from_images: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.evaluations, self.result, self.draws = network, tuple(evaluations), tuple(result), draws
        self.shape, self.conditions, self.from_images = tuple(shape), tuple(conditions), from_images
        count = len(self.evaluations)
        answers = len(self.result) - 1 - draws
        if draws < 0 or not count or answers < 1 or answers % count:
            raise ValueError(f"{count} evaluations and {draws} draws do not give {len(self.result)} weights")
        self.rows = answers // count
        for number, evaluation in enumerate(self.evaluations):
            known = 1 + draws + number * self.rows
            if not evaluation.inputs or any(len(weights) != known for weights in evaluation.inputs):
                raise ValueError(f"evaluation {number} has to weigh the {known} images that are known")
        self.eval().requires_grad_(False)

    @property
    def classes(self) -> int:
        """Number of class labels; 0 for none."""
        return classes_of(self.conditions)

    @property
    def step(self) -> Step | None:
        """The student as one step, if it is one."""
        first = self.evaluations[0]
        if len(self.evaluations) > 1 or self.draws or len(first.inputs) > 1:
            return None
        return Step(skip=self.result[0], out=self.result[1:], into=first.inputs[0][0], time=first.time)

    def forward(self, source: Tensor, condition: Condition | None = None, fresh: Tensor | None = None) -> Tensor:
        """Images in about [-1, 1] (or latents).

        Args:
            source: standard normal noise `[B, C, H, W]`, or source images in [-1, 1] (see `from_images`).
            condition: None for an unconditional model.
            fresh: further noise `[B, draws, C, H, W]`; None where there are no draws.

        Raises:
            ValueError: if `fresh` is missing, or holds another number of draws.
        """
        if (0 if fresh is None else fresh.shape[1]) != self.draws:
            raise ValueError(f"the student draws noise on its way: give it as fresh, [B, {self.draws}, ...]")
        known = [source, *(() if fresh is None else fresh.unbind(1))]
        for evaluation in self.evaluations:
            x = torch.cat([_combined(weights, known) for weights in evaluation.inputs], dim=1)
            time = torch.full((1,), evaluation.time, dtype=source.dtype, device=source.device).expand(source.shape[0])
            known += self.network(x, time, condition or Condition()).chunk(self.rows, dim=1)
        return _combined(self.result, known)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        labels: Tensor | Sequence[int] | int | None = None,
        seed: int = 0,
        condition: Condition | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Images `[count, C, H, W]`, float32 on the CPU, in about [-1, 1] (or latents).

        Image i depends on the seed, i and its condition alone; it is the one that tools/sample.py gives.

        Args:
            count: number of images.
            labels: one for all, or as many as wanted, repeated in turn; None for all classes in turn.
            seed: of the noise.
            condition: everything else that the network reads, for one sample or more, repeated in turn.
            source: images `[n, C, H, W]` in [-1, 1] that a student `from_images` starts from, repeated in turn; None
                for all others.

        Raises:
            ValueError: if count is less than one, a label is none of the model's, a field that it reads is missing, or
                `source` is given to a student of noise or missing for another.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if (source is not None) != self.from_images:
            which = "images: give them as source=" if self.from_images else "noise, and takes no source"
            raise ValueError(f"the model starts from {which}")
        told = dict(condition or {})
        if self.classes and LABEL not in told:
            told[LABEL] = self._labels(count, labels)
        if missing := [str(field) for field in self.conditions if field.name not in told]:
            raise ValueError(f"the model reads {', '.join(missing)}: give it by condition=")
        device = next(self.network.parameters()).device
        parts = []
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            rows = {name: Condition({name: tensor}).repeated(start, size)[name] for name, tensor in told.items()}
            if source is None:
                x0 = drawn(seed, start, size, self.shape)
            else:
                x0 = source[torch.arange(start, start + size) % len(source)].float()
            others = [drawn(seed, start, size, self.shape, draw) for draw in range(1, 1 + self.draws)]
            fresh = torch.stack(others, dim=1).to(device) if others else None
            parts.append(self(x0.to(device), Condition(rows).to(device), fresh).float().cpu())
        return torch.cat(parts)

    def _labels(self, count: int, labels: Tensor | Sequence[int] | int | None) -> Tensor:
        if labels is None:
            return torch.arange(count) % self.classes
        wanted = torch.as_tensor(labels, dtype=torch.int64).reshape(-1).cpu()
        if bad := [label for label in wanted.tolist() if not 0 <= label < self.classes]:
            raise ValueError(f"there is no class {bad[0]}: the model has {self.classes}")
        if not len(wanted):
            raise ValueError("labels is empty")
        return wanted


def _combined(weights: Weights, images: Sequence[Tensor]) -> Tensor:
    """The sum of images `[B, C, H, W]` times their weights, those of weight zero left out."""
    terms = [weight * image for weight, image in zip(weights, images, strict=True) if weight]
    return sum(terms[1:], terms[0]) if terms else torch.zeros_like(images[0])


def example(fields: Sequence[Field], count: int) -> Condition:
    """A condition of `count` samples, for trying a network: labels in turn, ones elsewhere."""
    tensors = {}
    for field in fields:
        ones = torch.ones((count, *field.sizes), dtype=field.torch_dtype)
        tensors[field.name] = torch.arange(count) % field.classes if field.classes else ones
    return Condition(tensors)

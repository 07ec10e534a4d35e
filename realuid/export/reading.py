"""The form for export of a student in training. Its weights are read off by asking it with a stand-in for its network:
one image that is known is set to one, all others to zero. The result is compared with the student itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from realuid.conditions import Condition, Field
from realuid.evaluation.draws import noise
from realuid.export.student import Evaluation, ExportedStudent, Weights, example
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.samplers import FreshNoise
from realuid.utils.errors import RunError

__all__ = ["to_exported"]

Generate = Callable[[Tensor, Condition, FreshNoise], Tensor]
"""A student: from source samples `[B, C, H, W]`, their condition and fresh noise to images."""


class _Probe(Network):
    """Stands in for a network: answers zeros, but for one row of one answer, and keeps what it was asked."""

    def __init__(self, shape: Sequence[int], rows: int, one: int | None) -> None:
        super().__init__()
        self.sizes, self.rows, self.one = tuple(shape), rows, one
        self.shape, self.out_multiplier = self.sizes, rows
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        first = len(self.asked) * self.rows
        self.asked.append((x, time))
        return torch.cat(
            [x.new_full((len(x), *self.sizes), float(first + row == self.one)) for row in range(self.rows)], dim=1
        )


class _Noise:
    """Fresh noise that is one for one draw and zero for the others; counts the draws."""

    def __init__(self, like: Tensor, one: int | None) -> None:
        self.like, self.one, self.draws = like, one, 0

    def __call__(self, draw: int) -> Tensor:
        self.draws = max(self.draws, draw + 1)
        return torch.full_like(self.like, float(draw == self.one))


@torch.no_grad()
def to_exported(
    model: MatchingModel,
    generate: Generate,
    *,
    shape: Sequence[int],
    conditions: Sequence[Field],
    tolerance: float = 1e-5,
) -> ExportedStudent:
    """The form for export of a student in training.

    Args:
        model: the student's matching model, on the CPU; its `network` is replaced while it is asked.
        generate: the student itself; it uses `model`.
        shape: (C, H, W) of an image.
        conditions: the fields that the data give; those that the network reads are kept.
        tolerance: greatest difference allowed between the two, relative to the largest value.

    Raises:
        RunError: if the student is not evaluations of its network between linear combinations.
    """
    network, rows = model.network, max(1, model.target.out_multiplier)
    evaluations, result, draws = _read(model, generate, shape, rows)
    read = {field.name for field in network.conditions}
    told = [field for field in conditions if field.name in read]
    exported = ExportedStudent(
        network=copy.deepcopy(network),
        evaluations=evaluations,
        result=result,
        draws=draws,
        shape=shape,
        conditions=told,
        from_images=not model.coupling.gaussian_source,
    )
    condition, (x0, *others) = example(told, 4), [noise(0, 0, 4, shape, draw) for draw in range(1 + draws)]
    wanted = generate(x0, condition, lambda draw: others[draw])
    answer = exported(x0, condition, torch.stack(others, dim=1) if others else None)
    if not torch.allclose(answer, wanted, rtol=0, atol=tolerance * max(1.0, float(wanted.abs().max()))):
        raise RunError(
            "the student is not evaluations of its network between linear combinations; it cannot be exported"
        )
    return exported


def _read(
    model: MatchingModel, generate: Generate, shape: Sequence[int], rows: int
) -> tuple[list[Evaluation], Weights, int]:
    """Evaluations, weights of the result, and the number of draws."""
    network = model.network

    def ask(source: float, draw: int | None, row: int | None) -> tuple[Tensor, _Probe, _Noise]:
        x0, probe = torch.full((1, *shape), source), _Probe(shape, rows, row)
        fresh = _Noise(x0, draw)
        model.network = probe
        try:
            return generate(x0, Condition(), fresh), probe, fresh
        finally:
            model.network = network

    first_answer = ask(1.0, None, None)
    _, first, fresh = first_answer
    draws, count, images = fresh.draws, len(first.asked), [x.shape[1] // shape[0] for x, _ in first.asked]
    if not count:
        raise RunError("the student never asks its network; it cannot be exported")
    if network.in_multiplier not in (None, *images):
        raise RunError(
            f"the student gives its network {images[0]} images, and it takes {network.in_multiplier}; "
            "it cannot be exported"
        )
    answers = [first_answer]
    answers += [ask(0.0, draw, None) for draw in range(draws)]
    answers += [ask(0.0, None, row) for row in range(rows * count)]
    evaluations = []
    for number, (_, time) in enumerate(first.asked):
        known = answers[: 1 + draws + number * rows]
        parts = [[_value(part) for part in probe.asked[number][0].chunk(images[number], 1)] for _, probe, _ in known]
        evaluations.append(Evaluation(float(time[0]), tuple(zip(*parts, strict=True))))
    return evaluations, tuple(_value(image) for image, _, _ in answers), draws


def _value(image: Tensor) -> float:
    """Of an image that is one value throughout."""
    return float(image.double().mean())

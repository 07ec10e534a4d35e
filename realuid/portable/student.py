r"""A one-step student apart from its training: one evaluation of its network between two scalings,

.. math:: x_1 = A\, x_0 + \sum_i B_i\, F_i(C\, x_0,\ c,\ label),

with F_i the rows of the network's answer. Every student of `realuid.students` that starts at a fixed time has this
form, whatever its path, target and preconditioning; the four numbers are read off by asking it with a stand-in for its
network, and the result is compared with the student itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realuid.errors import RunError
from realuid.evaluation.draws import noise

BATCH = 250


@dataclass(frozen=True)
class Step:
    """The numbers of the one step: see the formula of this module."""

    skip: float
    out: tuple[float, ...]
    into: float
    time: float


class Student(nn.Module):
    """A generator that needs one evaluation of a network: `student(noise [B, C, H, W], labels [B]) -> [B, C, H, W]`.

    Args:
        network: its raw network.
        step: the scalings around it.
        shape: (C, H, W) of an image.
        classes: number of class labels, 0 for none.
    """

    def __init__(self, *, network: nn.Module, step: Step, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        self.network, self.step = network, step
        self.shape, self.classes = tuple(shape), classes
        self.eval().requires_grad_(False)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images in about [-1, 1] (or latents) from standard normal noise; labels may be left out if there are none."""
        if labels is None:
            labels = torch.zeros(noise.shape[0], dtype=torch.int64, device=noise.device)
        time = torch.full((1,), self.step.time, dtype=noise.dtype, device=noise.device).expand(noise.shape[0])
        rows = self.network(self.step.into * noise, time, labels).chunk(len(self.step.out), dim=1)
        image = self.step.skip * noise
        for weight, row in zip(self.step.out, rows, strict=True):
            image = image + weight * row
        return image

    @torch.no_grad()
    def sample(self, count: int, labels: Tensor | Sequence[int] | int | None = None, seed: int = 0) -> Tensor:
        """Images `[count, C, H, W]`, float32 on the CPU, in about [-1, 1] (or latents).

        Image i depends on the seed, i and its label alone; it is the one that tools/sample.py gives.

        Args:
            count: number of images.
            labels: one for all, or as many as wanted, repeated in turn; None for all classes in turn.
            seed: of the noise.

        Raises:
            ValueError: if count is less than one, or a label is none of the model's.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        chosen = self._labels(count, labels)
        device = next(self.network.parameters()).device
        parts = []
        for start in range(0, count, BATCH):
            batch = chosen[start : start + BATCH].to(device)
            x0 = noise(seed, start, len(batch), self.shape).to(device)
            parts.append(self(x0, batch).float().cpu())
        return torch.cat(parts)

    def _labels(self, count: int, labels: Tensor | Sequence[int] | int | None) -> Tensor:
        if labels is None:
            return torch.arange(count) % max(1, self.classes)
        wanted = torch.as_tensor(labels, dtype=torch.int64).reshape(-1).cpu()
        if bad := [label for label in wanted.tolist() if not 0 <= label < self.classes]:
            raise ValueError(f"there is no class {bad[0]}: the model has {self.classes}")
        if not len(wanted):
            raise ValueError("labels is empty")
        return wanted.repeat(-(-count // len(wanted)))[:count]


class _Probe(nn.Module):
    """Stands in for a network: answers one row of ones, the others zero, and keeps what it was asked."""

    def __init__(self, shape: Sequence[int], height: int, row: int | None) -> None:
        super().__init__()
        self.shape, self.height, self.row = tuple(shape), height, row
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        self.asked.append((x, time))
        rows = [x.new_full((len(x), *self.shape), float(row == self.row)) for row in range(self.height)]
        return torch.cat(rows, dim=1)


@torch.no_grad()
def portable(
    model: nn.Module,
    generate: Callable[[Tensor, Tensor], Tensor],
    *,
    height: int,
    shape: Sequence[int],
    classes: int,
    tolerance: float = 1e-5,
) -> Student:
    """The portable form of a student of training.

    Args:
        model: the student's matching model, on the CPU; its `network` is replaced while it is asked.
        generate: the student itself, from noise `[B, C, H, W]` and labels `[B]` to images; it uses `model`.
        height: rows of the network's answer (`Target.height`).
        shape: (C, H, W) of an image.
        classes: number of class labels, 0 for none.
        tolerance: greatest difference allowed between the two, relative to the largest value.

    Raises:
        RunError: if the student is not one step of its network between two scalings.
    """
    network: nn.Module = model.network  # type: ignore[assignment]
    ones, label = torch.ones(1, *shape), torch.zeros(1, dtype=torch.int64)

    def ask(row: int | None, x0: Tensor) -> tuple[float, _Probe]:
        probe = model.network = _Probe(shape, height, row)
        return float(generate(x0, label).double().mean()), probe

    try:
        skip, probe = ask(None, ones)
        out = tuple(ask(row, torch.zeros_like(ones))[0] for row in range(height))
    finally:
        model.network = network
    if len(probe.asked) != 1 or probe.asked[0][0].shape != ones.shape:
        raise RunError("the student does not ask its network once, for one image; it cannot be exported")
    ((x, time),) = probe.asked
    step = Step(skip=skip, out=out, into=float(x.double().mean()), time=float(time[0]))
    exported = Student(network=copy.deepcopy(network), step=step, shape=shape, classes=classes)
    x0, labels = noise(0, 0, 4, shape), torch.arange(4) % max(1, classes)
    wanted, answer = generate(x0, labels), exported(x0, labels)
    if not torch.allclose(answer, wanted, rtol=0, atol=tolerance * max(1.0, float(wanted.abs().max()))):
        raise RunError("the student is not one evaluation of its network between two scalings; it cannot be exported")
    return exported

"""A distillation step as the RealUID authors' code takes it (David-cripto/RealUID b61c1c3), written anew from what it
does, on networks of ours: what our step is compared with.

float32 with whatever PyTorch allows by default, images in the order NCHW, attention by matrix products and a softmax,
separate passes for generated and real samples, a graph of the generator in fake steps that nobody uses, gradients of
the fake network's weights in generator steps that are thrown away, squares and not inner products in the losses, Adam
tensor by tensor, three averages over state dictionaries tensor by tensor, times drawn on the host, a garbage collection
an update.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from realuid.conditions import Condition

DECAYS = (0.999, 0.9996, 0.9999)


@dataclass(frozen=True)
class Sample:
    """What one update starts from."""

    z: Tensor
    """Noise of the generator `[B, C, H, W]`."""
    x0: Tensor
    """Noise on the path, shared by generated and real samples."""
    t: Tensor
    """Times `[B]`, float32, data at 1."""
    real: Tensor | None = None
    """Real images in [-1, 1]; as many as generated ones in the authors' code, the first ones' noise and times here."""
    condition: Condition = field(default_factory=Condition)
    """Of the generated samples; empty in the authors' code."""
    real_condition: Condition = field(default_factory=Condition)


class Authors:
    """The authors' step on flow matching's linear path.

    Args:
        generator: network G, whose sample is z + G(z, 0).
        fake: network u.
        teacher: network u*, frozen.
        alpha: see `realuid.losses.RealUID`.
        beta: see there.
        fake_steps: updates of the fake network for one of the generator.
        lr: learning rate of both.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        fake: nn.Module,
        teacher: nn.Module,
        alpha: float,
        beta: float,
        fake_steps: int,
        lr: float = 3e-5,
    ) -> None:
        self.generator, self.fake, self.teacher = generator, fake, teacher.eval().requires_grad_(False)
        self.alpha, self.beta, self.fake_steps = alpha, beta, fake_steps
        self.fake_optimizer = torch.optim.Adam(fake.parameters(), lr=lr, betas=(0.0, 0.999))
        self.optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.0, 0.999))
        self.averages = [{name: value.clone() for name, value in generator.state_dict().items()} for _ in DECAYS]

    def step(self, real: Tensor, condition: Condition | None = None) -> None:
        """`fake_steps` updates of the fake network and one of the generator, on these real images and, where there are
        any, conditions of generated and of real samples."""
        told = condition or Condition()
        self.fake.train()
        for _ in range(self.fake_steps):
            self._update(self.fake_optimizer, self.fake, self.fake_loss, self._drawn(real, told))
        self.fake.eval()
        self._update(self.optimizer, self.generator, self.generator_loss, self._drawn(real, told))
        for average, decay in zip(self.averages, DECAYS, strict=True):
            for name, value in self.generator.state_dict().items():
                average[name].copy_(average[name] * decay + value.detach() * (1 - decay))

    def _update(
        self, optimizer: torch.optim.Adam, network: nn.Module, loss: Callable[[Sample], Tensor], sample: Sample
    ) -> None:
        gc.collect()
        optimizer.zero_grad()
        with sdpa_kernel(SDPBackend.MATH):
            loss(sample).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    @staticmethod
    def _drawn(real: Tensor, told: Condition) -> Sample:
        x0 = torch.randn_like(real)
        return Sample(torch.randn_like(real), x0, torch.rand(len(real)).type_as(x0), real, told, told)

    def generated(self, sample: Sample) -> Tensor:
        return sample.z + self.generator(sample.z, torch.zeros_like(sample.t), sample.condition)

    def fake_loss(self, sample: Sample) -> Tensor:
        """What the fake network minimises (they maximise the negative)."""
        alpha, beta = self.alpha, self.beta
        x1 = self.generated(sample).detach()
        loss = alpha * _distance(self.fake, x1, sample, beta / alpha)
        if sample.real is not None:
            seen = replace(sample, condition=sample.real_condition)
            loss = loss + (1 - alpha) * _distance(self.fake, sample.real, seen, (1 - beta) / (1 - alpha))
        return loss

    def generator_loss(self, sample: Sample) -> Tensor:
        """What the generator minimises."""
        x1, ratio = self.generated(sample), self.beta / self.alpha
        teacher, fake = (_distance(network, x1, sample, ratio) for network in (self.teacher, self.fake))
        return self.alpha * (teacher - fake)

    def surplus(self, sample: Sample) -> Tensor:
        """What `fake_loss` holds beyond <f, alpha f - 2 beta c> and the like: the square of the target."""
        alpha, beta = self.alpha, self.beta
        with torch.no_grad():
            x1 = self.generated(sample)
        loss = beta**2 / alpha * (x1 - sample.x0).square().sum() / len(x1)
        if sample.real is not None:
            c = sample.real - sample.x0[: len(sample.real)]
            loss = loss + (1 - beta) ** 2 / (1 - alpha) * c.square().sum() / len(c)
        return loss


def _distance(network: nn.Module, x1: Tensor, sample: Sample, ratio: float) -> Tensor:
    """||f - ratio c||^2 on the path from x0 to x1, summed over pixels, averaged over the batch."""
    rows = slice(len(x1))
    x0, t = sample.x0[rows], sample.t[rows]
    s = t.view(-1, 1, 1, 1)
    prediction = network(s * x1 + (1 - s) * x0, t, sample.condition)
    return (prediction - ratio * (x1 - x0)).square().sum() / len(x1)

"""Adam whose moments take a byte each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from realuid.training.optimizers import Adam

__all__ = ["Adam8bit"]

BLOCK = 256
"""Entries that share one scale."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Adam8bit(Adam):
    """`Adam` with moments in eight bits, in blocks of 256 that share a scale (Dettmers et al. 2110.02861): two bytes a
    weight instead of eight. Weights of fewer than 4,096 entries, or that do not divide into blocks, keep moments in
    full. Needs the package torchao; arguments as of `Adam`.

    Raises:
        ValueError: if the weights are sharded, or torchao is not installed.
    """

    bytes_a_weight = 2 + 8 / BLOCK

    def _made(self) -> torch.optim.Optimizer:
        from torch.distributed.tensor import DTensor  # imported where needed: it is slow

        try:
            from torchao.optim import AdamW8bit
        except ImportError:
            raise ValueError("Adam8bit needs `pip install realuid[lora]`") from None
        if any(isinstance(parameter, DTensor) for parameter in self.parameters):
            raise ValueError("Adam8bit keeps no shards: bind @Adam() with @FSDP(), which shares moments out")
        beta1, beta2 = self.betas
        made = AdamW8bit(
            self.parameters, lr=self.lr, betas=(beta1, beta2), eps=self.eps, weight_decay=self.weight_decay
        )
        for parameter in self.parameters:
            buffers = {name: made._new_buffer(parameter, name == "exp_avg") for name in MOMENTS}
            step = torch.zeros((), dtype=torch.float32, device=parameter.device)
            made.state[parameter] = {"step": step, **buffers}
        return made

    @torch.no_grad()
    def _update(self, lr: float, left_out: Tensor) -> None:
        # torchao's own step knows no update that is left out.
        keep = left_out > 0
        for parameter in self.parameters:
            if parameter.grad is not None:
                self._move(parameter, parameter.grad, self.optimizer.state[parameter], lr, keep)

    def _move(self, weight: Tensor, grad: Tensor, state: dict[str, Tensor], lr: float, keep: Tensor) -> None:
        """One weight's update (Kingma & Ba 1412.6980, algorithm 1, with decoupled weight decay), unless `keep`."""
        (beta1, beta2), step = self.betas, state["step"] + 1
        first = state["exp_avg"].float().lerp(grad, 1 - beta1)
        second = state["exp_avg_sq"].float().lerp(grad.square(), 1 - beta2)
        size = (second / (1 - beta2**step)).sqrt() + self.eps
        moved = weight * (1 - lr * self.weight_decay) - lr * (first / (1 - beta1**step)) / size
        weight.copy_(torch.where(keep, weight, moved))
        state["step"].copy_(torch.where(keep, state["step"], step))
        for name, moment in (("exp_avg", first), ("exp_avg_sq", second)):
            parts = _parts(state[name])
            before = [part.clone() for part in parts]
            state[name].copy_(moment)
            for part, old in zip(parts, before, strict=True):
                part.copy_(torch.where(keep, old, part))

    def state_dict(self) -> dict:
        """The moments by their plain parts, for each weight in turn, and what is known of the gradient's norm."""
        state = [
            {"step": own["step"], **{name: list(_parts(own[name])) for name in MOMENTS}}
            for own in (self.optimizer.state[parameter] for parameter in self.parameters)
        ]
        return {
            "state": state,
            "norm": {"skipped": self.skipped, "in_a_row": self.in_a_row, "usual": self.usual},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        norm = state["norm"]
        self.skipped, self.in_a_row, self.usual = norm["skipped"], norm["in_a_row"], norm["usual"]
        for parameter, saved in zip(self.parameters, state["state"], strict=True):
            own: dict[str, Any] = self.optimizer.state[parameter]
            own["step"].copy_(saved["step"])
            for name in MOMENTS:
                for part, value in zip(_parts(own[name]), saved[name], strict=True):
                    part.copy_(value)

    def materialise(self) -> None:
        """The state is there from the start."""


def _parts(moment: Any) -> list[Tensor]:
    """The tensors that a moment is made of: codes and scales, or itself where it is kept in full."""
    return [moment] if type(moment) is Tensor else [moment.codes, moment.scale]

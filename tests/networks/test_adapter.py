"""Modules of others as networks."""

import torch
from torch import Tensor, nn

from realuid.conditions import Condition, Field, unmet
from realuid.networks.adapter import TorchModule


class Adds(nn.Module):
    """x plus a linear map of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return x + self.linear(text)[:, :, None, None]


def test_embeddings_kept_in_half_are_read_in_the_type_that_is_stated():
    """As assembly promises: floating-point types of data and network may differ."""
    network = TorchModule(factory=f"{__name__}:Adds", conditions=(Field("text", (8,)),))
    kept = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).half()
    assert unmet(network.conditions, (Field("text", (8,), "float16"),)) is None
    x, time = torch.zeros(2, 3, 4, 4), torch.zeros(2)
    expected = network.model(x, time, kept.float())
    assert torch.equal(network(x, time, Condition({"text": kept})), expected)

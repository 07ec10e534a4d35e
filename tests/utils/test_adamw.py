"""The optimiser beside torch's own, of which it is the same but for what it imports."""

import copy

import torch
from torch import nn

from realuid.utils.adamw import AdamW


def moved(kind, network, steps=3, state=None):
    """Weights and the optimiser's state after so many steps, or from a state on."""
    generator, network = torch.Generator().manual_seed(0), copy.deepcopy(network)
    made = kind(network.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    if state is not None:
        made.load_state_dict(copy.deepcopy(state))
    for _ in range(steps):
        network(torch.randn(8, 3, generator=generator)).square().sum().backward()
        made.step()
        made.zero_grad()
    return torch.cat([weight.detach().flatten() for weight in network.parameters()]), made.state_dict()


def test_it_steps_saves_and_resumes_as_torchs():
    network = nn.Linear(3, 4)
    (ours, saved), (theirs, expected) = (moved(kind, network) for kind in (AdamW, torch.optim.AdamW))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, torch.cat([weight.flatten() for weight in network.parameters()]))
    assert saved["param_groups"] == expected["param_groups"]
    for number, own in expected["state"].items():
        assert all(torch.equal(saved["state"][number][name], value) for name, value in own.items())
    assert torch.equal(moved(AdamW, network, state=expected)[0], moved(torch.optim.AdamW, network, state=saved)[0])

"""torch's AdamW without its compiler."""

from __future__ import annotations

from inspect import unwrap

import torch


class AdamW(torch.optim.AdamW):
    """torch's own, without the marks that keep its methods out of compiled code: a marked method imports torch's
    compiler at its first call, which takes two seconds. Nothing here compiles an optimiser."""

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)

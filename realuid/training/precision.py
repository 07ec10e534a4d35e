"""The precision of regressions where `Compute.regression` leaves it to the machine: chosen by measurement."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from realuid.training.compute import FASTEST, Arithmetic, Compute, Precision
from realuid.training.method import Context, Method

INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What torch calls the instructions of processors that multiply in bfloat16."""
ROUNDS = 3
WORTH = 1.05
"""What bfloat16 must gain, so that the noise of a measurement does not decide for it."""


@dataclass(frozen=True)
class Choice:
    """A precision, and why."""

    precision: Precision
    reason: str


def choose(compute: Compute, method: Method, context: Context) -> Choice | None:
    """Chooses, if it is left to the machine, and tells `compute`. All processes must ask, and get the same answer.

    Args:
        compute: of the run.
        method: not started; it is not touched.
        context: of this process.

    Returns:
        None if the precision is bound.
    """
    if compute.regression != FASTEST:
        return None
    choice = known(context.device) or measured(method, context)
    slower = context.world.agree(int(choice.precision == "float32"))
    if slower and choice.precision != "float32":
        choice = Choice("float32", "it is not faster in every process")
    compute.chosen = choice.precision
    return choice


def known(device: torch.device) -> Choice | None:
    """What needs no measurement: GPUs that run this project have units for bfloat16, and a CPU without instructions
    for it emulates it, ten times slower."""
    if device.type == "cuda":
        return Choice("bfloat16", "CUDA has units for it")
    if not has_bfloat16():
        return Choice("float32", "this CPU has no instructions for bfloat16 (AVX512-BF16, AMX)")
    return None


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    named = any(capabilities.get(name, False) for name in INSTRUCTIONS)
    return named or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def measured(method: Method, context: Context) -> Choice:
    """The faster one of forward and backward passes of the method's own regression, at the run's own batch."""
    trial = copy.deepcopy(method)  # with weights, gradients and states of its own
    context = context.shares()[0]
    (loss,) = (loss for kind, (_, loss) in trial.passes(context).items() if kind != "generator")
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    times: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    for _ in range(ROUNDS + 1):
        for precision in precisions:
            times[precision].append(seconds(loss, Arithmetic(precision, context.device, graphs=False)))
    exact, rounded = (median(times[precision][1:]) for precision in precisions)  # the first one prepares
    said = f"a pass took {1000 * rounded:.4g} ms in bfloat16 and {1000 * exact:.4g} ms in float32"
    return Choice("bfloat16" if WORTH * rounded < exact else "float32", said)


def seconds(loss: Callable[[], Tensor], arithmetic: Arithmetic) -> float:
    """Of a forward and a backward pass."""
    began = time.perf_counter()
    with arithmetic.update():
        with arithmetic.forward():
            value = loss()
        value.backward()
    return time.perf_counter() - began


def shown(compute: Compute, device: torch.device) -> str:
    """What the dry run says of the precisions; it measures nothing."""
    regression = compute.arithmetic("regression", device).precision
    said = f"regressions in {regression}, generator's updates in {compute.arithmetic('generator', device).precision}"
    if compute.regression != FASTEST:
        return said
    choice = known(device)
    if choice is None:
        return said.replace(regression, "the faster of float32 and bfloat16, measured at the start", 1)
    return f"{said.replace(regression, choice.precision, 1)}: {choice.reason}"

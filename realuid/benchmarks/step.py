"""A distillation step, the authors' way and ours in turns: time, arithmetic, memory, and whether both compute the same.

A step is an iteration of the paper's: five updates of the fake network and one of the generator. The authors' way is
realuid/benchmarks/authors.py. Ours is what trains, with one change at a time and all together; every way is timed in
turns with theirs, and the ratio is the median of those of pairs. Arithmetic and memory of either are those of the step
that was timed. Losses and gradients are compared on the same weights and draws before any update; where a way uses
fewer real samples, with the authors' formulas on as many. A recipe whose loss is another function than theirs is timed
all the same, and the line says why nothing is compared.

Prints a line of JSON for the device and one for each way.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from realuid import __version__
from realuid import config as configuration
from realuid.benchmarks.assembly import distillation, network_of
from realuid.benchmarks.authors import Authors, Sample
from realuid.benchmarks.meters import Counted, Spent, peak, spent
from realuid.config import ConfigError
from realuid.data.pixels import to_float
from realuid.distillation.distillation import Distillation
from realuid.losses import RealUID
from realuid.models.matching import MatchingModel
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Velocity
from realuid.paths.weights import UnitWeight
from realuid.training.method import Context, draw_path, empty_condition
from realuid.training.world import device_named

EXACT = {"regression": "'float32'", "generator": "'float32'", "compile": "'none'", "channels_last": "False"}
LAST, COMPILED = {"channels_last": "True"}, {"compile": "'default'"}
BFLOAT, TF32 = {"regression": "'bfloat16'"}, {"generator": "'tf32'"}

WAYS: dict[str, tuple[dict[str, str], bool]] = {
    "exact": ({}, False),
    "sixth": ({}, True),
    "channels_last": (LAST, False),
    "tf32": ({"regression": "'tf32'", **TF32}, False),
    "bfloat16": (BFLOAT, False),
    "compile": (COMPILED, False),
    "recompute": ({"recompute": "True"}, False),
    "all_float32": (LAST, True),
    "all": (LAST | BFLOAT | TF32, True),
    "all_compiled": (LAST | BFLOAT | TF32 | COMPILED, True),
    "all_graphs": (LAST | BFLOAT | TF32 | {"compile": "'reduce-overhead'"}, True),
}
"""What is bound of `Compute` beyond exact float32, and whether real samples are a sixth of the batch."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gin", default="gin/fm_cifar10.gin", metavar="FILE", help="recipe (%(default)s)")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument("--batch", type=int, default=16, help="generated samples (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs that are timed (%(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", help=f"of {', '.join(WAYS)} (default: all)")
    parser.add_argument("--device", default="auto", help="%(default)s")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = device_named(arguments.device)
    peaks: dict[str, float] = {}
    print(json.dumps(about(device) | {"batch": arguments.batch, "rounds": arguments.rounds}), flush=True)
    for way in arguments.ways or list(WAYS):
        print(json.dumps({"way": way} | measured(way, arguments, device, peaks)), flush=True)
    return 0


def about(device: torch.device) -> dict[str, Any]:
    """The machine, for those who read the numbers."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "realuid": __version__}


def measured(way: str, arguments: argparse.Namespace, device: torch.device, peaks: dict[str, float]) -> dict[str, Any]:
    """What one way takes; `peaks` remembers the device's speeds by precision."""
    made, context = assembled_way(way, arguments, device)
    theirs = _authors(assembled_way("exact", arguments, device)[0])
    arithmetic = context.compute.arithmetic("regression", device)
    best = peaks.setdefault(arithmetic.precision, 0.0) or peak(arithmetic)
    peaks[arithmetic.precision] = best
    forward, mine, authors = _forward(made, context), ours(made), the_authors(theirs, made, context, context.batch)
    compared = _compared(way, made, context, theirs, mine)  # before any update
    batch = context.data.batch(0, context.batch)
    real = to_float(batch.images)
    steps = iter(range(1_000_000))
    pairs = [
        (spent(lambda: theirs.step(real, batch.condition), device), spent(lambda: made.step(next(steps)), device))
        for _ in range(arguments.rounds + _compiles(way))
    ][_compiles(way) :]  # the first one compiles the rest
    ms = [1000 * median(times[turn].wall for times in pairs) for turn in (0, 1)]
    k = made.updates.fake_steps
    flops, authors_flops = (k * turn["fake"].operations + turn["generator"].operations for turn in (mine, authors))
    flops -= (k - made.updates.samples) * forward  # of the samples that several fake updates see
    return {
        "ms": round(ms[1], 2),
        "authors_ms": round(ms[0], 2),
        "ratio": round(median(b.wall / a.wall for a, b in pairs), 4),
        "cpu_ratio": round(median(b.cpu / a.cpu for a, b in pairs), 4),
        "images_per_s": round(1000 * context.batch / ms[1], 2),
        "flops": flops,
        "forward_equivalents": round(flops / forward, 2),
        "authors_forward_equivalents": round(authors_flops / forward, 2),
        "peak_flops_per_s": round(best),
        "share_of_peak": round(1000 * flops / ms[1] / best, 4),
        "memory_mib": _mebibytes(mine, [b for _, b in pairs]),
        "authors_memory_mib": _mebibytes(authors, [a for a, _ in pairs]),
        **compared,
    }


def _compared(
    way: str, made: Distillation, context: Context, theirs: Authors, mine: dict[str, Update]
) -> dict[str, float | str]:
    """`differences` of a way whose loss is the authors', or why it is not compared with theirs."""
    if (reason := unlike(made)) is not None:
        return {"not_compared": reason}
    compared = ours(made, count=False) if _compiles(way) else mine
    return {**differences(compared, the_authors(theirs, made, context, made.real_batch))}


def unlike(made: Distillation) -> str | None:
    """Why a distillation's loss is not the authors' function of the networks; None if it is."""
    weights = {type(made.weight), type(made.generator_weight)}
    parts: list[tuple[str, set[type], type]] = [
        ("the loss is written in", {type(made.loss.target)}, Velocity),
        ("it is weighted by", weights, UnitWeight),
        ("the path is", {type(made.teacher.model.interpolant)}, LinearInterpolant),
    ]
    for who, model in (("student", made.student.model), ("fake", made.fake), ("teacher", made.teacher.model)):
        if not isinstance(model, MatchingModel):
            return f"the {who} is a {type(model).__name__}, the authors' a network"
        parts.append((f"the {who}'s network predicts", {type(model.target)}, Velocity))
        parts.append((f"the {who} has", {type(model.preconditioning)}, NoPreconditioning))
    for what, found, wanted in parts:
        if found != {wanted}:
            names = " and ".join(sorted(kind.__name__ for kind in found))
            return f"{what} {names}, the authors' {what.split()[-1]} {wanted.__name__}"
    return None


def assembled_way(way: str, arguments: argparse.Namespace, device: torch.device) -> tuple[Distillation, Context]:
    """A recipe's distillation one way, ready to step; `arguments` have `gin`, `bind` and `batch`."""
    bound, sixth = WAYS[way]
    real = max(1, arguments.batch // 6) if sixth else arguments.batch
    bindings = [f"Trainer.batch = {arguments.batch}", "Trainer.lanes = 1", f"Distillation.real_batch = {real}"]
    bindings += ["Trainer.compute = @Compute()", *(f"Compute.{name} = {v}" for name, v in (EXACT | bound).items())]
    return distillation(configuration.load([arguments.gin], [*bindings, *arguments.bind]), device)


def _authors(made: Distillation) -> Authors:
    """The authors' way on the networks of the exact way, which are prepared in no way."""
    loss = made.loss
    if not isinstance(loss, RealUID) or made.adversary is not None or loss.alpha == 1:
        raise ConfigError("the authors' step is here for RealUID with real data and without adversary only")
    networks = (made.student.model, made.fake, made.teacher.model)
    generator, fake, teacher = (network_of(model).requires_grad_(True) for model in networks)
    return Authors(
        generator=generator,
        fake=fake,
        teacher=teacher,
        alpha=loss.alpha,
        beta=loss.beta,
        fake_steps=made.updates.fake_steps,
    )


@dataclass(frozen=True)
class Update:
    """One update that was not made: of the fake network, or of the generator."""

    loss: float
    gradient: Tensor
    operations: int
    bytes: int
    """Of tensors at once, beyond weights, optimisers and averages."""
    surplus: float = 0.0
    """What the loss holds that ours has not: the square of the target."""


def ours(made: Distillation, count: bool = True) -> dict[str, Update]:
    """Our first fake and generator update; optimisers take the gradients and change nothing."""
    optimizers, updates = made.optimizers(), made.updates
    caught: dict[str, tuple[Tensor, int, int]] = {}
    with Counted() if count else nullcontext() as counted:

        def catching(role: str) -> Callable[[int], Tensor]:
            def step(images: int) -> Tensor:
                cost = (counted.operations, counted.take_bytes()) if counted is not None else (0, 0)
                caught[role] = _gradient(optimizers[role].parameters), *cost
                optimizers[role].optimizer.zero_grad(set_to_none=True)
                return torch.zeros(())

            return step

        for role, optimizer in optimizers.items():
            optimizer.step = catching(role)  # type: ignore[assignment, method-assign]
        made.updates = replace(updates, fake_steps=1)
        scalars = made.step(0)
        made.updates = updates
        for optimizer in optimizers.values():
            del optimizer.step
    fake, student = caught["fake"], caught["student"]
    return {
        "fake": Update(float(scalars["fake_loss"]), *fake),
        "generator": Update(float(scalars["generator_loss"]), student[0], student[1] - fake[1], student[2]),
    }


def the_authors(theirs: Authors, made: Distillation, context: Context, real: int) -> dict[str, Update]:
    """The same updates by the authors' formulas, from what ours drew, on so many real samples."""
    answers: dict[str, Update] = {}
    turns = {"fake": (theirs.fake, theirs.fake_loss), "generator": (theirs.generator, theirs.generator_loss)}
    for substep, (kind, (network, loss)) in enumerate(turns.items()):
        sample = _sample(made, context, substep, real if kind == "fake" else 0)
        with Counted() as counted, sdpa_kernel(SDPBackend.MATH):
            value = loss(sample)
            value.backward()
            cost = counted.operations, counted.take_bytes()
        surplus = float(theirs.surplus(sample)) if kind == "fake" else 0.0
        answers[kind] = Update(float(value.detach()), _gradient(network.parameters()), *cost, surplus)
        theirs.fake.zero_grad()
        theirs.generator.zero_grad()
    return answers


def differences(mine: dict[str, Update], authors: dict[str, Update]) -> dict[str, float]:
    """Relative differences of losses, and of gradients in their norm."""
    answers = {}
    for kind, update in mine.items():
        truth = authors[kind]
        answers[f"{kind}_loss_difference"] = abs((update.loss + truth.surplus) / truth.loss - 1)
        distance = (update.gradient - truth.gradient).norm() / truth.gradient.norm()
        answers[f"{kind}_gradient_difference"] = float(distance)
    return answers


def _sample(made: Distillation, context: Context, substep: int, real: int) -> Sample:
    """What our update of that number drew, beside so many real samples."""
    path, time_sampler = made.teacher.model.interpolant, made.time_sampler
    x0, _, t = draw_path(context, path, time_sampler, substep)
    z = context.randomness.normal("generator", substep, context.batch, context.shape)
    told = context.drawn_condition(substep)
    if not real:
        return Sample(z, x0, t.float(), None, told)
    batch = context.data.batch(0, real)
    return Sample(z, x0, t.float(), to_float(batch.images), told, batch.condition)


def _gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    return torch.cat([p.grad.double().flatten() for p in parameters if p.grad is not None])


def _forward(made: Distillation, context: Context) -> int:
    """Operations of one forward pass of the student for the batch."""
    x0 = torch.zeros(context.batch, *context.shape, device=context.device)
    condition = empty_condition(context.data.conditions, context.batch, context.device)
    with torch.no_grad(), Counted() as counted:
        made.student(x0, condition, lambda k: x0)
    return counted.operations


def _mebibytes(updates: dict[str, Update], steps: Sequence[Spent]) -> float:
    """What a step needs at most: what the device's allocator says, or what its tensors come to."""
    said = [step.bytes for step in steps if step.bytes is not None]
    return round(max(said or [update.bytes for update in updates.values()]) / 2**20, 1)


def _compiles(way: str) -> bool:
    return WAYS[way][0].get("compile", "'none'") != "'none'"

r"""The student of a text-to-image teacher as a pipeline of the teacher's class, which diffusers opens as it is.

Text encoders and autoencoder are the teacher's own. The student's scalings move into the first and the last layer of
its network; the scheduler has one step, at the student's time. From x = noise and the network's answer out it gives

    skip = 1            x_1 = x - out                               flow matching, one Euler step
    0 < skip < 1        x_1 = skip x - sqrt(1 - skip^2) out         DDIM, prediction `v_prediction`, abar = skip^2
    skip > 1            x_1 = skip x - sqrt(skip^2 - 1) out         DDIM, prediction `epsilon`, abar = 1 / skip^2
    skip = 0            x_1 = out                                   DDIM, prediction `sample`

Adapters leave the network's layers as they are. On the teacher's own path they need no scalings with Euler's step in
sigma, where s is the noise level and x = s noise:

    `epsilon`           x_1 = s (noise - out)           out = F(s noise / sqrt(s^2 + 1))
    `v_prediction`      x_1 = a (b noise - out)         out = F(a noise), a = s b, a^2 + b^2 = 1

A student of several steps becomes a pipeline where it is one of flow matching: Euler's steps (`FewSteps.redraw` 0), or
steps that draw the noise anew (1), at equal distances from 1 to the last time.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.export import flow_steps
from realuid.export.student import ExportedStudent, Step
from realuid.pretrained.pipelines.folders import INDEX, PipelineFolder
from realuid.pretrained.pipelines.network import PipelineNetwork
from realuid.pretrained.remote_folders import wanted
from realuid.utils.errors import CheckpointError, RunError

PART = re.compile(r"[A-Za-z0-9]\w*")
"""Names of parts: folders right below the pipeline's."""

SCHEDULER = "scheduler"
"""Its folder."""
LARGEST = "5GB"
"""Of a file of weights."""
SHARING = 8
"""Entries of a scheduler's table over which the student's one step is spread."""


def save(folder: Path, student: ExportedStudent, base: str | None) -> None:
    """Writes a folder that `DiffusionPipeline.from_pretrained(folder, trust_remote_code=False)` opens.

    Args:
        folder: made if it is not there.
        student: what is exported; its network is a `PipelineNetwork`.
        base: path or URL of the teacher's pipeline, whose other parts are copied.

    Raises:
        RunError: if there is no such pipeline, or its scheduler cannot express the student's step.
    """
    source, network, scheduler, factors = _checked(student, base)
    family, index = network.family, dict(source.index or {})
    try:
        replaced = (SCHEDULER, family.place)
        parts = [part for part in index if PART.fullmatch(part) and part not in replaced and source.has(part)]
        _copy(source.local(parts), folder, parts)
    except CheckpointError as error:
        raise RunError(str(error)) from None
    index[SCHEDULER] = ["diffusers", scheduler["_class_name"]]
    _write(folder / INDEX, index)
    _write(folder / SCHEDULER / "scheduler_config.json", scheduler)
    with scaled(network, *factors) as model:
        model.save_pretrained(str(folder / family.place), max_shard_size=LARGEST)


def check(student: ExportedStudent, base: str | None) -> None:
    """Makes sure that `save` can express the student; arguments and errors as of it."""
    _checked(student, base)


def _checked(
    student: ExportedStudent, base: str | None
) -> tuple[PipelineFolder, PipelineNetwork, dict[str, Any], tuple[float, float]]:
    """The teacher's pipeline, the student's network, its scheduler, and the factors of its first and last layer."""
    network = student.network
    assert isinstance(network, PipelineNetwork)
    if base is None:
        raise RunError("the diffusers format needs the teacher's pipeline, and this run's teacher has no checkpoint")
    try:
        source = PipelineFolder(base)
        if source.pipeline != network.family.pipeline:
            raise RunError(f"{base} is a {source.pipeline}, the student's network is of a {network.family.pipeline}")
        return source, network, *_scheduler(student, network)
    except CheckpointError as error:
        raise RunError(str(error)) from None


def save_scheduler(folder: Path, student: ExportedStudent) -> str:
    """Writes the scheduler alone, for the teacher's pipeline with the student's adapters; returns its folder's name.
    Arguments and errors as of `save` and `scheduler_of`."""
    _write(folder / SCHEDULER / "scheduler_config.json", scheduler_of(student))
    return SCHEDULER


def scheduler_of(student: ExportedStudent) -> dict[str, Any]:
    """The scheduler's configuration for the network as it is.

    Raises:
        RunError: if the student's step is that of no scheduler without changes to the network.
    """
    assert isinstance(student.network, PipelineNetwork)
    scheduler, factors = _scheduler(student, student.network)
    if factors == (1.0, 1.0):
        return scheduler
    if student.step is None or (found := _euler(student.step)) is None:
        raise RunError(
            "--formats lora: the student's scalings are no scheduler's, so adapters alone are not the student: leave "
            "the format out, and the merged student is exported"
        )
    entries, (prediction, kept) = scheduler["num_train_timesteps"], found
    table = {"num_train_timesteps": entries, "timestep_spacing": "trailing", "trained_betas": _betas(kept, entries)}
    return {"_class_name": "EulerDiscreteScheduler", **table, "prediction_type": prediction}


def call(student: ExportedStudent) -> str:
    """How the exported pipeline is called, as Python; the student's network is a `PipelineNetwork`."""
    network, steps = student.network, len(student.evaluations)
    assert isinstance(network, PipelineNetwork)
    assert network.shape is not None
    _, height, width = network.shape
    told = "" if not network.family.takes_guidance else f", guidance_scale={network.guidance or 1.0}"
    side = network.family.side
    return f'pipeline("a prompt", num_inference_steps={steps}{told}, height={side * height}, width={side * width})'


def _copy(source: Path, folder: Path, parts: list[str]) -> None:
    """The files of these parts that a pipeline reads. The hub's own cache holds links to its blobs; other links out of
    the folder are refused, for what they lead to would be given away with the student.

    Raises:
        RunError: if there is such a link.
    """
    root = source.resolve()
    homes = (root, root.parent.parent / "blobs")
    there = [path.relative_to(source).as_posix() for path in sorted(source.rglob("*")) if path.is_file()]
    for name in wanted(there, [f"{part}/" for part in parts]):
        real = (source / name).resolve()
        if not any(real.is_relative_to(home) for home in homes):
            raise RunError(f"{source / name} is a symbolic link out of the pipeline's folder, to {real}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, folder / name)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _scheduler(student: ExportedStudent, network: PipelineNetwork) -> tuple[dict[str, Any], tuple[float, float]]:
    """The scheduler's configuration, and by what the network's input and answer are multiplied beside it.

    Raises:
        RunError: if no scheduler takes these steps at these times.
    """
    if student.from_images:
        raise RunError("diffusers has no scheduler for a student that starts from images")
    step = student.step
    if step is None:
        return flow_steps.scheduler(student, _entry(student, network)), (1.0, 1.0)
    return _one_step(step, network, _entry(student, network))


def _entry(student: ExportedStudent, network: PipelineNetwork) -> int:
    """The first time that the network is told, as the pipeline counts it.

    Raises:
        RunError: if it is no whole number.
    """
    shown = student.evaluations[0].time * network.time_scale / network.family.per_step(dict(network.model.config))
    entry = round(shown)
    if abs(shown - entry) > 1e-4 * max(1.0, shown):
        raise RunError(
            f"diffusers counts times in whole numbers, and the student's is {shown:.6g}: bind OneStep.time, or the "
            "first of FewSteps.times"
        )
    return entry


def _one_step(step: Step, network: PipelineNetwork, entry: int) -> tuple[dict[str, Any], tuple[float, float]]:
    """As `_scheduler`."""
    if len(step.out) != 1 or step.skip < 0:
        raise RunError("diffusers has no scheduler for this student: only for one row and skip >= 0")
    (out,), skip = step.out, step.skip
    if _near(skip, 1):
        flow = {"num_train_timesteps": entry, "shift": 1.0, "use_dynamic_shifting": False}
        into, factor = (1.0 if _near(value, 1) else value for value in (step.into, -out))
        return {"_class_name": "FlowMatchEulerDiscreteScheduler", **flow}, (into, factor)
    if network.family.hands_levels:
        raise RunError(f"a {network.family.pipeline} takes flow-matching steps alone: the student must be x0 - F")
    table = {"num_train_timesteps": entry + 1, "timestep_spacing": "trailing"}
    if skip == 0:
        prediction, kept, factor = "sample", 0.5, 1.0
    elif skip < 1:
        prediction, kept, factor = "v_prediction", skip**2, -math.sqrt(1 - skip**2)
    else:
        prediction, kept, factor = "epsilon", skip**-2, -math.sqrt(skip**2 - 1)
    ddim = {
        "trained_betas": _betas(kept, entry + 1),
        "prediction_type": prediction,
        "clip_sample": False,
        "set_alpha_to_one": True,
    }
    return {"_class_name": "DDIMScheduler", **table, **ddim}, (step.into, out / factor)


def _euler(step: Step) -> tuple[str, float] | None:
    """Prediction and abar with which Euler's step in sigma is this one; None if it is none."""
    skip, out, into = step.skip, step.out[0], step.into
    if _near(out, -skip) and _near(into, skip / math.sqrt(skip**2 + 1)):
        return "epsilon", 1 / (skip**2 + 1)
    kept = (skip / into) ** 2 if into else 1.0  # 1 - into^2 has no digits left where into is nearly 1
    if 0 < kept < 1 and _near(out, -into) and _near(into, math.sqrt(1 - kept)):
        return "v_prediction", kept
    return None


def _near(value: float, other: float) -> bool:
    """Equal but for the rounding of float32."""
    return abs(value - other) < 1e-6 * max(1.0, abs(other))


def _betas(kept: float, entries: int) -> list[float]:
    """A table whose last abar is `kept`; no other is used. Several betas share it, since 1 - beta, which the scheduler
    computes in float32, keeps no digits of a small number; the last one makes up for the others' rounding."""
    sharing = min(entries, SHARING)
    betas = [0.0] * (entries - sharing) + [1 - kept ** (1 / sharing)] * (sharing - 1)
    return [*betas, 1 - kept / float((1 - torch.tensor(betas, dtype=torch.float32)).prod())]


@contextmanager
def scaled(network: PipelineNetwork, into: float, out: float) -> Iterator[Any]:
    """The network's model; inside, its input is multiplied by `into` and its answer by `out`."""
    model, family = network.model, network.family
    first, last = (model.get_submodule(name) for name in (family.first, family.last))
    factors: list[tuple[Tensor, float]] = [(first.weight, into), (last.weight, out)]
    if last.bias is not None:
        factors.append((last.bias, out))
    before = [weight.detach().clone() for weight, _ in factors]
    try:
        with torch.no_grad():
            for weight, factor in factors:
                weight.mul_(factor)
        yield model
    finally:
        with torch.no_grad():
            for (weight, _), value in zip(factors, before, strict=True):
                weight.copy_(value)

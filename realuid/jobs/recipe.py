"""The text of a recipe that distils a given teacher on given data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from realuid import checkpoints
from realuid.config import Config
from realuid.config.language import Reference
from realuid.config.usage import used
from realuid.data.shards.index import ShardIndex
from realuid.pretrained.conventions import Foreign
from realuid.pretrained.description import described
from realuid.pretrained.scaling import latent_units
from realuid.utils.errors import CheckpointError, DataError
from realuid.utils.printed import plain

MEMORY = 2 << 30
"""Bytes of images that are kept in memory; larger sets are streamed."""

MATCHING = {"edm": "edm", "linear": "fm", "gvp": "fm", "vp": "fm", "ddpm": "ddpm", "i2sb": "i2sb"}
"""Files of gin/matching/ that state times and weight, by the path of another project's teacher."""

SQUARED_NOISE = {"Distillation.weight": "@ExpressionWeight()", "ExpressionWeight.weight": "'b**2'"}

STARTS = {
    "EDMInterpolant": {"OneStep.time": "2.5"},
    "VPInterpolant": {"OneStep.time": "0.28", **SQUARED_NOISE},
    "DDPMInterpolant": {"OneStep.time": "625.0", **SQUARED_NOISE},
}
"""Where a student starts on a path whose source end says nothing of the data; others start at the source end."""


@dataclass(frozen=True)
class Described:
    """A teacher as gin states it.

    name: of its file. text: statements. path: name of the interpolant's class. shape, classes: of its images, None
    where it does not tell. paired: it starts from images. network: name of the network's class. inputs: how many
    images the network is given. matching: the file of gin/matching/ to begin with, if one is needed. latents: mean and
    deviation of `Latents`, where it makes latents.
    """

    name: str
    text: str
    path: str
    shape: tuple[int, ...] | None
    classes: int | None
    paired: bool
    network: str
    inputs: int = 1
    matching: str | None = None
    latents: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def teacher_of_another_project(foreign: Foreign, url: str) -> Described:
    """What a file of another project says of itself.

    Raises:
        CheckpointError: if it does not say its path.
    """
    text = described(foreign, url)
    if foreign.path is None or foreign.target is None:
        raise CheckpointError(f"{plain(url)} does not say how it was trained: start from what realuid inspect prints")
    if foreign.network == "PipelineNetwork":
        raise CheckpointError(
            f"{plain(url)} is a text-to-image pipeline, and `new` writes recipes of images and labels: realuid inspect "
            "prints the teacher's part of one; see gin/base/pipeline_flow.gin and gin/base/pipeline_table.gin"
        )
    lines = text.splitlines()
    path = next(line.partition("@")[2].partition("(")[0] for line in lines if line.startswith("    interpolant = "))
    shape = foreign.arguments.get("shape")
    return Described(
        url,
        "\n".join(line for line in lines if not line.startswith(("SHAPE =", "CLASSES ="))),
        path,
        tuple(shape) if shape else None,
        foreign.classes,
        foreign.path.name == "i2sb",
        foreign.network,
        foreign.arguments.get("in_multiplier", 1),
        MATCHING[foreign.path.name],
        latent_units(foreign) if foreign.scaling.name == "latents" else None,
    )


def own_teacher(url: str) -> Described:
    """What a checkpoint of this project says of the teacher in it.

    Raises:
        CheckpointError: if it holds plain weights, or something else than a teacher.
    """
    state = checkpoints.load(url)
    if not isinstance(state.get("config"), str):
        raise CheckpointError(f"{plain(url)} holds weights without a configuration: bind the model that they are of")
    config = Config.from_text(state["config"], name=url)
    table = {
        key: one for key, one in config.table.items() if key not in ("TeacherTraining.optimizer", "TeacherTraining.ema")
    }
    method = table["Trainer.method"].value
    if not isinstance(method, Reference) or method.name != "TeacherTraining":
        raise CheckpointError(f"{plain(url)} is no teacher, but a checkpoint of {method!r}")
    keys = used(table, "TeacherTraining")
    kept = [one for one in table.values() if one.key in keys and one.component != "TeacherTraining"]
    bound = {
        name: repr(table[f"TeacherTraining.{name}"].value) for name in ("model", "sampler", "time_sampler", "weight")
    }
    own = [
        f"Teacher.model = {bound['model'].replace('@', '@teacher/', 1)}",
        f"Teacher.sampler = {bound['sampler']}",
        f"Teacher.checkpoint = {url!r}",
        f"Distillation.time_sampler = {bound['time_sampler']}",
        f"Distillation.weight = {bound['weight']}",
    ]
    values = {one.argument: one.value for one in kept}
    return Described(
        url,
        "\n".join([*(str(one) for one in kept if one.argument not in ("SHAPE", "CLASSES")), *own]),
        _name(values.get("interpolant")),
        values.get("SHAPE"),
        values.get("CLASSES"),
        _name(values.get("coupling")) == "PairedCoupling",
        _name(values.get("network")),
        2 if values.get("source_conditioned") else 1,
        latents=_latents(config),
    )


def _latents(config: Config) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation with which a teacher of this project saw its latents."""
    found = {name: config.table.get(f"Latents.{name}") for name in ("mean", "deviation")}
    if found["deviation"] is None:
        return None
    return tuple(found["mean"].value) if found["mean"] else (0.0,), tuple(found["deviation"].value)


def _name(value: Any) -> str:
    return value.name if isinstance(value, Reference) else ""


def recipe(index: ShardIndex, path: str, teacher: Described) -> str:
    """The gin text.

    Args:
        index: of the data.
        path: of the data, as a recipe names it.
        teacher: to be distilled.

    Raises:
        DataError: if the data are not of the teacher's size or classes.
    """
    form = index.form()
    if form.shape is None:
        raise DataError(f"'{path}' holds conditions without images")
    if teacher.shape is not None and tuple(teacher.shape) != form.shape:
        raise DataError(
            f"'{path}' holds images of shape {form.shape}, but {teacher.name} makes {tuple(teacher.shape)}: make the "
            "shards again with --resolution"
        )
    if teacher.classes and teacher.classes != form.classes:
        raise DataError(f"'{path}' has {form.classes or 'no'} classes, but {teacher.name} has {teacher.classes}")
    classes = form.classes if teacher.classes is None else teacher.classes
    return (
        "\n".join(
            [
                f"# What      A one-step student of {plain(teacher.name)}, with the real images of {plain(path)}.",
                "# Needs     the teacher's file and the data; the dry run says the cost: --dry-run",
                "# Override  RealUID.alpha, RealUID.beta, Trainer.images, Trainer.batch, Trainer.micro_batch, Adam.lr",
                "",
                "include 'gin/base/distillation_paper.gin'",
                *([f"include 'gin/matching/{teacher.matching}.gin'"] if teacher.matching else []),
                "",
                *_data(index, path, form.shape, classes, teacher),
                "",
                "# The teacher, as its file describes it. Student and fake network have the same architecture.",
                teacher.text,
                "",
                *_student(teacher),
                "",
                *_numbers(),
            ]
        )
        + "\n"
    )


def _data(index: ShardIndex, path: str, shape: tuple[int, int, int], classes: int, teacher: Described) -> list[str]:
    split = "train" if "train" in index.splits else next(iter(index.splits))
    samples = index.splits[split].samples
    fits = samples * math.prod(shape) * np.dtype(index.dtype).itemsize <= MEMORY
    reader = "InMemory" if fits else "Streaming"
    lines = [
        f"# The data: {samples:,} images in the split {split!r}."
        + (" They are decoded once and kept in memory." if fits else " They are read while they are needed."),
        f"SHAPE = {shape!r}",
        f"CLASSES = {classes}" + ("" if classes == len(index.classes) else "  # the teacher is told no labels"),
        f"DATA = {path!r}",
        f"{reader}:",
        "    path = %DATA",
        "    shape = %SHAPE",
        "    classes = %CLASSES",
        *([f"    split = {split!r}"] if split != "train" else []),
        *(["    pairs = True  # the teacher starts from the source images"] if teacher.paired else []),
    ]
    data = f"@{reader}()"
    if index.dtype != "uint8":
        mean, deviation = teacher.latents or ((0.0,), (1.0,))
        lines += [
            f"Latents.data = {data}",
            f"Latents.mean = {mean!r}  # the network sees (latent - mean) / deviation",
            f"Latents.deviation = {deviation!r}",
        ]
        data = "@Latents()"
    else:
        lines += [f"Flipped.data = {data}  # mirrored at random: bind Trainer.data = {data} where left is not right"]
        data = "@Flipped()"
    if not fits:
        lines += [f"Prefetched.data = {data}", "Prefetched.workers = 8  # processes that read ahead"]
        data = "@Prefetched()"
    lines += [f"Trainer.data = {data}", ""]
    if 2 <= classes <= 100 and index.dtype == "uint8":
        return [
            *lines,
            "# Samples are judged in the features of a small classifier that is trained once on the data.",
            "Evaluator.features = @SmallClassifier()",
        ]
    return [
        *lines,
        "# No network judges the samples in training. Afterwards: tools/evaluate.py --metrics gin/metrics/lite0.gin",
        "Trainer.evaluator = None",
    ]


def _student(teacher: Described) -> list[str]:
    lines = ["# The student, one step from the source; the loss in the function that the teacher's path suggests."]
    if teacher.paired:
        lines += [
            "OneStep.noise = 1  # an image does not determine its answer: the student is given noise beside it",
            f"student/{teacher.network}.in_multiplier = {teacher.inputs + 1}",
        ]
    lines += [f"{key} = {value}" for key, value in STARTS.get(teacher.path, {}).items()]
    velocity = not teacher.paired and teacher.path not in STARTS
    return [*lines, f"RealUID.target = {'@Velocity()' if velocity else '@Data()'}"]


def _numbers() -> list[str]:
    return [
        "# alpha = beta = 1 uses no real data; beta / alpha has the main effect.",
        "RealUID.alpha = 0.98",
        "RealUID.beta = 1.0",
        "",
        "# The length, in images that the generator is trained on; and what a step takes.",
        "Trainer.images = 25_600_000",
        "Trainer.batch = 256",
        "Distillation.real_batch = 128",
        "Distillation.fake_init = 'teacher'",
        "Adam.lr = 1e-5",
    ]

"""Images from a student, or from its teacher in many steps."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from realuid.conditions import LABEL, Condition, Field
from realuid.conditions.text import TextEncoder
from realuid.data.dataset import Dataset
from realuid.data.image_files import read_images
from realuid.evaluation.image_grid import save_grid
from realuid.evaluation.inputs import GaussianInputs, GivenInputs, ImageInputs, Inputs, generate
from realuid.jobs import runs
from realuid.networks.base import Network
from realuid.training.method import Generator
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import RunError

BATCH = 100
COLUMNS = 10


def work(arguments: argparse.Namespace) -> int:
    """Makes the images that the options ask for; returns the exit status."""
    out = Path(arguments.out)
    if not out.suffix and (others := [file for file in out.glob("*.png") if file.stem not in _names(arguments.num)]):
        raise RunError(f"--out {out} holds other pictures, such as {others[0].name}: choose another folder")
    model = runs.described(arguments, arguments.bind) or runs.reopen(arguments)
    if arguments.bind and isinstance(model, runs.Model):
        raise RunError("--bind is for a teacher that a gin file describes; a run has its own bindings")
    inputs = _inputs(model, arguments)
    logger.info("sampling the {} ({}): {:,} images", model.role, model.provenance["sampler"], arguments.num)
    images = generate(_pictures(model), inputs, count=arguments.num, batch=BATCH, device=model.device)
    write(out, images, inputs.condition(0, arguments.num))
    logger.info("{} images of the {} ({}) in {}", len(images), model.role, model.provenance["sampler"], arguments.out)
    return 0


def _pictures(model: runs.Model | runs.Described) -> Generator:
    """The model with a decoder behind it, if it is of latents."""
    if isinstance(model, runs.Described) or model.trainer.data.latent_scaling is None:
        return model.generator
    decoder = model.trainer.method.decoder
    return lambda x0, condition, noise: runs.decoded(model.generator(x0, condition, noise), decoder)


def _told(model: runs.Model | runs.Described, arguments: argparse.Namespace) -> Condition | None:
    """The condition that the options ask for, to be repeated; None for those of the data.

    Raises:
        RunError: if it is not one that the model can be told.
    """
    form, count = model.form, arguments.num
    fields = {field.name for field in form.conditions}
    told: dict[str, Tensor] = {}
    if arguments.prompts is not None:
        if form.encoder is None:
            raise RunError("--prompts: the model's data set names no text encoder, so the model reads no prompts")
        told |= form.encoder(arguments.prompts).repeated(0, count)
    if arguments.labels is not None or (form.classes and fields <= {LABEL, *told}):
        told[LABEL] = _labels(arguments.labels, count, form.classes)
    if not fields:
        return Condition()
    read = {field.name for field in _fields(model)}
    if (told or arguments.source) and (missing := read - set(told)):
        raise RunError(f"the model reads {', '.join(sorted(read))}: {_remedy(missing, form.encoder)}")
    return Condition(told) if told else None


def _fields(model: runs.Model | runs.Described) -> Iterator[Field]:
    """What the model's networks read."""
    module = model.teacher.model if isinstance(model, runs.Described) else model.trainer.method.networks()[model.role]
    for part in module.modules():
        if isinstance(part, Network):
            yield from part.conditions


def _remedy(missing: set[str], encoder: TextEncoder | None) -> str:
    """How the fields that no option gave can be given."""
    if missing == {LABEL}:
        return "give --labels, too"
    if encoder is not None and missing <= {LABEL, *(field.name for field in encoder.fields)}:
        return "give --prompts, too"
    return f"no option gives {', '.join(sorted(missing))}; without --labels and --prompts the data's own are taken"


def _labels(wanted: Sequence[int] | None, count: int, classes: int) -> Tensor:
    """Labels `[count]`: those wanted in turn, else every class in turn."""
    if wanted is None:
        return torch.arange(count) % classes
    if bad := [label for label in wanted if not 0 <= label < classes]:
        raise RunError(f"--labels {bad[0]}: the model has {classes} classes")
    return torch.tensor(wanted)[torch.arange(count) % len(wanted)]


def _inputs(model: runs.Model | runs.Described, arguments: argparse.Namespace) -> Inputs:
    """Noise, or source images: those of --source, else of the run's data set with their own conditions."""
    told, data = _told(model, arguments), model.form
    if model.coupling.gaussian_source:
        if arguments.source:
            raise RunError("--source is for models that start from images; this one starts from noise")
        if told is None:
            told = _of_data(model, arguments).condition_examples(0, arguments.num)
        return GaussianInputs(data, arguments.seed, told)
    if arguments.source:
        return GivenInputs(data, arguments.seed, told or Condition(), read_images(arguments.source, data.shape))
    for name in ("labels", "prompts"):
        if vars(arguments)[name] is not None:
            raise RunError(f"--{name} goes with --source: the run's own images have {name} of their own")
    return ImageInputs(_of_data(model, arguments), arguments.seed)


def _of_data(model: runs.Model | runs.Described, arguments: argparse.Namespace) -> Dataset:
    """The run's data set, opened."""
    if isinstance(model, runs.Described):
        wanted = "from images: give them with --source" if not model.coupling.gaussian_source else "with --prompts"
        raise RunError(f"the teacher starts {wanted}")
    data = model.trainer.data
    data.open(seed=model.trainer.seed, device=torch.device("cpu"))
    return data


def write(out: Path, images: Tensor, condition: Condition) -> None:
    """Writes uint8 images `[N, C, H, W]` as a grid, an npz (`images` [N, H, W, C], `labels`), or single PNG files."""
    labels = condition.get(LABEL, torch.zeros(len(images), dtype=torch.int64))
    if out.suffix == ".png":
        save_grid(out, images, COLUMNS, max(1, 1000 // (COLUMNS * images.shape[-1])))
        return
    channels_last = images.permute(0, 2, 3, 1).numpy()
    if out.suffix == ".npz":
        write_atomically(out, lambda part: _save_arrays(part, images=channels_last, labels=labels.numpy()))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, image in zip(_names(len(images)), channels_last, strict=True):
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        write_atomically(out / f"{name}.png", functools.partial(picture.save, format="PNG"))


def _save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    with path.open("wb") as file:  # to a path, numpy would add an ending
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _names(count: int) -> dict[str, None]:
    """What single files of so many images are called, without their ending."""
    return dict.fromkeys(f"{index:06d}" for index in range(count))

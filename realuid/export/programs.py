"""The student as a program that runs without this package: ONNX, and torch.export. Any batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition
from realuid.export.student import ExportedStudent, example
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import RunError

NAMES = {LABEL: "labels"}
"""Inputs of the ONNX model that are not called like their field."""


class _Flat(nn.Module):
    """The student with every tensor of its condition as an argument of its own."""

    def __init__(self, student: ExportedStudent) -> None:
        super().__init__()
        self.student = student
        self.names = [field.name for field in student.conditions]

    def forward(self, source: Tensor, *fields: Tensor) -> Tensor:
        return self.student(source, self.condition(fields))

    def condition(self, fields: Sequence[Tensor]) -> Condition:
        return Condition(dict(zip(self.names, fields, strict=True)))


class _FlatWithFreshNoise(_Flat):
    """The same for a student that draws noise on its way."""

    def forward(self, source: Tensor, fresh: Tensor, *fields: Tensor) -> Tensor:  # type: ignore[override]
        return self.student(source, self.condition(fields), fresh)


def _prepared(student: ExportedStudent) -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """The module, example inputs by name, and the dimensions that may vary."""
    batch, told = {0: torch.export.Dim("batch")}, example(student.conditions, 2)
    first = "source" if student.from_images else "noise"
    inputs, dynamic = {first: torch.zeros(2, *student.shape)}, {"source": batch}
    if student.draws:
        inputs["fresh"], dynamic["fresh"] = torch.zeros(2, student.draws, *student.shape), batch
    inputs |= {NAMES.get(name, name): told[name] for name in told}
    module = _FlatWithFreshNoise(student) if student.draws else _Flat(student)
    return module.eval(), inputs, dynamic | ({"fields": (batch,) * len(told)} if told else {})


def to_torch(student: ExportedStudent, path: Path) -> None:
    """Writes what `torch.export.load(path).module()(noise, *fields)` runs, the fields in the order of `conditions`:
    `(noise, labels)` for a class-conditional student, `(noise)` for an unconditional one. A student that draws noise on
    its way is given `fresh` [B, draws, C, H, W] after `noise`."""
    module, inputs, dynamic = _prepared(student)
    program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=dynamic)

    def save(part: Path) -> None:
        with part.open("wb") as file:  # a file, for torch warns of a name that does not end in .pt2
            torch.export.save(program, file)

    write_atomically(path, save)


def to_onnx(student: ExportedStudent, path: Path) -> list[str]:
    """Writes an ONNX model with the output `images` [B, C, H, W].

    Its inputs are `noise` (`source` of a student that starts from images) [B, C, H, W] float32, `fresh` [B, draws, C,
    H, W] if the student draws noise on its way, and one for each field of the condition (`labels` [B] int64, `text`
    [B, L, D], ...). Beyond torch's limit of 1.5 GB the weights lie in a second file beside it.

    Returns:
        Names of the files.

    Raises:
        RunError: if the packages for it are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise RunError("ONNX needs `pip install realuid[onnx]`") from None
    module, inputs, dynamic = _prepared(student)
    program = torch.onnx.export(
        module,
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=["images"],
        dynamic_shapes=dynamic,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    weights = path.with_name(f"{path.name}.data")
    weights.unlink(missing_ok=True)
    program.save(str(path))
    return [file.name for file in (path, weights) if file.exists()]

"""The student as a program that runs without this package: ONNX, and torch.export. Any batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realuid.atomic import write_atomically
from realuid.errors import RunError
from realuid.portable.student import Student

INPUTS = ("noise", "labels")


class _Unconditional(nn.Module):
    """A student without classes, which takes noise alone."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, noise: Tensor) -> Tensor:
        return self.student(noise)


def _prepared(student: Student) -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """The module, example inputs and the dimensions that may vary."""
    batch = torch.export.Dim("batch")
    noise, labels = torch.zeros(2, *student.shape), torch.zeros(2, dtype=torch.int64)
    if student.classes:
        return student, (noise, labels), {"noise": {0: batch}, "labels": {0: batch}}
    return _Unconditional(student).eval(), (noise,), {"noise": {0: batch}}


def to_torch(student: Student, path: Path) -> None:
    """Writes what `torch.export.load(path).module()(noise, labels)` runs (`(noise)` if there are no classes)."""
    module, example, dynamic = _prepared(student)
    program = torch.export.export(module, example, dynamic_shapes=dynamic)

    def save(part: Path) -> None:
        with part.open("wb") as file:  # a file, for torch warns of a name that does not end in .pt2
            torch.export.save(program, file)

    write_atomically(path, save)


def to_onnx(student: Student, path: Path) -> None:
    """Writes an ONNX model with inputs `noise` [B, C, H, W] float32 and, if there are classes, `labels` [B] int64, and
    the output `images` [B, C, H, W]. Beyond two gigabytes the weights lie in a second file beside it.

    Raises:
        RunError: if the packages for it are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise RunError("ONNX needs `pip install realuid[onnx]`") from None
    module, example, dynamic = _prepared(student)
    program = torch.onnx.export(
        module,
        example,
        input_names=list(INPUTS[: len(example)]),
        output_names=["images"],
        dynamic_shapes=dynamic,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(path))

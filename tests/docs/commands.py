"""What a command of a page is run with, so that it takes seconds: small networks, few images; or only its options."""

from __future__ import annotations

import importlib.util
import re
import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from realuid import config as configuration
from realuid.commands import COMMANDS
from realuid.config import Config
from realuid.networks.no_init_weights import no_init_weights
from tests.docs.blocks import ROOT

SMALL = (
    "IMAGES = 64",
    "TEACHER_IMAGES = 64",
    "Trainer.batch = 16",
    "teacher/Trainer.batch = 16",
    "Trainer.log_images = 32",
    "Trainer.sample_images = 1_000",
    "Trainer.checkpoint_images = 1_000",
    "Trainer.evaluate_images = 32",
    "Trainer.threads = 1",
    "Distillation.real_batch = 4",
    "Distillation.fake_steps = 1",
    "CosineLR.warm_up = 0",
    "teacher/CosineLR.warm_up = 0",
    "UNet.width = 8",
    "Evaluator.count = 60",
    "SmallClassifier.epochs = 1",
)
"""Bindings that make any recipe of the digits small."""


JUDGED = ("Trainer.evaluator = @Evaluator()", "Evaluator.features = @SmallClassifier()", "SmallClassifier.epochs = 1")
"""Bindings that give a run an evaluator; those that a page trains do without, which takes half of the time."""


def bound(*bindings: str) -> list[str]:
    """The options that give these bindings."""
    return [part for binding in bindings for part in ("--bind", binding)]


def carry_out(call: list[str], finished: Path, only_look: bool = False) -> None:
    """Runs a call of a page, or looks at its options alone.

    Args:
        call: see `shell.calls`.
        finished: a run folder; runs that a page only names are copies of it.
        only_look: parse the options and look for the files that they name, and no more.

    Raises:
        AssertionError: if it fails.
    """
    if call[0].startswith("PYTHONPATH="):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(call[0].partition("=")[2])
            return carry_out(call[1:], finished, only_look)
    program, *arguments = call
    if program in ("python", "torchrun", "srun"):
        tools = [i for i, argument in enumerate(arguments) if re.fullmatch(r"tools/\w+\.py", argument)]
        if tools:
            assert (ROOT / arguments[tools[0]]).is_file(), f"there is no {arguments[tools[0]]}"
            name = Path(arguments[tools[0]]).stem
            _command(name, arguments[tools[0] + 1 :], finished, only_look or program != "python")
        elif arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]), f"there is no module {arguments[1]}"
        else:
            assert (ROOT / arguments[0]).is_file(), f"there is no {arguments[0]}"
    elif program == "realuid":
        _command(arguments[0], arguments[1:], finished, only_look)
    elif program == "pytest":
        for argument in arguments:
            assert not argument.startswith("tests/") or (ROOT / argument).exists(), f"there is no {argument}"
    elif program == "pip":
        _extras(" ".join(arguments))


def signature(call: list[str]) -> tuple:
    """What two calls share that differ in numbers alone, such as those of a loop over seeds."""
    kept, before = [], ""
    for part in call:
        if before == "--bind":
            kept.append(part.partition("=")[0].strip())
        elif part.startswith("--") or before in ("--gin", "--run", "--formats") or not before.startswith("--"):
            kept.append(part)
        before = part
    return tuple(kept)


def _extras(text: str) -> None:
    """Whether the extras that are asked for exist."""
    known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for names in re.findall(r"(?:realuid|\.)\[([\w,]+)\]", text):
        assert set(names.split(",")) <= set(known), f"pyproject.toml has no extras {names}"


def _command(name: str, arguments: list[str], finished: Path, only_look: bool) -> None:
    name = name.replace("-", "_")
    if name == "__version":
        return
    assert name in COMMANDS, f"there is no command {name}"
    module = importlib.import_module(f"realuid.commands.{COMMANDS[name]}")
    if name == "train" and (only_look or not _is_small(arguments)):
        _assembled(_configuration(arguments).text)
        only_look = True
    elif only_look and name == "sample":
        for file in _values(arguments, "--gin"):
            configuration.load_part(file, _values(arguments, "--bind"), root="Teacher")
    elif not only_look:
        arguments = _shortened(name, arguments, finished)
    with pytest.MonkeyPatch.context() as patch:
        if only_look or name in ("benchmark", "study"):
            patch.setattr(module, "guarded", lambda program, work: 0)
        try:
            status = module.main(arguments)
        except SystemExit as ended:
            status = ended.code
    assert status == 0, f"{name} {' '.join(arguments)}: exit status {status}"


def _values(arguments: list[str], option: str) -> list[str]:
    return [value for key, value in pairwise(arguments) if key == option]


def _configuration(arguments: list[str]) -> Config:
    return configuration.load(_values(arguments, "--gin"), _values(arguments, "--bind"))


def _is_small(arguments: list[str]) -> bool:
    """Whether a recipe trains on the built-in digits."""
    return bool(re.search(r"^DATA = 'digits", _configuration(arguments).text, re.MULTILINE))


@cache
def _assembled(text: str) -> None:
    """Builds every component of a flattened configuration; networks of 300 M weights take a second or two."""
    with no_init_weights():
        configuration.build(Config.from_text(text, name="page"))


def _shortened(name: str, arguments: list[str], finished: Path) -> list[str]:
    for run in _values(arguments, "--run"):
        _copied(finished, Path(run))
    if "--compare" in arguments:
        for run in arguments[arguments.index("--compare") + 1 :]:
            if run.startswith("--"):
                break
            _copied(finished, Path(run))
    if name == "train" and "--dry-run" not in arguments:
        groups = ["MinibatchOT.size = 4"] if "MinibatchOT.size" in _configuration(arguments).text else []
        return [*arguments, *bound(*SMALL, *groups, "Trainer.evaluator = None")]
    if name == "sample":
        return [*arguments, "--num", "8"]
    if name == "tiny_text":
        return [*arguments, "--pictures", "24", "--steps", "2"]
    if name == "evaluate":
        more = ["EfficientNetLite0.size = 32"] if any("lite0" in argument for argument in arguments) else []
        if any("Evaluator" not in (Path(run) / "config.gin").read_text() for run in _values(arguments, "--run")):
            more += JUDGED
        return [*arguments, "--num", "60", *bound(*more)]
    return arguments


def _copied(finished: Path, run: Path) -> None:
    if not run.exists():
        shutil.copytree(finished, run)
        for teacher in finished.parent.glob("*_teacher-*"):
            shutil.copytree(teacher, run.parent / teacher.name, dirs_exist_ok=True)

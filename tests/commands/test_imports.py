"""What a command imports: libraries that take long to load wait until something uses them."""

import json
import subprocess
import sys

import pytest

from realuid.commands import COMMANDS, make_shards, options
from realuid.commands.export import FORMATS
from realuid.config.registry import kinds, register_components
from realuid.config.spelling import outlines
from realuid.data.builtin import sets
from realuid.data.preparation import prepare
from realuid.export import export
from realuid.jobs.export import LORA
from realuid.pretrained import reading
from tests.commands.conftest import ROOT, tiny

BASIC = {"torch", "numpy", "PIL"}
"""What nearly all work needs. Torch alone takes two seconds."""
NEVER = {
    "matplotlib",
    "scipy",
    "sklearn",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.fx.experimental.symbolic_shapes",
    "torch.utils.flop_counter",
    "torchmetrics",
    "transformers",
    "triton",
    "webdataset",
}
"""Half a second each and more, and needed by none of the commands below. Those of torch, sympy and Triton are torch's
compiler, two seconds together. Much of torch imports it only to be left out of what it compiles: every optimiser, every
mode that sees operations, and the formulas for shapes on the meta device, with which large dry runs count."""

MARK = "after it: "
PROGRAM = f"""
import json, sys
from realuid.commands import main
watched, *commands = json.loads(sys.argv[1])
for command in commands:
    try:
        status = main(command)
    except SystemExit as end:
        status = end.code
    print("{MARK}" + json.dumps([status, [name for name in watched if name in sys.modules]]))
"""


def imported(*commands):
    """For each of the commands, one after another in a fresh interpreter: its status, and the slow modules that were
    imported by then."""
    told = json.dumps([sorted(BASIC | NEVER), *commands])
    run = [sys.executable, "-c", PROGRAM, told]
    done = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True)
    answers = (line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK))
    return [(status, set(found)) for status, found in map(json.loads, answers)]


def test_help_imports_nothing_slow():
    commands = [[command, "--help"] for command in COMMANDS]
    assert imported(*commands) == [(0, set())] * len(COMMANDS)


MISSPELT = [
    "trian",
    "train --gin gin/smok.gin",
    "train --gin gin/fm_digits.gin --gin more.gin --dry-run",
    "train --gin gin/smoke.gin --bind Trainer.bach=3",
    "train --gin gin/smoke.gin --bind Trainr.batch=3",
    "train --gin gin/smoke.gin --bind Distillation.loss=@RealUIDD()",
    "check --gin gin/smok.gin",
    "check --gin gin/smoke.gin --dimensions 0",
    "sample --run runs/nowhere --out x.png",
    "sample --run runs/nowhere --out x.jpg",
    "sample --gin gin/smok.gin --out x.png",
    "evaluate --gin gin/smok.gin",
    "teacher_error --run runs/nowhere --num 3",
    "export --run runs/nowhere --out x",
    "export --run runs/nowhere --out x --formats onx",
    "inspect x.pt --format edn",
    "make_shards x y --filter lanczosch",
    "new --data x --teacher y --out README.md",
    "study studies/nowhere.toml",
    "benchmark stp",
]


def test_misspelt_options_files_and_bindings_import_nothing_slow():
    found = imported(*map(str.split, MISSPELT))
    assert dict(zip(MISSPELT, found, strict=True)) == dict.fromkeys(MISSPELT, (2, set()))


@pytest.mark.slow
def test_help_on_one_benchmark_imports_torch():
    """Its options stand beside what they measure: reading data, also by webdataset. No other benchmark is imported."""
    ((status, found),) = imported(["benchmark", "data", "--help"])
    assert (status, found - BASIC) == (0, {"webdataset"})


def test_what_reads_components_or_files_imports_torch_and_no_more():
    """Whether a value fits an argument is told by the class, which torch comes with."""
    commands = {
        "make_shards nowhere elsewhere": 2,
        "inspect nowhere.pt": 2,
        "train --gin gin/smoke.gin --bind Trainer.batch='many'": 2,
        "list": 0,
    }
    found = imported(*map(str.split, commands))
    assert [status for status, _ in found] == list(commands.values())
    assert found[-1][1] <= BASIC


@pytest.mark.slow
def test_a_dry_run_counts_and_imports_no_more():
    ((status, found),) = imported(["train", "--gin", "gin/fm_digits.gin", "--dry-run"])
    assert (status, found - BASIC) == (0, set())


@pytest.mark.slow
def test_a_training_imports_neither_the_compiler_nor_sharded_checkpoints_nor_metrics_of_others(finished):
    """The data and the teacher are there: steps, checkpoints, evaluation and report of a student."""
    ((status, found),) = imported(["train", *tiny("IMAGES = 64"), "--out", str(finished.parent / "again")])
    assert (status, found - BASIC) == (0, set())


def test_names_that_are_read_from_source_are_those_of_the_imported_components():
    register_components()
    own = {kind.name: tuple(kind.parameters) for kind in kinds() if kind.selector.startswith("realuid.")}
    assert {name: outline.parameters for name, outline in outlines().items()} == own


def test_the_choices_of_options_are_those_of_the_modules_that_are_imported_later():
    assert reading.FORMATS == options.PROJECTS
    assert (*export.FORMATS, LORA) == FORMATS
    assert tuple(prepare.FILTERS) == make_shards.FILTERS
    assert prepare.FORMATS == make_shards.FORMATS
    assert tuple(sets.BUILTIN) == make_shards.BUILTIN

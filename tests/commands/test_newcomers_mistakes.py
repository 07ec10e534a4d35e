"""The mistakes of a first hour: each ends with status 2 and one line that holds the words that help, and leaves no file
or folder. What is wrong with data, weights and places is told before a network is built."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from realuid.commands import main
from tests.commands.conftest import ROOT, tiny
from tests.data.handmade import encode, numbered_set

TRAIN = ["train", *tiny()]


def bound(*bindings: str) -> list[str]:
    return [*TRAIN, *(word for binding in bindings for word in ("--bind", binding))]


PICTURE = encode(np.zeros((4, 4), np.uint8))


@pytest.fixture(autouse=True)
def place(tmp_path):
    """What lies in the working directory."""
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / "page.pt").write_text("<html>please log in</html>")
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.gin").touch()
    (tmp_path / "plugged.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\nimport my_parts\n")
    (tmp_path / "unquoted.gin").write_text("include gin/smoke.gin\n")
    (tmp_path / "bare.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\nDistillation.loss = RealUID\n")
    (tmp_path / "wide.gin").write_text("Adam.lr = 1\n", encoding="utf-16")
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "model.json").touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(PICTURE)
    (tmp_path / "here").mkdir()
    numbered_set(tmp_path / "here", [3])
    (tmp_path / "images" / "dataset.json").write_text(json.dumps({"labels": [["a.png", -1]]}))
    return tmp_path


# Told before a network is built.
FIRST = {
    "a binding without quotes": ([*TRAIN, "--bind", "Trainer.images", "=", "99"], '--bind "Trainer.images = 99"'),
    "two bindings after one --bind": (
        [*TRAIN, "--bind", "Trainer.images = 99", "Adam.lr = 1"],
        'each binding needs a --bind of its own: --bind "Trainer.images = 99" --bind "Adam.lr = 1"',
    ),
    "a binding without a value": (bound("RealUID.alpha"), 'write it as "Name.argument = value"'),
    "no gin file": (["train"], "the following arguments are required: --gin"),
    "an option that there is not": ([*TRAIN, "--epochs", "3"], "unrecognized arguments: --epochs 3"),
    "a misspelt command": (["trian", "--gin", "gin/smoke.gin"], "did you mean 'train'?"),
    "a misspelt file": (["train", "--gin", "gin/smok.gin"], "did you mean smoke.gin"),
    "a folder for a file": (["train", "--gin", "images"], "--gin 'images' is a folder: name a gin file"),
    "a misspelt component": (bound("RealUDI.alpha = 0.9"), "did you mean RealUID"),
    "a misspelt argument": (bound("RealUID.alhpa = 0.9"), "did you mean alpha"),
    "a misspelt scope": (bound("studnet/UNet.width = 8"), "did you mean student"),
    "a misspelt scope of a run": (bound("teachr/Trainer.images = 99"), "did you mean teacher"),
    "a misspelt macro": (bound("IMAGSE = 99"), "did you mean IMAGES"),
    "an include without quotes": (["train", "--gin", "unquoted.gin"], "write include 'gin/smoke.gin'"),
    "a component's name alone": (["train", "--gin", "bare.gin"], "or @RealUID() if it is a component"),
    "a component's name for it": (bound("Distillation.loss = SiD"), "not 'SiD'; write @SiD()"),
    "a gin file in UTF-16": (
        ["train", "--gin", "wide.gin"],
        "wide.gin: cannot be read as a gin file: it is no text in",
    ),
    "checkpoints in a file": (bound("Checkpoints.folder = notes.txt"), "Checkpoints.folder notes.txt is a file"),
    "checkpoints that nobody holds": (
        bound("Checkpoints.folder = http://127.0.0.1:1/x"),
        "the folder of checkpoints http://127.0.0.1:1/x cannot be used: it cannot be reached",
    ),
    "a word for a number": (bound("Trainer.batch = many"), "Trainer.batch"),
    "half an image": (bound("Trainer.images = 1.5"), "Trainer.images"),
    "code of one's own that is not found": (["train", "--gin", "plugged.gin"], "put its folder on PYTHONPATH"),
    "SHAPE": (bound("SHAPE = (3, 8, 8)"), "is (3, 8, 8), but 'digits' holds images of shape (1, 8, 8)"),
    "CLASSES": (bound("CLASSES = 7"), "InMemory.classes is 7, but 'digits' has 10 classes"),
    "a split that there is not": (bound("InMemory.split = test"), "'digits' has the splits train"),
    "a misspelt data set": (bound("DATA = digitz"), "did you mean 'digits'?"),
    "a data set that is not there": (bound("DATA = /nowhere/mine"), "write it with tools/make_shards.py"),
    "a data set in the working directory": (
        bound("DATA = here"),
        "relative paths begin in ",
    ),
    "a pattern in the working directory": (
        bound("Trainer.data = @Streaming()", "Streaming.path = here/x-*.tar", "Streaming.shape = (1, 8, 8)"),
        "data/here/x-*.tar",
    ),
    "dimensions without end": (["check", "--gin", "gin/smoke.gin", "--dimensions", "99999999"], "at most 10,000"),
    "a pattern of nothing": (
        bound("Trainer.data = @Streaming()", "Streaming.path = /nowhere/x-*.tar", "Streaming.shape = (1, 8, 8)"),
        "no shards match '/nowhere/x-*.tar'",
    ),
    "one shard that is not there": (
        bound("Trainer.data = @Streaming()", "Streaming.path = /nowhere/x-{0..3}.tar", "Streaming.shape = (1, 8, 8)"),
        "/nowhere/x-0.tar is not there",
    ),
    "a missing teacher": (bound("Teacher.checkpoint = x/t.pt"), "no checkpoint x/t.pt"),
    "a published teacher": (
        ["train", "--gin", "gin/edm_cifar10.gin"],
        "download it (https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/edm-cifar10-32x32-cond-vp.pkl",
    ),
    "a described teacher": (
        ["sample", "--gin", "gin/teachers/edm_imagenet64.gin", "--out", "x.png"],
        "download it (https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/edm-imagenet-64x64-cond-adm.pkl",
    ),
    "a name on a hub": (bound("Teacher.checkpoint = google/ddpm-cifar10-32"), "hf://google/ddpm-cifar10-32"),
    "a picture for a teacher": (bound("Teacher.checkpoint = a.png"), "a.png is no checkpoint, but a picture"),
    "a web page for a teacher": (bound("Teacher.checkpoint = page.pt"), "but a web page: the address of the file"),
    "a pointer for a teacher": (bound("Teacher.checkpoint = pointer.pt"), "`git lfs pull` fetches the file itself"),
    "nothing for a teacher": (bound("Teacher.checkpoint = empty.pt"), "empty.pt is empty"),
    "a run for a teacher": (bound("Teacher.checkpoint = run"), "run is a run folder: it has no checkpoint yet"),
    "no weights for the student": (bound("Distillation.student_init = s.pt"), "Distillation.student_init: there is no"),
    "a picture for the fake network": (bound("Distillation.fake_init = a.png"), "Distillation.fake_init: a.png is no"),
    "an output that is a file": ([*TRAIN, "--out", "notes.txt"], "--out notes.txt is a file: name a folder"),
    "an output in a file": ([*TRAIN, "--out", "notes.txt/run"], "notes.txt is a file"),
    "an output that cannot be written": ([*TRAIN, "--out", "/proc/run"], "--out /proc/run cannot be written"),
    "an output that is the whole disk": ([*TRAIN, "--out", "/"], "--out / holds folders ("),
    "an output among other things": ([*TRAIN, "--out", "."], "--out . holds folders (here, images, run, ...) and no"),
    "samples in a file": (["sample", "--run", "run", "--out", "notes.txt/x.png"], "notes.txt is a file"),
    "samples over a folder": (["sample", "--run", "run", "--out", "images.png"], "images.png is a folder: name a file"),
    "samples of another kind": (["sample", "--run", "run", "--out", "x.jpg"], "FILE.png, FILE.npz or a folder"),
    "samples of nothing": (["sample", "--out", "x.png"], "one of the arguments --run --gin --model is required"),
    "samples of no run": (["sample", "--run", "nowhere", "--out", "x.png"], "nowhere is no run with a checkpoint"),
    "samples of a run not begun": (["sample", "--run", "run", "--out", "x.png"], "run is no run with a checkpoint"),
    "samples of a file": (["sample", "--run", "empty.pt", "--out", "x.png"], "--model a checkpoint"),
    "samples of a picture": (["sample", "--model", "a.png", "--out", "x.png"], "a.png is not a readable checkpoint"),
    "samples of an export": (["sample", "--model", "student", "--out", "x.png"], "but an exported student, which"),
    "samples of a run as a model": (["sample", "--model", "run", "--out", "x.png"], "name it with --run"),
    "samples of weights alone": (["sample", "--model", "notes.txt", "--out", "x.png"], "it is no file of torch.save"),
    "a word for a step": (
        ["evaluate", "--run", "run", "--checkpoint", "last"],
        "'last' is neither the number of a step nor best",
    ),
    "nothing for a name": (["export", "--run", "run", "--out", ""], "--out is empty"),
    "a look at a run not begun": (["inspect", "run"], "run/checkpoints holds no checkpoint"),
    "a page for a checkpoint": (["inspect", "page.pt"], "it is no file of torch.save"),
    "a word for a label": (
        ["sample", "--run", "run", "--labels", "cat", "--out", "x.png"],
        "labels are numbers from 0",
    ),
    "an export over a file": (["export", "--run", "run", "--out", "notes.txt"], "--out notes.txt is a file"),
    "an export of another kind": (["export", "--run", "run", "--out", "x", "--formats", "onxx"], "choose from"),
    "an export of a teacher": (["export", "--run", "run", "--out", "x", "--teacher"], "only students are exported"),
    "one image": (["evaluate", "--run", "run", "--num", "1"], "--num must be at least 2"),
    "images without end": (["evaluate", "--run", "run", "--num", "99999999"], "at most 10,000,000, got 99999999"),
    "samples without end": (["sample", "--run", "run", "--num", "99999999", "--out", "x.png"], "at most 10,000,000"),
    "a look that goes back in time": (["evaluate", "--run", "run", "--watch", "-1"], "--watch must be positive"),
    "a look at no time": (["evaluate", "--run", "run", "--watch", "nan"], "--watch must be positive"),
    "a number of images that an option says": (
        ["evaluate", "--run", "run", "--bind", "Evaluator.count = 7"],
        "would have no effect: say it by --num",
    ),
    "a seed that an option says": (
        ["evaluate", "--run", "run", "--bind", "Evaluator.seed = 7"],
        "would have no effect: say it by --seed",
    ),
    "metrics that are not there": (
        ["evaluate", "--run", "run", "--metrics", "gin/metrics/fidd.gin"],
        "--metrics 'gin/metrics/fidd.gin': there is no such file; did you mean metrics/fid.gin",
    ),
    "figures over a folder": (["evaluate", "--run", "run", "--write-reference", "run"], "run is a folder: name a file"),
    "features in a file": (["evaluate", "--run", "run", "--features", "notes.txt"], "--features notes.txt is a file"),
    "a comparison of another kind": (["evaluate", "--compare", "run", "--out", "x.pdf"], "FILE.html or FILE.md"),
    "a comparison with nothing": (
        ["evaluate", "--compare", "run", "--out", "x.html"],
        "run is no run with a checkpoint",
    ),
    "half of a kind": (["list", "Loss"], "there are DistillationLoss"),
    "a look at nothing": (["inspect", "nowhere.pt"], "there is no checkpoint nowhere.pt"),
    "images that are not there": (["make-shards", "nowhere", "set"], "nowhere is not there"),
    "prompts without a teacher": (["make-shards", "notes.txt", "set"], "say with --encode for which teacher"),
    "shards that are not there": (["make-shards", "x.tar", "set"], "x.tar is not there"),
    "shards among their images": (["make-shards", "images", "images/set", "--labels", "none"], "lies in images"),
    "images of a mile": (["make-shards", "images", "set", "--resolution", "999999"], "is more than 16,384 pixels"),
    "labels out of range": (
        ["make-shards", "images", "set"],
        "the label of a.png is -1, neither a whole number from 0",
    ),
    "a table that is not there": (["make-shards", "images", "set", "--labels", "l.csv"], "l.csv"),
}
# Told by the parts once they are built.
LATER = {
    "a run made longer than its schedule": (bound("Trainer.images = 9_999"), "bind both to the same number"),
    "a batch that does not divide": (bound("Trainer.batch = 15", "Trainer.lanes = 2"), "into 2 lanes"),
    "more real images than the batch": (bound("Distillation.real_batch = 500"), "must be at most the batch of 16"),
    "a device that there is not": (bound("Trainer.device = gpu"), "cuda"),
    "a device of another build": (bound("Trainer.device = mps"), "is not available (auto, cpu, cuda or cuda:N)"),
    "a data set of too few classes": (bound("CLASSES = 0"), "learns from labels"),
}
# Of a run that is there.
OF_A_RUN = {
    "another run in its place": (lambda run: [*bound("RealUID.alpha = 0.9"), "--out", run], "--fresh to move it aside"),
    "a label that there is not": (
        lambda run: ["sample", "--run", run, "--labels", "10", "--out", "x.png"],
        "--labels 10: the model has 10 classes",
    ),
    "an average that there is not": (
        lambda run: ["sample", "--run", run, "--ema", "0.5", "--out", "x.png"],
        "there is no average '0.5', only 0.9, 0.99",
    ),
    "a step that there is not": (
        lambda run: ["sample", "--run", run, "--checkpoint", "5", "--out", "x.png"],
        "has no checkpoint of step 5",
    ),
    "steps of a student": (
        lambda run: ["sample", "--run", run, "--steps", "5", "--out", "x.png"],
        "the student takes the steps that it was trained with",
    ),
    "an export for pipelines": (
        lambda run: ["export", "--run", run, "--out", "x", "--formats", "diffusers"],
        "no pipeline for a U-Net with class labels",
    ),
    "an export over a page": (
        lambda run: ["export", "--run", run, "--out", "."],
        "README.md is of something else, and would be replaced",
    ),
    "samples beside others": (
        lambda run: ["sample", "--run", run, "--num", "2", "--out", "images"],
        "--out images holds other pictures, such as a.png",
    ),
    "sources for noise": (
        lambda run: ["sample", "--run", run, "--source", "a.png", "--out", "x.png"],
        "this one starts from noise",
    ),
    "a run for a teacher": (
        lambda run: bound(f"Teacher.checkpoint = '{run}'"),
        "step_00000008.pt",
    ),
}


def everything(folder: Path) -> set[str]:
    return {os.path.join(home, name) for home, folders, files in os.walk(folder) for name in (*folders, *files)}


def told(arguments: list[str], folder: Path, capsys) -> str:
    """The line that a command ends with."""
    before = everything(folder)
    try:
        status = main(arguments)
    except SystemExit as ending:  # argparse's way
        status = ending.code
    line = capsys.readouterr().err.strip()
    assert status == 2, line
    assert "\n" not in line
    assert len(line) < 1000
    assert everything(folder) == before
    return line


@pytest.fixture
def networks(monkeypatch):
    """The modules that were built."""
    built = []
    construct = nn.Module.__init__
    monkeypatch.setattr(
        nn.Module, "__init__", lambda self, *a, **k: built.append(type(self)) or construct(self, *a, **k)
    )
    return built


@pytest.mark.parametrize("mistake", FIRST)
def test_a_mistake_is_told_first(mistake, place, networks, capsys):
    arguments, words = FIRST[mistake]
    if mistake == "samples over a folder":
        (place / "images.png").mkdir()
    assert words in told(arguments, place, capsys)
    assert not networks


@pytest.mark.parametrize("mistake", LATER)
def test_a_mistake_leaves_nothing(mistake, place, capsys):
    arguments, words = LATER[mistake]
    assert words in told(arguments, place, capsys).splitlines()[-1]


@pytest.mark.parametrize("mistake", OF_A_RUN)
def test_a_mistake_with_a_run(mistake, place, finished, capsys):
    (place / "README.md").touch()
    arguments, words = OF_A_RUN[mistake]
    before = everything(finished)
    assert words in told(arguments(str(finished)), place, capsys)
    assert everything(finished) == before


def test_without_a_command_there_is_the_usage(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: realuid {train,")

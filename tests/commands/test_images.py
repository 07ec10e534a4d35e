"""Models that start from images, through the whole command line: pairs, two sets, and what sample.py takes as x0."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from realuid.commands.evaluate import main as evaluate
from realuid.commands.sample import main as sample
from realuid.commands.train import main as train
from realuid.data.degradations import DownUp
from realuid.data.memory import InMemory
from realuid.data.shards.writer import NewSample, write_shards

SIZES = {
    "IMAGES": 64,
    "TEACHER_IMAGES": 64,
    "CosineLR.warm_up": 0,
    "UNet.width": 8,
    "Evaluator.count": 60,
    "Trainer.batch": 16,
    "EulerMaruyama.steps": 3,
}
TINY = [
    *(f"{name} = {value}" for name, value in SIZES.items()),
    "Trainer.log_images = 32",
    "Distillation.real_batch = 4",
    "Distillation.fake_steps = 2",
    "teacher/CosineLR.warm_up = 0",
    "teacher/Trainer.batch = 16",
]


@pytest.fixture(scope="module")
def bridge(tmp_path_factory, data):
    """A tiny run of super-resolution on the Brownian bridge."""
    out = tmp_path_factory.mktemp("runs") / "bridge"
    arguments = ["--gin", "gin/bm_digits_sr.gin", *(part for binding in TINY for part in ("--bind", binding))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        assert train([*arguments, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def digits(bridge, data):
    """The digits in the order of storage, uint8, and their labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        stored = InMemory(path="digits", shape=(1, 8, 8), classes=10)
        stored.open(seed=0, device=torch.device("cpu"))
    return stored.examples(0, len(stored))


def arrays(folder, tmp_path, *arguments, name="x.npz"):
    assert sample(["--run", str(folder), "--out", str(tmp_path / name), *arguments]) == 0
    with np.load(tmp_path / name, allow_pickle=False) as file:
        return file["images"][..., 0].astype(int), file["labels"]


def test_the_run_shows_its_pairs_and_measures_them(bridge):
    names = {path.stem for path in (bridge / "samples").iterdir()}
    assert {"student", "teacher", "data", "source"} <= names
    summary = json.loads((bridge / "summary.json").read_text())
    for role in ("student", "teacher", "source"):
        for name in ("frechet", "label_accuracy", "psnr"):
            assert summary[f"{role}_{name}"] >= 0, (role, name)
    assert "EulerMaruyama-3(diffusion=NaturalDiffusion())" in summary["provenance"]["teacher_frechet"]["sampler"]


def test_the_figure_of_the_source_is_that_of_the_degraded_images(bridge, digits):
    """The mean over 2 x 2 pixels, against the image: PSNR over all pixels of the first 60 together."""
    images = digits.images[:60].double()
    blocks = images.view(60, 4, 2, 4, 2).mean((2, 4), keepdim=True).expand(60, 4, 2, 4, 2).reshape(60, 1, 8, 8).round()
    expected = 10 * np.log10(255**2 / float((blocks - images).square().mean()))
    assert json.loads((bridge / "summary.json").read_text())["source_psnr"] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_evaluate_repeats_the_figures_of_the_summary(role, bridge, capsys):
    summary = json.loads((bridge / "summary.json").read_text())
    assert evaluate(["--run", str(bridge), "--num", "60", *(["--teacher"] if role == "teacher" else [])]) == 0
    line = json.loads(capsys.readouterr().out)
    for name in ("frechet", "psnr", "label_accuracy"):
        assert line[f"{role}_{name}"] == pytest.approx(summary[f"{role}_{name}"], rel=1e-3)


@pytest.mark.parametrize("options", [[], ["--teacher"]], ids=["student", "teacher"])
def test_sources_are_those_of_the_data_with_their_labels(options, bridge, digits, tmp_path):
    many, labels = arrays(bridge, tmp_path, "--num", "30", *options)
    assert np.array_equal(labels, digits.condition["label"][:30])
    few, _ = arrays(bridge, tmp_path, "--num", "10", *options)
    assert np.abs(many[:10] - few).max() <= 1


def test_the_seed_is_that_of_the_fresh_noise(bridge, tmp_path):
    one, other = (arrays(bridge, tmp_path, "--teacher", "--num", "4", "--seed", seed)[0] for seed in "01")
    assert not np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "file", "shards"])
def test_sources_are_given_as_a_folder_a_file_or_shards(kind, bridge, digits, tmp_path):
    """The run's own degraded images, handed in from outside, give the run's own samples."""
    count = 1 if kind == "file" else 12
    sources = DownUp(factor=2)(digits.images[:count])
    place = tmp_path / "sources"
    if kind == "shards":
        about = {"name": "x", "shape": (1, 8, 8), "source": "-", "licence": "-", "classes": []}
        write_shards((NewSample(x.numpy()) for x in sources), str(place), split="train", shard_size=5, **about)
    else:
        place.mkdir()
        for i, image in enumerate(sources):
            Image.fromarray(image[0].numpy()).save(place / f"{i:03d}.png")
        (place / "notes.txt").write_text("not an image")
    given = ["--source", str(place / "000.png") if kind == "file" else str(place)]
    labels = ["--labels", *(str(int(label)) for label in digits.condition["label"][:count])]
    found, told = arrays(bridge, tmp_path, "--teacher", "--num", str(2 * count), *given, *labels)
    own, _ = arrays(bridge, tmp_path, "--teacher", "--num", str(count), name="own.npz")
    assert told.tolist() == 2 * digits.condition["label"][:count].tolist()
    assert np.abs(found[:count] - own).max() <= 1
    assert not np.array_equal(found[count:], found[:count])  # the same sources again, with other noise


def test_colours_become_grey_where_the_model_is_grey(bridge, tmp_path):
    Image.new("RGB", (8, 8), (200, 200, 200)).save(tmp_path / "rgb.png")
    Image.new("L", (8, 8), 200).save(tmp_path / "grey.png")
    made = [
        arrays(bridge, tmp_path, "--num", "2", "--source", str(tmp_path / name))[0] for name in ("rgb.png", "grey.png")
    ]
    assert np.array_equal(*made)


@pytest.mark.slow
def test_sources_that_do_not_fit_are_one_line_with_status_2(bridge, finished, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("L", (9, 8)).save(tmp_path / "wide.png")
    cases = {
        tmp_path / "empty": "holds neither shards nor images (.png, .jpg, .jpeg, .webp)",
        tmp_path / "broken.png": "cannot be read as an image",
        tmp_path / "wide.png": "has 9x8 pixels, the model takes 8x8",
        tmp_path / "nowhere": "nowhere cannot be read as an image",
    }
    for source, message in cases.items():
        assert sample(["--run", str(bridge), "--num", "2", "--source", str(source), "--out", "x.png"]) == 2
        shown = capsys.readouterr().err.strip()
        assert message in shown
        assert len(shown.splitlines()) == 1
    assert sample(["--run", str(bridge), "--num", "2", "--labels", "3", "--out", "x.png"]) == 2
    assert "--labels goes with --source: the run's own images have labels of their own" in capsys.readouterr().err
    assert sample(["--run", str(finished), "--num", "2", "--source", str(tmp_path / "wide.png"), "--out", "x.png"]) == 2
    assert "--source is for models that start from images; this one starts from noise" in capsys.readouterr().err


TWO_SETS = """
include 'gin/smoke.gin'

Trainer.data = @Unpaired()
Unpaired.data = @InMemory()
Unpaired.source = @source/InMemory()

MatchingModel.interpolant = @BrownianInterpolant()
MatchingModel.coupling = @MinibatchOT()
MatchingModel.target = @Stack()
Stack.targets = (@Data(), @Noise())
UNet.out_multiplier = 2
MinibatchOT.size = 4
MinibatchOT.source = 'data'
SAMPLER = @Posterior()
Posterior.steps = 2
Posterior.grid = @UniformGrid()

RealUID.target = @Data()
OneStep.noise = 1
student/UNet.in_multiplier = 2
Distillation.real_batch = 8
Distillation.adversary = @Adversary()
Adversary.head = @Discriminator()
Adversary.time_sampler = @adversary/UniformTime()
adversary/UniformTime.high = 0.2
Adversary.fake_weight = 1.0
Adversary.generator_weight = 0.3
Discriminator.channels = 16
"""

SMALL = """
IMAGES = 64
TEACHER_IMAGES = 64
UNet.width = 8
Evaluator.count = 60
Trainer.batch = 16
Trainer.log_images = 32
"""


@pytest.mark.slow
def test_two_sets_with_minibatch_transport_and_an_adversary(tmp_path):
    (tmp_path / "mine.gin").write_text(TWO_SETS + SMALL)
    arguments = ["--gin", str(tmp_path / "mine.gin")]
    assert train([*arguments, "--dry-run"]) == 0
    assert train([*arguments, "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["student_frechet"] > 0
    assert summary["source_frechet"] < summary["student_frechet"]  # digits, in another order
    assert "student_psnr" not in summary  # whose image a source belongs to is not known
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["fake_loss"]) for line in lines)

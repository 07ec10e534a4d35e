"""From a folder of pictures with captions and a pipeline folder to a distillation, in two commands."""

import json

import numpy as np
import pytest
from PIL import Image

from realuid import config as configuration
from realuid.commands.export import main as export
from realuid.commands.make_shards import main as make_shards
from realuid.commands.sample import main as sample
from realuid.commands.tiny_text import main as tiny_text
from realuid.commands.train import main as train
from realuid.data.builtin.shapes import CLASSES, drawing
from realuid.data.shards.index import Shard, ShardIndex, Split
from realuid.jobs.buckets_gin import buckets_gin
from realuid.jobs.tiny_text import SIDE, draw, vocabulary
from realuid.pretrained.pipelines.tiny import AUTOENCODER, NETWORK
from tests.commands.conftest import ROOT
from tests.data.handmade import shards_set, tar

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

RECIPE = ROOT / "gin" / "tiny_text.gin"
SHORT = (
    "IMAGES = 128",
    "TEACHER_IMAGES = 256",
    "Trainer.batch = 32",
    "Trainer.log_images = 64",
    "Trainer.sample_images = 128",
    "Trainer.evaluate_images = 128",
    "Trainer.checkpoint_images = 128",
    "Distillation.real_batch = 8",
    "Distillation.fake_steps = 2",
    "CosineLR.warm_up = 0",
    "teacher/CosineLR.warm_up = 0",
    "Evaluator.count = 60",
    "SmallClassifier.epochs = 1",
    "Trainer.threads = 1",
    "SAMPLER_STEPS = 2",
)


def bound(*bindings):
    return [part for binding in bindings for part in ("--bind", binding)]


def test_the_recipe_describes_the_pipeline_that_is_made():
    config = configuration.load([RECIPE], [])
    told = configuration.value(config, "method", "teacher", "model", "network", "config")
    assert {name: list(v) if isinstance(v, tuple) else v for name, v in told.items()} == NETWORK
    channels, side = AUTOENCODER["latent_channels"], SIDE // 2 ** (len(AUTOENCODER["block_out_channels"]) - 1)
    trainer = configuration.build(config)
    assert trainer.data.shape == (channels, side, side)
    assert trainer.data.classes == len(CLASSES)
    assert trainer.data.autoencoder.has_deviation


def test_a_dry_run_tells_what_is_missing(tmp_path, monkeypatch, capsys):
    """A set that a pipeline made which is not there any more."""
    fields = {"text": [8, 32], "pooled": [32]}
    told = [{"name": name, "shape": shape, "dtype": "bfloat16", "classes": 0} for name, shape in fields.items()]
    made_by = dict.fromkeys(("text", "autoencoder"), f"nobody {'0' * 64}")
    index = {"image_size": 8, "channels": 8, "dtype": "float16", "conditions": told, "encoder": made_by}
    shards_set(tmp_path / "tiny_text", [tar([("0.txt", b"a")])], [1], classes=CLASSES, **index)
    monkeypatch.setenv("REALUID_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert train(["--gin", str(RECIPE), "--dry-run"]) == 0
    assert "missing      there is no folder tiny/pipeline" in capsys.readouterr().out


@pytest.mark.slow
def test_buckets_are_read_by_the_recipe(tmp_path, monkeypatch, capsys):
    """The statements that make_shards writes beside the sets, after those of the recipe."""
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))
    split = Split((Shard("train-000000.tar", 5, 0, "0" * 64),), None)
    made = {
        size: ShardIndex(
            name="set",
            image_size=(size[0] // 2, size[1] // 2),
            channels=8,
            classes=CLASSES,
            format="",
            source="",
            licence="",
            splits={"train": split},
            dtype="float16",
        )
        for size in ((16, 16), (20, 12))
    }
    file = tmp_path / "buckets.gin"
    file.write_text(buckets_gin(str(tmp_path / "data" / "pictures"), made, encoded=True))
    trainer = configuration.build(configuration.load([RECIPE, file], []))
    assert trainer.data.shapes == ((4, 8, 8), (4, 10, 6))
    assert trainer.data.has_images
    inner = [one.data.data for one in trainer.data.sets]
    assert [one.path for one in inner] == ["pictures/16x16", "pictures/12x20"]
    assert all(one.data.autoencoder.has_deviation for one in trainer.data.sets)
    monkeypatch.chdir(tmp_path)
    costs = []
    for data in ("@Buckets()", "@bucket12x20/Prefetched()", "@bucket16x16/Prefetched()"):
        arguments = ["--gin", str(RECIPE), "--gin", str(file), *bound(f"Trainer.data = {data}"), "--dry-run"]
        assert train(arguments) == 0
        costs.append(next(line for line in capsys.readouterr().out.splitlines() if line.startswith("activations")))
    assert costs[0] == costs[2] != costs[1]  # of the largest


def test_pictures_show_what_their_captions_say(tmp_path):
    pictures = draw(tmp_path, 3 * len(CLASSES))
    assert pictures.shape == (3 * len(CLASSES), 3, SIDE, SIDE)
    for name in CLASSES:
        colour, shape = name.split("_")
        texts = [path.read_text() for path in (tmp_path / name).glob("*.txt")]
        assert len(texts) == 3
        assert all(colour in text and shape in text for text in texts)
        assert all(word in vocabulary() for text in texts for word in text.split())
    again = drawing(7, SIDE)
    assert (again.caption, again.name) == (drawing(7, SIDE).caption, CLASSES[7])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_commands_from_pictures_and_a_pipeline_to_a_distillation(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    assert tiny_text(["tiny", "--pictures", "72", "--steps", "20"]) == 0
    assert tiny_text(["tiny"]) == 2
    assert "is not empty" in capsys.readouterr().err

    encode = ["tiny/pictures", "data/tiny_text", "--encode", str(RECIPE), "--quiet"]
    assert make_shards(encode) == 0
    assert train(["--gin", str(RECIPE), *bound(*SHORT), "--out", "runs/tiny_text"]) == 0

    summary = json.loads((tmp_path / "runs" / "tiny_text" / "summary.json").read_text())
    assert 0 <= summary["student_label_accuracy"] <= 1
    assert (tmp_path / "runs" / "tiny_text" / "samples" / "captions.json").exists()
    prompts = ["a red circle", "the square is blue"]
    assert sample(["--run", "runs/tiny_text", "--prompts", *prompts, "--num", "4", "--out", "samples.npz"]) == 0
    with np.load("samples.npz") as content:
        assert content["images"].shape == (4, SIDE, SIDE, 3)

    assert export(["--run", "runs/tiny_text", "--out", "student", "--formats", "diffusers"]) == 0
    pipeline = diffusers.DiffusionPipeline.from_pretrained("student/diffusers", trust_remote_code=False)
    pictures = pipeline(prompts[0], num_inference_steps=1, height=SIDE, width=SIDE, max_sequence_length=8).images
    assert pictures[0].size == (SIDE, SIDE)

    pytest.importorskip("peft")
    adapters = bound("student/MatchingModel.network = @LoRA()", "fake/MatchingModel.network = @LoRA()", "LoRA.rank = 2")
    assert train(["--gin", str(RECIPE), *bound(*SHORT), *adapters, "--out", "runs/lora"]) == 0
    capsys.readouterr()
    assert export(["--run", "runs/lora", "--out", "adapters", "--formats", "lora"]) == 2
    assert "was trained here" in capsys.readouterr().err
    assert not (tmp_path / "adapters").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pictures_of_several_sizes_are_trained_on(tmp_path, monkeypatch):
    """From pictures of all shapes to a run on aspect buckets, which is the same when it was stopped and resumed."""
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert tiny_text(["tiny", "--pictures", "72", "--steps", "2"]) == 0
    for number, path in enumerate(sorted((tmp_path / "tiny" / "pictures").rglob("*.png"))):
        Image.open(path).resize([(16, 16), (24, 15), (13, 22), (30, 12)][number % 4]).save(path)
    encode = ["tiny/pictures", "data/sized", "--encode", str(RECIPE), "--buckets", "4", "--resolution", "16", "--quiet"]
    assert make_shards(encode) == 0
    assert len(list((tmp_path / "data" / "sized").glob("*x*"))) == 3
    recipe = ["--gin", str(RECIPE), "--gin", "data/sized/buckets.gin", *bound(*SHORT, "Trainer.evaluator = None")]
    recipe += bound("IMAGES = 192", "Trainer.checkpoint_images = 32")
    assert train([*recipe, "--out", "runs/whole"]) == 0
    assert train([*recipe, *bound("Trainer.images = 128"), "--out", "runs/halves"]) == 0
    assert train([*recipe, "--out", "runs/halves"]) == 0
    whole, halves = (
        [json.loads(line) for line in (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "halves")
    )
    for one, other in zip(whole, halves, strict=True):
        same = {name for name in one if name.startswith(("fake_", "generator_", "gap", "real_", "generated_"))}
        assert len(same) > 5
        assert {name: one[name] for name in same} == {name: other[name] for name in same}
    prompts = ["a red circle", "the square is blue"]
    assert sample(["--run", "runs/whole", "--prompts", *prompts, "--num", "4", "--out", "samples.npz"]) == 0
    with np.load("samples.npz") as content:
        rows, columns = content["images"].shape[1:3]
        first = (tmp_path / "data" / "sized" / "buckets.gin").read_text().partition("@bucket")[2]
        assert first.startswith(f"{columns}x{rows}/")
    with Image.open("runs/whole/samples/data.png") as shown:
        assert shown.width > columns

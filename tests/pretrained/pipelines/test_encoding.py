"""Pictures and captions to shards of latents and embeddings, by the encoders of a pipeline."""

import io
import json
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from realuid.commands.make_shards import main
from realuid.commands.train import main as train
from realuid.data.encoded_latents import EncodedLatents
from realuid.data.memory import InMemory, Prompts
from realuid.data.shards.index import ShardIndex
from realuid.data.streaming import Streaming
from realuid.jobs.encoders import described_encoding
from realuid.pretrained.pipelines.autoencoder import PipelineAutoencoder
from realuid.pretrained.pipelines.encoder import PipelineEncoder
from realuid.utils.errors import DataError
from tests.data.handmade import same
from tests.pretrained.pipelines.cases import CASES
from tests.pretrained.pipelines.small import t5

NAMES = sorted(name for name in CASES if " " not in name)
NAME = "PixArtSigmaPipeline"
CAPTIONS = [f"a {colour} cube number {number}" for number, colour in enumerate(["red", "green", "blue", "grey", "dim"])]
SIDE = 64


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def png(number):
    file = io.BytesIO()
    picture(number).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, caption in enumerate(CAPTIONS):
        picture(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{caption}\n")
    return folder


def encode(source, dest, teacher, *more):
    tokens = ["--tokens", str(CASES[NAME].tokens)] if "--tokens" not in more else []
    return main([str(source), str(dest), "--encode", str(teacher), "--quiet", *tokens, *more])


def config_of(pipeline):
    """Of the denoising network."""
    return dict((pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer).config)


def opened(dest, pipeline, folder, tokens, kind=InMemory):
    """The encoded set as a recipe reads it."""
    name = type(pipeline).__name__
    encoder = PipelineEncoder(folder=str(folder), pipeline=name, config=config_of(pipeline), tokens=tokens)
    index = ShardIndex.read(str(dest))
    data = EncodedLatents(
        data=kind(path=str(dest), shape=(index.channels, *index.image_size), encoder=encoder),
        autoencoder=PipelineAutoencoder(folder=str(folder), pipeline=name),
    )
    assert data.missing() is None
    data.open(seed=0, device=torch.device("cpu"))
    return data


@pytest.mark.parametrize("name", NAMES)
def test_stored_latents_and_embeddings_are_the_pipelines_own(saved, pictures, tmp_path, name):
    pipeline, folder = saved(name)
    case, dest = CASES[name], tmp_path / "set"
    assert encode(pictures, dest, folder, "--tokens", str(case.tokens)) == 0
    data = opened(dest, pipeline, folder, case.tokens)
    captions = data.captions(5)
    order = [CAPTIONS.index(caption.strip()) for caption in captions]
    assert sorted(order) == list(range(5))

    pixels = torch.stack([torch.from_numpy(np.array(picture(n))) for n in order]).permute(0, 3, 1, 2) / 127.5 - 1
    stored = data.data.examples(0, 5).images.float()
    with torch.no_grad():
        if name == "SanaPipeline":
            torch.testing.assert_close(stored, pipeline.vae.encode(pixels).latent, rtol=1e-3, atol=1e-3)
        else:
            video = name == "QwenImagePipeline"
            found = pipeline.vae.encode(pixels[:, :, None] if video else pixels).latent_dist
            own = [part[:, :, 0] if video else part for part in (found.mean, found.std)]
            torch.testing.assert_close(stored, torch.cat(own, dim=1), rtol=1e-3, atol=1e-3)

    encoder = PipelineEncoder(
        folder=folder, pipeline=name, config=config_of(pipeline), tokens=case.tokens, dtype="float32"
    )
    expected, condition = encoder([CAPTIONS[n] for n in order]), data.condition_examples(0, 5)
    assert set(condition) == set(expected)
    for field, tensor in expected.items():
        assert condition[field].dtype == (torch.bfloat16 if tensor.is_floating_point() else tensor.dtype)
        torch.testing.assert_close(condition[field].to(tensor.dtype), tensor, rtol=0.05, atol=0.05)


def test_latents_are_drawn_anew_from_mean_and_deviation(saved, pictures, tmp_path):
    pipeline, folder = saved(NAME)
    assert encode(pictures, tmp_path / "set", folder) == 0
    data = opened(tmp_path / "set", pipeline, folder, CASES[NAME].tokens)
    factor = pipeline.vae.config.scaling_factor
    mean, deviation = data.data.examples(0, 5).images.float().chunk(2, dim=1)
    # One sample at many positions of the endless order: its draws have its mean and its deviation.
    seen = data.batch(0, 4000)
    means = data.data.batch(0, 4000).images[:, :4].float()
    z = (seen.images / factor - means) / deviation[0].expand_as(means)
    rows = (means == mean[0]).flatten(1).all(dim=1)
    assert rows.sum() == 800
    z = z[rows]
    assert float(z.mean().abs()) < 0.01
    assert float((z.std(dim=0) - 1).abs().mean()) < 0.05
    again = opened(tmp_path / "set", pipeline, folder, CASES[NAME].tokens, Streaming)
    torch.testing.assert_close(again.batch(17, 9).images, seen.images[17:26])
    torch.testing.assert_close(data.examples(5, 5).images, data.examples(0, 5).images)
    assert data.latent_scaling == ((0.0,), (1 / factor,))


def tar_of(path, kind):
    with tarfile.open(path, "w") as tar:
        for number, caption in enumerate(CAPTIONS):
            text = caption if kind == "txt" else json.dumps({"caption": caption, "width": SIDE})
            for name, content in ((f"{number}.png", png(number)), (f"{number}.{kind}", text.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def parquet_of(path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    images = [{"bytes": png(number), "path": None} for number in range(len(CAPTIONS))]
    pyarrow.parquet.write_table(pa.table({"image": images, "text": CAPTIONS}), path)


def hugging_face(folder, pictures):
    shutil.copytree(pictures, folder)
    rows = [{"file_name": f"{number}.png", "text": caption} for number, caption in enumerate(CAPTIONS)]
    for number in range(len(CAPTIONS)):
        (folder / f"{number}.txt").unlink()
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("kind", ["txt", "json", "parquet", "metadata"])
def test_every_source_gives_the_same_set(saved, pictures, tmp_path, kind):
    _, folder = saved(NAME)
    source = tmp_path / {"parquet": "set.parquet", "metadata": "hf"}.get(kind, "set-{000..000}.tar")
    if kind == "parquet":
        parquet_of(source)
    elif kind == "metadata":
        hugging_face(source, pictures)
    else:
        tar_of(tmp_path / "set-000.tar", kind)
    assert encode(pictures, tmp_path / "one", folder, "--shuffle", "0") == 0
    assert encode(source, tmp_path / "two", folder, "--shuffle", "0") == 0

    def members(name):
        with tarfile.open(tmp_path / name / "train-000000.tar") as tar:
            return {info.name: tar.extractfile(info).read().strip() for info in tar if not info.name.endswith("json")}

    one, two = members("one"), members("two")
    if kind == "json":  # the caption stays where it was
        one = {name: content for name, content in one.items() if not name.endswith("txt")}
    assert one == two
    assert ShardIndex.read(str(tmp_path / "one")).encoder == ShardIndex.read(str(tmp_path / "two")).encoder


def prompts_as(kind, tmp_path):
    path = tmp_path / f"prompts.{kind}"
    if kind == "txt":
        path.write_text("\n".join([*CAPTIONS, ""]))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"prompt": caption}) + "\n" for caption in CAPTIONS))
    elif kind == "csv":
        path.write_text("caption,score\n" + "".join(f'"{caption}",1\n' for caption in CAPTIONS))
    elif kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.table({"caption": CAPTIONS}), path)
    else:
        path = tmp_path / "prompts"
        path.mkdir()
        for number, caption in enumerate(CAPTIONS):
            (path / f"{number}.txt").write_text(caption)
    return path


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet", "folder"])
def test_prompts_alone_make_conditions_without_images(saved, tmp_path, kind):
    pipeline, folder = saved(NAME)
    dest = tmp_path / "set"
    assert encode(prompts_as(kind, tmp_path), dest, folder, "--shuffle", "0") == 0
    index = ShardIndex.read(str(dest))
    assert index.image_size is None
    assert list(index.encoder) == ["text"]
    tokens = CASES[NAME].tokens
    encoder = PipelineEncoder(folder=folder, pipeline=NAME, config=config_of(pipeline), tokens=tokens)
    data = Prompts(path=str(dest), shape=CASES[NAME].shape, encoder=encoder)
    data.open(seed=0, device=torch.device("cpu"))
    told = data.captions(5)
    assert sorted(told) == sorted(CAPTIONS)
    torch.testing.assert_close(data.condition_examples(0, 5)["text"], encoder(told)["text"], rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_workers_and_a_second_run_give_the_same_bytes(saved, pictures, tmp_path):
    _, folder = saved(NAME)
    assert encode(pictures, tmp_path / "one", folder, "--shard-size", "3") == 0
    assert encode(pictures, tmp_path / "two", folder, "--shard-size", "3", "--workers", "2") == 0
    for name in ("train-000000.tar", "train-000001.tar"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with Image.open(tmp_path / "one" / "preview.png") as preview:
        assert preview.width > SIDE


def test_pictures_of_several_sizes_are_encoded_into_buckets(saved, pictures, tmp_path, capsys):
    """Each set holds what the pictures of that size alone would be encoded to."""
    pipeline, folder = saved(NAME)
    for number in (1, 3, 4):
        Image.open(pictures / f"{number}.png").resize((SIDE // 2, SIDE)).save(pictures / f"{number}.png")
    dest = tmp_path / "set"
    assert encode(pictures, dest, folder, "--buckets", "12", "--resolution", "60") == 2
    assert "no multiples of 8, the pixels of a latent" in capsys.readouterr().err
    assert encode(pictures, dest, folder, "--buckets", "64x64,32x64,64x32", "--shuffle", "0") == 0
    tokens, found = CASES[NAME].tokens, {"32x64": (1, 3, 4), "64x64": (0, 2)}
    assert {path.name for path in dest.iterdir()} == {*found, "buckets.gin"}
    lines = (dest / "buckets.gin").read_text().splitlines()
    assert "bucket32x64/Streaming.shape = (8, 8, 4)" in lines
    order = [line.split("/")[0].strip() for line in lines if line.startswith("    @")]
    assert order == ["@bucket32x64", "@bucket64x64"]  # of the most pictures first
    for name, numbers in found.items():
        alone = tmp_path / f"of_{name}"
        alone.mkdir()
        for path in (pictures / f"{number}.{kind}" for number in numbers for kind in ("png", "txt")):
            (alone / path.name).write_bytes(path.read_bytes())
        assert encode(alone, tmp_path / name, folder, "--shuffle", "0") == 0
        one, two = opened(dest / name, pipeline, folder, tokens), opened(tmp_path / name, pipeline, folder, tokens)
        assert same(one.examples(0, len(numbers)), two.examples(0, len(numbers)))
        assert sorted(one.captions(9)) == sorted(CAPTIONS[number] for number in numbers)
        assert one.made_by() == two.made_by()


def other_caption(folder, text):
    (folder / "2.txt").unlink()
    (folder / "2.json").write_text(json.dumps({"text": text}))


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (lambda f: (f / "2.txt").unlink(), [], "2.png has no caption"),
        (lambda f: other_caption(f, ["a", "b"]), [], "2.png: its text is no text but ['a', 'b']"),
        (lambda f: other_caption(f, "\ud800"), [], "2.png: its text cannot be written in UTF-8"),
        (lambda f: None, ["--resolution", "60"], "60x60 do not divide"),
        (lambda f: None, ["--format", "jpg"], "--encode takes no --format: latents are stored as arrays"),
        (lambda f: None, ["--grey"], "--encode takes no --grey: autoencoders take pictures in colour"),
        (lambda f: None, ["--pairs", "x"], "--encode takes no --pairs: it makes latents of single pictures"),
        (lambda f: np.save(f / "9.npy", np.zeros((4, SIDE, SIDE), np.uint8)), [], "is an array of uint8 (4, 64, 64)"),
        (lambda f: np.save(f / "9.npy", np.zeros((2, SIDE, SIDE), np.uint8)), [], "is an array of uint8 (2, 64, 64)"),
        (lambda f: np.save(f / "9.npy", np.zeros((4, 8, 8), np.float16)), [], "is an array of float16"),
    ],
)
def test_what_cannot_be_encoded_is_told_in_a_line(saved, pictures, tmp_path, capsys, change, more, words):
    _, folder = saved(NAME)
    change(pictures)
    assert encode(pictures, tmp_path / "set", folder, *more) == 2
    error = capsys.readouterr().err.splitlines()  # transformers draws bars before
    assert words in error[-1]
    assert error[-1].startswith("make_shards: ")
    assert not (tmp_path / "set" / "index.json").exists()


def test_a_folder_that_is_no_pipeline_is_told_in_a_line(pictures, tmp_path, capsys):
    assert encode(pictures, tmp_path / "set", pictures) == 2
    assert "is no folder of a pipeline" in capsys.readouterr().err
    assert main([str(pictures), str(tmp_path / "set"), "--encode", "gin/fm_digits.gin"]) == 2
    assert "gin/fm_digits.gin binds no Teacher.encoder" in capsys.readouterr().err
    assert encode(pictures, tmp_path / "set", "gin/teachers/sdxl.gin") == 2
    assert "--tokens is told by gin/teachers/sdxl.gin" in capsys.readouterr().err


def test_sides_that_an_autoencoder_refuses_are_told_in_a_line(saved, pictures, tmp_path, capsys):
    """AutoencoderDC fails at them; others round them."""
    _, folder = saved("SanaPipeline")
    assert encode(pictures, tmp_path / "set", folder, "--resolution", "61") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("make_shards: pictures of 61x61 cannot be encoded by")
    assert error.endswith("choose another --resolution")


def test_shards_of_pairs_are_refused(saved, pictures, tmp_path, capsys):
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(len(CAPTIONS)):
        picture(number).save(sources / f"{number}.png")
    assert main([str(pictures), str(tmp_path / "pairs"), "--pairs", str(sources), "--quiet"]) == 0
    assert encode(tmp_path / "pairs", tmp_path / "set", saved(NAME)[1]) == 2
    assert "make_shards: the source holds pairs, of which --encode" in capsys.readouterr().err
    assert not (tmp_path / "set" / "index.json").exists()


def test_a_pattern_of_encoded_shards_is_refused_for_what_it_lacks(saved, pictures, tmp_path, capsys):
    """Of 16 bits only the index of the folder says that they are bfloat16, and what made them."""
    assert encode(pictures, tmp_path / "set", saved(NAME)[1]) == 0
    pattern = f"{tmp_path}/set/train-*.tar"
    assert main([pattern, str(tmp_path / "again"), "--quiet"]) == 2
    assert "text.npy holds 16 bits, of which only an index says" in capsys.readouterr().err
    assert main([str(tmp_path / "set"), str(tmp_path / "again"), "--quiet"]) == 0
    assert ShardIndex.read(str(tmp_path / "again")).encoder == ShardIndex.read(str(tmp_path / "set")).encoder
    latents = Streaming(path=pattern, shape=(8, 8, 8))
    with pytest.raises(DataError, match=r"no index says what made its latents: .* not a pattern"):
        EncodedLatents(data=latents, autoencoder=PipelineAutoencoder(folder="nowhere", pipeline=NAME)).missing()


def test_checksums_are_of_the_files_that_are_read(saved, tmp_path):
    """A copy from a hub lacks the others."""
    pipeline, folder = saved(NAME)

    def checksums():
        encoder = PipelineEncoder(folder=str(tmp_path / "copy"), pipeline=NAME, config=config_of(pipeline))
        return encoder.checksum, PipelineAutoencoder(folder=str(tmp_path / "copy"), pipeline=NAME).checksum

    shutil.copytree(folder, tmp_path / "copy")
    before = checksums()
    for part in ("text_encoder", "vae"):
        for name in ("README.md", "model.fp16.safetensors", "pytorch_model.bin", "model.onnx", ".gitattributes"):
            (tmp_path / "copy" / part / name).write_bytes(b"x")
    assert checksums() == before
    read = ("text_encoder/model.safetensors", 0), ("vae/diffusion_pytorch_model.safetensors", 1)
    for name, number in (*read, ("tokenizer/tokenizer_config.json", 0)):
        with (tmp_path / "copy" / name).open("ab") as file:
            file.write(b" ")
        assert checksums()[number] != before[number]
        before = checksums()


def test_the_autoencoder_is_read_once(saved, pictures, tmp_path, monkeypatch):
    from realuid.pretrained.pipelines import autoencoder, decoder

    loaded, load = [], autoencoder.load_autoencoder
    for module in (autoencoder, decoder):
        monkeypatch.setattr(module, "load_autoencoder", lambda *args: loaded.append(args) or load(*args))
    assert encode(pictures, tmp_path / "set", saved(NAME)[1]) == 0
    assert (tmp_path / "set" / "preview.png").exists()
    assert len(loaded) == 1


def test_weights_do_not_travel_to_other_processes(saved):
    pipeline, folder = saved(NAME)
    encoder = PipelineEncoder(folder=folder, pipeline=NAME, config=config_of(pipeline), tokens=32)
    autoencoder = PipelineAutoencoder(folder=folder, pipeline=NAME)
    encoder(["a"]), autoencoder(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    for part in (encoder, autoencoder):
        assert part.checksum in vars(pickle.loads(pickle.dumps(part))).values()
        assert len(pickle.dumps(part)) < 5000


def test_a_gin_file_tells_the_encoders_of_its_teacher():
    encoding = described_encoding("gin/teachers/sdxl.gin")
    assert [str(field) for field in encoding.conditions] == ["text [77, 2048] bfloat16", "pooled [1280] bfloat16"]
    assert encoding.autoencoder.folder == encoding.encoder.folder


RECIPE = """
include 'gin/base/pipeline_table.gin'
include 'gin/base/distillation.gin'
TEACHER = '{teacher}'
PIPELINE = '{name}'
SHAPE = (4, 8, 8)
TOKENS = {tokens}
CONFIG = {config}
SAMPLER_STEPS = 2
TableGrid.spacing = 'trailing'
Trainer.data = @EncodedLatents()
EncodedLatents.data = @InMemory()
EncodedLatents.autoencoder = @PipelineAutoencoder()
PipelineAutoencoder.folder = '{autoencoder}'
PipelineAutoencoder.pipeline = %PIPELINE
InMemory.path = '{data}'
InMemory.shape = (8, 8, 8)
InMemory.encoder = %ENCODER
Trainer:
    evaluator = None
    batch = 4
    images = 8
    log_images = 4
    sample_images = 8
    checkpoint_images = 8
Distillation:
    loss = @RealUID()
    fake_steps = 1
    real_batch = 2
    fake_init = 'teacher'
Teacher.model = @teacher/MatchingModel()
RealUID.target = @Noise()
RealUID.alpha = 0.95
RealUID.beta = 0.9
EMA.decays = (0.9,)
Adam.lr = 1e-4
Adam.lr_schedule = @CosineLR()
CosineLR.images = 8
CosineLR.warm_up = 0
DDPMInterpolant.betas = 'linear'
"""


@pytest.fixture(scope="module")
def encoded(saved, tmp_path_factory):
    """A set that the small PixArt encoded, its prompts alone, and a function that makes a recipe on it."""
    pipeline, teacher = saved(NAME)
    root = tmp_path_factory.mktemp("encoded")
    (root / "pictures").mkdir()
    for number, caption in enumerate(CAPTIONS):
        picture(number).save(root / "pictures" / f"{number}.png")
        (root / "pictures" / f"{number}.txt").write_text(caption)
    (root / "prompts.txt").write_text("\n".join(CAPTIONS))
    assert encode(root / "pictures", root / "set", teacher) == 0
    assert encode(root / "prompts.txt", root / "prompts", teacher) == 0
    config = {name: value for name, value in pipeline.transformer.config.items() if not name.startswith("_")}
    given = {"teacher": teacher, "autoencoder": teacher, "name": NAME, "tokens": CASES[NAME].tokens, "config": config}

    def recipe(statements="", **changes):
        path = root / "recipe.gin"
        text = RECIPE.format(**(given | {"data": root / "set"} | changes))
        path.write_text(f"{text}\n{statements}\n".replace("{root}", str(root)))
        return ["--gin", str(path)]

    return recipe


def other_part(folder, part, model, to):
    """A copy of a pipeline with another part."""
    shutil.copytree(folder, to)
    model.save_pretrained(to / part)
    return str(to)


def refused(arguments, tmp_path, capsys, *words):
    assert train([*arguments, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    for word in words:
        assert word in error


def test_an_encoded_set_is_distilled(encoded, tmp_path):
    assert train([*encoded(), "--out", str(tmp_path / "run")]) == 0
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(line["generator_loss"])


def test_generated_samples_take_prompts_alone(encoded, tmp_path):
    statements = """
Trainer.prompts = @Prompts()
Prompts.path = '{root}/prompts'
Prompts.shape = %SHAPE
Prompts.encoder = %ENCODER
"""
    assert train([*encoded(statements), "--out", str(tmp_path / "run")]) == 0


def test_another_text_encoder_is_refused(encoded, saved, tmp_path, capsys):
    other = other_part(saved(NAME)[1], "text_encoder", t5(32, seed=11), tmp_path / "other")
    refused(encoded(teacher=other), tmp_path, capsys, "InMemory.encoder", "were made by PixArtSigmaPipeline")


def test_another_autoencoder_is_refused(encoded, saved, tmp_path, capsys):
    from tests.pretrained.pipelines.small import autoencoder

    other = other_part(saved(NAME)[1], "vae", autoencoder(seed=12, scaling_factor=0.13025), tmp_path / "other")
    refused(encoded(autoencoder=other), tmp_path, capsys, "EncodedLatents.autoencoder", "were made by AutoencoderKL")


def test_a_teacher_with_another_scaling_of_the_same_weights_is_refused(encoded, saved, tmp_path, capsys):
    _, folder = saved(NAME)
    shutil.copytree(folder, tmp_path / "other")
    place = tmp_path / "other" / "vae" / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"scaling_factor": 0.5}))
    refused(encoded(autoencoder=str(tmp_path / "other")), tmp_path, capsys, "EncodedLatents.autoencoder")


def test_embeddings_of_another_length_are_refused(encoded, tmp_path, capsys):
    refused(encoded(tokens=40), tmp_path, capsys, "needs text [40, 32] bfloat16, but text [32, 32] bfloat16 is given")


def test_a_missing_field_is_refused(encoded, tmp_path, capsys):
    statements = "InMemory.encoder = None\nInMemory.conditions = (@mask/Field(),)\nmask/Field.name = 'mask'\n"
    statements += "mask/Field.shape = (32,)\nmask/Field.dtype = 'bool'"
    refused(encoded(statements), tmp_path, capsys, "PipelineNetwork needs text [32, 32]", "which is not given (mask")


def test_a_set_without_images_is_refused_where_a_loss_needs_them(encoded, tmp_path, capsys):
    arguments = encoded("InMemory.path = '{root}/prompts'")
    refused(arguments, tmp_path, capsys, "holds conditions without images", "@Prompts()")
    arguments = encoded(
        "Trainer.data = @Prompts()\nPrompts.path = '{root}/prompts'\nPrompts.shape = %SHAPE\nPrompts.encoder = %ENCODER"
    )
    refused(arguments, tmp_path, capsys, "@Prompts() gives conditions without images", "Trainer.prompts")


def test_prompts_alone_do_for_a_loss_without_real_data(encoded, tmp_path):
    statements = """
Trainer.data = @Prompts()
Prompts.path = '{root}/prompts'
Prompts.shape = %SHAPE
Prompts.encoder = %ENCODER
RealUID.alpha = 1.0
RealUID.beta = 1.0
"""
    assert train([*encoded(statements), "--out", str(tmp_path / "run")]) == 0


def test_a_set_that_nobody_encoded_is_refused():
    with pytest.raises(DataError, match="no index says what made its latents"):
        EncodedLatents(
            data=InMemory(path="digits", shape=(2, 8, 8)),
            autoencoder=PipelineAutoencoder(folder="nowhere", pipeline=NAME),
        ).open(seed=0, device=torch.device("cpu"))

"""Encoding while training: the other binding of the same pictures and captions gives the same batches."""

import json

import pytest
import torch

from realuid.commands.make_shards import main
from realuid.conditions.caption import Caption
from realuid.data.encoded import Encoded
from realuid.data.encoded_latents import EncodedLatents
from realuid.data.memory import InMemory
from realuid.data.streaming import Streaming
from realuid.pretrained.pipelines.autoencoder import PipelineAutoencoder
from realuid.pretrained.pipelines.encoder import PipelineEncoder
from realuid.utils.errors import DataError
from tests.pretrained.pipelines.cases import CASES
from tests.pretrained.pipelines.test_encoding import CAPTIONS, NAME, SIDE, config_of, encode, picture, tar_of

SHAPE = (4, 8, 8)


@pytest.fixture
def encoders(saved):
    pipeline, folder = saved(NAME)
    tokens = CASES[NAME].tokens
    return {
        "encoder": PipelineEncoder(folder=folder, pipeline=NAME, config=config_of(pipeline), tokens=tokens),
        "autoencoder": PipelineAutoencoder(folder=folder, pipeline=NAME),
    }


@pytest.fixture
def sets(saved, tmp_path):
    """The same pictures and captions as shards, raw and encoded."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, caption in enumerate(CAPTIONS):
        picture(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    assert main([str(folder), str(tmp_path / "raw"), "--quiet"]) == 0
    assert encode(folder, tmp_path / "encoded", saved(NAME)[1]) == 0
    return str(tmp_path / "raw"), str(tmp_path / "encoded")


def opened(data):
    data.open(seed=3, device=torch.device("cpu"))
    return data


@pytest.mark.parametrize("kind", [InMemory, Streaming])
def test_both_bindings_give_the_same_batches(sets, encoders, kind):
    raw, stored = sets
    pictures = kind(path=raw, shape=(3, SIDE, SIDE), conditions=(Caption(),))
    now = opened(Encoded(data=pictures, shape=SHAPE, **encoders))
    latents = InMemory(path=stored, shape=(8, 8, 8), encoder=encoders["encoder"])
    before = opened(EncodedLatents(data=latents, autoencoder=encoders["autoencoder"]))
    assert now.missing() is None
    assert now.conditions == before.conditions
    assert now.latent_scaling == before.latent_scaling
    for method in ("batch", "examples"):
        one, two = (getattr(data, method)(2, 7) for data in (now, before))
        assert one.images.shape == (7, *SHAPE)
        torch.testing.assert_close(one.images, two.images, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(one.condition["text"], two.condition["text"], rtol=0.02, atol=0.02)
        assert torch.equal(one.condition["mask"], two.condition["mask"])
    one, two = (data.condition_batch(5, 3)["text"] for data in (now, before))
    torch.testing.assert_close(one, two, rtol=0.02, atol=0.02)
    assert now.captions(5) == before.captions(5)


def test_shards_of_others_are_encoded_by_a_pattern(encoders, tmp_path):
    tar_of(tmp_path / "set-000.tar", "json")
    pictures = Streaming(path=str(tmp_path / "set-{000..000}.tar"), shape=(3, SIDE, SIDE), conditions=(Caption(),))
    data = opened(Encoded(data=pictures, shape=SHAPE, **encoders))
    expected = encoders["encoder"](CAPTIONS)
    torch.testing.assert_close(data.examples(0, 5).condition["text"], expected["text"], rtol=0.02, atol=0.02)


def test_what_does_not_fit_is_told(sets, encoders):
    raw, _ = sets
    with pytest.raises(ValueError, match=r"InMemory.conditions = \(@Caption\(\),\)"):
        Encoded(data=InMemory(path=raw, shape=(3, SIDE, SIDE)), shape=SHAPE, **encoders)
    pictures = InMemory(path=raw, shape=(3, SIDE, SIDE), conditions=(Caption(),))
    with pytest.raises(DataError, match=r"Encoded.shape is \(4, 9, 8\).*give latents of \(4, 8, 8\)"):
        opened(Encoded(data=pictures, shape=(4, 9, 8), **encoders)).batch(0, 1)
    with pytest.raises(ValueError, match=r"Encoded\.data gives arrays of 4 channels, which are no pictures"):
        Encoded(data=InMemory(path=raw, shape=(4, SIDE, SIDE), conditions=(Caption(),)), shape=SHAPE, **encoders)
    with pytest.raises(DataError, match=r"its caption has 20 bytes, more than Caption.length = 8"):
        opened(InMemory(path=raw, shape=(3, SIDE, SIDE), conditions=(Caption(length=8),)))


def test_a_sample_without_a_caption_is_told(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        picture(number).save(folder / f"{number}.png")
    (folder / "0.txt").write_text("a cube")
    (folder / "1.json").write_text(json.dumps({"author": "nobody"}))
    assert main([str(folder), str(tmp_path / "raw"), "--quiet"]) == 0
    with pytest.raises(DataError, match="has no caption"):
        opened(InMemory(path=str(tmp_path / "raw"), shape=(3, SIDE, SIDE), conditions=(Caption(),)))


def test_pairs_are_refused(encoders):
    """Their source images would stay pictures."""
    pairs = InMemory(path="x", shape=(3, SIDE, SIDE), pairs=True, conditions=(Caption(),))
    with pytest.raises(ValueError, match=r"Encoded\.data gives pairs, whose source images are no latents"):
        Encoded(data=pairs, shape=SHAPE, **encoders)
    stored = InMemory(path="x", shape=(8, 8, 8), pairs=True)
    with pytest.raises(ValueError, match=r"EncodedLatents\.data gives pairs"):
        EncodedLatents(data=stored, autoencoder=encoders["autoencoder"])


def test_a_pipeline_that_is_not_there_is_missing(sets, saved):
    raw, stored = sets
    config, tokens = config_of(saved(NAME)[0]), CASES[NAME].tokens
    encoder = PipelineEncoder(folder="nowhere", pipeline=NAME, config=config, tokens=tokens)
    autoencoder = PipelineAutoencoder(folder="nowhere", pipeline=NAME)
    pictures = InMemory(path=raw, shape=(3, SIDE, SIDE), conditions=(Caption(),))
    for data in (
        InMemory(path=stored, shape=(8, 8, 8), encoder=encoder),
        EncodedLatents(data=InMemory(path=stored, shape=(8, 8, 8)), autoencoder=autoencoder),
        Encoded(data=pictures, encoder=encoder, autoencoder=autoencoder, shape=SHAPE),
    ):
        assert "there is no folder nowhere" in data.missing()

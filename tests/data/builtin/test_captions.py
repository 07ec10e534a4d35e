"""Captions in shards that are read for an encoder."""

import json

import numpy as np
import pytest
import torch

from realuid.conditions.caption import Caption, texts
from realuid.data.memory import InMemory
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import encode, shards_set, tar


def opened(kind, path, **changes):
    data = kind(path=path, shape=(1, 2, 2), conditions=(Caption(length=16),), **changes)
    data.open(seed=0, device=torch.device("cpu"))
    return data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["a", "b"], "sample 1: its text is no text but"),
        (5, "sample 1: its text is no text but 5"),
        ("\ud800", "sample 1: its text cannot be written in UTF-8"),
        (" ", "sample 1: it has no caption"),
    ],
)
@pytest.mark.parametrize("kind", [InMemory, Streaming])
def test_a_caption_that_is_none_is_damage(tmp_path, kind, text, message):
    image = encode(np.zeros((2, 2), np.uint8))
    members = [("0.png", image), ("0.txt", b"one"), ("1.png", image), ("1.json", json.dumps({"text": text}).encode())]
    path = shards_set(tmp_path / "set", [tar(members)], [2], classes=[])
    with pytest.raises(DataError, match=message):
        opened(kind, path).examples(0, 2)
    if kind is Streaming:
        data = opened(kind, path, tolerate=1)
        assert texts(data.examples(0, 2).condition["caption"]) == ["one", "one"]
        assert len(data.damaged()) == 1

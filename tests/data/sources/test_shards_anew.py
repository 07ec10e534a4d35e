"""Shards packed anew: nothing of them is lost."""

import io
import tarfile

import numpy as np
import pytest
import torch

from realuid.conditions import LABEL, Field
from realuid.data.memory import Prompts
from realuid.data.shards.index import ShardIndex
from realuid.data.shards.writer import NewSample, write_shards
from tests.data.handmade import encode, grey_members, numbered_set, numbers_of, tar
from tests.data.making import images, make, refused, stored


def test_shards_packed_anew(tmp_path):
    path = numbered_set(tmp_path / "set", [5, 9, 2], gz=True)
    index = make(path, tmp_path / "out", "--shard-size", "6")
    assert [shard.samples for shard in index.splits["train"].shards] == [6, 6, 4]
    assert index.channels == 1
    assert numbers_of(stored(tmp_path / "out").images) == list(range(16))  # mixed once is mixed
    assert torch.equal(stored(tmp_path / "out").condition[LABEL], torch.arange(16) % 3)
    with (
        tarfile.open(tmp_path / "set" / "train-000000.tar.gz") as old,
        tarfile.open(tmp_path / "out" / "train-000000.tar") as new,
    ):
        for member in old:  # the files themselves are kept
            assert new.extractfile(member.name).read() == old.extractfile(member).read()
    pattern = make(f"{path}/train-00000[02].tar.gz", tmp_path / "some")
    assert pattern.splits["train"].samples == 7
    assert pattern.classes == ("0", "1", "2")


def labelled(labels, kind="cls"):
    members = []
    for i, label in enumerate(labels):
        members.append((f"{i:03d}.png", encode(images(1, seed=i)[0])))
        if label is not None:
            members.append((f"{i:03d}.{kind}", label))
    return tar(members)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([b"0", b"1", b"x", b"1"], "sample 002: its label is no whole number"),
        ([b"0", b"", b"1"], "sample 001: its label is no whole number"),
        ([b"0", b"1.5", b"1"], "sample 001: its label is no whole number"),
        ([b"0", b"-1", b"1"], "sample 001: its label is no whole number"),
        ([b"0", b"1", None, b"0"], "sample 002 has no label, but"),
        ([None, b"1", b"1"], "sample 000 has no label, but"),
    ],
)
def test_one_label_that_is_none_does_not_drop_the_others(tmp_path, capsys, labels, message):
    (tmp_path / "x.tar").write_bytes(labelled(labels))
    assert message in refused(capsys, tmp_path / "x.tar", tmp_path / "out")
    assert make(tmp_path / "x.tar", tmp_path / "none", "--labels", "none").classes == ()


def test_a_shard_without_samples_among_others(tmp_path, capsys):
    (tmp_path / "t-0.tar").write_bytes(tar([]))
    (tmp_path / "t-1.tar").write_bytes(labelled([b"1", b"0", b"1"]))
    index = make(tmp_path / "t-*.tar", tmp_path / "out")
    assert (index.splits["train"].labels, len(index.splits["train"].shards)) == ((1, 2), 1)
    (tmp_path / "t-1.tar").write_bytes(tar([]))
    assert "are empty" in refused(capsys, tmp_path / "t-*.tar", tmp_path / "no")


@pytest.mark.parametrize("without", [0, 3, 5])
def test_one_source_that_is_missing_does_not_drop_the_pairs(tmp_path, capsys, without):
    members = []
    for i in range(6):
        members.append((f"{i}.target.png", encode(images(1, seed=i)[0])))
        if i != without:
            members.append((f"{i}.source.png", encode(images(1, seed=i + 10)[0])))
    (tmp_path / "p.tar").write_bytes(tar(members))
    assert f"sample {without} has no source image, but" in refused(capsys, tmp_path / "p.tar", tmp_path / "out")


def test_captions_and_fields_are_kept(tmp_path):
    """Also those that an index describes; members that nobody knows are named."""
    fields = (Field("text", (2, 3), "bfloat16"), Field("pooled", (4,), "float32"))
    rng = np.random.default_rng(0)
    samples = [
        NewSample(
            rng.integers(0, 256, (3, 4, 4), np.uint8),
            i % 2,
            f"caption {i}",
            {"text": rng.integers(0, 2**16, (2, 3)).astype(np.uint16), "pooled": rng.random(4, np.float32)},
        )
        for i in range(7)
    ]
    about = {"name": "c", "classes": "ab", "shape": (3, 4, 4), "source": "-", "licence": "-", "shard_size": 3}
    made_by = {"text": "an encoder 123"}
    write_shards(samples, str(tmp_path / "set"), split="train", conditions=fields, encoder=made_by, **about)
    index = make(tmp_path / "set", tmp_path / "out", "--shard-size", "5")
    assert (index.conditions, index.encoder) == (fields, made_by)
    one, other = (stored(tmp_path / name, conditions=fields) for name in ("set", "out"))
    assert torch.equal(one.images, other.images)
    for name in ("label", "text", "pooled"):
        first, second = one.condition[name], other.condition[name]
        assert first.dtype == second.dtype
        assert torch.equal(first.view(torch.uint8), second.view(torch.uint8))  # bit for bit, as some are no numbers
    shard = ShardIndex.read(str(tmp_path / "out")).splits["train"].shards[0].file
    with tarfile.open(tmp_path / "out" / shard) as archive:
        assert archive.extractfile("000000004.txt").read() == b"caption 4"


def test_fields_of_shards_without_an_index(tmp_path, capsys):
    file = io.BytesIO()
    np.save(file, np.arange(6, dtype=np.float16).reshape(2, 3))
    members = [("0.png", encode(images(1)[0])), ("0.text.npy", file.getvalue()), ("0.pyd", b"?")]
    (tmp_path / "x.tar").write_bytes(tar(members))
    index = make(tmp_path / "x.tar", tmp_path / "out")
    assert index.conditions == (Field("text", (2, 3), "float16"),)
    assert "members of other kinds are left out: pyd" in capsys.readouterr().out
    data = Prompts(path=str(tmp_path / "out"), shape=(3, 6, 6), conditions=index.conditions)
    data.open(seed=0, device=torch.device("cpu"))
    assert data.condition_examples(0, 1)["text"].flatten().tolist() == list(range(6))
    (tmp_path / "y.tar").write_bytes(tar([*members, ("1.png", encode(images(1)[0]))]))
    assert "sample 1 has no member text.npy, but" in refused(capsys, tmp_path / "y.tar", tmp_path / "no")


def test_labels_of_shards_are_not_replaced(tmp_path, capsys):
    path = numbered_set(tmp_path / "set", [4])
    (tmp_path / "labels.csv").write_text("000000000.png,1\n")
    for source in (path, f"{path}/*.tar"):
        line = refused(capsys, source, tmp_path / "no", "--labels", str(tmp_path / "labels.csv"))
        assert "has labels of its own" in line


def test_a_relative_path_is_one_of_the_working_directory(tmp_path, monkeypatch):
    """As of a folder of images, whatever REALUID_DATA says; data sets lie there, and this is none yet."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "x.tar").write_bytes(tar(grey_members(3)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "elsewhere"))
    assert make("here/x.tar", tmp_path / "one").splits["train"].samples == 3
    assert make("here/*.tar", tmp_path / "two").splits["train"].samples == 3
    assert make(tmp_path / "here" / "{x..x}.tar", tmp_path / "three").splits["train"].samples == 3

"""Conditions in shards: what is written comes back, bit for bit, however it is read."""

import dataclasses
import io
import json
import uuid

import numpy as np
import pytest
import torch

from realuid.conditions import Field
from realuid.data.augment import Cropped, Flipped
from realuid.data.dataset import FAR
from realuid.data.degradations import CentreMask
from realuid.data.memory import InMemory, Prompts
from realuid.data.mixed import Mixed
from realuid.data.pairs import Degraded, ImageCondition, Unpaired
from realuid.data.prefetched import Prefetched
from realuid.data.shards.decode import stored_dtype
from realuid.data.shards.index import ShardIndex
from realuid.data.shards.writer import NewSample, write_shards
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests import s3
from tests.data.handmade import encode, shards_set, tar

CPU = torch.device("cpu")
FIELDS = (
    Field("text", (3, 4), "bfloat16"),
    Field("mask", (3,), "bool"),
    Field("pooled", (4,), "float16"),
    Field("scale", (), "float64"),
    Field("tokens", (3,), "int32"),
    Field("bytes", (2, 2), "uint8"),
    Field("many", (1,), "uint16"),
    Field("waves", (2,), "complex64"),
)


def bits(dtype, shape, rng):
    """Any bits at all, so that what is no number comes back, too."""
    dtype = stored_dtype(Field("x", (), dtype))
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    return np.frombuffer(rng.bytes(int(np.prod(shape, dtype=int)) * dtype.itemsize), dtype).reshape(shape)


def written(dest, count=23, shape=(3, 4, 6), classes="ab", fields=FIELDS, seed=0, **changes):
    rng = np.random.default_rng(seed)
    samples = [
        NewSample(
            None if shape is None else rng.integers(0, 256, shape, np.uint8),
            i % max(1, len(classes)),
            fields={field.name: bits(field.dtype, field.shape, rng) for field in fields},
        )
        for i in range(count)
    ]
    about = {"name": "fields", "source": "-", "licence": "-", "shard_size": 5} | changes
    write_shards(samples, str(dest), split="train", classes=classes, shape=shape, conditions=fields, **about)
    return samples


def opened(data, seed=0):
    data.open(seed=seed, device=CPU)
    return data


def raw(tensor):
    """The bits of a tensor."""
    return tensor.contiguous().view(torch.uint8) if tensor.ndim else tensor.reshape(1).view(torch.uint8)


def same(one, other):
    assert list(one) == list(other)
    return all(
        a.dtype == b.dtype and torch.equal(raw(a), raw(b)) for a, b in zip(one.values(), other.values(), strict=True)
    )


def arguments(path, shape=(3, 4, 6), **changes):
    return {"path": str(path), "shape": shape, "classes": 2, "conditions": FIELDS} | changes


@pytest.mark.parametrize("cls", [InMemory, Streaming, Prompts])
def test_every_type_comes_back_bit_for_bit(tmp_path, cls):
    samples = written(tmp_path / "set")
    data = opened(cls(**arguments(tmp_path / "set")))
    condition = data.condition_examples(0, len(samples))
    for field in FIELDS:
        tensor = condition[field.name]
        assert (tensor.dtype, tuple(tensor.shape[1:])) == (field.torch_dtype, field.shape)
        for row, sample in enumerate(samples):
            assert raw(tensor[row]).numpy().tobytes() == sample.fields[field.name].tobytes()
    assert condition["label"].tolist() == [i % 2 for i in range(23)]


def test_what_is_not_asked_for_is_not_read(tmp_path):
    written(tmp_path / "set")
    some = opened(Streaming(**arguments(tmp_path / "set", conditions=FIELDS[3:1:-1], classes=0)))
    assert set(some.batch(0, 4).condition) == {"scale", "pooled"}
    none = opened(InMemory(path=str(tmp_path / "set"), shape=(3, 4, 6)))
    assert none.batch(0, 4).condition.samples is None


WRAPPED = {
    "bare": lambda path: Streaming(**arguments(path, shuffle=9)),
    "in memory": lambda path: InMemory(**arguments(path)),
    "flipped": lambda path: Flipped(data=Streaming(**arguments(path, shuffle=2))),
    "cropped": lambda path: Cropped(data=InMemory(**arguments(path)), size=3),
    "degraded": lambda path: Degraded(data=Streaming(**arguments(path)), degradation=CentreMask()),
    "beside noise": lambda path: ImageCondition(data=Streaming(**arguments(path)), degradation=CentreMask()),
    "unpaired": lambda path: Unpaired(data=InMemory(**arguments(path)), source=Streaming(**arguments(path))),
    "mixed": lambda path: Mixed(
        sets=(InMemory(**arguments(path)), Streaming(**arguments(path, shuffle=1))), weights=(1.0, 2.0)
    ),
    "mixed, beside noise": lambda path: ImageCondition(
        data=Mixed(sets=(InMemory(**arguments(path)), Streaming(**arguments(path))), weights=(3.0, 1.0)),
        degradation=CentreMask(),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_conditions_alone_are_those_of_batches(tmp_path, name):
    """From FAR on in the order, and in the order of storage; in whatever pieces they are asked for."""
    written(tmp_path / "set")
    data = opened(WRAPPED[name](tmp_path / "set"))
    whole = data.condition_batch(7, 60)
    assert same(whole, data.batch(FAR + 7, 60).condition)
    parts = [data.condition_batch(7 + first, count) for first, count in ((0, 1), (1, 29), (30, 30))]
    assert same(whole, type(whole).cat(parts))
    assert same(data.condition_examples(3, 40), data.examples(3, 40).condition)
    assert [field.name for field in data.conditions] == list(whole)
    again = opened(WRAPPED[name](tmp_path / "set"))  # resumed anywhere
    assert same(again.condition_batch(30, 8), whole.take(slice(23, 31)))


def test_streaming_is_memory(tmp_path):
    written(tmp_path / "set")
    stream = opened(Streaming(**arguments(tmp_path / "set", shuffle=9)), seed=4)
    memory, prompts = (opened(cls(**arguments(tmp_path / "set")), seed=4) for cls in (InMemory, Prompts))
    for start, count in ((0, 23), (15, 40), (1234, 7)):
        assert same(stream.batch(start, count).condition, memory.batch(start, count).condition)
        assert same(stream.condition_batch(start, count), memory.condition_batch(start, count))
        assert same(stream.condition_batch(start, count), prompts.condition_batch(start, count))
        assert same(stream.condition_examples(start, count), prompts.condition_examples(start, count))
    assert stream.checksum == memory.checksum == prompts.checksum
    assert stream.label_counts.tolist() == prompts.label_counts.tolist() == [12, 11]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("inner", ["bare", "beside noise"])
def test_workers(tmp_path, method, inner):
    """Batches and conditions in turn, as training asks for them, and in another order after a resumption."""
    written(tmp_path / "set")
    plain = opened(WRAPPED[inner](tmp_path / "set"), seed=1)
    data = opened(Prefetched(data=WRAPPED[inner](tmp_path / "set"), workers=2, start_method=method), seed=1)
    for start in (0, 8, 16, 24, 4, 12):
        one, other = data.batch(start, 8), plain.batch(start, 8)
        assert torch.equal(one.images, other.images)
        assert same(one.condition, other.condition)
        assert same(data.condition_batch(start, 8), plain.condition_batch(start, 8))
    assert same(data.condition_examples(20, 6), plain.condition_examples(20, 6))
    assert data.wait_s() > 0


@pytest.mark.parametrize("place", ["memory", "s3"])
def test_far_away(tmp_path, monkeypatch, place):
    if place == "memory":
        url = f"memory://{uuid.uuid4().hex}/set"
        written(url)
        one, other = (opened(cls(**arguments(url))) for cls in (Streaming, Prompts))
        assert same(one.condition_batch(3, 30), other.condition_batch(3, 30))
        return
    with s3.served(monkeypatch):
        written("s3://bucket/set")
        one, other = (opened(cls(**arguments("s3://bucket/set"))) for cls in (Streaming, InMemory))
        assert same(one.condition_batch(3, 30), other.condition_batch(3, 30))
        assert torch.equal(one.batch(0, 23).images.sort(0).values, other.batch(0, 23).images.sort(0).values)


def test_prompts_without_images(tmp_path):
    """A set of conditions is a set; whoever wants images is told so."""
    samples = written(tmp_path / "set", shape=None)
    data = opened(Prompts(**arguments(tmp_path / "set", shape=(3, 8, 8))))
    assert (len(data), data.has_images, data.shape) == (len(samples), False, (3, 8, 8))
    with pytest.raises(DataError, match=r"gives conditions without images: bind Trainer.data to a set"):
        data.batch(0, 1)
    for cls in (InMemory, Streaming):
        with pytest.raises(DataError, match=rf"bind @Prompts\(\) in place of @{cls.__name__}"):
            cls(**arguments(tmp_path / "set", shape=(3, 8, 8))).missing()
    with pytest.raises(ValueError, match="bind an encoder, conditions or classes"):
        Prompts(path="x", shape=(3, 8, 8))
    labels = tmp_path / "labels"
    written(labels, shape=None, fields=())
    only = opened(Prompts(path=str(labels), shape=(3, 8, 8), classes=2))
    whole = -FAR % 23  # where one of the orders in which conditions are drawn begins
    assert sorted(only.condition_batch(whole, 23)["label"].tolist()) == [0] * 12 + [1] * 11


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


GOOD = npy(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("cls", [InMemory, Streaming, Prompts])
@pytest.mark.parametrize(
    ("member", "reason", "message"),
    [
        (None, "missing", r"the member text.npy \(the condition's text \[2, 3\] float32\) is missing"),
        (npy(np.zeros((3, 2), np.float32)), "size", r"text.npy is float32 \[3, 2\], not text \[2, 3\] float32"),
        (npy(np.zeros((2, 3), np.float64)), "size", r"text.npy is float64 \[2, 3\], not text"),
        (GOOD[:-4], "undecodable", "text.npy cannot be read"),
        (b"no array", "undecodable", "text.npy cannot be read"),
        (npy(np.array([object()]), allow_pickle=True), "undecodable", "text.npy cannot be read"),
    ],
    ids=["missing", "shape", "type", "cut", "garbage", "objects"],
)
def test_members_that_are_wrong(tmp_path, cls, member, reason, message):
    members = []
    for i in range(5):
        members += [(f"{i}.png", encode(np.full((2, 2), i, np.uint8))), (f"{i}.cls", b"0")]
        content = member if i == 3 else GOOD
        members += [(f"{i}.text.npy", content)] if content is not None else []
    field = Field("text", (2, 3), "float32")
    told = {"conditions": [dataclasses.asdict(field)]}
    path = shards_set(tmp_path / "set", [tar(members)], [5], **told)
    about = {"path": path, "shape": (1, 2, 2), "classes": 3, "conditions": (field,)}
    with pytest.raises(DataError, match=f"train-000000.tar, sample 3: {message}") as caught:
        opened(cls(**about)).condition_batch(0, 5)
    assert "\n" not in str(caught.value)
    data = opened(Streaming(**about, tolerate=1))
    assert sorted(data.batch(0, 5).images[:, 0, 0, 0].tolist()).count(3) == 0
    data.condition_batch(0, 20)
    assert data.faults() == {reason: 1}
    assert len(opened(InMemory(path=path, shape=(1, 2, 2), classes=3))) == 5  # whoever does not ask is not told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "label"}, "'label' is no name of a field"),
        ({"name": "Text"}, "'Text' is no name of a field"),
        ({"name": "a.b"}, "'a.b' is no name of a field"),
        ({"shape": [None, 3]}, "has no shape of its own"),
        ({"shape": [-1]}, "negative size"),
        ({"shape": ["x"]}, "conditions"),
        ({"dtype": "float8_e4m3fn"}, "numpy has no type to store"),
        ({"dtype": "string"}, "torch has no type 'string'"),
        ({"dtype": None}, "conditions.dtype is missing"),
    ],
)
def test_an_index_that_describes_no_fields(tmp_path, changes, message):
    written(tmp_path / "set")
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    index["conditions"][0] |= changes
    (tmp_path / "set" / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=message):
        ShardIndex.read(str(tmp_path / "set"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((Field("nothing", (3,)),), r"conditions: needs nothing \[3\] float32, which is not given"),
        ((Field("pooled", (5,), "float16"),), r"needs pooled \[5\] float16, but pooled \[4\] float16 is given"),
        ((Field("pooled", (4,), "float32"),), r"needs pooled \[4\] float32, but pooled \[4\] float16 is given"),
    ],
)
def test_declarations_are_checked(tmp_path, fields, message):
    written(tmp_path / "set")
    for cls in (InMemory, Streaming, Prompts):
        with pytest.raises(DataError, match=f"{cls.__name__}.conditions: .*" + message.removeprefix("conditions: ")):
            cls(**arguments(tmp_path / "set", conditions=fields)).missing()


def test_a_type_of_another_package_is_none_of_numpys(tmp_path):
    """Once ml_dtypes is imported, numpy knows float8 by its name."""
    pytest.importorskip("ml_dtypes")
    assert np.dtype("float8_e4m3fn").itemsize == 1
    with pytest.raises(TypeError, match="not numpy's own"):
        stored_dtype(Field("x", (3,), "float8_e4m3fn"))

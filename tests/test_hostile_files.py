"""Every loader against every kind of bomb and payload that it can meet: refused in one line, under two seconds and a
gigabyte, and nothing of it runs. What is read is a file that is right but for one thing."""

import collections
import hashlib
import io
import json
import os
import pickle
import shutil
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

import realuid
from realuid import checkpoints
from realuid.checkpoints import CheckpointStore
from realuid.checkpoints.nested import split
from realuid.commands.inspect_checkpoint import main as inspect
from realuid.commands.make_shards import main as make_shards
from realuid.config import Config, register_components
from realuid.data.image_files import read_images
from realuid.data.memory import InMemory
from realuid.data.sources import open_source
from realuid.data.streaming import Streaming
from realuid.evaluation.open_clip import read_weights
from realuid.evaluation.reference import read_reference
from realuid.evaluation.store import FeatureStore
from realuid.networks.adapter import DiffusersModel
from realuid.pretrained import read
from realuid.utils.errors import CheckpointError, DataError, RunError
from tests import hostile
from tests.data.handmade import encode, shards_set, tar
from tests.hostile import BOMB, STREAMS, WEIGHTS, Packed, deflated, gzipped, npy, pickled, refusal, stored, zipped

KNOWN = {"shape": (3, 8, 8), "head_channels": 32}


@pytest.fixture(autouse=True)
def _places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REALUID_DATA", str(tmp_path))


# Files of torch.save


def in_a_dict(key: str):
    """The pickle of a dict that holds the value under this key."""

    def around(value: bytes) -> bytes:
        inside = value[2:-1] if value[:1] == b"\x80" else value[:-1]
        return b"\x80\x02}X" + len(key).to_bytes(4, "little") + key.encode() + inside + b"s."

    return around


def put(name: str, form):
    def write(folder: Path, content: bytes) -> None:
        (folder / name).write_bytes(form(content))

    return write


def put_rest(folder: Path, content: bytes) -> None:
    """What is no tensor, in a sharded checkpoint that is right."""
    write_shards(folder)
    (folder / "step_00000001.json").unlink()
    (folder / "step_00000001" / "rest.pt").write_bytes(hostile.torch_file(content))


def put_slice(folder: Path, content: bytes) -> None:
    """The file of a tensor of the same length."""
    write_shards(folder)
    (folder / "step_00000001.json").unlink()
    (part,) = (folder / "step_00000001").glob("*.distcp")
    table = pickle.loads((folder / "step_00000001" / ".metadata").read_bytes())
    ((index, place),) = table.storage_data.items()
    part.write_bytes(hostile.torch_file(content))
    place.offset, place.length = 0, part.stat().st_size
    table.storage_data = {index: place}
    (folder / "step_00000001" / ".metadata").write_bytes(pickle.dumps(table))


def write_shards(folder: Path) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        state = {"step": 1, "weights": torch.zeros(4)}
        CheckpointStore(str(folder)).save_shards(1, *split(state), dist.group.WORLD, True)
    finally:
        dist.destroy_process_group()


def put_network(folder: Path, content: bytes) -> None:
    (folder / "net").mkdir()
    (folder / "net" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (folder / "net" / "diffusion_pytorch_model.bin").write_bytes(hostile.torch_file(content))


def adapted() -> None:
    try:
        DiffusersModel(folder="net")
    except ValueError as error:  # which a build makes a ConfigError
        raise RunError(str(error)) from None


TORCH_FILES = {
    "a checkpoint": (put("step_00000001.pt", hostile.torch_file), lambda: checkpoints.load("step_00000001.pt")),
    "a sharded checkpoint": (put_rest, lambda: checkpoints.load("step_00000001")),
    "a shard of one": (put_slice, lambda: checkpoints.load("step_00000001")),
    "torchcfm": (put("x.pt", hostile.torch_file), lambda: read("x.pt", "torchcfm", known=KNOWN)),
    "torchcfm, old form": (put("x.pt", hostile.old_torch_file), lambda: read("x.pt", "torchcfm", known=KNOWN)),
    "sit": (put("x.pt", hostile.torch_file), lambda: read("x.pt", "sit")),
    "edm": (put("x.pkl", lambda content: content), lambda: read("x.pkl", "edm")),
    "told by its content": (put("x.pt", hostile.torch_file), lambda: read("x.pt", known=KNOWN)),
    "open_clip": (put("x.pt", hostile.torch_file), lambda: read_weights("x.pt")),
    "diffusers": (put_network, lambda: read("net")),
    "diffusers' own": (put_network, adapted),
}
PICKLES = {**{name: (lambda make=make: pickled(make())) for name, make in WEIGHTS.items()}}
PICKLES |= {name: (lambda content=content: content) for name, content in STREAMS.items()}


EVERYWHERE = {"a command", "a stride of zero", "references to references", "bytes of a number"}
"""Payloads that are given to every loader in the quick run."""
FIRST = ("a checkpoint", "torchcfm, old form", "edm")
"""Loaders that are given all payloads in the quick run: one of each form."""
PAIRS = [
    pytest.param(
        loader,
        payload,
        marks=()
        if payload in EVERYWHERE or loader in ("a checkpoint", "torchcfm, old form", "edm")
        else pytest.mark.slow,
    )
    for loader in TORCH_FILES
    for payload in PICKLES
]


@pytest.mark.parametrize(("loader", "payload"), PAIRS)
def test_weights(loader, payload, tmp_path):
    if loader.startswith("diffusers"):
        pytest.importorskip("diffusers")
    if loader == "open_clip":
        pytest.importorskip("safetensors")
    write, load = TORCH_FILES[loader]
    content = PICKLES[payload]()
    if payload == "lists in lists":  # within a dict they would be no deeper
        write(tmp_path, content)
    else:
        write(tmp_path, in_a_dict("net_model")(content))
    refusal(load, tmp_path)


ZIPS = {
    "its pickle is packed zeros": {"archive/data.pkl": Packed(deflated(BOMB, b"\x80\x02}"), BOMB)},
    "its numbers are packed zeros": {
        "archive/data.pkl": stored(pickled({"a": hostile.tensor((1 << 30,), (1,), count=1 << 30)})),
        "archive/data/0": Packed(deflated(4 << 30), 4 << 30),
        "archive/version": stored(b"3\n"),
    },
    "its version is packed zeros": {
        "archive/data.pkl": stored(pickled({"a": hostile.tensor((4,), (1,))})),
        "archive/data/0": stored(bytes(16)),
        "archive/version": Packed(deflated(BOMB), BOMB),
    },
    "one name twice": None,
}


@pytest.mark.parametrize("bomb", ZIPS)
@pytest.mark.parametrize("loader", ["a checkpoint", "torchcfm", "diffusers"])
def test_archives_of_weights(loader, bomb, tmp_path):
    content = zipped(ZIPS[bomb]) if ZIPS[bomb] else twice()
    folder = tmp_path / "net" if loader == "diffusers" else tmp_path
    name = {"a checkpoint": "step_00000001.pt", "torchcfm": "x.pt"}.get(loader, "diffusion_pytorch_model.bin")
    if loader == "diffusers":
        put_network(tmp_path, b"")
    (folder / name).write_bytes(content)
    refusal(TORCH_FILES[loader][1], tmp_path)


def twice() -> bytes:
    """An archive of two pickles: which of them is looked at, and which is read?"""
    parts = [("data.pkl", pickled({"a": hostile.tensor((4,), (1,))})), ("data.pkl", pickled(WEIGHTS["a command"]()))]
    whole = zipped({f"archive/{name}{i}": stored(part) for i, (name, part) in enumerate(parts)})
    return whole.replace(b"data.pkl1", b"data.pkl0")


# Arrays


ARRAYS = {
    "a long claim": lambda: npy((1 << 40,)),
    "a claim of records": lambda: npy((1,), "|V1099511627776"),
    "objects": lambda: npy((1,), "|O") + pickle.dumps([WEIGHTS["a command"]()]),
    "a negative length": lambda: npy((-1,)) + bytes(64),
    "brackets": lambda: b"\x93NUMPY\1\0" + (9000).to_bytes(2, "little") + b"(" * 9000,
    "a long header": lambda: b"\x93NUMPY\2\0" + (1 << 31).to_bytes(4, "little") + b"{" * 100,
}


def npz(member: str, others: dict[str, np.ndarray] | None = None):
    """An npz with this member for content; the others are right."""

    def make(content: Packed) -> bytes:
        members = {f"{name}.npy": stored(saved(array)) for name, array in (others or {}).items()}
        return zipped(members | {f"{member}.npy": content})

    return make


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def made(path: str, *options: str):
    """make_shards, whose refusal is on the terminal."""

    def work() -> None:
        if (status := make_shards([path, "out", *options])) != 2:
            raise AssertionError(f"status {status}")
        assert not Path("out", "index.json").exists()
        raise DataError("status 2")

    return work


def features() -> None:
    """A damaged file is made again, and no other is read."""

    def remake() -> torch.Tensor:
        raise DataError("made again")

    FeatureStore(".").get({"a": 1}, remake)


NPZ_FILES = {
    "a reference": ("x.npz", npz("mu", {"sigma": np.eye(4)}), lambda: read_reference("x.npz")),
    "a reference's images": ("x.npz", npz("arr_0"), lambda: read_reference("x.npz")),
    "features": (FeatureStore(".").path({"a": 1}).name, npz("features", {"sha256": np.array("0")}), features),
    "ImageNet's pixels": ("x.npz", npz("data", {"labels": np.ones(4, np.int64)}), made("x.npz")),
    "ImageNet's labels": ("x.npz", npz("labels", {"data": np.zeros((4, 12), np.uint8)}), made("x.npz")),
}


@pytest.mark.parametrize("payload", [*ARRAYS, "packed zeros"])
@pytest.mark.parametrize("loader", NPZ_FILES)
def test_arrays(loader, payload, tmp_path):
    name, make, load = NPZ_FILES[loader]
    if payload == "packed zeros":
        head = npy((BOMB,))
        content = Packed(deflated(BOMB + len(head), head), BOMB + len(head))
    else:
        content = stored(ARRAYS[payload]())
    (tmp_path / name).write_bytes(make(content))
    refusal(load, tmp_path)


def test_a_label_that_means_a_million_million_classes(tmp_path):
    content = {"data": np.zeros((2, 12), np.uint8), "labels": np.array([1, 1 << 40])}
    np.savez("x.npz", **content)
    refusal(made("x.npz"), tmp_path)
    (tmp_path / "images").mkdir()
    for name in "ab":
        (tmp_path / "images" / f"{name}.png").write_bytes(encode(np.zeros((4, 4), np.uint8)))
    (tmp_path / "images" / "dataset.json").write_text('{"labels": [["a.png", 0], ["b.png", 999999999999]]}')
    refusal(made("images"), tmp_path)


# Sets of images


def picture(side: int) -> bytes:
    """A PNG of so many black pixels: its header is right, and so are its packed zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = b"\x78\x9c" + deflated(side * (3 * side + 1)) + b"\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def scans() -> bytes:
    """A progressive JPEG that is gone over three thousand times."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 3000 + content[-2:]


PICTURES = {"many black pixels": lambda: picture(20_000), "many scans": scans}
PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(EXECUTED) (w) file closefile\n"


@pytest.mark.parametrize("payload", [*PICTURES, "a program"])
@pytest.mark.parametrize("place", ["a folder", "a zip", "shards", "--source"])
def test_pictures(place, payload, tmp_path):
    content = PROGRAM if payload == "a program" else PICTURES[payload]()
    if place == "a folder":
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "a.png").write_bytes(content)
        load = made("images")
    elif place == "a zip":
        (tmp_path / "images.zip").write_bytes(zipped({"a.png": stored(content)}))
        load = made("images.zip")
    elif place == "shards":
        side = 20_000 if payload == "many black pixels" else 64
        shards_set(tmp_path / "set", [tar([("a.png", content)])], [1], image_size=side, channels=3, classes=[])
        load = opened(InMemory, side, 3)
    else:
        (tmp_path / "a.png").write_bytes(content)
        load = lambda: read_images("a.png", (3, 64, 64))  # noqa: E731
    refusal(load, tmp_path)


def opened(kind, side: int = 4, channels: int = 1):
    def work() -> None:
        data = kind(path=str(Path("set").absolute()), shape=(channels, side, side))
        data.open(seed=0, device=torch.device("cpu"))
        data.batch(0, 1)

    return work


@pytest.mark.parametrize("member", ["a.png", "dataset.json"])
def test_zips_of_images(member, tmp_path):
    image = encode(np.zeros((4, 4), np.uint8))
    members = {"b.png": stored(image), member: Packed(deflated(BOMB, image), BOMB)}
    (tmp_path / "images.zip").write_bytes(zipped(members))
    refusal(made("images.zip"), tmp_path)


GZIPPED = {
    "MNIST": ("train-images-idx3-ubyte.gz", b"\0\0\x08\x03" + (60_000).to_bytes(4, "big") + b"\0\1\0\0\0\1\0\0"),
    "CIFAR-10": ("cifar-10-python.tar.gz", tar([("data_batch_1", b"x")])[:512]),
    "a shard": ("x.tar.gz", tar([("a.png", b"x" * 600)])[:512]),
}


@pytest.mark.parametrize("name", GZIPPED)
def test_gzip(name, tmp_path):
    file, head = GZIPPED[name]
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1\0\0\0\1\0")
    place = tmp_path / ("mnist" if name == "MNIST" else "")
    (place / file).write_bytes(gzipped(BOMB, head))
    refusal(made("mnist" if name == "MNIST" else file), tmp_path)


def headed(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A tar header that claims so many bytes (in GNU's form for large numbers)."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:124] = b"0000644\0" + b"0000000\0" * 2
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    header[136:148] = b"00000000000\0"
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[257:265] = b"ustar  \0"
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


TARS = {
    "a long member": lambda: headed(b"a.png", 1 << 40) + bytes(1024),
    "a long header": lambda: headed(b"a", 1 << 40, b"x") + bytes(1024),
    "a long name": lambda: headed(b"a", 1 << 40, b"L") + bytes(1024),
    "a sparse member": lambda: sparse(1 << 40) + bytes(1024),
    "packed zeros": lambda: gzipped(BOMB, headed(b"a.png", BOMB - 1536)),
    "packed headers": lambda: gzipped(BOMB, headed(b"a", BOMB - 1536, b"x")),
    "another packing": lambda: b"\xfd7zXZ\0" + bytes(600),
    "packed twice": lambda: gzipped(4096, gzipped(BOMB)[:2048]),
}


def sparse(size: int) -> bytes:
    """A member without data that is one hole."""
    header = bytearray(headed(b"a.png", 0, b"S"))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[483:495] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


@pytest.mark.parametrize("payload", TARS)
@pytest.mark.parametrize("kind", [InMemory, Streaming], ids=["in memory", "streaming"])
def test_shards(kind, payload, tmp_path):
    packed = payload.startswith("packed")
    suffix = "tar.gz" if packed else "tar"
    shards_set(tmp_path / "set", [TARS[payload]()], [1], suffix=suffix, image_size=4, channels=1, classes=[])
    refusal(opened(kind), tmp_path)


@pytest.mark.parametrize("place", ["captions", "labels", "prompts"])
def test_parquet(place, tmp_path):
    """Three thousand rows of one long text, which is stored once."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    text = arrow.DictionaryArray.from_arrays(arrow.array(np.zeros(3000, np.int32)), arrow.array(["a" * 1_000_000]))
    columns = {"label" if place == "labels" else "text": text}
    if place != "prompts":
        columns["image"] = [encode(np.zeros((4, 4), np.uint8))] * 3000
    parquet.write_table(arrow.table(columns), tmp_path / "x.parquet", compression="zstd")
    assert (tmp_path / "x.parquet").stat().st_size < 10_000
    assert "would take" in refusal(lambda: open_source("x.parquet"), tmp_path)


def test_parquet_of_one_long_text(tmp_path):
    """Few rows of a text that alone is no longer than the file may become."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    text = arrow.DictionaryArray.from_arrays(arrow.array(np.zeros(64, np.int32)), arrow.array(["a" * 60_000_000]))
    parquet.write_table(arrow.table({"text": text}), tmp_path / "x.parquet", compression="zstd", store_schema=False)
    assert "would take" in refusal(lambda: open_source("x.parquet"), tmp_path)


INDEXES = {
    "many samples": lambda shard: {"samples": 1 << 40, "bytes": 1 << 52},
    "more samples than bytes": lambda shard: {"samples": 1 << 33},
    "less than none": lambda shard: {"samples": -1},
    "a place outside": lambda shard: {"file": "../set/train-000000.tar"},
    "a long text of brackets": None,
}


@pytest.mark.parametrize("payload", INDEXES)
@pytest.mark.parametrize("kind", [InMemory, Streaming], ids=["in memory", "streaming"])
def test_indexes(kind, payload, tmp_path):
    content = tar([("a.png", encode(np.zeros((4, 4), np.uint8)))])
    shards_set(tmp_path / "set", [content], [1], image_size=4, channels=1, classes=[])
    path = tmp_path / "set" / "index.json"
    if INDEXES[payload] is None:
        path.write_text(hostile.nested("[", 200_000, "]"))
    else:
        index = json.loads(path.read_text())
        (split,) = index["splits"].values()
        shard = split["shards"][0]
        shard.update(INDEXES[payload](shard))
        split["samples"] = shard["samples"]
        path.write_text(json.dumps(index))
    refusal(opened(kind), tmp_path)


LARGE = [
    {"image_size": 1 << 30},
    {"image_size": [4, 1 << 30]},
    {"channels": 1 << 30},
    {"dtype": "V1000000000"},
    {"conditions": [{"name": "text", "dtype": "float32", "shape": [1 << 40]}]},
    {"conditions": [{"name": "text", "dtype": "Tensor", "shape": [4]}]},
]


@pytest.mark.parametrize("changes", LARGE)
def test_indexes_of_large_images(changes, tmp_path):
    content = tar([("a.png", encode(np.zeros((4, 4), np.uint8)))])
    shards_set(tmp_path / "set", [content], [1], **({"image_size": 4, "channels": 1, "classes": []} | changes))
    side = changes.get("image_size", 4) if isinstance(changes.get("image_size", 4), int) else 4
    refusal(opened(InMemory, side, changes.get("channels", 1)), tmp_path)


def test_a_cache_removes_nothing_but_its_own(tmp_path):
    """A configuration from elsewhere may bind any folder to it."""
    image = encode(np.zeros((4, 4), np.uint8))
    shards = [tar([(f"{name}.png", image)], "w:gz") for name in "ab"]
    shards_set(tmp_path / "set", shards, [1, 1], suffix="tar.gz", image_size=4, channels=1, classes=[])
    (tmp_path / "mine").mkdir()
    for name in ("photos.tar", "notes.tmp", "train-000000.tar"):
        (tmp_path / "mine" / name).write_bytes(b"mine")
        os.utime(tmp_path / "mine" / name, (0, 0))
    data = Streaming(path=str(tmp_path / "set"), shape=(1, 4, 4), cache=str(tmp_path / "mine"), cache_bytes=1)
    data.open(seed=0, device=torch.device("cpu"))
    data.batch(0, 2)
    for name in ("photos.tar", "notes.tmp", "train-000000.tar"):
        assert (tmp_path / "mine" / name).read_bytes() == b"mine"


# Numbers and words


def write_student(folder: Path) -> dict:
    """An exported student; returns its description."""
    from safetensors.torch import save_file

    from realuid.networks.mlp import MLP

    (folder / "out").mkdir()
    save_file(MLP(shape=(2,), width=8, depth=1).state_dict(), folder / "out" / "model.safetensors")
    digest = hashlib.sha256((folder / "out" / "model.safetensors").read_bytes()).hexdigest()
    step = {"skip": 1.0, "out": [1.0], "into": 1.0, "time": 1.0}
    return {
        "format": "realuid-student",
        "version": 1,
        "network": "MLP",
        "arguments": {"shape": [2], "width": 8, "depth": 1},
        "step": step,
        "shape": [2],
        "classes": 0,
        "sha256": digest,
    }


STUDENTS = {
    "width": lambda d: d["arguments"].update(width=1 << 30),
    "depth": lambda d: d["arguments"].update(depth=1 << 40),
    "classes of the network": lambda d: d["arguments"].update(classes=1 << 40),
    "classes": lambda d: d.update(classes=1 << 40),
    "shape": lambda d: d.update(shape=[3, 1 << 20, 1 << 20]),
    "shape of the network": lambda d: d["arguments"].update(shape=[1 << 40]),
    "a shape of truths": lambda d: d.update(shape=[True, True]),
    "a time that is none": lambda d: d["step"].update(time=float("nan")),
    "a weight without end": lambda d: d["step"].update(skip=float("inf")),
    "another network": lambda d: d.update(network="os:system"),
    "another argument": lambda d: d["arguments"].update(factory="os:system"),
}


@pytest.mark.parametrize("number", [None, *STUDENTS])
def test_exported_students(number, tmp_path):
    pytest.importorskip("safetensors")
    description = write_student(tmp_path)
    if number is not None:
        STUDENTS[number](description)
    (tmp_path / "out" / "model.json").write_text(json.dumps(description))
    if number is None:
        assert realuid.load("out").shape == (2,)
    else:
        refusal(lambda: realuid.load("out"), tmp_path)


def test_a_safetensors_file_of_many_names(tmp_path):
    """Two hundred thousand tensors of nothing."""
    pytest.importorskip("safetensors")
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"k{number}": nothing for number in range(200_000)}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "its header claims" in refusal(lambda: read("x.safetensors", known=KNOWN), tmp_path)


@pytest.mark.parametrize("value", ["a text", ["a", "list"], 1.5, torch.zeros(2)])
def test_a_checkpoint_of_no_names(value, tmp_path):
    torch.save(value, tmp_path / "x.pt")
    assert "no weights by name" in refusal(lambda: checkpoints.load("x.pt"), tmp_path)
    refusal(lambda: read("x.pt", known=KNOWN), tmp_path)


DIFFUSERS = {
    "layers_per_block": 1 << 30,
    "block_out_channels": [1 << 30] * 3,
    "sample_size": 1 << 40,
    "num_class_embeds": 1 << 40,
    "in_channels": 1 << 30,
    "down_block_types": ["DownBlock2D"] * 100_000,
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    diffusers = pytest.importorskip("diffusers")
    from tests.pretrained.test_diffusers import unet

    folder = tmp_path_factory.mktemp("pipeline")
    diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("number", DIFFUSERS)
def test_numbers_of_diffusers(number, pipeline, tmp_path):
    shutil.copytree(pipeline, tmp_path / "net")
    path = tmp_path / "net" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {number: DIFFUSERS[number]}))
    refusal(lambda: read("net"), tmp_path)


def test_a_schedule_of_many_steps(pipeline, tmp_path):
    from realuid.pretrained import components

    shutil.copytree(pipeline, tmp_path / "net")
    path = tmp_path / "net" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_train_timesteps": 1 << 40}))
    refusal(lambda: components.path(read("net").path).build(), tmp_path)


EDM = {
    "img_resolution": 1 << 40,
    "model_channels": 1 << 30,
    "num_blocks": 1 << 40,
    "channel_mult": [1] * 20_000,
    "label_dim": 1 << 40,
    "attn_resolutions": [16] * 20_000,
    "in_channels": 1 << 40,
}


@pytest.mark.parametrize("number", [None, *EDM])
def test_numbers_of_edm(number, tmp_path):
    from tests.pretrained.test_edm import SONG, snapshot, song

    snapshot(tmp_path / "x.pkl", song(), kwargs=SONG | ({number: EDM[number]} if number else {}))
    if number is None:
        assert read("x.pkl").network == "SongUNet"
    else:
        refusal(lambda: read("x.pkl"), tmp_path)


TEXTS = {
    "macros of macros": "A0 = 1\n" + "\n".join(f"A{i} = [%A{i - 1}, %A{i - 1}]" for i in range(1, 60)),
    "a row of macros": "A0 = 1\n" + "\n".join(f"A{i} = %A{i - 1}" for i in range(1, 400)) + "\nAdam.lr = %A399",
    "brackets": "A = " + hostile.nested("[", 20_000, "]"),
    "more brackets": "A = " + hostile.nested("(", 3_000, ")"),
    "many statements": "Adam.lr = 0.1\n" * 4_000,
    "a long text": "Adam.lr = 0.1\n" * 100_000,
    "a long number": "Adam.lr = " + "9" * 50_000,
    "a long name": "/".join(["a"] * 20_000) + "/Adam.lr = 0.1",
    "keys of one hash": "A = {" + ", ".join(f"{k * (2**61 - 1)}: 1" for k in range(2_000)) + "}",
    "parts within parts": "\n".join(f"s{i}/Latents.data = @s{i + 1}/Latents()" for i in range(400)),
    "a power": "Adam.lr = 9**9**9",
    "an import": "import antigravity",
    "an include": "include '/etc/passwd'",
}


@pytest.mark.parametrize("name", TEXTS)
def test_configurations(name, tmp_path):
    register_components()  # before time is taken
    refusal(lambda: Config.from_text(TEXTS[name]), tmp_path)


# Servers


@pytest.fixture
def silent():
    """The address of a server that takes every call and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stalling():
    """One that begins to answer, and stops."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        calls: list[socket.socket] = []

        def answer() -> None:
            while True:
                try:
                    call = server.accept()[0]
                    calls.append(call)
                    call.recv(4096)
                    call.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for call in calls:
            call.close()


FROM_SERVERS = {
    "pretrained": lambda url: read(f"{url}/x.pt", "torchcfm", known=KNOWN),
    "a checkpoint": lambda url: checkpoints.load(f"{url}/x.pt"),
    "an export": lambda url: realuid.load(f"{url}/out"),
    "a reference": lambda url: read_reference(f"{url}/x.npz"),
    "a data set": lambda url: InMemory(path=f"{url}/set", shape=(1, 4, 4)).open(seed=0, device=torch.device("cpu")),
}


@pytest.mark.parametrize("loader", FROM_SERVERS)
@pytest.mark.parametrize("server", ["silent", "stalling"])
def test_servers(server, loader, request, monkeypatch):
    from fsspec.implementations.http import HTTPFileSystem

    url = request.getfixturevalue(server)
    monkeypatch.setenv("REALUID_TIMEOUT_S", "0.3")
    HTTPFileSystem.clear_instance_cache()
    start = time.monotonic()
    with pytest.raises((CheckpointError, DataError)) as caught:
        FROM_SERVERS[loader](url)
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)
    assert "no answer in 0.3 s" in str(caught.value)
    HTTPFileSystem.clear_instance_cache()


# What is said of a file


def test_what_inspect_prints_is_no_program(tmp_path, capsys):
    """Saved as a gin file it would be the user's own."""
    config = "import antigravity\nTorchModule.factory = 'os:system'\n"
    torch.save({"config": config, "step": 1, "ema": {"weights": {"0.9\nimport os": {}}}}, "x.pt")
    assert inspect(["x.pt"]) == 0
    printed = capsys.readouterr().out
    assert all(not line or line.startswith("#") for line in printed.splitlines())
    assert "asks for code from outside this package" in printed
    torch.save({"a\nimport os": torch.zeros(1), "\x1b[2J": torch.zeros(1)}, "y.pt")
    assert inspect(["y.pt"]) == 0
    printed = capsys.readouterr().out
    assert all(line.startswith("#") for line in printed.splitlines())
    assert "\x1b" not in printed


def test_the_files_are_right_but_for_one_thing(tmp_path):
    """Without the payload every form here is read, so that what is refused is the payload."""
    weights = {"a": hostile.tensor((2, 2), (2, 1))}
    content = pickled(weights)
    (tmp_path / "step_00000001.pt").write_bytes(hostile.torch_file(content, np.arange(4.0, dtype="<f4").tobytes()))
    assert checkpoints.load("step_00000001.pt")["a"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    torch.save({"a": torch.zeros(2, 2)}, "old.pt", _use_new_zipfile_serialization=False)
    assert checkpoints.load("old.pt")["a"].shape == (2, 2)
    (tmp_path / "packed.pt").write_bytes(
        zipped(
            {
                "archive/data.pkl": stored(content),
                "archive/data/0": Packed(deflated(16), 16),
                "archive/version": stored(b"3\n"),
            }
        )
    )
    assert torch.equal(torch.load("packed.pt", weights_only=True)["a"], torch.zeros(2, 2))
    head = npy((2, 2), "<f8")
    values = np.arange(4.0).tobytes()
    member = Packed(deflated(len(head + values), head + values), len(head + values))
    (tmp_path / "x.npz").write_bytes(npz("sigma", {"mu": np.zeros(2)})(member).replace(b"", b""))
    assert np.load("x.npz")["mu"].shape == (2,)
    image = encode(np.zeros((4, 4), np.uint8))
    shards_set(tmp_path / "set", [tar([("a.png", image)])], [1], image_size=4, channels=1, classes=[])
    opened(InMemory)()
    opened(Streaming)()
    with Image.open(io.BytesIO(picture(10))) as black:
        assert black.size == (10, 10)
    assert collections.Counter(os.listdir("set"))["index.json"] == 1

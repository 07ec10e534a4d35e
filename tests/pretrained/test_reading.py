"""Places, the cache, checksums, and telling formats apart."""

import hashlib
import os
import pickle

import fsspec
import pytest
import torch

from realuid.conditions import Condition
from realuid.export import Evaluation, ExportedStudent, pipeline
from realuid.networks.unet import UNet
from realuid.pretrained import FORMATS, read
from realuid.utils.errors import CheckpointError
from tests.pretrained.made_up import fill

KNOWN = {"shape": (3, 8, 8), "head_channels": 32}


@pytest.fixture
def state():
    return fill(
        UNet(shape=(3, 8, 8), width=32, multipliers=(1,), blocks=1, attention=(), head_channels=32)
    ).state_dict()


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))


def put(url, content):
    with fsspec.open(url, "wb") as file:
        torch.save(content, file)
        return url


def test_what_is_far_is_fetched_once_until_it_is_replaced(state, tmp_path):
    url = put("memory://models/net.pt", {"net_model": state})
    first = read(url, known=KNOWN)
    (copy,) = (tmp_path / "cache").rglob("net.pt")
    fetched = copy.stat().st_mtime_ns
    again = read(url, known=KNOWN)
    assert copy.stat().st_mtime_ns == fetched
    put(url, {"net_model": {name: 2 * value for name, value in state.items()}})
    other = read(url, known=KNOWN)
    assert torch.equal(first.state["out.2.bias"], state["out.2.bias"])
    assert torch.equal(again.state["out.2.bias"], state["out.2.bias"])
    assert torch.equal(other.state["out.2.bias"], 2 * state["out.2.bias"])
    assert list((tmp_path / "cache").rglob("net.pt")) == [copy]
    with pytest.raises(CheckpointError, match=r"there is no checkpoint memory://models/none.pt"):
        read("memory://models/none.pt")
    assert not list((tmp_path / "cache").rglob("*none*"))
    with pytest.raises(CheckpointError, match=r"cannot fetch strange://x"):
        read("strange://x")


def test_checksums_are_pinned(state, tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"net_model": state}, path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read(str(path), known=KNOWN, sha256=right.upper())
    with pytest.raises(CheckpointError, match=f"has the sha256 {right}, not {'0' * 64}"):
        read(str(path), known=KNOWN, sha256="0" * 64)


def test_safetensors_hold_the_names_of_any_format(state, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path = str(tmp_path / "net.safetensors")
    safetensors.save_file(state, path, metadata={"from": "elsewhere"})
    foreign = read(path, "torchcfm", known=KNOWN)
    assert all(torch.equal(foreign.state[name], value) for name, value in state.items())
    content = (tmp_path / "net.safetensors").read_bytes()
    for damaged in (content[:-1], content[:40], (10**12).to_bytes(8, "little") + content[8:]):
        (tmp_path / "net.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="not a readable safetensors file"):
            read(path, "torchcfm", known=KNOWN)


def test_refusals(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none.pt"):
        read(str(tmp_path / "none.pt"))
    with pytest.raises(CheckpointError, match=r"there is no format 'caffe', only edm, guided-diffusion, i2sb"):
        read("x", "caffe")
    for content in (b"", b"hello", b"PK\x03\x04", bytes(range(256)), b"\x80\x02", b"\x80\x02\x8a\x0a"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            read(str(tmp_path / "x"), known=KNOWN)
        assert "\n" not in str(caught.value)


def test_a_file_cannot_claim_more_than_its_bytes(state, tmp_path):
    """Every prefix of a file is refused, without a traceback."""
    torch.save({"net_model": state}, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    for cut in range(1, len(whole), len(whole) // 20):
        (tmp_path / "x").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            read(str(tmp_path / "x"), known=KNOWN)


class Payload:
    def __reduce__(self):
        return os.system, ("touch CODE_RAN",)


@pytest.mark.parametrize("format", [None, *FORMATS])
@pytest.mark.parametrize("writer", ["torch", "torch, old", "pickle"])
def test_hostile_files_execute_nothing_whatever_they_are_read_as(tmp_path, monkeypatch, format, writer):
    monkeypatch.chdir(tmp_path)
    content = {"ema": Payload(), "model": {"x_embedder.proj.weight": Payload()}, "args": Payload()}
    if writer == "pickle":
        (tmp_path / "evil").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, "evil", _use_new_zipfile_serialization=writer == "torch")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (tmp_path / "evil").rename(tmp_path / "folder" / "diffusion_pytorch_model.bin")
    path = "folder" if format == "diffusers" else "folder/diffusion_pytorch_model.bin"
    with pytest.raises(CheckpointError) as caught:
        read(path, format, known=KNOWN)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "CODE_RAN").exists()


def test_a_far_folder_of_diffusers(tmp_path):
    """Also the way back from the export: a flow-matching step from noise, with the time inside the weights."""
    pytest.importorskip("safetensors")
    arguments = {"shape": (3, 8, 8), "width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (1,)}
    network = UNet(**arguments, head_channels=32, conditioning="scale_shift", time_scale=3.0)
    everything = dict.fromkeys(("heads", "classes")) | {"resampling": "conv", "eps": 1e-5, "padding": "around"}
    everything |= arguments | {"head_channels": 32, "conditioning": "scale_shift"}
    only = Evaluation(time=0.4, inputs=((0.9,),))
    student = ExportedStudent(network=fill(network), evaluations=[only], result=(1.0, 0.7), shape=(3, 8, 8))
    pipeline.save(tmp_path / "out", student, everything)
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            with fsspec.open(f"memory://far/{file.relative_to(tmp_path / 'out')}", "wb") as target:
                target.write(file.read_bytes())
    foreign = read("memory://far")
    assert (foreign.format, foreign.path.name, foreign.target) == ("diffusers", "linear", "velocity")
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    step = x - foreign.build()(x, torch.rand(2), Condition())
    torch.testing.assert_close(step, student(x), atol=1e-5, rtol=0)
    weights = (tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert read("memory://far", sha256=hashlib.sha256(weights).hexdigest())
    with pytest.raises(CheckpointError, match="has the sha256"):
        read("memory://far", sha256="0" * 64)

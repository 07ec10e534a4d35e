"""Exported students against those of training: as folders, as programs that run alone, and as diffusers pipelines."""

import json
import subprocess
import sys

import pytest
import torch

import realuid
from realuid.couplings import IndependentCoupling
from realuid.data.pixels import to_uint8
from realuid.errors import CheckpointError, RunError
from realuid.evaluation.draws import noise
from realuid.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.matching import MatchingModel
from realuid.networks.dit import DiT
from realuid.networks.edm_unet import SongUNet
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet
from realuid.portable import Student, export, portable
from realuid.preconditioning import EDMPreconditioning, NoPreconditioning
from realuid.students import OneStep
from realuid.targets import Data, Latent, Noise, Stack, Velocity
from tests.foreign.made_up import fill

SHAPE = (3, 8, 8)
UNET = {
    "shape": SHAPE,
    "width": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention": (1,),
    "head_channels": 32,
    "heads": None,
    "group_channels": 1,
    "classes": 0,
    "conditioning": "add",
    "dropout": 0.0,
    "time_scale": 3.0,
    "resampling": "conv",
    "padding": "around",
    "endpoint": False,
    "eps": 1e-5,
    "height": 1,
}


def student(network=None, *, path=None, target=None, preconditioning=None, time=None):
    model = MatchingModel(
        network=fill(network or UNet(**UNET)),
        interpolant=path or LinearInterpolant(),
        coupling=IndependentCoupling(),
        target=target or Velocity(),
        preconditioning=preconditioning or NoPreconditioning(),
    )
    return OneStep(model=model, time=time).eval()


def carried(trained, classes=0):
    return portable(
        trained.model,
        lambda x0, labels: trained(x0, labels, None),
        height=trained.model.target.height,
        shape=SHAPE,
        classes=classes,
    )


EDM = {"path": EDMInterpolant(), "target": Data(), "preconditioning": EDMPreconditioning(), "time": 2.5}
STUDENTS = {
    "flow matching": ({}, 1.0),
    "EDM": (EDM, 2.5 * 0.25 / 6.5),
    "data": ({"target": Data()}, 0.0),
    "noise": ({"path": EDMInterpolant(), "target": Noise(), "time": 2.5}, 2.5),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_the_four_numbers_are_those_of_the_student(name):
    settings, skip = STUDENTS[name]
    trained = student(**settings)
    exported = carried(trained)
    x0 = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    wanted = trained(x0, torch.zeros(5, dtype=torch.int64), None)
    torch.testing.assert_close(exported(x0), wanted, atol=1e-5, rtol=0)
    assert exported.step.skip == pytest.approx(skip, abs=1e-6)


def test_several_rows():
    trained = student(
        UNet(**(UNET | {"height": 2})), path=BrownianInterpolant(), target=Stack((Velocity(), Latent())), time=0.3
    )
    exported = carried(trained)
    x0 = torch.randn(2, *SHAPE)
    wanted = trained(x0, torch.zeros(2, dtype=torch.int64), None)
    torch.testing.assert_close(exported(x0), wanted, atol=1e-5, rtol=0)
    assert len(exported.step.out) == 2


class Squared(OneStep):
    def forward(self, x0, labels, noise):
        return super().forward(x0, labels, noise) ** 2


class Twice(OneStep):
    def forward(self, x0, labels, noise):
        return super().forward(super().forward(x0, labels, noise), labels, noise)


class Constant(OneStep):
    def forward(self, x0, labels, noise):
        return x0


class Beside(OneStep):
    """A network that is given noise of its own beside the image."""

    def forward(self, x0, labels, noise):
        return self.model.network(torch.cat([x0, x0], dim=1), x0[:, 0, 0, 0], labels)


def test_students_of_another_form_are_refused():
    with pytest.raises(RunError, match="not one evaluation of its network between two scalings"):
        carried(Squared(model=student().model))


@pytest.mark.parametrize("kind", [Constant, Twice, Beside])
def test_students_that_ask_otherwise_are_refused(kind):
    trained = kind(model=student().model)
    network = trained.model.network
    with pytest.raises(RunError, match="does not ask its network once, for one image"):
        carried(trained)
    assert trained.model.network is network


def exported(tmp_path, formats=(), arguments=UNET, network=None, kind="UNet", **settings):
    trained = student(network or UNet(**arguments), **settings)
    plain = carried(trained, arguments.get("classes", 0))
    facts = {"scaling": {"name": "pixels", "low": -1.0, "high": 1.0}, "metrics": {"student_frechet": 1.25}}
    files = export.write(
        tmp_path / "out", plain, name="a student", network=kind, arguments=arguments, facts=facts, formats=formats
    )
    return trained, str(tmp_path / "out"), files


def images(trained, count, labels=None, seed=0):
    labels = torch.zeros(count, dtype=torch.int64) if labels is None else labels
    with torch.no_grad():
        return trained(noise(seed, 0, count, SHAPE), labels, None)


def test_a_folder_is_opened_in_one_line(tmp_path):
    pytest.importorskip("safetensors")
    trained, path, files = exported(tmp_path, arguments=UNET | {"classes": 3})
    g = realuid.load(path)
    assert isinstance(g, Student)
    assert files == ["model.safetensors", "model.json", "README.md"]
    torch.testing.assert_close(g.sample(4), images(trained, 4, torch.tensor([0, 1, 2, 0])), atol=1e-5, rtol=0)
    torch.testing.assert_close(g.sample(3, labels=2), images(trained, 3, torch.tensor([2, 2, 2])), atol=1e-5, rtol=0)
    chosen = g.sample(3, labels=[1, 0], seed=4)
    torch.testing.assert_close(chosen, images(trained, 3, torch.tensor([1, 0, 1]), seed=4), atol=1e-5, rtol=0)
    assert torch.equal(to_uint8(g.sample(260)[:4]), to_uint8(g.sample(4)))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "realuid.load" in card
    assert "| student_frechet | 1.25 |" in card
    assert "3 classes, 0 to 2" in card
    for arguments, message in (((0,), "at least 1"), ((2, [3]), "no class 3"), ((2, []), "labels is empty")):
        with pytest.raises(ValueError, match=message):
            g.sample(*arguments)


def test_other_networks_are_described_too(tmp_path):
    pytest.importorskip("safetensors")
    song = {"shape": SHAPE, "width": 32, "multipliers": (1, 2), "blocks": 1, "classes": 0, "waves": "random"}
    mlp = {"shape": SHAPE, "width": 16, "depth": 1}
    for kind, arguments, network in (("SongUNet", song, SongUNet(**song)), ("MLP", mlp, MLP(**mlp))):
        trained, path, _ = exported(tmp_path, arguments=arguments, network=network, kind=kind, **EDM)
        torch.testing.assert_close(realuid.load(path).sample(2), images(trained, 2), atol=1e-5, rtol=0)


def test_refusals_of_folders(tmp_path):
    pytest.importorskip("safetensors")
    _, path, _ = exported(tmp_path)
    description = tmp_path / "out" / "model.json"
    whole = json.loads(description.read_text())
    for changes, message in (
        ({"format": "other"}, "describes no student"),
        ({"version": 99}, "newer version"),
        ({"network": "os.system"}, r"names the network os.system, which this package lacks"),
        ({"sha256": "0"}, "its sha256 differs"),
        ({"arguments": {"wings": 2}}, "not a readable export: .*wings"),
        ({"arguments": UNET | {"width": 64}}, "not a readable export"),
        ({"step": {}}, "not a readable export: 'skip'"),
    ):
        description.write_text(json.dumps(whole | changes))
        with pytest.raises(CheckpointError, match=message) as caught:
            realuid.load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="there is no such file"):
        realuid.load(str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match="a network TorchModule cannot be described"):
        exported(tmp_path, kind="TorchModule")
    with pytest.raises(CheckpointError, match="JSON cannot hold"):
        exported(tmp_path, arguments=UNET | {"extra": object()}, network=UNet(**UNET))


def alone(tmp_path, program, *forbidden):
    """Runs a program where importing these packages fails; it leaves its images in images.pt or .npy."""
    ban = "\n".join(f"sys.modules[{name!r}] = None" for name in forbidden)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{ban}\n{program}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


CONDITIONAL = UNET | {"classes": 3}


@pytest.mark.slow
def test_torch_export_runs_without_this_package(tmp_path):
    trained, _, _ = exported(tmp_path, ["torch"], CONDITIONAL)
    x0, labels = noise(0, 0, 5, SHAPE), torch.arange(5) % 3
    torch.save((x0, labels), tmp_path / "inputs.pt")
    program = """
import torch
g = torch.export.load("out/model.pt2").module()
noise, labels = torch.load("inputs.pt")
torch.save(torch.cat([g(noise[:1], labels[:1]), g(noise[1:], labels[1:])]), "images.pt")
"""
    alone(tmp_path, program, "realuid", "einops")
    torch.testing.assert_close(torch.load(tmp_path / "images.pt"), trained(x0, labels, None), atol=1e-5, rtol=0)


ONNX = """
import numpy, onnxruntime
g = onnxruntime.InferenceSession("out/model.onnx")
given = {item.name: numpy.load(item.name + ".npy") for item in g.get_inputs()}
numpy.save("images.npy", g.run(["images"], given)[0])
"""


@pytest.mark.parametrize(("arguments", "count"), [(CONDITIONAL, 5), pytest.param(UNET, 1, marks=pytest.mark.slow)])
def test_onnx_runs_without_torch(tmp_path, arguments, count):
    numpy = pytest.importorskip("numpy")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    trained, _, _ = exported(tmp_path, ["onnx"], arguments)
    x0, labels = noise(0, 0, count, SHAPE), torch.arange(count) % 3
    numpy.save(tmp_path / "noise.npy", x0.numpy())
    numpy.save(tmp_path / "labels.npy", labels.numpy())
    alone(tmp_path, ONNX, "realuid", "torch", "einops")
    answer = torch.from_numpy(numpy.load(tmp_path / "images.npy"))
    torch.testing.assert_close(answer, trained(x0, labels, None), atol=1e-4, rtol=0)


PIPELINE = """
import torch
from diffusers import DDPMPipeline
g = DDPMPipeline.from_pretrained("out/diffusers", trust_remote_code=False)
g.set_progress_bar_config(disable=True)
images = g(batch_size=3, num_inference_steps=1, output_type="pt", generator=torch.Generator().manual_seed(5)).images
torch.save(images, "images.pt")
"""


def in_pipeline(trained):
    x0 = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(5))
    return (trained(x0, torch.zeros(3, dtype=torch.int64), None) / 2 + 0.5).clamp(0, 1)


def test_diffusers_runs_without_this_package(tmp_path):
    pytest.importorskip("diffusers")
    trained, _, _ = exported(tmp_path, ["diffusers"])
    alone(tmp_path, PIPELINE, "realuid", "einops")
    torch.testing.assert_close(torch.load(tmp_path / "images.pt"), in_pipeline(trained), atol=1e-5, rtol=0)


HO = {"padding": "after", "endpoint": True, "eps": 1e-6, "heads": 1, "attention": (0, 1)}


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("changes", [{}, HO, {"conditioning": "scale_shift", "head_channels": 16, "attention": ()}])
def test_students_as_pipelines(tmp_path, name, changes):
    diffusers = pytest.importorskip("diffusers")
    trained, path, _ = exported(tmp_path, ["diffusers"], UNET | changes, **STUDENTS[name][0])
    pipeline = diffusers.DDPMPipeline.from_pretrained(f"{path}/diffusers", trust_remote_code=False)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 1, "output_type": "pt", "generator": torch.Generator().manual_seed(5)}
    torch.testing.assert_close(pipeline(batch_size=3, **settings).images, in_pipeline(trained), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 3}, "no pipeline for a U-Net with class labels"),
        ({"resampling": "block"}, "only our UNet with resampling by convolutions"),
        ({"group_channels": 4}, "the same number of groups"),
        ({"heads": 2}, "counts channels of a head"),
        ({"head_channels": 48}, "divide into heads of 48"),
    ],
)
def test_what_diffusers_cannot_express(tmp_path, changes, message):
    pytest.importorskip("safetensors")
    with pytest.raises(RunError, match=message):
        exported(tmp_path, ["diffusers"], UNET | changes)


def test_other_networks_have_no_pipeline(tmp_path):
    arguments = {"shape": SHAPE, "width": 48, "depth": 1, "heads": 4}
    with pytest.raises(RunError, match="no pipeline for this network"):
        exported(tmp_path, ["diffusers"], arguments, DiT(**arguments), "DiT")

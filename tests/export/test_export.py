"""Exported students against those of training: as folders, as programs that run alone, and as diffusers pipelines."""

import json
import subprocess
import sys

import pytest
import torch

import realuid
from realuid.conditions import Condition, class_label, labelled
from realuid.data.pixels import to_uint8
from realuid.distillation.students import FewSteps, OneStep
from realuid.evaluation.draws import noise
from realuid.export import ExportedStudent, export, pipeline, programs, to_exported
from realuid.export.public import without_credentials
from realuid.models.matching import MatchingModel
from realuid.networks.dit import DiT
from realuid.networks.edm_unet import SongUNet
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet
from realuid.paths.couplings import IndependentCoupling, PairedCoupling
from realuid.paths.interpolants import BrownianInterpolant, EDMInterpolant, LinearInterpolant
from realuid.paths.preconditioning import EDMPreconditioning, NoPreconditioning
from realuid.paths.targets import Data, Noise, PathNoise, Stack, Velocity
from realuid.utils.errors import CheckpointError, RunError
from tests.pretrained.made_up import fill

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
    "out_multiplier": 1,
}


def model_of(network=None, *, path=None, target=None, preconditioning=None, coupling=None):
    return MatchingModel(
        network=fill(network or UNet(**UNET)),
        interpolant=path or LinearInterpolant(),
        coupling=coupling or IndependentCoupling(),
        target=target or Velocity(),
        preconditioning=preconditioning or NoPreconditioning(),
    )


def student(network=None, *, time=None, **settings):
    return OneStep(model=model_of(network, **settings), time=time).eval()


def carried(trained, classes=0):
    return to_exported(trained.model, trained, shape=SHAPE, conditions=class_label(classes))


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
    wanted = trained(x0, Condition(), None)
    torch.testing.assert_close(exported(x0), wanted, atol=1e-5, rtol=0)
    assert exported.step.skip == pytest.approx(skip, abs=1e-6)


def test_several_rows():
    trained = student(
        UNet(**(UNET | {"out_multiplier": 2})),
        path=BrownianInterpolant(),
        target=Stack((Velocity(), PathNoise())),
        time=0.3,
    )
    exported = carried(trained)
    x0 = torch.randn(2, *SHAPE)
    wanted = trained(x0, Condition(), None)
    torch.testing.assert_close(exported(x0), wanted, atol=1e-5, rtol=0)
    assert len(exported.step.out) == 2


def fresh(count, draws, seed=0):
    """As the student's k-th noise, and as an export takes it."""
    images = [noise(seed, 0, count, SHAPE, draw + 1) for draw in range(draws)]
    return images.__getitem__, torch.stack(images, dim=1)


PARTS = {
    "flow matching": {},
    "EDM": {name: value for name, value in EDM.items() if name != "time"},
    "data and noise": {"target": Stack((Velocity(), PathNoise())), "path": BrownianInterpolant()},
}
TIMES = {"flow matching": (0.0, 0.3, 0.6), "EDM": (60.0, 3.0), "data and noise": (0.1, 0.7)}


@pytest.mark.parametrize("beside", [0, 1])
@pytest.mark.parametrize("redraw", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", PARTS)
def test_several_steps_and_noise_beside_the_image(tmp_path, name, redraw, beside):
    pytest.importorskip("safetensors")
    several = PARTS[name].get("target", Velocity()).out_multiplier
    arguments = UNET | {"out_multiplier": several, "in_multiplier": 1 + beside}
    model = model_of(UNet(**arguments), **PARTS[name])
    trained = FewSteps(model=model, times=TIMES[name], redraw=redraw, noise=beside).eval()
    steps = len(TIMES[name])
    draws = beside * steps + (steps - 1) * (redraw > 0)
    form = carried(trained)
    assert (form.draws, form.step, len(form.evaluations)) == (draws, None, steps)
    export.write(tmp_path / "out", form, name="a student", network="UNet", arguments=arguments, facts={})
    opened = realuid.load(str(tmp_path / "out"))
    torch.testing.assert_close(opened.sample(3), form.sample(3))
    x0, (each, together) = noise(0, 0, 3, SHAPE), fresh(3, draws) if draws else (None, None)
    wanted = trained(x0, Condition(), each)
    torch.testing.assert_close(opened(x0, Condition(), together), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(opened.sample(3), wanted, atol=1e-5, rtol=1e-5)
    if draws:
        with pytest.raises(ValueError, match=rf"give it as fresh, \[B, {draws}, ...\]"):
            opened(x0)


def test_a_student_of_images_is_given_them(tmp_path):
    """A bridge's source is an image, never noise; its network draws noise beside it."""
    pytest.importorskip("safetensors")
    arguments = UNET | {"in_multiplier": 2}
    model = model_of(UNet(**arguments), path=BrownianInterpolant(), target=Data(), coupling=PairedCoupling())
    trained = OneStep(model=model, noise=1).eval()
    export.write(tmp_path / "out", carried(trained), name="a student", network="UNet", arguments=arguments, facts={})
    opened, (each, _) = realuid.load(str(tmp_path / "out")), fresh(3, 1)
    assert opened.from_images
    source = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    wanted = trained(source[[0, 1, 0]], Condition(), each)
    torch.testing.assert_close(opened.sample(3, source=source), wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="starts from images: give them as source="):
        opened.sample(3)
    with pytest.raises(ValueError, match="starts from noise, and takes no source"):
        carried(student()).sample(2, source=source)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| input | source images, pixels in [-1, 1] |" in card
    assert "g.sample(16, source=images)" in card
    with pytest.raises(RunError, match="no pipeline for this student"):
        pipeline.save(tmp_path / "pipeline", carried(trained), arguments)


def test_an_export_of_version_0_1_is_opened(tmp_path):
    pytest.importorskip("safetensors")
    trained, path, _ = exported(tmp_path)
    description = tmp_path / "out" / "model.json"
    told = json.loads(description.read_text())
    evaluations, result = told.pop("evaluations"), told.pop("result")
    del told["draws"]
    ((into,),) = evaluations[0]["inputs"]
    told["step"] = {"skip": result[0], "out": result[1:], "into": into, "time": evaluations[0]["time"]}
    description.write_text(json.dumps(told | {"version": 1}))
    torch.testing.assert_close(realuid.load(path).sample(2), images(trained, 2), atol=1e-5, rtol=0)


class Squared(OneStep):
    def forward(self, x0, condition, noise):
        return super().forward(x0, condition, noise) ** 2


class Constant(OneStep):
    def forward(self, x0, condition, noise):
        return x0


class Beside(OneStep):
    """Gives its network more than that takes."""

    def forward(self, x0, condition, noise):
        return self.model.network(torch.cat([x0, x0], dim=1), x0[:, 0, 0, 0], condition)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Squared, "not evaluations of its network between linear combinations"),
        (Constant, "never asks its network"),
        (Beside, "gives its network 2 images, and it takes 1"),
    ],
)
def test_students_of_another_form_are_refused(kind, message):
    trained = kind(model=student().model)
    network = trained.model.network
    with pytest.raises(RunError, match=message):
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
    condition = Condition() if labels is None else labelled(labels)
    with torch.no_grad():
        return trained(noise(seed, 0, count, SHAPE), condition, None)


def test_a_folder_is_opened_in_one_line(tmp_path):
    pytest.importorskip("safetensors")
    trained, path, files = exported(tmp_path, arguments=UNET | {"classes": 3})
    g = realuid.load(path)
    assert isinstance(g, ExportedStudent)
    assert files == ["model.safetensors", "model.json", "README.md"]
    torch.testing.assert_close(g.sample(4), images(trained, 4, torch.tensor([0, 1, 2, 0])), atol=1e-5, rtol=0)
    torch.testing.assert_close(g.sample(3, labels=2), images(trained, 3, torch.tensor([2, 2, 2])), atol=1e-5, rtol=0)
    chosen = g.sample(3, labels=[1, 0], seed=4)
    torch.testing.assert_close(chosen, images(trained, 3, torch.tensor([1, 0, 1]), seed=4), atol=1e-5, rtol=0)
    assert torch.equal(to_uint8(g.sample(260)[:4]), to_uint8(g.sample(4)))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "realuid.load" in card
    assert "| student_frechet | 1.25 |" in card
    assert "label (3 classes)" in card
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


def test_what_an_earlier_export_left_is_not_taken_along(tmp_path):
    pytest.importorskip("safetensors")
    exported(tmp_path, ["diffusers"])
    with pytest.raises(RunError, match="diffusers is of an earlier export: remove it, or choose another --out"):
        exported(tmp_path, ["diffusers"])


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("a/b.pt", "a/b.pt"),
        ("path = 's3://bucket/set'", "path = 's3://bucket/set'"),
        ("'https://me:secret@host:8000/x.pt?X-Amz-Signature=1&b=2' # c?d", "'https://host:8000/x.pt' # c?d"),
        ("--bind \"T.checkpoint = 'http://token@host/x'\"", "--bind \"T.checkpoint = 'http://host/x'\""),
    ],
)
def test_urls_in_what_is_given_away_hold_no_keys(text, public):
    assert without_credentials(text) == public


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
        ({"step": {}}, "not a readable export: 'time'"),
        ({"result": [1.0]}, "not a readable export: 1 evaluations and 0 draws do not give 1 weights"),
        ({"draws": 1}, "not a readable export: 1 evaluations and 1 draws do not give 2 weights"),
        ({"evaluations": [{"time": 0.0, "inputs": [[1.0, 1.0]]}]}, "evaluation 0 has to weigh the 1 images"),
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
    torch.testing.assert_close(
        torch.load(tmp_path / "images.pt"), trained(x0, labelled(labels), None), atol=1e-5, rtol=0
    )


@pytest.mark.slow
def test_torch_export_of_several_steps(tmp_path):
    model = model_of(UNet(**CONDITIONAL))
    form = carried(FewSteps(model=model, times=(0.0, 0.5)).eval(), 3)
    programs.to_torch(form, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    x0, (_, together), labels = noise(0, 0, 3, SHAPE), fresh(3, 1), torch.arange(3)
    torch.testing.assert_close(program(x0, together, labels), form.sample(3), atol=1e-5, rtol=0)


ONNX = """
import numpy, onnxruntime
g = onnxruntime.InferenceSession("out/model.onnx")
given = {item.name: numpy.load(item.name + ".npy") for item in g.get_inputs()}
numpy.save("images.npy", g.run(["images"], given)[0])
"""


@pytest.mark.slow
def test_onnx_of_several_steps(tmp_path):
    numpy = pytest.importorskip("numpy")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    (tmp_path / "out").mkdir()
    form = carried(FewSteps(model=model_of(UNet(**CONDITIONAL)), times=(0.0, 0.5)).eval(), 3)
    programs.to_onnx(form, tmp_path / "out" / "model.onnx")
    for name, value in {"noise": noise(0, 0, 3, SHAPE), "fresh": fresh(3, 1)[1], "labels": torch.arange(3)}.items():
        numpy.save(tmp_path / f"{name}.npy", value.numpy())
    alone(tmp_path, ONNX, "realuid", "torch", "einops")
    answer = torch.from_numpy(numpy.load(tmp_path / "images.npy"))
    torch.testing.assert_close(answer, form.sample(3), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "count"), [(CONDITIONAL, 5), (UNET, 1)])
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
    condition = labelled(labels) if arguments["classes"] else Condition()
    torch.testing.assert_close(answer, trained(x0, condition, None), atol=1e-4, rtol=0)


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
    return (trained(x0, Condition(), None) / 2 + 0.5).clamp(0, 1)


@pytest.mark.slow
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

"""A gin file that describes a teacher and its checkpoint: sampled at once, distilled and exported in two commands."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import realuid
from realuid import checkpoints
from realuid.commands.export import main as export
from realuid.commands.sample import main as sample
from realuid.commands.train import main as train
from realuid.conditions import labelled
from realuid.config import ConfigError, build, load, load_part
from realuid.data.pixels import to_uint8
from realuid.distillation.teachers import Teacher
from realuid.evaluation.draws import noise
from realuid.networks.dit import DiT
from realuid.networks.edm_unet import SongUNet
from realuid.networks.no_init_weights import no_init_weights
from realuid.pretrained import read
from tests.commands.conftest import ROOT
from tests.pretrained.made_up import fill
from tests.pretrained.test_dit import SMALL as DIT
from tests.pretrained.test_dit import state as dit_state
from tests.pretrained.test_edm import SONG, snapshot

DESCRIBED = sorted((ROOT / "gin" / "teachers").glob("*.gin"))
KWARGS = SONG | {"img_resolution": 8, "in_channels": 1, "out_channels": 1, "label_dim": 10, "attn_resolutions": []}
DIGITS = {"shape": (1, 8, 8), "classes": 10, "width": 32, "multipliers": (1, 2), "blocks": 1, "attention": ()}
SMALL_NETWORK = """
SHAPE = (1, 8, 8)
CLASSES = 10
TEACHER = 'digits.pkl'
SongUNet:
    width = 32
    multipliers = (1, 2)
    blocks = 1
    attention = ()
"""


def described(tmp_path: Path) -> str:
    """The shipped description of EDM's CIFAR-10 with a network for digits, and its pickle."""
    snapshot(tmp_path / "digits.pkl", fill(SongUNet(**DIGITS)), kwargs=KWARGS)
    path = tmp_path / "edm_tiny.gin"
    path.write_text(f"include 'gin/teachers/edm_cifar10_cond_vp.gin'\n{SMALL_NETWORK}")
    return str(path)


def networks_without_memory(monkeypatch):
    """Networks of pipelines, of up to 20 billion weights, are built without any."""
    from realuid.pretrained.pipelines import network

    built = network.built

    def on_meta(name, config):
        with torch.device("meta"):
            return built(name, config)

    monkeypatch.setattr(network, "built", on_meta)


@pytest.mark.parametrize("path", DESCRIBED, ids=lambda path: path.stem)
def test_every_shipped_description_is_a_teacher(path, monkeypatch):
    if "PIPELINE =" in path.read_text():
        pytest.importorskip("diffusers")
        networks_without_memory(monkeypatch)
    config = load_part(path, root="Teacher")
    assert config.name == path.stem
    with no_init_weights():
        teacher = build(config)
    assert isinstance(teacher, Teacher)
    assert teacher.checkpoint
    text = path.read_text()
    assert f"--gin gin/teachers/{path.name}" in text, "the comment shows how it is sampled"


def test_a_description_is_sampled_at_once(tmp_path):
    gin = described(tmp_path)
    assert sample(["--gin", gin, "--num", "6", "--steps", "4", "--labels", "3", "7", "--out", "x.npz"]) == 0
    content = np.load("x.npz", allow_pickle=False)
    assert content["labels"].tolist() == [3, 7, 3, 7, 3, 7]
    # Heun's method by hand, with the network read on its own
    network = read(str(tmp_path / "digits.pkl")).build()
    rho, high, low = 7, 80 ** (1 / 7), 0.002 ** (1 / 7)
    sigmas = [*((high + i / 3 * (low - high)) ** rho for i in range(4)), 0.0]
    labels = torch.tensor([3, 7] * 3)

    def denoised(x, s):
        scale = (s**2 + 0.25) ** -0.5
        raw = network(scale * x, torch.full((6,), float(np.log(s) / 4)), labelled(labels))
        return 0.25 * scale**2 * x + 0.5 * s * scale * raw

    with torch.no_grad():
        x = sigmas[0] * noise(0, 0, 6, (1, 8, 8))
        for s, n in pairwise(sigmas):
            d = (x - denoised(x, s)) / s
            y = x + (n - s) * d
            x = x + (n - s) * (d + (y - denoised(y, n)) / n) / 2 if n else y
    expected = to_uint8(x).permute(0, 2, 3, 1).numpy().astype(int)
    assert np.abs(content["images"].astype(int) - expected).max() <= 1
    assert sample(["--gin", gin, "--num", "2", "--steps", "2", "--out", "x.png"]) == 0
    assert not Path("runs").exists()


def test_mistakes_are_one_line(tmp_path, capsys):
    gin = described(tmp_path)

    def refused(*arguments):
        assert sample(["--gin", gin, "--num", "2", "--out", "x.png", *arguments]) == 2
        return capsys.readouterr().err

    assert "the model has 10 classes" in refused("--labels", "10")
    assert "--steps must be at least 1" in refused("--steps", "0")
    assert "there is no checkpoint nowhere.pkl" in refused("--bind", "TEACHER = nowhere.pkl")
    assert "bind @EDMPreconditioning() with sigma_data = 0.5" in refused(
        "--bind", "EDMPreconditioning.sigma_data = 0.7"
    )
    assert "nothing uses it" in refused("--bind", "UNet.width = 3")
    (tmp_path / "edm_tiny.gin").write_text((tmp_path / "edm_tiny.gin").read_text() + "\nSongUnet.width = 3\n")
    assert "there is no component 'SongUnet'" in refused()


def test_a_statement_that_nothing_uses_is_refused_in_the_file_itself(tmp_path):
    gin = Path(described(tmp_path))
    gin.write_text(gin.read_text() + "\nUNet.width = 3\n")
    with pytest.raises(ConfigError, match=r"edm_tiny.gin:\d+: UNet.width = 3: nothing uses it"):
        load_part(gin, root="Teacher")


def test_the_teacher_of_a_recipe_is_sampled_without_a_run(tmp_path, capsys):
    described(tmp_path)
    recipe = tmp_path / "mine.gin"
    recipe.write_text(distilled(tmp_path))
    assert sample(["--gin", str(recipe), "--teacher", "--num", "3", "--steps", "2", "--out", "x.png"]) == 0
    assert sample(["--gin", str(recipe), "--num", "3", "--out", "x.png"]) == 2
    assert "is no run with a checkpoint" in capsys.readouterr().err


def distilled(tmp_path: Path) -> str:
    return f"""
include 'gin/base/distillation_digits.gin'
include '{tmp_path / "edm_tiny.gin"}'

MatchingModel.network = @SongUNet()
OneStep.time = 2.5
RealUID.target = @Data()
IMAGES = 48
TEACHER_IMAGES = 48
Heun.steps = 2
Distillation.real_batch = 4
Trainer:
    batch = 16
    log_images = 16
    sample_images = 48
    evaluate_images = 999
    checkpoint_images = 48
    evaluator = None
CosineLR.warm_up = 0
"""


@pytest.mark.slow
def test_two_commands_from_an_edm_checkpoint_to_a_student_for_others(tmp_path):
    """The newcomer's way: train.py on a recipe that includes a description, export.py on its run."""
    described(tmp_path)
    (tmp_path / "mine.gin").write_text(distilled(tmp_path))
    assert train(["--gin", "mine.gin"]) == 0
    assert export(["--run", "runs/mine", "--out", "student", "--formats", "torch"]) == 0
    newest = checkpoints.load("runs/mine/checkpoints/step_00000003.pt")
    weights, _ = checkpoints.network_weights("runs/mine/checkpoints/step_00000003.pt")
    network = SongUNet(**DIGITS).eval()
    network.load_state_dict(weights)
    student, labels = realuid.load("student"), torch.arange(5)
    images = student.sample(5, labels=labels.tolist(), seed=7)
    x = 2.5 * noise(7, 0, 5, (1, 8, 8))
    scale = (2.5**2 + 0.25) ** -0.5
    with torch.no_grad():
        raw = network(scale * x, torch.full((5,), float(np.log(2.5) / 4)), labelled(labels))
    assert torch.allclose(images, 0.25 * scale**2 * x + 0.5 * 2.5 * scale * raw, atol=1e-5)
    assert newest["step"] == 3


def test_a_distillation_of_other_conventions_ends_with_one_line(tmp_path, capsys):
    described(tmp_path)
    (tmp_path / "mine.gin").write_text(distilled(tmp_path) + "EDMPreconditioning.sigma_data = 0.75\n")
    assert train(["--gin", "mine.gin"]) == 2
    assert "stands in the preconditioning edm(sigma_data=0.5)" in capsys.readouterr().err
    assert not Path("runs").exists(), "a start that fails leaves no folder"


LATENT = """
include 'gin/teachers/sit_imagenet256.gin'
SHAPE = (4, 8, 8)
CLASSES = 3
TEACHER = 'sit.pt'
DiT.width = 48
DiT.depth = 2
DiT.heads = 4
Heun.steps = 2
"""


def test_latents_are_guided_and_decoded(tmp_path, capsys):
    torch.save(dit_state(), "sit.pt")
    Path("sit.gin").write_text(LATENT)
    command = ["--gin", "sit.gin", "--num", "4", "--out", "x.npz", "--labels", "0", "2"]
    assert sample([*command, "--bind", "Teacher.decoder = None"]) == 2
    assert "latents of 4 channels: bind Teacher.decoder = @DiffusersDecoder()" in capsys.readouterr().err
    diffusers = pytest.importorskip("diffusers")
    assert sample(command) == 2
    assert "sd-vae-ft-ema is no folder of an autoencoder" in capsys.readouterr().err
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    vae.save_pretrained("vae")
    assert sample([*command, "--bind", "DiffusersDecoder.folder = vae"]) == 0
    network, labels = fill(DiT(**DIT)), torch.tensor([0, 2, 0, 2])

    def velocity(x, t):
        every = labelled(torch.cat([labels, torch.full((4,), 3)]))
        both = network(torch.cat([x, x]), torch.full((8,), t), every)
        return both[4:] + 1.5 * (both[:4] - both[4:])

    with torch.no_grad():
        x = noise(0, 0, 4, (4, 8, 8))
        y = x + 0.5 * velocity(x, 0.0)
        x = x + 0.25 * (velocity(x, 0.0) + velocity(y, 0.5))
        x = x + 0.5 * velocity(x, 0.5)
        pictures = to_uint8(vae.eval().decode(x / 0.18215).sample).permute(0, 2, 3, 1).numpy()
    assert np.abs(np.load("x.npz", allow_pickle=False)["images"].astype(int) - pictures.astype(int)).max() <= 1


def test_the_decoder_is_an_extra(tmp_path, monkeypatch, capsys):
    torch.save(dit_state(), "sit.pt")
    Path("sit.gin").write_text(LATENT)
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    assert sample(["--gin", "sit.gin", "--num", "2", "--out", "x.png"]) == 2
    assert "DiffusersDecoder needs `pip install realuid[diffusers]`" in capsys.readouterr().err


def test_recipes_bind_what_the_descriptions_say():
    for name in ("edm_cifar10", "edm_imagenet64", "si_imagenet64", "sit_imagenet256"):
        config = load([ROOT / "gin" / f"{name}.gin"])
        own = load_part(ROOT / "gin" / f"{name}.gin", root="Teacher")
        assert own.whole
        assert config.bindings["Teacher.checkpoint"] == "%TEACHER"

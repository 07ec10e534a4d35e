"""What is made of a procedure: which source, label and noise its generators are given, and which figures they get."""

import numpy as np
import pytest
import torch
from PIL import Image

from realuid.couplings import IndependentCoupling, PairedCoupling
from realuid.data.dataset import Batch
from realuid.decoders import Decoder
from realuid.evaluation.draws import noise
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.features import FeatureNetwork
from realuid.networks.mlp import MLP
from realuid.training.assessment import ROWS, Assessment, Decoded
from realuid.training.ema import EMA
from realuid.training.folder import RunFolder
from realuid.training.world import World
from tests.training.test_adversary import Images


class Flat(FeatureNetwork):
    """Four numbers of an image."""

    name, num_features = "flat", 4

    def __init__(self):
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1))

    def prepare(self, data, device): ...

    def embed(self, images):
        return images.float().flatten(1)[:, :4]


class Copies:
    """A procedure whose student gives back its source, and whose teacher the label."""

    decoder = None

    def __init__(self, coupling):
        self.coupling, self.calls, self.ema = coupling, [], EMA(decays=(0.5, 0.9))
        self.network = torch.nn.Linear(1, 1)
        self.ema.attach(self.network)

    def networks(self):
        return {"student": self.network, "teacher": self.network}

    def generators(self, ema=None):
        def student(x0, labels, fresh):
            self.calls.append((x0, labels, fresh(0)))
            return x0

        return {"student": student, "teacher": lambda x0, labels, fresh: (labels / 4)[:, None, None, None] + 0 * x0}

    def sampling(self, role):
        return {"sampler": role, "ema": None}

    def known(self, role):
        return {}


def assessment(coupling, evaluator=None):
    return Assessment(Copies(coupling), Images(), evaluator, World(torch.device("cpu")))


COUNT = 60


def evaluator():
    return Evaluator(features=Flat(), count=COUNT, seed=3, batch=25)


class Parity(Flat):
    """Reads labels."""

    reads_labels = True

    def logits(self, features):
        return torch.nn.functional.one_hot(features[:, 0].long() % 2, 2).float()


@pytest.mark.parametrize(("classes", "noise"), [(2, True), (0, True), (0, False), (None, True)])
def test_labels_are_read_again_where_they_were_asked_for(classes, noise):
    """Not of a network that is told none, unless the source image shows them."""
    coupling = IndependentCoupling() if noise else PairedCoupling()
    made = assessment(coupling, Evaluator(features=Parity(), count=COUNT))
    if classes is not None:
        made.procedure.network = MLP(shape=(1, 2, 2), width=4, classes=classes)
    for role, generator in made.procedure.generators().items():
        assert (f"{role}_agreement" in made.figures(role, generator)) is (classes != 0 or not noise)


@pytest.mark.parametrize("coupling", [PairedCoupling(), IndependentCoupling(source="data"), IndependentCoupling()])
def test_figures_by_the_kind_of_source(coupling, tmp_path):
    """Pairs have a PSNR, image sources figures of their own, noise neither."""
    made, data = assessment(coupling, evaluator()), Images()
    folder = RunFolder(tmp_path)
    summary = made.final(folder, 1, 10, "config")
    names = {path.stem for path in (tmp_path / "samples").iterdir()}
    assert names == {"student", "teacher"} | (set() if coupling.gaussian_source else {"data", "source"})
    assert ("student_psnr" in summary) is ("source_psnr" in summary) is coupling.keeps_source
    assert ("source_frechet" in summary) is not coupling.gaussian_source
    assert summary["student_frechet_by_ema"].keys() == {"0.5", "0.9"}
    if coupling.gaussian_source:
        return
    assert summary["student_frechet"] == summary["source_frechet"]  # the student gives back its source
    if coupling.keeps_source:
        rows = torch.arange(COUNT) % len(data)
        error = (data.sources[rows].double() - data.images[rows].double()).square().mean()
        assert summary["student_psnr"] == pytest.approx(10 * np.log10(255**2 / float(error)), rel=1e-6)
    for name in ("data", "source"):
        with Image.open(tmp_path / "samples" / f"{name}.png") as picture:
            scale = (picture.width + 1) // (2 * 4)
            corner = np.asarray(picture.convert("L"))[scale // 2, scale // 2]
        assert corner == {"data": data.images, "source": data.sources}[name][0, 0, 0, 0]


def test_source_images_come_in_the_order_of_storage_with_labels_and_noise_of_the_seed(tmp_path):
    made, data = assessment(PairedCoupling(), evaluator()), Images()
    made.quick(RunFolder(tmp_path), 1, 10, "config")
    calls = made.procedure.calls
    assert len(calls) % 2 == 0, "both averages see the same"
    x0, labels, fresh = (torch.cat(parts) for parts in zip(*calls[: len(calls) // 2], strict=True))
    rows = torch.arange(COUNT) % len(data)
    torch.testing.assert_close(x0, data.sources[rows] / 127.5 - 1)
    assert torch.equal(labels, rows % 2)
    assert torch.equal(fresh, noise(3, 0, COUNT, data.shape, 1))


def test_a_grid_of_noise_has_a_class_a_column_and_always_the_same_noise(tmp_path):
    made = assessment(IndependentCoupling())
    made.save_grid(RunFolder(tmp_path), "one")
    ((x0, labels, fresh),) = made.procedure.calls
    assert labels.tolist() == [0, 1] * ROWS
    assert torch.equal(x0, noise(0, 0, 2 * ROWS, (1, 4, 4)))
    assert torch.equal(fresh, noise(0, 0, 2 * ROWS, (1, 4, 4), 1))
    assert made.quick(RunFolder(tmp_path), 1, 10, "config") == {}


def test_without_an_evaluator_there_are_grids_and_no_figures(tmp_path):
    assert assessment(PairedCoupling()).final(RunFolder(tmp_path), 1, 10, "config") == {}
    assert {path.stem for path in (tmp_path / "samples").iterdir()} == {"student", "teacher", "data", "source"}


class Doubled(Decoder):
    """Pictures of twice the side."""

    def __call__(self, latents):
        return latents[:, :1].repeat_interleave(2, -1).repeat_interleave(2, -2).repeat(1, 3, 1, 1)


class Latent(Images):
    """Latents in the units of pixels."""

    def __init__(self):
        super().__init__()
        self.shape = (4, 4, 4)

    def examples(self, start, count):
        return Batch(values_of(start, count), torch.zeros(count, dtype=torch.int64))


def values_of(start, count):
    return 127.5 * (1 + torch.linspace(-1, 1, count * 64).view(count, 4, 4, 4) * (1 + start))


def test_latents_are_judged_as_pictures(tmp_path):
    """Grids, generated and real images go through the decoder; without one, grids show three channels."""
    procedure, data = Copies(IndependentCoupling()), Latent()
    procedure.decoder = Doubled()
    seen = []

    class Watching(Flat):
        def embed(self, images):
            seen.append(images.shape)
            return super().embed(images)

    assessment = Assessment(procedure, data, Evaluator(features=Watching(), count=20), World(torch.device("cpu")))
    assert "student_frechet" in assessment.quick(RunFolder(tmp_path / "quick"), 1, 10, "config")
    assert {shape[1:] for shape in seen} == {(3, 8, 8)}
    folder = RunFolder(tmp_path / "run")
    assessment.save_grid(folder, "with")
    procedure.decoder = None
    assessment.save_grid(folder, "without")
    with_decoder, without = (Image.open(folder.samples(name)) for name in ("with", "without"))
    assert with_decoder.mode == without.mode == "RGB"
    decoded = Decoded(data, Doubled())
    assert decoded.shape == (3, 8, 8)
    assert torch.equal(decoded.examples(0, 2).images[:, 0, ::2, ::2], values_of(0, 2)[:, 0].round().to(torch.uint8))

"""What is made of a method: which source, label and noise its generators are given, and which values they get."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from realuid.conditions import Condition, Field, labelled
from realuid.data.dataset import Batch
from realuid.data.decoded import Decoded
from realuid.data.pixels import to_uint8
from realuid.evaluation.classwise import ClasswiseFrechet
from realuid.evaluation.draws import noise
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.frechet import Frechet
from realuid.evaluation.kernel import KernelDistance
from realuid.models.decoders import Decoder
from realuid.networks.mlp import MLP
from realuid.paths.couplings import IndependentCoupling, PairedCoupling
from realuid.training.assessment import Assessment
from realuid.training.ema import EMA
from realuid.training.grids import ROWS
from realuid.training.run_folder import RunFolder
from realuid.training.world import World
from realuid.utils.errors import DataError
from tests.evaluation.stand_ins import Given


class Images(Given):
    """Random images of two classes with random sources."""

    def __init__(self):
        images, sources = torch.randint(256, (2, 40, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
        super().__init__(images, torch.arange(40) % 2, "images", sources)

    @property
    def sources(self):
        return self._sources


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
    """A method whose student gives back its source, and whose teacher the label."""

    decoder = None

    def __init__(self, coupling):
        self.coupling, self.calls, self.ema = coupling, [], EMA(decays=(0.5, 0.9))
        self.network = torch.nn.Linear(1, 1)
        self.ema.attach(self.network)
        self.asked, self.weights = 0, {"student": "s", "teacher": "t"}

    def networks(self):
        return {"student": self.network, "teacher": self.network}

    def generators(self, ema=None):
        def student(x0, condition, fresh):
            self.calls.append((x0, condition["label"], fresh(0)))
            return x0

        def teacher(x0, condition, fresh):
            self.asked += len(x0)
            return (condition["label"] / 4)[:, None, None, None] + 0 * x0

        return {"student": student, "teacher": teacher}

    def sampling(self, role):
        return {"sampler": role, "ema": None, "weights": self.weights[role]}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))


def assessment(coupling, evaluator=None, data=None, digests=None):
    return Assessment(Copies(coupling), data or Images(), evaluator, World(torch.device("cpu")), digests)


COUNT = 60


def evaluator():
    return Evaluator(features=Flat(), count=COUNT, seed=3, batch=25)


class Parity(Flat):
    """Reads labels."""

    name = "parity"
    reads_labels = has_logits = True

    def logits(self, features):
        return torch.nn.functional.one_hot(features[:, 0].long() % 2, 2).float()


@pytest.mark.parametrize(("classes", "noise"), [(2, True), (0, True), (0, False), (None, True)])
def test_labels_are_read_again_where_they_were_asked_for(classes, noise):
    """Not of a network that is told none, unless the source image shows them."""
    coupling = IndependentCoupling() if noise else PairedCoupling()
    made = assessment(coupling, Evaluator(features=Parity(), count=COUNT))
    if classes is not None:
        made.method.network = MLP(shape=(1, 2, 2), width=4, classes=classes)
    roles = {**made.method.generators()} | ({} if noise else {"source": lambda x0, condition, noise: x0})
    for role, generator in roles.items():
        assert (f"{role}_label_accuracy" in made.measure(role, generator)) is (classes != 0 or not noise)


@pytest.mark.parametrize("coupling", [PairedCoupling(), IndependentCoupling(source="data"), IndependentCoupling()])
def test_values_by_the_kind_of_source(coupling, tmp_path):
    """Pairs have a PSNR, image sources values of their own, noise neither."""
    made, data = assessment(coupling, evaluator()), Images()
    folder = RunFolder(tmp_path)
    summary = made.final(folder, 1, 10, "config")
    names = {path.stem for path in (tmp_path / "samples").iterdir()}
    assert names == {"student", "teacher", "data"} | (set() if coupling.gaussian_source else {"source"})
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
    calls = made.method.calls
    assert len(calls) % 2 == 0, "both averages see the same"
    x0, labels, fresh = (torch.cat(parts) for parts in zip(*calls[: len(calls) // 2], strict=True))
    rows = torch.arange(COUNT) % len(data)
    torch.testing.assert_close(x0, data.sources[rows] / 127.5 - 1)
    assert torch.equal(labels, rows % 2)
    assert torch.equal(fresh, noise(3, 0, COUNT, data.shape, 1))


def test_a_grid_of_noise_has_a_class_a_column_and_always_the_same_noise(tmp_path):
    made = assessment(IndependentCoupling())
    made.save_grid(RunFolder(tmp_path), "one")
    ((x0, labels, fresh),) = made.method.calls
    assert labels.tolist() == [0, 1] * ROWS
    assert torch.equal(x0, noise(0, 0, 2 * ROWS, (1, 4, 4)))
    assert torch.equal(fresh, noise(0, 0, 2 * ROWS, (1, 4, 4), 1))
    assert made.quick(RunFolder(tmp_path), 1, 10, "config") == {}


def test_without_an_evaluator_there_are_grids_and_no_values(tmp_path):
    assert assessment(PairedCoupling()).final(RunFolder(tmp_path), 1, 10, "config") == {}
    assert {path.stem for path in (tmp_path / "samples").iterdir()} == {"student", "teacher", "data", "source"}


class Doubled(Decoder):
    """Pictures of twice the side."""

    def __call__(self, latents):
        return latents[:, :1].repeat_interleave(2, -1).repeat_interleave(2, -2).repeat(1, 3, 1, 1)


class Latent(Images):
    """Latents."""

    def __init__(self):
        super().__init__()
        self.shape = (4, 4, 4)

    def examples(self, start, count):
        return Batch(values_of(start, count), labelled(torch.zeros(count, dtype=torch.int64)))


def values_of(start, count):
    return torch.linspace(-1, 1, count * 64).view(count, 4, 4, 4) * (1 + start)


def test_latents_are_judged_as_pictures(tmp_path):
    """Grids, generated and real images go through the decoder; without one, grids show three channels."""
    method, data = Copies(IndependentCoupling()), Latent()
    method.decoder = Doubled()
    seen = []

    class Watching(Flat):
        def embed(self, images):
            seen.append(images.shape)
            return super().embed(images)

    assessment = Assessment(method, data, Evaluator(features=Watching(), count=20), World(torch.device("cpu")))
    assert "student_frechet" in assessment.quick(RunFolder(tmp_path / "quick"), 1, 10, "config")
    assert {shape[1:] for shape in seen} == {(3, 8, 8)}
    folder = RunFolder(tmp_path / "run")
    assessment.save_grid(folder, "with")
    method.decoder = None
    assessment.save_grid(folder, "without")
    with_decoder, without = (Image.open(folder.samples(name)) for name in ("with", "without"))
    assert with_decoder.mode == without.mode == "RGB"
    decoded = Decoded(data, Doubled())
    assert decoded.shape == (3, 8, 8)
    assert torch.equal(decoded.examples(0, 2).images[:, 0, ::2, ::2], to_uint8(values_of(0, 2)[:, 0]))


class Brighter(Doubled):
    """The same, a little brighter."""

    def __call__(self, latents):
        return super().__call__(latents) + 0.1


def test_pictures_of_another_decoder_are_another_set(tmp_path):
    """Features of real images, and final values, are kept by the checksum of the pictures."""
    data = Latent()
    assert Decoded(data, Doubled()).checksum == Decoded(data, Doubled()).checksum != data.checksum
    assert Decoded(data, Brighter()).checksum != Decoded(data, Doubled()).checksum
    values = []
    for decoder in (Doubled(), Brighter()):
        method = Copies(IndependentCoupling())
        method.decoder = decoder
        evaluator = Evaluator(features=Flat(), count=20)
        assessment = Assessment(method, data, evaluator, World(torch.device("cpu")), {"student": "a", "teacher": "b"})
        values.append(assessment.final(RunFolder(tmp_path / decoder.__class__.__name__), 1, 10, "config"))
    assert values[0]["teacher_frechet"] != values[1]["teacher_frechet"]


def test_a_teacher_is_measured_once_and_whenever_anything_differs(tmp_path):
    """By runs with the same teacher; another digest, weights, seed, count or setting is another measurement."""

    def teachers(number, digests, weights="t", subsets=None, **options):
        options |= {} if subsets is None else {"metrics": [KernelDistance(subsets=subsets)]}
        evaluator = Evaluator(features=Parity(), **{"count": COUNT} | options)
        made = assessment(IndependentCoupling(), evaluator, None, digests)
        made.method.weights["teacher"] = weights
        before = made.method.asked
        summary = made.final(RunFolder(tmp_path / str(number)), 1, 10, "config")
        grids = 2 * ROWS  # is drawn anew
        return made.method.asked - before - grids, {n: v for n, v in summary.items() if n.startswith("teacher")}

    known = {"student": "a", "teacher": "b", "source": "c"}
    first, values = teachers(0, known)
    assert first == COUNT
    assert set(values) == {"teacher_frechet", "teacher_label_accuracy"}
    assert teachers(1, known) == (0, values)
    assert teachers(2, {**known, "student": "another"}) == (0, values)
    assert teachers(3, {})[0] == COUNT, "nothing says what it depends on"
    for number, (digests, options) in enumerate(
        [
            ({**known, "teacher": "guided"}, {}),
            (known, {"weights": "others"}),
            (known, {"seed": 5}),
            (known, {"count": COUNT - 1}),
            (known, {"subsets": 3}),
            (known, {"subsets": 4}),
        ]
    ):
        assert teachers(10 + number, digests, **options)[0] >= COUNT - 1
        assert teachers(20 + number, digests, **options)[0] == 0


class Captioned(Images):
    """Images described by one of three captions, beside which a field of the condition stands."""

    encoder = object()
    words = ("a zero", "une", "eine Zwei")

    @property
    def conditions(self):
        return (Field("text", (2,), "float32"),)

    def captions(self, count):
        return [self.words[(row // 2) % 3] for row in range(count)]

    def examples(self, start, count):
        rows = torch.arange(start, start + count) % len(self)
        text = torch.stack([(rows // 2) % 3, (rows // 2) % 3], dim=1).float()
        return Batch(self.images[rows], Condition({"text": text}), self.sources[rows])


def test_a_column_of_a_grid_has_one_caption_and_real_images_of_it(tmp_path):
    made, data, folder = assessment(IndependentCoupling(), None, Captioned()), Captioned(), RunFolder(tmp_path)
    seen = []

    def student(x0, condition, fresh):
        seen.append(condition["text"])
        return x0

    images = made.grids.save(folder, "one", student)
    assert len(images) == 3 * ROWS
    assert seen[0][:, 0].tolist() == [0, 1, 2] * ROWS
    assert json.loads((tmp_path / "samples" / "captions.json").read_text()) == list(data.words)
    real = made.grids._real().unflatten(0, (ROWS, 3))
    for column, word in enumerate(data.words):
        rows = [row for row, caption in enumerate(data.captions(40)) if caption == word][:ROWS]
        found = real[: len(rows), column]
        assert torch.equal(found, data.images[rows])
        assert (real[len(rows) :, column] == 128).all()


def test_real_images_of_a_grid_have_the_class_of_their_column(tmp_path):
    made, data = assessment(IndependentCoupling()), Images()
    real = made.grids._real().unflatten(0, (ROWS, 2))
    for label in (0, 1):
        assert torch.equal(real[:, label], data.images[data.labels == label][:ROWS])


def test_a_grid_of_images_that_are_not_square(tmp_path):
    wide = Given(torch.randint(0, 256, (20, 1, 3, 9)).byte(), torch.arange(20) % 2)
    made = assessment(IndependentCoupling(), None, wide)
    made.save_grid(RunFolder(tmp_path), "wide")
    scale = made.grids.scale(wide.images)
    line = max(1, scale // 3)
    for name in ("wide", "data"):
        with Image.open(tmp_path / "samples" / f"{name}.png") as picture:
            assert picture.size == (2 * (9 * scale + line) - line, ROWS * (3 * scale + line) - line)


def test_models_are_not_ranked_by_what_they_were_not_told():
    evaluator = Evaluator(features=Flat(), metrics=[ClasswiseFrechet(), Frechet()])
    assessment(IndependentCoupling(), evaluator)
    untold = Copies(IndependentCoupling())
    untold.network = MLP(shape=(1, 4, 4), width=4)
    with pytest.raises(
        DataError, match="ClasswiseFrechet reads what samples were told, and the student is told nothing"
    ):
        Assessment(untold, Images(), evaluator, World(torch.device("cpu")))

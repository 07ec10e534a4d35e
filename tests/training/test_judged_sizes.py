"""Values of a model of several sizes: of all of them, by the sets' numbers of images, or of the main one alone."""

import pytest
import torch
from loguru import logger

from realuid.data.buckets import Buckets, seed_of
from realuid.evaluation.draws import noise
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.frechet import Frechet
from realuid.evaluation.metric import Metric
from realuid.paths.couplings import IndependentCoupling
from realuid.training.assessment import Assessment
from realuid.training.run_folder import RunFolder
from realuid.training.world import World
from tests.evaluation.stand_ins import Given, Pooled
from tests.training.test_assessment import Copies, Flat

COUNT = 50
WIDE, HIGH = (1, 2, 6), (1, 6, 4)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))


@pytest.fixture(name="told")
def _told():
    lines = []
    number = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(number)


def sets():
    """60 wide pictures of class 0, and 20 high ones of class 1."""
    generator = torch.Generator().manual_seed(0)
    return [
        Given(torch.randint(256, (n, *shape), generator=generator).byte(), torch.full((n,), label), str(label))
        for label, (n, shape) in enumerate(((60, WIDE), (20, HIGH)))
    ]


def buckets():
    wide, high = sets()
    wide.classes = 2
    wide._labels = torch.arange(60) % 2
    return Buckets(sets=(wide, high))


class Darkest(Metric):
    """Reads images."""

    names, reads = ("darkest",), ("images",)

    def measure(self, real, generated):
        return {"darkest": float(generated["images"].min())}


def assessment(features, data, metrics=None):
    evaluator = Evaluator(features=features, metrics=metrics, count=COUNT, seed=3, batch=7)
    return Assessment(Copies(IndependentCoupling()), data, evaluator, World(torch.device("cpu")))


def test_metrics_see_every_size_by_its_share(tmp_path, told):
    made, data = assessment(Pooled(), buckets()), buckets()
    summary = made.final(RunFolder(tmp_path), 1, 10, "config")
    assert "metrics see samples of all 2 sizes" in told[0]
    # Three of four images are wide: 38 of 50, with the labels and the noise of their own set.
    x0, generated = [noise(3, 0, 38, WIDE), noise(seed_of(3, 1), 0, 12, HIGH)], []
    calls = [(x, labels) for x, labels, _ in made.method.calls if len(x) != made.grids.columns * 8]
    for shape, source, label in zip((WIDE, HIGH), x0, ([0, 1] * 19, [1] * 12), strict=True):
        seen = [(x, labels) for x, labels in calls if x.shape[1:] == shape]
        first = torch.cat([x for x, _ in seen])[: len(source)]
        assert torch.equal(first, source)
        assert torch.cat([labels for _, labels in seen])[: len(source)].tolist() == label
        generated.append(Pooled()(((source + 1) * 127.5).round().clamp(0, 255).byte()))
    real = [Pooled()(one.images) for one in data.sets]
    expected = Frechet().judge(torch.cat(real), torch.cat(generated))["frechet"]
    assert summary["student_frechet"] == pytest.approx(expected, rel=1e-6)
    assert "halves_frechet" in summary
    assert "pixel_gaussian_frechet" not in summary
    provenance = summary["provenance"]["student_frechet"]
    assert (provenance["reference_count"], provenance["reference"]) == (80, data.checksum)


@pytest.mark.parametrize(
    ("features", "metrics", "reason"),
    [(Flat, [Frechet()], "flat looks at images of one size"), (Pooled, [Darkest()], "Darkest reads images")],
)
def test_what_takes_one_size_sees_the_main_one_and_says_so(tmp_path, told, features, metrics, reason):
    made = assessment(features(), buckets(), metrics)
    made.final(RunFolder(tmp_path), 1, 10, "config")
    assert f"metrics see samples of {WIDE} alone, the main of 2 sizes: {reason}" in told[0]
    assert {tuple(x0.shape[1:]) for x0, *_ in made.method.calls} == {WIDE}


def test_one_size_is_told_nothing(told):
    assessment(Pooled(), sets()[0])
    assert not told

"""Shared out over ranks, every value is that of one process."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from realuid.data.buckets import Buckets
from realuid.evaluation.classwise import ClasswiseFrechet
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.frechet import Frechet
from realuid.evaluation.inputs import GaussianInputs
from realuid.evaluation.kernel import KernelDistance
from realuid.evaluation.metric import Metric
from realuid.evaluation.neighbours import DensityCoverage, Memorisation, PrecisionRecall
from tests import ranks
from tests.evaluation.stand_ins import Given, Pixels, Pooled

pytestmark = pytest.mark.xdist_group("processes")  # one at a time: each wants the cores to itself


class Darkest(Metric):
    """Reads images and conditions: the darkest pixels of a class, on either side."""

    names = ("darkest", "darkest_real")
    reads = ("images", "label")

    def measure(self, real, generated):
        sides = [side["images"][side["label"] == 2].flatten(1).double().sum(1).min() for side in (generated, real)]
        return dict(zip(self.names, map(float, sides), strict=True))


def measure(folder: Path) -> None:
    """All values, in the file `folder / rank`."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world > 1:
        dist.init_process_group("gloo")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (151, 1, 2, 2), generator=generator, dtype=torch.uint8)
    data = Given(images, torch.arange(151) % 3, "ranks", sources=images)
    kid, precision = KernelDistance(subsets=5, size=40), PrecisionRecall(limit=90)
    metrics = [Frechet(), kid, precision, DensityCoverage(), Memorisation(), ClasswiseFrechet(), Darkest()]
    evaluator = Evaluator(features=Pixels(), metrics=metrics, count=101, batch=13 * world)
    evaluator.prepare(data, "cpu", rank, world)
    inputs = GaussianInputs(data, 0)
    samples = evaluator.generate(lambda x0, told, noise: (0.6 * x0 + 0.1).clamp(-1, 1), [inputs], metrics, pairs=True)
    values = evaluator.measure(metrics, samples) | evaluator.measure_pairs(samples["images"])
    assert evaluator.measure(metrics, samples) == {name: values[name] for metric in metrics for name in metric.names}
    values |= evaluator.baselines() | of_two_sizes(images, rank, world)
    (folder / str(rank)).write_text(json.dumps(values))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()  # else gloo's threads may outlive what they use


def of_two_sizes(images: torch.Tensor, rank: int, world: int) -> dict[str, float]:
    """101 images beside 100 wide and 51 square ones."""
    wide = Given(images[:100].repeat_interleave(2, 3), torch.arange(100) % 3, "wide")
    data = Buckets(sets=(wide, Given(images[100:], torch.arange(51) % 3, "square")))
    metrics = [Frechet(), ClasswiseFrechet()]
    evaluator = Evaluator(features=Pooled(), metrics=metrics, count=101, batch=13 * world)
    evaluator.prepare(data, "cpu", rank, world)
    inputs = [GaussianInputs(one, number) for number, one in enumerate(data.parts)]
    samples = evaluator.generate(lambda x0, told, noise: (0.6 * x0 + 0.1).clamp(-1, 1), inputs, metrics)
    values = evaluator.measure(metrics, samples) | evaluator.baselines()
    return {f"{name} of two sizes": value for name, value in values.items()}


def measured(world: int, folder: Path, monkeypatch) -> list[dict[str, float]]:
    folder.mkdir()
    monkeypatch.setenv("REALUID_DATA", str(folder / "data"))
    assert ranks.run(world, measure, folder) == [0] * world
    return [json.loads((folder / str(rank)).read_text()) for rank in range(world)]


def test_two_ranks_measure_what_one_does(tmp_path, monkeypatch):
    (one,) = measured(1, tmp_path / "one", monkeypatch)
    both = measured(2, tmp_path / "two", monkeypatch)
    assert both[0] == both[1]
    assert both[0] == pytest.approx(one, rel=1e-9)
    assert {
        "frechet",
        "kid",
        "precision",
        "coverage",
        "memorised",
        "psnr",
        "halves_kid",
        "classwise_frechet",
        "darkest",
        "frechet of two sizes",
        "classwise_frechet of two sizes",
    } <= set(one)

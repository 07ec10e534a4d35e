"""`teacher_error`: against closed forms on Gaussians, and as a command."""

import pytest
import torch

from realuid.commands.teacher_error import main
from realuid.commands.train import main as train
from realuid.jobs.teacher_error import Samples, measured
from realuid.losses import RealUID, Reflected
from realuid.models.guidance import GuidedModel
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data
from realuid.paths.time_samplers import UniformTime
from tests.commands.conftest import tiny
from tests.training.stand_ins import COVARIANCE, MEAN, GaussianData, context, gaussian_distillation

UID = RealUID(target=Data(), alpha=1.0, beta=1.0)
TIMES = 0.02 + 0.98 * (torch.arange(200, dtype=torch.float64) + 0.5) / 200
"""Noise levels up to 0.98."""


def distance(law, other, of=None):
    """E |f^law - f^other|^2 on the path of `of` (of `law` if None), by algebra: predictions of the data are affine,
    x -> m + t S ((1-t)^2 + t^2 S)^-1 (x - t m)."""
    (at_mean, at_covariance), found = of or law, 0.0
    for t in TIMES:
        parts = []
        for mean, covariance in (law, other):
            gain = t * covariance @ torch.linalg.inv((1 - t) ** 2 * torch.eye(2) + t**2 * covariance)
            parts.append((mean + gain @ (t * (at_mean - mean)), gain))
        (first, a), (second, b) = parts
        spread = (1 - t) ** 2 * torch.eye(2) + t**2 * at_covariance
        found += float((first - second).square().sum() + ((a - b) @ spread @ (a - b).T).trace()) / len(TIMES)
    return found


def made(loss=UID, covariance=0.7 * COVARIANCE):
    """A student, at zero, of a teacher of N(MEAN + (0.4, -0.4), covariance)."""
    distillation = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=loss,
        time_sampler=UniformTime(high=0.98),
        images=1280,
        real_batch=4,
        mean=MEAN + torch.tensor([0.4, -0.4]),
        covariance=covariance,
    )
    distillation.start(context(256, GaussianData()))
    with torch.no_grad():
        for weight in distillation.student.parameters():
            weight.zero_()
    distillation.ema.attach(distillation.student, distillation.parallelism.template(distillation.student))
    return distillation


def test_error_and_distance_of_a_gaussian_teacher():
    """Diagonal laws, on which the affine correction of each entry is exact."""
    spreads = torch.diag(COVARIANCE.diagonal())
    data = GaussianData()
    data.vectors = MEAN + torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1)) * spreads.diagonal().sqrt()
    distillation = made(covariance=0.7 * spreads)
    found = measured(distillation, Samples(context(256, data), distillation, 16_384))
    wrong = (MEAN + torch.tensor([0.4, -0.4])).double(), 0.7 * spreads.double()
    exact = distance((MEAN.double(), spreads.double()), wrong)
    assert list(found.on_real) == ["an affine correction"]
    assert found.on_real["an affine correction"].squared == pytest.approx(exact, rel=0.1)
    nothing = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    away = distance(nothing, wrong)
    assert found.on_generated.squared == pytest.approx(away, rel=0.1)
    assert found.correction == pytest.approx(exact / (exact + away), abs=0.05)
    assert found.lines()[-1].startswith("Reflected.correction  ")


def test_a_guided_teacher_is_judged_by_its_own_network_too(monkeypatch):
    distillation = made()
    model = distillation.teacher.model
    monkeypatch.setattr(type(model), "has_null", True)
    monkeypatch.setattr(type(model), "null", lambda self, condition: condition, raising=False)
    distillation.teacher.model = GuidedModel(model=model, scale=2.0)
    found = measured(distillation, Samples(context(256, GaussianData()), distillation, 2048))
    assert list(found.on_real) == ["an affine correction", "its network without guidance"]
    assert found.on_real["its network without guidance"].squared == 0  # here it is the same
    assert found.correction > 0


def test_a_run_with_real_data_tells_no_correction():
    distillation = made(Reflected(loss=UID, correction=0.5))
    found = measured(distillation, Samples(context(256, GaussianData()), distillation, 2048))
    assert found.lines()[-1] == "a run without real data, such as UID, would tell the correction of Reflected"


@pytest.mark.slow
def test_the_command(finished, tmp_path, capsys):
    out = str(tmp_path / "uid")
    assert train([*tiny("RealUID.alpha = 1.0", "RealUID.beta = 1.0"), "--out", out]) == 0
    capsys.readouterr()
    assert main(["--run", out, "--num", "1024"]) == 0
    printed = capsys.readouterr().out
    assert "its error, at least, by an affine correction" in printed
    r = float(printed.split()[-1])
    assert 0 <= r <= 1
    assert main(["--run", out, "--num", "1024"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["--run", str(finished), "--num", "1024"]) == 0
    assert "a run without real data" in capsys.readouterr().out
    assert main(["--run", out, "--num", "8"]) == 2
    assert "--num must be at least 1024, got 8" in capsys.readouterr().err

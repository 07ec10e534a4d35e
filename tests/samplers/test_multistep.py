"""DPM-Solver++ against diffusers' own steps, its order, and what it refuses."""

import math

import numpy as np
import pytest
import torch

from realuid.conditions import Condition
from realuid.models.exact import GaussianMixture
from realuid.paths.couplings import MinibatchOT, PairedCoupling
from realuid.paths.interpolants import BrownianInterpolant, DDPMInterpolant, EDMInterpolant, ExpressionInterpolant
from realuid.paths.targets import Data
from realuid.pretrained.pipelines.grids import FlowMatchGrid, TableGrid
from realuid.samplers import DPMSolver, KarrasGrid, UniformGrid
from tests.gaussian_pairs import GaussianPairs

MIXTURE = {"means": [[1.5, -0.5], [-1.0, 0.2]], "covariances": [[[0.5, 0.3], [0.3, 0.4]], [[0.2, 0.0], [0.0, 0.3]]]}
"""Not a Gaussian: its flow is not affine."""


def silence(k):
    pytest.fail("a deterministic sampler drew noise")


def sources():
    return torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def theirs(scheduler, model, x, times, steps):
    scheduler.set_timesteps(steps)
    for entry, t in zip(scheduler.timesteps, times, strict=True):
        mean = model.predict(x, torch.full((len(x),), float(t), dtype=torch.float64), Condition(), Data())
        x = scheduler.step(mean, entry, x).prev_sample
    return x


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_steps_are_those_of_diffusers_on_ddpms_table(steps):
    diffusers = pytest.importorskip("diffusers")
    path = DDPMInterpolant(steps=1000, betas="linear", beta_start=1e-4, beta_end=0.02)
    model = GaussianMixture(interpolant=path, **MIXTURE)
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_schedule="linear", prediction_type="sample")
    grid, x0 = TableGrid(spacing="solver"), sources()
    begin = path.at(grid(path, steps)[:1]).a * x0
    found = DPMSolver(steps=steps, grid=grid)(model, x0, Condition(), silence)
    wanted = theirs(scheduler, model, begin, grid(path, steps)[:-1], steps)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)  # they keep their table in single precision


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_steps_are_those_of_diffusers_on_the_linear_path(steps):
    diffusers = pytest.importorskip("diffusers")
    path = ExpressionInterpolant(a="t", b="1 - t", t_source=1.0, t_data=0.0)
    model = GaussianMixture(interpolant=path, **MIXTURE)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="sample", flow_shift=3.0, final_sigmas_type="zero"
    )
    grid, x0 = FlowMatchGrid(shift=3.0, first=0.999), sources()
    begin = path.at(grid(path, steps)[:1]).a * x0
    found = DPMSolver(steps=steps, grid=grid)(model, x0, Condition(), silence)
    wanted = theirs(scheduler, model, begin, grid(path, steps)[:-1], steps)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_order_of_convergence():
    """Half the step, a quarter of the error, where the steps of the log-ratio are even."""
    path = EDMInterpolant(sigma_max=3.0)
    model = GaussianMixture(interpolant=path, means=[[1.5]], covariances=[[[0.5]]])
    x0 = sources()[:, :1]
    exact = 1.5 + math.sqrt(0.5 / 9.5) * (3 * x0 - 1.5)
    grids = [KarrasGrid(sigma_min=1e-5, rho=50.0)] * 3
    errors = [
        float((DPMSolver(steps=steps, grid=grid)(model, x0, Condition(), silence) - exact).abs().max())
        for steps, grid in zip((64, 128, 256), grids, strict=True)
    ]
    slopes = -np.diff(np.log2(errors))
    assert slopes[-1] == pytest.approx(2, abs=0.15), errors
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("coupling", [MinibatchOT(size=8), PairedCoupling()])
def test_what_is_no_noise_is_refused(coupling):
    model = GaussianPairs(BrownianInterpolant(scale=1.0), torch.zeros(4), torch.eye(4), coupling)
    with pytest.raises(ValueError, match="DPMSolver takes all but the data for one Gaussian noise"):
        DPMSolver(steps=2, grid=UniformGrid())(model, sources(), Condition(), silence)

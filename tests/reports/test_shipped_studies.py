"""The tables of studies/ are runs: every row assembles, as a dry run does."""

import importlib
from pathlib import Path

import pytest

from realuid import config
from realuid.networks.no_init_weights import no_init_weights
from realuid.reports.study import Plan

TABLES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))
QUICK = {"smoke"}


def kinds(plan):
    """The first row of each set of gin files."""
    return list({row.gin: row for row in reversed(plan.rows)}.values())


@pytest.fixture
def at_the_root(monkeypatch):
    monkeypatch.chdir(TABLES[0].parents[1])


@pytest.mark.usefixtures("at_the_root")
@pytest.mark.parametrize(
    "table", [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in TABLES]
)
def test_every_kind_of_row_assembles(table):
    for row in kinds(Plan.read(table)):
        bind = [text.replace("{after}", "before") for text in row.bind]
        with no_init_weights():
            config.build(config.load(row.gin, bind))


@pytest.mark.exhaustive
@pytest.mark.usefixtures("at_the_root")
@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_row_assembles(table):
    for row in Plan.read(table).rows:
        bind = [text.replace("{after}", "before") for text in row.bind]
        with no_init_weights():
            config.build(config.load(row.gin, bind))


def test_the_cuda_study_is_the_papers_network_in_bfloat16(at_the_root):
    plan = Plan.read(TABLES[0].parent / "cifar10_cuda.toml")
    row = next(row for row in plan.rows if row.name == "guided: r = 0.75")
    bind = [text.replace("{after}", "before") for text in row.bind]
    with no_init_weights():
        method = config.build(config.load(row.gin, bind)).method
    assert 35e6 < sum(weight.numel() for weight in method.student.parameters()) < 37e6
    assert method.loss.correction == 0.75
    assert method.teacher.model.scale == 2.5
    assert method.real_batch == 256


def test_a_row_that_does_not_assemble_is_found(at_the_root):
    row = Plan.read(TABLES[0].parent / "cifar10_cuda.toml").rows[1]
    with pytest.raises(config.ConfigError), no_init_weights():
        config.build(config.load(row.gin, [*row.bind, "Reflected.correction = 0.5"]))


@pytest.mark.slow
def test_students_on_gaussians_come_to_an_exact_teacher(monkeypatch):
    """What studies/paper_claim.py and tamers.py play, in two dimensions: from a fifth of the data's deviations."""
    monkeypatch.syspath_prepend(str(TABLES[0].parent))
    paper_claim, games = importlib.import_module("paper_claim"), importlib.import_module("games")
    setting = paper_claim.setting(paper_claim.laws(2, "exact"), 200, alpha=1.0, beta=1.0)
    distances = [float(found.mean()) for _, found in games.played(setting, every=20)]
    assert games.Laws().teacher_distance() == pytest.approx(16 * 0.15**2 + ((0.2 * games.Laws().spread) ** 2).sum())
    assert distances[-1] < 0.5 * distances[0], distances

"""Files of version 0.1: what was written with its keys is read with those of today."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from realuid.checkpoints import CheckpointStore
from realuid.checkpoints.nested import split
from realuid.reports.history import read_json, read_lines
from realuid.reports.study import Plan
from realuid.training.run_folder import RunFolder
from realuid.utils.errors import CheckpointError
from realuid.utils.old_files import place_of_today, with_keys_of_today

STAMP = {"network": "pixels", "count": 60, "weights": "abc"}
# What 0.1 wrote, and how it reads today.
SUMMARY = (
    {
        "student_frechet": 1.5,
        "student_frechet_by_ema": {"0.9": 1.5, "0.99": 1.25},
        "student_agreement": 0.75,
        "teacher_agreement": 0.5,
        "halves_frechet": 0.4,
        "best": {"figure": "student_frechet", "value": 1.25, "ema": "0.99", "stamp": STAMP},
        "stamps": {"student_frechet": STAMP, "teacher_frechet": STAMP},
    },
    {
        "student_frechet": 1.5,
        "student_frechet_by_ema": {"0.9": 1.5, "0.99": 1.25},
        "student_label_accuracy": 0.75,
        "teacher_label_accuracy": 0.5,
        "halves_frechet": 0.4,
        "best": {"metric": "student_frechet", "value": 1.25, "ema": "0.99", "provenance": STAMP},
        "provenance": {"student_frechet": STAMP, "teacher_frechet": STAMP},
    },
)
BEST = (
    {"figure": "student_frechet", "value": 1.25, "ema": "0.99", "step": 6, "images": 96, "stamp": STAMP},
    {"metric": "student_frechet", "value": 1.25, "ema": "0.99", "step": 6, "images": 96, "provenance": STAMP},
)
LINE = (
    {"step": 3, "fake_loss": 0.5, "student_agreement_of_1000": 0.5, "student_agreement_of_1000@0.99": 0.25},
    {"step": 3, "fake_loss": 0.5, "student_label_accuracy_of_1000": 0.5, "student_label_accuracy_of_1000@0.99": 0.25},
)
RECORD = (
    {**SUMMARY[0], "study": {"row": "UID", "seed": 0}, "curve": [[96, 2.5, 1.0]], "curve_figure": "student_frechet"},
    {**SUMMARY[1], "study": {"row": "UID", "seed": 0}, "curve": [[96, 2.5, 1.0]], "curve_metric": "student_frechet"},
)
KINDS = {"summary.json": SUMMARY, "best.json": BEST, "a line of metrics": LINE, "a study's record": RECORD}


@pytest.mark.parametrize(("old", "today"), KINDS.values(), ids=KINDS.keys())
def test_keys(old, today):
    before = json.dumps(old)
    assert with_keys_of_today(old) == today
    assert json.dumps(old) == before, "what it was given is left as it is"
    assert with_keys_of_today(today) == today


@pytest.mark.parametrize("content", [None, [1, 2], "figure", 3.5])
def test_what_is_no_mapping_is_returned_as_it_is(content):
    assert with_keys_of_today(content) is content


def test_values_are_left_alone():
    """`figure` as a value, or a key deeper down, names nothing of ours."""
    content = {"config": "figure", "settings": {"figure": 1, "procedure": 2}, "meters": {"stamp": 3}}
    assert with_keys_of_today(content) == content


def test_files_of_a_run_folder(tmp_path):
    folder = RunFolder(tmp_path)
    for path, (old, today) in ((folder.summary, SUMMARY), (folder.best, BEST)):
        path.write_text(json.dumps(old))
        assert folder.read_json(path) == read_json(path) == today
    assert folder.read_json(folder.exit) is None
    folder.metrics.write_text(json.dumps(LINE[0]) + "\n" + json.dumps(LINE[1]) + "\n")
    assert read_lines(folder.metrics) == [LINE[1], LINE[1]]


def test_the_table_of_a_study(tmp_path):
    table = "figures = ['student_frechet']\n[[row]]\nname = 'UID'\ngin = ['gin/smoke.gin']\n"
    (tmp_path / "old.toml").write_text(table)
    (tmp_path / "new.toml").write_text(table.replace("figures", "metrics"))
    old, new = (Plan.read(tmp_path / f"{name}.toml") for name in ("old", "new"))
    assert old.metrics == new.metrics == ("student_frechet",)


def test_a_checkpoints_state():
    weights = torch.arange(3.0)
    state = with_keys_of_today({"step": 3, "procedure": {"student": {"w": weights}}, "ema": {}, "config": "procedure"})
    assert state == {"step": 3, "method": {"student": {"w": weights}}, "ema": {}, "config": "procedure"}
    assert place_of_today("/procedure/student/w") == "/method/student/w"
    assert place_of_today("/ema/procedure/w") == "/ema/procedure/w"
    assert place_of_today("/step") == "/step"


def state(name: str, factor: float) -> dict:
    return {name: {"student": {"w": factor * torch.arange(4.0)}}, "ema": {"w": factor * torch.ones(2)}, "step": 3}


@pytest.fixture
def alone():
    """A group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_shards_are_read_into_the_places_of_today(tmp_path: Path, alone):
    store = CheckpointStore(str(tmp_path))
    store.save_shards(3, *split(state("procedure", 2.0)), alone, True)
    template = state("method", 0.0)
    read = with_keys_of_today(store.load(3, torch.device("cpu"), template))
    assert read.keys() - {"format"} == {"method", "ema", "step"}
    assert read["step"] == 3
    assert read["method"]["student"]["w"].tolist() == [0, 2, 4, 6]
    assert read["ema"]["w"].tolist() == [2, 2]
    assert template["method"]["student"]["w"].tolist() == [0, 2, 4, 6], "read where the run's own tensors are"
    other = {**state("method", 0.0), "more": torch.ones(1)}
    with pytest.raises(CheckpointError, match="does not fit this run: /more is on one side only"):
        store.load(3, torch.device("cpu"), other)


def test_a_whole_checkpoint_is_laid_out_as_the_shards_of_today(tmp_path: Path, alone):
    """Each tensor goes to the place of the template's: 0.1's of `procedure` where those of `method` are."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    store = CheckpointStore(str(tmp_path))
    store.save(3, state("procedure", 2.0))
    template = state("method", 0.0)
    mesh = init_device_mesh("cpu", (1,))
    template["method"]["student"]["w"] = distribute_tensor(template["method"]["student"]["w"], mesh, [Shard(0)])
    found = store.load(3, torch.device("cpu"), template)["method"]["student"]["w"]
    assert isinstance(found, DTensor)
    assert found.placements == (Shard(0),)
    assert found.full_tensor().tolist() == [0, 2, 4, 6]

"""A sharded checkpoint whose table of contents was forged: refused in one line, and nothing of it runs."""

import dataclasses
import hashlib
import io
import json
import os
import pickle

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex

from realuid import checkpoints
from realuid.checkpoints import CheckpointStore
from realuid.checkpoints.nested import split
from realuid.utils.errors import CheckpointError

STEP = "step_00000001"
FORGED = "/method/student/b"


def state() -> dict:
    return {"step": 7, "method": {"student": {"w": torch.randn(4, 4), "b": torch.randn(4)}}}


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """One that is right."""
    monkeypatch.chdir(tmp_path)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        CheckpointStore(str(tmp_path)).save_shards(1, *split(state()), dist.group.WORLD, True)
    finally:
        dist.destroy_process_group()
    return tmp_path


def byte_entry(table, folder):
    """torch's own planner would unpickle it."""
    buffer = io.BytesIO()
    torch.save(Call(os.system, "touch EXECUTED"), buffer)
    (folder / STEP / "evil.distcp").write_bytes(buffer.getvalue())
    table.state_dict_metadata[FORGED] = BytesStorageMetadata()
    for index in [index for index in table.storage_data if index.fqn == FORGED]:
        del table.storage_data[index]
    table.storage_data[MetadataIndex(FORGED)] = _StorageInfo("evil.distcp", 0, len(buffer.getvalue()))


def more_bytes(table, folder):
    """Beside all that the template asks for."""
    table.state_dict_metadata["/zzz"] = BytesStorageMetadata()
    table.storage_data[MetadataIndex("/zzz")] = _StorageInfo("__0_0.distcp", 0, 8)


def a_command(table, folder):
    table.planner_data = Call(os.system, "touch EXECUTED")


def any_function_of_torch(table, folder):
    """What `_get_layout` gives may be anything in torch, and be called."""

    class Save:
        def __reduce__(self):
            return Named("save"), ([1], "EXECUTED")

    class Named:
        def __init__(self, name):
            self.name = name

        def __call__(self): ...

        def __reduce__(self):
            return torch.serialization._get_layout, (f"torch.{self.name}",)

    table.planner_data = Save()


def outside(table, folder):
    for index, place in list(table.storage_data.items()):
        table.storage_data[index] = dataclasses.replace(place, relative_path=f"../../{place.relative_path}")


def unpacking(table, folder):
    for place in table.storage_data.values():
        place.transform_descriptors = ("stream.zstd",)


FORGERIES = [byte_entry, more_bytes, a_command, any_function_of_torch, outside, unpacking]


def forge(folder, change):
    """Changes the table of contents, and the marker with it."""
    path = folder / STEP / ".metadata"
    table = pickle.loads(path.read_bytes())
    change(table, folder)
    path.write_bytes(pickle.dumps(table))
    marker = json.loads((folder / f"{STEP}.json").read_text())
    marker["files"] = {
        f"{STEP}/{file.name}": {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted((folder / STEP).iterdir())
    }
    (folder / f"{STEP}.json").write_text(json.dumps(marker))


@pytest.mark.parametrize("change", FORGERIES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("resumed", [True, False])
def test_nothing_of_a_forged_table_runs(change, resumed, folder):
    forge(folder, change)
    store = CheckpointStore(str(folder))
    store.verify(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(CheckpointError) as refusal:
            store.load(1, torch.device("cpu"), state()) if resumed else checkpoints.load(str(folder / STEP))
    finally:
        dist.destroy_process_group()
    assert "\n" not in str(refusal.value)
    assert not (folder / "EXECUTED").exists()


def test_the_right_one_is_read(folder):
    forge(folder, lambda table, folder: None)
    read = checkpoints.load(str(folder / STEP))
    assert read["method"]["student"]["w"].shape == (4, 4)

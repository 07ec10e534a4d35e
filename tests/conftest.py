"""For all tests: one thread, so that figures repeat and processes side by side do not wait for each other;
plug-ins stay with their test."""

from pathlib import Path

import pytest
import torch
from filelock import FileLock

from realuid.config._gin import gin

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """What a module makes once for its tests is made by one process: they are a group, unless they are in one."""
    for item in items:
        made = [found[-1] for found in item._fixtureinfo.name2fixturedefs.values() if found[-1].scope == "module"]
        if made and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.module.__name__.replace(".", "_")))


@pytest.fixture(autouse=True)
def _seeded():
    """What a test draws from torch's own generator is the same in each run, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _plug_ins_are_forgotten():
    """gin keeps what a test's gin file imports: a later test would find two components of one name."""
    yield
    registry = gin.config._REGISTRY
    for selector in [name for name, _ in registry.items() if not name.startswith(("realuid.", "gin."))]:
        del gin.config._INVERSE_REGISTRY[registry.pop(selector).wrapped]


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """Of the whole session, whichever process of pytest-xdist a test runs in: a folder, and a lock on making things in
    it."""
    own = tmp_path_factory.getbasetemp()
    folder: Path = (own if worker_id == "master" else own.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder, FileLock(folder / "lock")

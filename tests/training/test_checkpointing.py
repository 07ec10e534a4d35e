"""Saving beside the training: what is saved is the moment's state; stores that are slow or fail are survived."""

import pytest
import torch

from realuid import checkpoints
from realuid.checkpoints import CheckpointStore, sharded
from realuid.training.checkpointing import Checkpoints, Saver
from realuid.training.parallelism import DDP
from realuid.training.world import World
from realuid.utils.errors import CheckpointError
from tests.s3 import served

CPU = torch.device("cpu")


def saver(url: str, **policy) -> Saver:
    return Saver(Checkpoints(**policy), CheckpointStore(url), World(CPU), DDP(), batch=10)


def state(step: int) -> dict:
    return {"step": step, "weights": {"a": torch.full((300, 300), float(step))}}


def steps_of(store: CheckpointStore) -> list[int]:
    found = store.steps()
    for step in found:
        assert torch.equal(store.load(step, CPU)["weights"]["a"], state(step)["weights"]["a"])
    return found


def test_what_is_saved_is_the_state_of_that_moment(tmp_path):
    made, weights = saver(str(tmp_path)), state(1)
    made.save(1, weights)
    weights["weights"]["a"].zero_()  # the training goes on
    made.wait()
    assert steps_of(made.store) == [1]


def test_the_newest_are_kept_and_some_for_good(tmp_path):
    made = saver(str(tmp_path), keep=2, keep_images=30)
    for step in range(1, 9):
        made.save(step, state(step))
    made.wait()
    assert steps_of(made.store) == [3, 6, 7, 8]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".pt") == [
        f"step_0000000{step}.pt" for step in (3, 6, 7, 8)
    ]


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    (tmp_path / "step_00000001.pt.part").write_bytes(b"half")
    (tmp_path / "best.pt.part").write_bytes(b"being written beside")
    made = saver(str(tmp_path))
    made.save(2, state(2))
    made.wait()
    assert [path.name for path in tmp_path.glob("*.part")] == ["best.pt.part"]
    assert steps_of(made.store) == [2]


def test_a_checkpoint_without_its_marker_does_not_exist(tmp_path):
    made = saver(str(tmp_path))
    made.save(1, state(1))
    made.wait()
    (tmp_path / "step_00000001.json").rename(tmp_path / "elsewhere")
    assert made.store.recover() is None
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        made.store.newest()


def test_a_damaged_one_is_dropped_for_the_one_before(tmp_path):
    made = saver(str(tmp_path))
    for step in (1, 2):
        made.save(step, state(step))
    made.wait()
    for step, expected in ((2, 1), (1, None)):
        file = tmp_path / f"step_0000000{step}.pt"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="is damaged"):
            checkpoints.load(str(file))
        if expected is None:
            with pytest.raises(CheckpointError, match="is damaged"):
                made.store.recover()
        else:
            assert made.store.recover() == expected
            assert made.store.steps() == [expected]


def test_shards_that_cannot_be_written_are_an_ordinary_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((CheckpointError, OSError)):  # DCP's own exception would pass by `except Exception`
        sharded.save(str(tmp_path / "file"), {"a": torch.zeros(3)}, None)


def test_an_object_store_keeps_them(monkeypatch):
    with served(monkeypatch) as (fs, _):
        made = saver("s3://bucket/run", keep=2)
        for step in (1, 2, 3):
            made.save(step, state(step))
        made.wait()
        assert steps_of(made.store) == [2, 3]
        names = sorted(path.rpartition("/")[2] for path in fs.ls("bucket/run", detail=False, refresh=True))
        assert names == [f"step_0000000{step}.{end}" for step in (2, 3) for end in ("json", "pt")]
        assert checkpoints.load(made.store.newest())["step"] == 3


def test_a_failing_store_is_asked_again_and_the_last_good_one_stands(monkeypatch):
    with served(monkeypatch) as (_, weather):
        made = saver("s3://bucket/run", retries=1, pause_s=0.01, tolerate=1)
        made.save(1, state(1))
        made.wait()
        weather.failures = 1
        made.save(2, state(2))
        made.wait()
        assert (weather.failures, made.lost, steps_of(made.store)) == (0, 0, [1, 2])
        weather.failures = 10**6
        made.save(3, state(3))
        made.wait()
        assert (made.failures, made.fault) == (1, None)
        made.save(4, state(4))
        made.wait()
        assert made.fault == "2 checkpoints in a row could not be saved to s3://bucket/run"
        weather.failures = 0
        assert steps_of(made.store) == [1, 2]
        made.save(5, state(5))
        made.wait()
        assert (made.fault, made.lost, steps_of(made.store)) == (None, 2, [2, 5])


def test_a_stalling_store_does_not_hold_up_the_training(monkeypatch):
    with served(monkeypatch) as (_, weather):
        made = saver("s3://bucket/run", stall_s=60.0, retries=0)
        made.save(1, state(1))
        made.wait()
        made.policy.stall_s = 0.3
        weather.open.clear()
        made.save(2, state(2))  # comes back, though nothing is written
        late = made._thread
        made.wait()
        assert (made.failures, made.lost, late.is_alive()) == (1, 1, True)
        weather.open.set()
        made.policy.stall_s = 60.0
        made.save(3, state(3))
        made.wait()
        late.join()  # what came too late must not disturb what came after it
        assert made.failures == 0
        assert 3 in steps_of(made.store)

"""A lock belongs to the process that took it."""

import os
import time

import pytest

from realuid.utils.locks import locked


def opened(path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def test_a_second_one_waits_or_is_refused(tmp_path):
    with (
        locked(opened(tmp_path / "lock")),
        pytest.raises(BlockingIOError),
        locked(opened(tmp_path / "lock"), wait=False),
    ):
        pass
    with locked(opened(tmp_path / "lock"), wait=False):
        pass


def test_files_are_closed(tmp_path):
    before = os.listdir("/proc/self/fd")
    with (
        locked(opened(tmp_path / "lock")),
        pytest.raises(BlockingIOError),
        locked(opened(tmp_path / "lock"), wait=False),
    ):
        pass
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("killed", [False, True], ids=["let go", "killed"])
def test_a_forked_process_does_not_keep_it(tmp_path, killed):
    """One process takes the lock and forks another, which outlives the lock."""
    path, done = tmp_path / "lock", tmp_path / "done"
    holder = os.fork()
    if not holder:
        with locked(opened(path)):
            worker = os.fork()
            if not worker:
                (tmp_path / "forked").touch()
                for _ in range(1_000):
                    time.sleep(0.01)
                    if done.exists():
                        break
                os._exit(0)
            if killed:
                while not (tmp_path / "forked").exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), 9)
        (tmp_path / "released").touch()
        os.waitpid(worker, 0)
        os._exit(0)
    try:
        while not (tmp_path / ("forked" if killed else "released")).exists():
            time.sleep(0.01)
        if killed:
            os.waitpid(holder, 0)
        with locked(opened(path), wait=False):
            pass
    finally:
        done.touch()
        if not killed:
            os.waitpid(holder, 0)

"""Whose checkpoints a folder holds."""

import shutil
import threading
import time

import pytest

from realuid.training.run_folder import RunFolder
from realuid.utils.errors import RunError


def saved(folder, step=1):
    folder.store.save(step, {"step": step})
    return folder


def test_runs_share_a_folder_for_checkpoints_without_meeting(tmp_path):
    shared = str(tmp_path / "checkpoints")
    one, other = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a_teacher-0123")
    one.keep_checkpoints_at(shared, "one")
    other.keep_checkpoints_at(shared, "other")
    saved(one, 5)
    assert one.store.steps() == [5]
    assert other.store.steps() == []


def test_another_run_of_the_same_name_is_refused(tmp_path):
    shared = str(tmp_path / "checkpoints")
    one = RunFolder(tmp_path / "here" / "run")
    one.keep_checkpoints_at(shared, "one")
    saved(one)
    with pytest.raises(RunError, match=r"of another run.*choose another --out or Checkpoints.folder"):
        RunFolder(tmp_path / "there" / "run").keep_checkpoints_at(shared, "other")
    same = RunFolder(tmp_path / "there" / "run")  # the run folder was lost: the same bindings go on
    same.keep_checkpoints_at(shared, "one")
    assert same.store.steps() == [1]


def test_another_place_for_a_run_at_work_is_refused_until_its_checkpoints_are_there(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.keep_checkpoints_at(None, "one")
    saved(run)
    with pytest.raises(RunError, match=r"are in .*/run/checkpoints: move them to .*/new/run"):
        run.keep_checkpoints_at(str(tmp_path / "new"), "one")
    (tmp_path / "new").mkdir()
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "new" / "run")
    run.keep_checkpoints_at(str(tmp_path / "new"), "one")
    assert run.store.steps() == [1]
    with pytest.raises(RunError, match="move them to"):
        run.keep_checkpoints_at(None, "one")


def test_a_run_of_version_01_goes_on_where_its_checkpoints_are(tmp_path):
    """It had no folder for each run inside Checkpoints.folder."""
    run, url = RunFolder(tmp_path / "run"), str(tmp_path / "elsewhere")
    run.write_text(run.path / "checkpoints.url", url + "\n")
    saved(run)
    run.keep_checkpoints_at(url, "one")
    assert run.store.url == url
    assert run.store.steps() == [1]


def test_who_waits_for_a_folder_that_is_taken_away_locks_the_new_one(tmp_path):
    """Else two processes would hold two locks of one folder."""
    run, entered = RunFolder(tmp_path / "run"), []

    def wait() -> None:
        with RunFolder(tmp_path / "run").locked(wait=True):
            entered.append((tmp_path / "run" / ".lock").exists())
            with pytest.raises(RunError, match="another process"), RunFolder(tmp_path / "run").locked():
                pass

    with run.locked():
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        assert not entered
        shutil.rmtree(run.path)
    waiting.join(timeout=10)
    assert entered == [True]


def test_a_folder_in_which_another_process_is_at_work_is_not_taken_away(tmp_path):
    run = RunFolder(tmp_path / "run")
    with RunFolder(tmp_path / "run").locked():
        run.remove_untrained()
        assert run.path.exists()
    run.remove_untrained()
    assert not run.path.exists()


def test_a_folder_with_checkpoints_or_numbers_is_not_taken_away(tmp_path):
    trained, logged = saved(RunFolder(tmp_path / "a")), RunFolder(tmp_path / "b")
    logged.write_text(logged.metrics, "{}")
    for folder in (trained, logged):
        folder.remove_untrained()
        assert folder.path.exists()

"""A run that is killed, terminated, robbed of a checkpoint and starved of disk ends where an undisturbed one does."""

import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from realuid.checkpoints import CheckpointStore
from realuid.commands.train import main
from tests.commands.conftest import tiny
from tests.commands.test_train import lines, same

FORK = multiprocessing.get_context("fork")
STEPS_FOR_EACH = 12
"""Steps of the run for each disturbance: more than one process takes before it is disturbed."""

KILL, TERMINATE, TEAR, STARVE = "kill -9", "SIGTERM", "torn checkpoint", "failing saves"


def arguments(steps: int, folder: Path, teacher: str) -> list[str]:
    bindings = (
        "Trainer.threads = 1",
        f"Trainer.images = {16 * steps}",  # IMAGES, which the learning rate falls with, stays
        "CosineLR.last = 0.1",
        f"Teacher.checkpoint = '{teacher}'",
        "Trainer.evaluator = None",
        "Trainer.evaluate_images = None",
        "Trainer.checkpoint_images = 32",
        f"Trainer.sample_images = {16 * steps}",
        "Checkpoints.pause_s = 0.01",
        "Checkpoints.tolerate = 1000",
    )
    return [*tiny(*bindings), "--out", str(folder)]


class Run:
    """One process of the run.

    Args:
        folder: of the run.
        command: arguments of train.py.
        starved: whether no file may grow beyond half a megabyte, which metrics.jsonl does not, and a checkpoint does.
    """

    def __init__(self, folder: Path, command: list[str], starved: bool = False) -> None:
        self.store = CheckpointStore(str(folder / "checkpoints"))
        self.found = self.store.steps()
        self.log = folder.with_suffix(".log")
        self.log.write_text("")
        self.process = FORK.Process(target=_train, args=(self.log, command, starved))
        self.process.start()

    def wait_for(self, words: str) -> str:
        deadline = time.monotonic() + 300
        while not (match := re.search(words, text := self.log.read_text())):
            assert self.process.is_alive(), text
            assert time.monotonic() < deadline, text
            time.sleep(0.01)
        return match[1]

    def begun_after(self) -> int:
        """The step that this process went on from, once it has taken some."""
        self.wait_for("(img/s)")
        resumed = re.search(r"resumed after ([\d,]+) images", self.log.read_text())
        return int(resumed[1].replace(",", "")) // 16 if resumed else 0

    def end(self, number: int) -> int:
        assert self.process.is_alive(), "the run ended before it was disturbed: " + self.log.read_text()
        os.kill(self.process.pid, number)
        return self.wait(120)

    def wait(self, seconds: float) -> int:
        """The exit status, or minus the signal that ended it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.log.read_text()
        return self.process.exitcode


def _train(log: Path, command: list[str], starved: bool) -> None:
    """train.py in a process that begins with what is imported here: of a start of ten seconds nine are imports."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    if starved:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
    os._exit(main(command))


def tear(store: CheckpointStore, chance: random.Random) -> None:
    """The newest checkpoint loses its end, as if the disk had lied."""
    path = Path(store.newest())
    os.truncate(path, chance.randrange(path.stat().st_size))


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(
            {KILL: 2, TERMINATE: 2, TEAR: 1, STARVE: 1}, id="short", marks=[pytest.mark.slow, pytest.mark.timeout(900)]
        ),
        pytest.param(
            {KILL: 20, TERMINATE: 20, TEAR: 5, STARVE: 5},
            id="long",
            marks=[pytest.mark.chaos, pytest.mark.timeout(7200)],
        ),
    ],
)
def test_chaos(counts, finished, tmp_path, capsys):
    teacher = CheckpointStore(str(next(finished.parent.glob("smoke_teacher-*")) / "checkpoints")).newest()
    chance = random.Random(0)
    plan = [kind for kind, count in counts.items() for _ in range(count)]
    chance.shuffle(plan)
    plan.sort(key=lambda kind: kind == TEAR)  # at first there is no second checkpoint to go back to
    steps = STEPS_FOR_EACH * len(plan)
    calm, folder = tmp_path / "calm", tmp_path / "disturbed"
    assert Run(calm, arguments(steps, calm, teacher)).wait(3000) == 0

    started, repeated = time.monotonic(), 0
    command = arguments(steps, folder, teacher)
    for kind in plan:
        run = Run(folder, command, starved=kind == STARVE)
        begun = run.begun_after()
        assert begun == (run.found[-1] if run.found else 0), "the newest checkpoint was not taken"
        if kind == STARVE:
            assert "File too large" in run.wait_for("(checkpoint of step .* is lost: .*)")
        while kind == TEAR and len(run.store.steps()) < 2:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        assert run.end(signal.SIGTERM if kind == TERMINATE else signal.SIGKILL) == (
            143 if kind == TERMINATE else -signal.SIGKILL
        )
        if kind == TEAR:
            good = run.store.steps()
            tear(run.store, chance)
            again = Run(folder, command)
            assert again.begun_after() == good[-2]
            assert "is damaged" in again.log.read_text()
            again.end(signal.SIGKILL)
        reached = max([begun, *(line["step"] for line in lines_so_far(folder))])
        repeated += reached - (run.store.steps() or [0])[-1]
    last = Run(folder, command)
    assert last.wait(3000) == 0, last.log.read_text()

    expected, found = (torch.load(CheckpointStore(str(f / "checkpoints")).newest()) for f in (calm, folder))
    for part in ("method", "ema", "step", "meters"):
        assert same(found[part], expected[part]), part
    assert lines(folder) == lines(calm)
    with capsys.disabled():
        report = counts | {"steps": steps, "repeated": repeated, "seconds": round(time.monotonic() - started)}
        print("\n" + json.dumps(report))


def lines_so_far(folder: Path) -> list[dict]:
    """Of a run that was just killed: the last line may be torn."""
    found = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found

"""run.json in a run folder: when, how and on what the run was started."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from realuid import __version__
from realuid.training.run_folder import RunFolder
from realuid.training.world import World
from realuid.utils.commit import commit_of_code
from realuid.utils.errors import tolerated

__all__ = ["record_start", "record_teacher"]


def record_start(folder: RunFolder, world: World, arguments: Sequence[str]) -> None:
    """Writes date, command, commit and device. A run that is resumed keeps when it was begun, as `begun`.

    Args:
        folder: of the run.
        world: the processes; the first of them calls this.
        arguments: of the command, behind `realuid train`.
    """
    before = folder.read_json(folder.start) or {}
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    record = {
        "begun": before.get("begun", now) if folder.store.steps() else now,
        "started": now,
        "command": f"realuid train {shlex.join(arguments)}",
        "commit": commit_of_code(),
        "device": device_name(world.device) + (f", {world.size} processes" if world.size > 1 else ""),
        "versions": f"realuid {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    with tolerated("run.json"):
        folder.write_json(folder.start, record)


def record_teacher(folder: RunFolder, checkpoint: str) -> None:
    """Adds where the teacher's checkpoint lies, and its run folder, relative to this one, if it is in one."""
    made_by = Path(checkpoint).absolute().parent.parent
    record: dict[str, Any] = {**(folder.read_json(folder.start) or {}), "teacher": checkpoint}
    if "://" not in checkpoint and (made_by / "config.gin").is_file():
        record["teacher_run"] = os.path.relpath(made_by, folder.path.absolute())
    with tolerated("run.json"):
        folder.write_json(folder.start, record)


def device_name(device: torch.device) -> str:
    """The name of a GPU, or of the processor with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {torch.get_num_threads()} threads"

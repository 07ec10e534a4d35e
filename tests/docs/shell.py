"""The commands of a bash block: bash itself reads it, and the programs note what they were called with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROGRAMS = ("python", "realuid", "torchrun", "pytest", "pip", "mkdocs", "ruff", "mypy", "srun", "scontrol")

PRELUDE = "unset PYTHONPATH\n" + "\n".join(
    f"""{name}() {{
        printf "%s\\0" ${{PYTHONPATH:+"PYTHONPATH=$PYTHONPATH"}} {name} "$@" >>"$CALLS"
        printf "\\n\\0" >>"$CALLS"
    }}"""
    for name in PROGRAMS
)
"""Functions stand in for the programs: arguments end with a zero byte, a call with a newline as the last of them."""


def calls(text: str, folder: Path) -> list[list[str]]:
    """What a block calls, loops and variables resolved: `PYTHONPATH=...` if it is set, the program, its arguments.
    Everything else in the block is run in `folder`.

    Raises:
        AssertionError: if bash cannot read the block, or one of its other commands fails.
    """
    record = folder / ".calls"
    record.unlink(missing_ok=True)
    script = f"set -e\n{PRELUDE}\n{text}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=os.environ | {"CALLS": str(record)}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"bash: {done.stderr}"
    noted = record.read_text().split("\n\0") if record.exists() else []
    return [call.rstrip("\0").split("\0") for call in noted if call]

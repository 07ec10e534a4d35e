"""What all commands share: the log on the terminal, and mistakes as one line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from loguru import logger

from realuid.allocator import hold_freed_memory
from realuid.config import ConfigError
from realuid.errors import CheckpointError, DataError, RunError

USER_ERRORS = (ConfigError, DataError, CheckpointError, RunError)
"""Mistakes of the user: one line on the terminal, exit status 2."""


def set_up_log() -> None:
    """Plain progress lines on standard error; of the other processes of a run, only what goes wrong."""
    logger.remove()
    rank = int(os.environ.get("RANK", "0"))
    who = f"[{rank}] " if rank else ""
    level = "WARNING" if rank else "INFO"
    logger.add(sys.stderr, level=level, format=f"<green>{{time:HH:mm:ss}}</green> {who}{{message}}")


def guarded(program: str, work: Callable[[], int]) -> int:
    """Runs a command; a user's mistake becomes one line and status 2, anything unforeseen status 3."""
    set_up_log()
    hold_freed_memory()
    try:
        return work()
    except USER_ERRORS as error:
        if os.environ.get("RANK", "0") == "0":  # all processes of a run make the same mistake
            print(f"{program}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 3

"""What all commands share: options, the log on the terminal, and mistakes as one line."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from loguru import logger

from realuid.jobs.mistakes import USER_ERRORS
from realuid.utils.allocator import hold_freed_memory
from realuid.utils.errors import out_of_memory
from realuid.utils.remote import FULL, reason


class Parser(argparse.ArgumentParser):
    """Reads options; a mistake among them is one line and status 2."""

    def parse_args(self, args: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        options, rest = self.parse_known_args(args)
        if empty := [name for name, value in vars(options).items() if value == "" != self.get_default(name)]:
            self.error(f"--{empty[0].replace('_', '-')} is empty")
        if not rest:
            return options
        bindings: list[str] = vars(options).get("bind", [])
        if bindings and "=" not in bindings[-1] and rest[0].startswith("="):
            whole = " ".join([bindings[-1], *rest])
            self.error(f'a binding with spaces needs quotes: --bind "{whole}"')
        if bindings and "=" in rest[0] and not rest[0].startswith("-"):
            self.error(f'each binding needs a --bind of its own: --bind "{bindings[-1]}" --bind "{rest[0]}"')
        self.error(f"unrecognized arguments: {' '.join(rest)}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists all options)\n")


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
        print(f"{program}: {reason(error) if error.errno in FULL else error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:  # a model that gives no pictures
        print(f"{program}: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if (line := out_of_memory(error)) is not None:
            print(f"{program}: {line}", file=sys.stderr)
        else:
            traceback.print_exc()
        return 3

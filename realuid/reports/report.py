"""The report of a run: one HTML file that needs nothing else, made from what lies in the run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from realuid.reports.history import number, read_json, read_lines, read_text
from realuid.reports.page import columns, page, picture, save_text
from realuid.reports.panels import charts
from realuid.reports.results import results
from realuid.utils.errors import RunError
from realuid.utils.links import stray

__all__ = ["write_report"]

FRAMES = 11
"""Grids shown of those saved in time, beside the real images: evenly spaced, with the first and the last."""


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, atomically, and return its path.

    Reads whichever of these exist: `run.json` (when, how and on what it was started), `metrics.jsonl` (one JSON object
    a line, with `images` and numbers of any name), `samples/teacher.png` and `samples/student.png` (from the same
    noise), `samples/step_*.png`, `samples/data.png` and `samples/captions.json` (real images and captions that belong
    to the columns), `summary.json`, `config.gin` and `exit.json`. What is missing or damaged leaves its section out: a
    report can be written at any time of a run, and after any end of it.

    Raises:
        RunError: if a symbolic link leads out of the folder: what it leads to does not belong into the report.
    """
    folder = Path(folder)
    if (found := stray(folder)) is not None:
        raise RunError(f"{found}: no report is written")
    summary, name = read_json(folder / "summary.json"), folder.resolve().name
    body = [
        f"<h1>{escape(name)}</h1>{_status(folder)}{_origin(folder)}",
        _comparison(folder / "samples"),
        results(summary),
        _training(folder / "metrics.jsonl", summary),
        _progress(folder / "samples"),
        _details(folder, summary),
    ]
    path = folder / "report.html"
    save_text(path, page(name, "\n".join(part for part in body if part)))
    return path


def _status(folder: Path) -> str:
    ended = read_json(folder / "exit.json")
    code, reason = number(ended.get("code")), str(ended.get("reason") or "")
    if code is None:
        word, colour = "Not ended", ""
        reason = "the run goes on, or was killed before it could say why"
    else:
        words: dict[float, str] = {
            0: "Done",
            2: "Refused",
            3: "Stopped by a fault",
            130: "Interrupted",
            143: "Interrupted",
        }
        word, colour = words.get(code, f"Ended with status {code:.0f}"), "good" if code == 0 else "bad"
    reason = "" if reason.lower() == word.lower() else f" {reason}"
    return f'<p class="status"><b class="{colour}">{escape(word)}</b>{escape(reason)}</p>'


def _origin(folder: Path) -> str:
    """When, how and on what the run was started, and whose student it trains."""
    start = read_json(folder / "run.json")
    begun, started = str(start.get("begun") or ""), str(start.get("started") or "")
    parts = {
        "Started": _date(begun) + (f", resumed {_date(started)}" if started != begun else ""),
        "Command": f"<code>{escape(str(start.get('command') or ''))}</code>" if start.get("command") else "",
        "Commit": escape(str(start.get("commit") or "")),
        "Device": escape(str(start.get("device") or "")),
        "Versions": escape(str(start.get("versions") or "")),
        "Teacher": _teacher(folder, start),
    }
    lines = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in parts.items() if text)
    return f'<dl class="origin">{lines}</dl>' if lines else ""


def _date(text: str) -> str:
    """`2026-11-28T08:31:02+01:00` as one reads it."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d([+-]\d\d:\d\d)?", text)
    return escape(f"{match[1]} {match[2]} UTC{match[3] or ''}" if match else text)


def _teacher(folder: Path, start: Mapping[str, Any]) -> str:
    """The teacher's checkpoint, and a link to the report of its run, if it is there."""
    run, checkpoint = start.get("teacher_run"), start.get("teacher")
    if isinstance(run, str) and (folder / run).is_dir():
        name = escape((folder / run).resolve().name)
        report = (folder / run / "report.html").is_file()
        return f'<a href="{escape(quote(run))}/report.html">{name}</a>' if report else name
    return escape(checkpoint) if isinstance(checkpoint, str) else ""


def _comparison(samples: Path) -> str:
    named = {"Student, one step": samples / "student.png", "Teacher, many steps": samples / "teacher.png"}
    pictures = [picture(path, caption) for caption, path in named.items() if path.is_file()]
    if not pictures:
        return ""
    note = '<p class="note">The same noise and conditions, place by place.</p>' if len(pictures) == 2 else ""
    return f'<h2>Samples</h2><div class="two">{"".join(pictures)}</div>{note}{columns(_captions(samples))}'


def _captions(samples: Path) -> list[str]:
    try:
        found = json.loads(read_text(samples / "captions.json"))
    except ValueError:
        return []
    return [str(caption) for caption in found] if isinstance(found, list) else []


def _progress(samples: Path) -> str:
    """Grids in the course of the training, beside the real images."""
    found = [(int(match[1]), path) for path in samples.glob("step_*.png") if (match := re.search(r"(\d+)$", path.stem))]
    if not found:
        return ""
    found.sort()
    count = min(FRAMES, len(found))
    shown = [found[round(i * (len(found) - 1) / max(count - 1, 1))] for i in range(count)]
    note = f' <span class="note">{count} of {len(found)}</span>' if count < len(found) else ""
    real = samples / "data.png"
    pictures = [picture(real, "real images")] if real.is_file() else []
    pictures += [picture(path, f"step {step:,}") for step, path in shown]
    captions = "" if (samples / "student.png").is_file() else columns(_captions(samples))
    return f'<h2>Samples in time{note}</h2><div class="many">{"".join(pictures)}</div>{captions}'


def _training(path: Path, summary: Mapping[str, Any]) -> str:
    drawn = "".join(charts(read_lines(path), summary))
    return f'<h2>Training</h2><div class="two">{drawn}</div>' if drawn else ""


def _details(folder: Path, summary: Mapping[str, Any]) -> str:
    texts = {
        "Configuration (config.gin)": read_text(folder / "config.gin"),
        "All results and their provenances (summary.json)": json.dumps(summary, indent=2, ensure_ascii=False)
        if summary
        else "",
    }
    return "".join(
        f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>" for name, text in texts.items() if text
    )

"""The report of a run: one HTML file that needs nothing else, made from what lies in the run folder."""

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from realuid.atomic import write_atomically
from realuid.evaluation.charts import Series, line_chart, short

__all__ = ["write_report"]

FRAMES = 12  # student grids shown of those saved in time: evenly spaced, with the first and the last

# Panels by what the names of their curves contain, the first match counts; any other curve gets a panel of its own.
PANELS = {
    "frechet": "Fréchet distance to the real data",
    "loss": "Losses",
    "grad": "Gradient norms",
    "gap": "Teacher–fake gap",
    "agreement": "Label agreement",
    "per_s": "Speed, per second",
}
LEVELS = {
    "teacher": "teacher_frechet",
    "halves of the data": "halves_frechet",
    "pixel Gaussian": "pixel_gaussian_frechet",
}
COUNTERS = {"step", "images", "wall_s"}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, atomically, and return its path.

    Read are, as far as they are there: `metrics.jsonl` (one JSON object a line, with `images` and numbers of any name),
    `samples/teacher.png` and `samples/student.png` (from the same noise), `samples/step_*.png`, `summary.json`,
    `config.gin` and `exit.json`. What is missing or damaged leaves its section out: a report can be written at any time
    of a run, and after any end of it.
    """
    folder = Path(folder)
    summary = _read_json(folder / "summary.json")
    name = folder.resolve().name
    body = [
        f"<h1>{escape(name)}</h1>{_status(folder)}",
        _comparison(folder / "samples"),
        _table(summary),
        _curves(folder / "metrics.jsonl", summary),
        _progress(folder / "samples"),
        _details(folder, summary),
    ]
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    page = PAGE.format(title=escape(name), style=style, body="\n".join(part for part in body if part))
    path = folder / "report.html"
    write_atomically(path, lambda file: file.write_text(page, encoding="utf-8"))
    return path


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _whole(count: float) -> str:
    return f"{count:,.0f}"


def _rate(value: float) -> str:
    return _whole(value) if value >= 100 else short(value)


# The table of results: key in summary.json, label, form, how to read it.
ROWS: list[tuple[str, str, Callable[[float], str], str]] = [
    ("student_frechet", "Fréchet, student", short, "one step, to all real images; lower is better"),
    ("teacher_frechet", "Fréchet, teacher", short, "many steps"),
    ("halves_frechet", "Fréchet, halves of the data", short, "between two random halves of the real images"),
    ("pixel_gaussian_frechet", "Fréchet, pixel Gaussian", short, "the data's pixel mean and covariance, nothing else"),
    ("student_agreement", "Label agreement, student", _percent, "read by the feature network as the label asked for"),
    ("teacher_agreement", "Label agreement, teacher", _percent, "the same of the teacher"),
    ("accuracy", "Accuracy of the feature network", _percent, "on real images held out from its training"),
    ("steps", "Steps", _whole, ""),
    ("images", "Images", _whole, "that the generator was trained on"),
    ("wall_s", "Wall time", _duration, ""),
    ("images_per_s", "Images per second", _rate, ""),
]


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _object(text: str) -> dict[str, Any]:
    """A JSON object, or an empty one if `text` is none: the last line of a killed run may be cut."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    return _object(_read_text(path))


def _number(value: object) -> float | None:
    """`value` if it is a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _status(folder: Path) -> str:
    ended = _read_json(folder / "exit.json")
    code, reason = _number(ended.get("code")), str(ended.get("reason") or "")
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
    return f'<p class="status"><b class="{colour}">{escape(word)}</b> {escape(reason)}</p>'


def _picture(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption)
    return f'<figure><figcaption>{text}</figcaption><img alt="{text}" src="data:image/png;base64,{data}"></figure>'


def _comparison(samples: Path) -> str:
    named = {"Student, one step": samples / "student.png", "Teacher, many steps": samples / "teacher.png"}
    pictures = [_picture(path, caption) for caption, path in named.items() if path.is_file()]
    if not pictures:
        return ""
    note = '<p class="note">The same noise and labels, place by place.</p>' if len(pictures) == 2 else ""
    return f'<h2>Samples</h2><div class="two">{"".join(pictures)}</div>{note}'


def _progress(samples: Path) -> str:
    found = [(int(match[1]), path) for path in samples.glob("step_*.png") if (match := re.search(r"(\d+)$", path.stem))]
    if not found:
        return ""
    found.sort()
    count = min(FRAMES, len(found))
    shown = [found[round(i * (len(found) - 1) / max(count - 1, 1))] for i in range(count)]
    note = f' <span class="note">{count} of {len(found)}</span>' if count < len(found) else ""
    pictures = "".join(_picture(path, f"step {step:,}") for step, path in shown)
    return f'<h2>The student in time{note}</h2><div class="many">{pictures}</div>'


def _table(summary: Mapping[str, Any]) -> str:
    """What was measured, and how to read it."""
    stamped = (value["accuracy"] for value in summary.values() if isinstance(value, dict) and "accuracy" in value)
    values = {"accuracy": next(stamped, None), **summary}  # the feature network's accuracy stands in the stamps
    lines = []
    for key, label, form, note in ROWS:
        value = _number(values.get(key))
        if value is not None:
            lines.append(f"<tr><th>{escape(label)}</th><td>{form(value)}</td><td>{escape(note)}</td></tr>")
    return f"<h2>Results</h2><table>{''.join(lines)}</table>" if lines else ""


def _curves(path: Path, summary: Mapping[str, Any]) -> str:
    # By images: a resumed run repeats the lines after its checkpoint, and the later line counts.
    curves: dict[str, dict[float, float]] = {}
    for line in _read_text(path).splitlines():
        row = _object(line)
        at = _number(row.get("images"))
        for key, value in row.items():
            number = _number(value)
            if at is not None and number is not None and key not in COUNTERS:
                curves.setdefault(key, {})[at] = number
    series = [Series(key, sorted(points.items())) for key, points in curves.items()]
    panels: dict[str, list[Series]] = {title: [] for title in PANELS.values()}
    for one in series:
        own = one.name.replace("_", " ").capitalize()
        title = next((title for word, title in PANELS.items() if word in one.name), own)
        panels.setdefault(title, []).append(one)
    levels = [(name, _number(summary.get(key))) for name, key in LEVELS.items()]
    known = [(name, level) for name, level in levels if level is not None]
    charts = []
    for title, members in panels.items():
        if title == PANELS["frechet"]:  # the end of the curve is what matters: logarithmic from one decade on
            charts.append(line_chart(title, members, references=known, decades=1))
        else:
            charts.append(line_chart(title, members, from_zero=title == PANELS["per_s"]))
    drawn = "".join(charts)
    return f'<h2>Training</h2><div class="two">{drawn}</div>' if drawn else ""


def _details(folder: Path, summary: Mapping[str, Any]) -> str:
    texts = {
        "Configuration (config.gin)": _read_text(folder / "config.gin"),
        "All results and their stamps (summary.json)": json.dumps(summary, indent=2, ensure_ascii=False)
        if summary
        else "",
    }
    return "".join(
        f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>" for name, text in texts.items() if text
    )

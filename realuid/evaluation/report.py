"""The report of a run: one HTML file that needs nothing else, made from what lies in the run folder."""

import json
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from realuid.evaluation.charts import Series, line_chart, short
from realuid.evaluation.history import curve, number, read_json, read_lines, read_text, split_name
from realuid.evaluation.page import page, picture, save_text

__all__ = ["write_report"]

FRAMES = 12  # student grids shown of those saved in time: evenly spaced, with the first and the last

# Panels by what the names of their curves contain, the first match counts; any other curve gets a panel of its own.
PANELS = {
    "frechet": "Fréchet distance to the real data",
    "kid": "Kernel distance to the real data",
    "loss": "Losses",
    "grad": "Gradient norms",
    "gap": "Teacher–fake gap",
    "agreement": "Label agreement, share",
    "class_share": "Share of the chosen classes",
    "psnr": "PSNR, dB",
    "per_s": "Speed, per second",
}
DISTANCES = ("frechet", "kid")
LEVELS = {"teacher": "teacher_{}", "halves of the data": "halves_{}", "pixel Gaussian": "pixel_gaussian_{}"}
COUNTERS = {"step", "images", "wall_s"}


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, atomically, and return its path.

    Read are, as far as they are there: `metrics.jsonl` (one JSON object a line, with `images` and numbers of any name),
    `samples/teacher.png` and `samples/student.png` (from the same noise), `samples/step_*.png`, `summary.json`,
    `config.gin` and `exit.json`. What is missing or damaged leaves its section out: a report can be written at any time
    of a run, and after any end of it.
    """
    folder = Path(folder)
    summary = read_json(folder / "summary.json")
    name = folder.resolve().name
    body = [
        f"<h1>{escape(name)}</h1>{_status(folder)}",
        _comparison(folder / "samples"),
        _table(summary),
        _curves(folder / "metrics.jsonl", summary),
        _progress(folder / "samples"),
        _details(folder, summary),
    ]
    text = page(name, "\n".join(part for part in body if part))
    path = folder / "report.html"
    save_text(path, text)
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


def _decibels(value: float) -> str:
    return f"{value:.2f} dB"


# The figures of a model: name, label, form, how to read it. Whose they are stands before the name in summary.json.
FIGURES: list[tuple[str, str, Callable[[float], str], str]] = [
    ("frechet", "Fréchet", short, "to all real images; lower is better; falls with the number of images"),
    ("kid", "Kernel distance", short, "to the real images; zero between equal distributions for any number of images"),
    ("kid_error", "Its standard error", short, ""),
    ("inception_score", "Inception score", short, "sharp and varied in the network's classes; higher is better"),
    ("inception_score_spread", "Its spread", short, "over the parts"),
    ("precision", "Precision", _percent, "of the samples lie on the data: quality"),
    ("recall", "Recall", _percent, "of the data lie on the samples: variety"),
    ("density", "Density", short, "samples around a real image; the data's own is 1"),
    ("coverage", "Coverage", _percent, "of the real images have a sample near them: variety"),
    ("memorised", "Memorised", _percent, "of the samples are copies of a training image"),
    ("nearest_ratio", "Distance to the nearest real image", short, "of a new real image 1, of a copy 0"),
    ("memorised_real", "Twins in the data", _percent, "real images that pass for copies of another"),
    ("class_share", "Of the chosen classes", _percent, "read by the feature network as one of them"),
    ("agreement", "Label agreement", _percent, "read by the feature network as the label asked for"),
    ("psnr", "PSNR", _decibels, "to the real image that belongs to the source; higher is nearer"),
    ("ssim", "SSIM", short, "to the real image that belongs to the source; higher is nearer"),
    ("lpips", "LPIPS", short, "to the real image that belongs to the source; lower is nearer"),
]
OWNERS = [
    ("student", "student"),
    ("teacher", "teacher"),
    ("source", "source images"),
    ("halves", "halves of the data"),
    ("pixel_gaussian", "pixel Gaussian"),
]
REMARKS = {
    "halves": "between two random halves of the real images",
    "pixel_gaussian": "the data's pixel mean and covariance, nothing else",
    "teacher": "many steps",
}
ROWS: list[tuple[str, str, Callable[[float], str], str]] = [
    *(
        (f"{owner}_{name}", f"{label}, {whose}", form, REMARKS.get(owner, note))
        for name, label, form, note in FIGURES
        for owner, whose in OWNERS
    ),
    ("accuracy", "Accuracy of the feature network", _percent, "on real images held out from its training"),
    ("steps", "Steps", _whole, ""),
    ("images", "Images", _whole, "that the generator was trained on"),
    ("wall_s", "Wall time", _duration, ""),
    ("images_per_s", "Images per second", _rate, ""),
]


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
    return f'<p class="status"><b class="{colour}">{escape(word)}</b> {escape(reason)}</p>'


def _comparison(samples: Path) -> str:
    named = {"Student, one step": samples / "student.png", "Teacher, many steps": samples / "teacher.png"}
    pictures = [picture(path, caption) for caption, path in named.items() if path.is_file()]
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
    pictures = "".join(picture(path, f"step {step:,}") for step, path in shown)
    return f'<h2>The student in time{note}</h2><div class="many">{pictures}</div>'


def _table(summary: Mapping[str, Any]) -> str:
    """What was measured, and how to read it."""
    stamps = summary.get("stamps")
    stamped = (s["accuracy"] for s in stamps.values() if "accuracy" in s) if isinstance(stamps, dict) else iter(())
    values = {"accuracy": next(stamped, None), **summary}  # the feature network's accuracy stands in the stamps
    lines = []
    for key, label, form, note in ROWS:
        value = number(values.get(key))
        if value is not None:
            lines.append(f"<tr><th>{escape(label)}</th><td>{form(value)}</td><td>{escape(note)}</td></tr>")
    best = summary.get("best")
    if isinstance(best, dict) and (value := number(best.get("value"))) is not None:
        what = f"at {best.get('images', 0):,} images, average {best.get('ema')}: checkpoints/best.pt"
        note = f"by {str(best.get('figure')).replace('_', ' ')}; chosen among many, so a little too good"
        lines.append(
            f"<tr><th>Best during the run, {escape(what)}</th><td>{short(value)}</td><td>{escape(note)}</td></tr>"
        )
    return f"<h2>Results</h2><table>{''.join(lines)}</table>" if lines else ""


def _curves(path: Path, summary: Mapping[str, Any]) -> str:
    rows = read_lines(path)
    names = dict.fromkeys(key for row in rows for key in row if key not in COUNTERS)
    panels: dict[str, list[Series]] = {title: [] for title in PANELS.values()}
    for name in names:
        points = curve(rows, name)
        if points:
            panels.setdefault(_panel(name), []).append(Series(name, points))
    charts = []
    for title, members in panels.items():
        figure = next((word for word in DISTANCES if PANELS[word] == title), None)
        if figure:  # the end of the curve is what matters: logarithmic from one decade on
            levels = [(whose, number(summary.get(key.format(figure)))) for whose, key in LEVELS.items()]
            known = [(whose, level) for whose, level in levels if level is not None]
            charts.append(line_chart(title, members, references=known, decades=1))
        else:
            charts.append(line_chart(title, members, from_zero=title == PANELS["per_s"]))
    drawn = "".join(charts)
    return f'<h2>Training</h2><div class="two">{drawn}</div>' if drawn else ""


def _panel(name: str) -> str:
    """The title of the panel that a curve is drawn in: figures of fewer images are not drawn beside others."""
    figure, count, _ = split_name(name)
    title = next((title for word, title in PANELS.items() if word in figure), None)
    title = title or figure.replace("_", " ").capitalize()
    return title if count is None else f"{title}, of {count:,} images"


def _details(folder: Path, summary: Mapping[str, Any]) -> str:
    texts = {
        "Configuration (config.gin)": read_text(folder / "config.gin"),
        "All results and their stamps (summary.json)": json.dumps(summary, indent=2, ensure_ascii=False)
        if summary
        else "",
    }
    return "".join(
        f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>" for name, text in texts.items() if text
    )

"""What was measured, as a table: the title, the format and an explanation of each value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from realuid.reports.charts import short
from realuid.reports.history import number
from realuid.utils.progress import duration

__all__ = ["LABELS", "results"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _whole(count: float) -> str:
    return f"{count:,.0f}"


def _rate(value: float) -> str:
    return _whole(value) if value >= 100 else short(value)


def _decibels(value: float) -> str:
    return f"{value:.2f} dB"


METRICS: list[tuple[str, str, Callable[[float], str], str]] = [
    ("frechet", "Fréchet", short, "to all real images; lower is better; falls with the number of images"),
    ("classwise_frechet", "Fréchet by class", short, "to the real images of the class, mean over the classes"),
    ("worst_class_frechet", "Fréchet of the worst class", short, "to the real images of the class"),
    ("compared_classes", "Classes compared", _whole, "with enough images on both sides"),
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
    ("memorised_real", "Twins in the data", _percent, "real images that are near-copies of another"),
    ("class_share", "Of the chosen classes", _percent, "read by the feature network as one of them"),
    ("label_accuracy", "Label accuracy", _percent, "read by the feature network as the label asked for"),
    ("psnr", "PSNR", _decibels, "to the real image that belongs to the source; higher is nearer"),
    ("ssim", "SSIM", short, "to the real image that belongs to the source; higher is nearer"),
    ("lpips", "LPIPS", short, "to the real image that belongs to the source; lower is nearer"),
]
"""Name, title, format, explanation. In summary.json the owner (`student_`, ...) stands before the name."""

LABELS = {name: label for name, label, _, _ in METRICS}

OWNERS = {
    "student": "student",
    "teacher": "teacher",
    "source": "source images",
    "halves": "halves of the data",
    "pixel_gaussian": "pixel Gaussian",
}
REMARKS = {
    "halves": "between two random halves of the real images",
    "pixel_gaussian": "the data's pixel mean and covariance, nothing else",
    "teacher": "many steps",
}
OTHERS: list[tuple[str, str, Callable[[float], str], str]] = [
    ("accuracy", "Accuracy of the feature network", _percent, "on real images held out from its training"),
    ("steps", "Steps", _whole, ""),
    ("images", "Images", _whole, "that the generator was trained on"),
    ("wall_s", "Wall time", duration, ""),
    ("images_per_s", "Images per second", _rate, ""),
]


def results(summary: Mapping[str, Any]) -> str:
    """The values of summary.json as an HTML table, with how to read them; empty if there are none. A metric that is not
    known here, such as one of the user's, is shown by its own name."""
    lines = [_row(label, form(value), note) for label, form, note, value in _values(summary)]
    best = summary.get("best")
    if isinstance(best, dict) and (value := number(best.get("value"))) is not None:
        what = f"at {best.get('images', 0):,} images, average {best.get('ema')}: checkpoints/best.pt"
        note = f"by {str(best.get('metric')).replace('_', ' ')}; chosen among many, so a little too good"
        lines.append(_row(f"Best during the run, {what}", short(value), note))
    return f"<h2>Results</h2><table>{''.join(lines)}</table>" if lines else ""


def _row(label: str, value: str, note: str) -> str:
    return f"<tr><th>{escape(label)}</th><td>{value}</td><td>{escape(note)}</td></tr>"


def _values(summary: Mapping[str, Any]) -> list[tuple[str, Callable[[float], str], str, float]]:
    """Label, form, note and value of everything there is, in the order of the table."""
    told = summary.get("provenance")
    recorded = (p["accuracy"] for p in told.values() if "accuracy" in p) if isinstance(told, dict) else iter(())
    given = {"accuracy": next(recorded, None), **summary}  # the feature network's accuracy stands in the provenances
    numbers = {name: value for name, x in given.items() if (value := number(x)) is not None}
    found, known = [], set()
    for metric, label, form, note in [*METRICS, *_unknown(numbers)]:
        for owner, whose in OWNERS.items():
            if (name := f"{owner}_{metric}") in numbers and name not in known:
                known.add(name)
                found.append((f"{label}, {whose}", form, REMARKS.get(owner, note), numbers[name]))
    return found + [(label, form, note, numbers[name]) for name, label, form, note in OTHERS if name in numbers]


def _unknown(numbers: Mapping[str, float]) -> list[tuple[str, str, Callable[[float], str], str]]:
    """Metrics of student or teacher that are not in the table."""
    own = [name.partition("_")[2] for name in numbers if name.startswith(("student_", "teacher_"))]
    others = dict.fromkeys(name for name in own if name not in LABELS)
    return [(name, name.replace("_", " ").capitalize(), short, "") for name in others]

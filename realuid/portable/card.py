"""The model card: what the exported student is, how it is used, and its figures with their stamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from realuid.portable.student import Student


def card(student: Student, *, name: str, network: str, facts: Mapping[str, Any], files: Sequence[str]) -> str:
    """Markdown, with the head that model hubs read."""
    channels, height, width = student.shape
    labels = f"{student.classes} classes, 0 to {student.classes - 1}" if student.classes else "none"
    asked = ", labels=[0, 1]" if student.classes else ""
    weights = sum(parameter.numel() for parameter in student.network.parameters())
    lines = [
        "---",
        "library_name: realuid",
        "tags: [one-step-generation, distillation, realuid]",
        "---",
        f"# {name}",
        "",
        f"A one-step generator of {channels} x {height} x {width} images, distilled with RealUID (arXiv 2509.22459).",
        "",
        "```python",
        "import realuid",
        'g = realuid.load("PATH OF THIS FOLDER")',
        f"images = g.sample(16{asked})  # [16, {channels}, {height}, {width}], {_range(facts)}",
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| network | {network}, {weights:,} weights |",
        "| input | standard normal noise of the images' shape |",
        f"| output | {_range(facts)} |",
        f"| labels | {labels} |",
        *(f"| {key} | {facts[key]} |" for key in ("path", "target", "step", "weights", "images_seen") if key in facts),
        f"| files | {', '.join(files)} |",
        "",
    ]
    if metrics := facts.get("metrics"):
        lines += ["## Figures", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in _flat(metrics)] + [""]
    if config := facts.get("config"):
        lines += ["## Configuration", "", "```", str(config).strip(), "```", ""]
    return "\n".join(lines)


def _range(facts: Mapping[str, Any]) -> str:
    scaling = facts.get("scaling") or {"name": "pixels", "low": -1, "high": 1}
    if scaling["name"] == "pixels":
        return f"pixels in [{scaling['low']:g}, {scaling['high']:g}]"
    return "latents of an autoencoder"


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested dicts with the names of the way to them."""
    if isinstance(tree, Mapping):
        return [leaf for key, value in tree.items() for leaf in _flat(value, f"{prefix}{key} ")]
    return [(prefix.strip(), f"{tree:.4g}" if isinstance(tree, float) else tree)]

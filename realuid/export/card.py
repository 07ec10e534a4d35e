"""The model card: what the exported student is, how it is used, and its metrics with their provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from realuid.export.licences import LICENCES, OTHER, repository
from realuid.export.student import ExportedStudent
from realuid.pretrained.pipelines.network import PipelineNetwork


def card(
    student: ExportedStudent,
    *,
    name: str,
    network: str,
    facts: Mapping[str, Any],
    files: Sequence[str],
    call: str | None = None,
    base: str | None = None,
    weights: str | None = None,
    scheduler: str | None = None,
) -> str:
    """Markdown, with the head that model hubs read.

    Args:
        student: what is exported.
        name: title.
        network: class of its network.
        facts: see `realuid.export.export.write`.
        files: names of all files.
        call: how the exported pipeline is called, if there is one.
        base: the teacher's pipeline.
        weights: the file with that pipeline's network, if it is not the pipeline's own.
        scheduler: class of the scheduler that goes with its adapters on the teacher's pipeline.
    """
    channels, height, width = student.shape
    told = ", ".join(map(str, student.conditions)) or "nothing"
    asked = ", labels=[0, 1]" if student.classes else ", condition=..." if student.conditions else ""
    asked += ", source=images" if student.from_images else ""
    source = f"source images, {_range(facts)}" if student.from_images else "standard normal noise of the images' shape"
    size = sum(parameter.numel() for parameter in student.network.parameters())
    lines = [
        "---",
        "library_name: realuid",
        "tags: [one-step-generation, distillation, realuid]",
        *_origin(weights or base),
        "---",
        f"# {name}",
        "",
        f"A {_steps(student)} generator of {channels} x {height} x {width} images, distilled with the package of "
        "RealUID (arXiv 2509.22459).",
        "",
        "```python",
        "import realuid",
        'g = realuid.load("PATH OF THIS FOLDER")',
        f"images = g.sample(16{asked})  # [16, {channels}, {height}, {width}], {_range(facts)}",
        "```",
        "",
        *(_pipeline(call) if call and "diffusers" in files else ()),
        *(_adapted(call, str(base), scheduler, _network_of(student, weights, str(base))) if call and scheduler else ()),
        "| | |",
        "|---|---|",
        f"| network | {network}, {size:,} weights |",
        f"| input | {source} |",
        *([f"| further noise | {student.draws} images of it, drawn on the way |"] if student.draws else []),
        f"| output | {_range(facts)} |",
        f"| conditioned on | {told} |",
        *(
            f"| {key} | {facts[key]} |"
            for key in ("path", "target", "loss", "teacher", "data", "weights")
            if facts.get(key)
        ),
        *_licence(weights or base),
        f"| files | {', '.join(files)} |",
        "",
    ]
    if metrics := facts.get("metrics"):
        lines += ["## Metrics", "", "| metric | value |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in _flat(metrics)] + [""]
    if command := facts.get("command"):
        lines += ["## Training", "", "```bash", str(command), "```", ""]
    if config := facts.get("config"):
        lines += ["## Configuration", "", "```", str(config).strip(), "```", ""]
    return "\n".join(lines)


def _steps(student: ExportedStudent) -> str:
    count = len(student.evaluations)
    return "one-step" if count == 1 else f"{count}-step"


def _origin(base: str | None) -> list[str]:
    """What the hub reads of the teacher: its repository and licence."""
    if (name := repository(base)) is None:
        return []
    kind, licence = LICENCES.get(name, (None, None))
    named = [f'license_name: "{licence}"', f"license_link: https://huggingface.co/{name}"] if kind == OTHER else []
    return [f"base_model: {name}", *([f"license: {kind}"] if kind else []), *named]


def _licence(base: str | None) -> list[str]:
    """A row of the table."""
    name = repository(base)
    return [f"| licence | that of the teacher: {LICENCES[name][1]} |"] if name in LICENCES else []


def _pipeline(call: str) -> list[str]:
    """The example for diffusers."""
    return [
        "```python",
        "from diffusers import DiffusionPipeline",
        'pipeline = DiffusionPipeline.from_pretrained("PATH OF THIS FOLDER/diffusers")',
        f"image = {call}.images[0]",
        "```",
        "",
    ]


def _network_of(student: ExportedStudent, weights: str | None, base: str) -> tuple[str, str, str] | None:
    """Class, name in the pipeline and call of diffusers for a network from a single file; None if there is no file."""
    network = student.network
    if weights is None or not isinstance(network, PipelineNetwork):
        return None
    kind, place = network.family.model, network.family.place
    options = f'config="{base.removeprefix("hf://")}", subfolder="{place}"'
    averages = ", extract_ema=True" if place == "unet" else ""  # where the file has any, they were taken
    return kind, place, f'{kind}.from_single_file("{_web(weights)}", {options}{averages})'


def _web(url: str) -> str:
    """A path or URL as diffusers takes it."""
    if (name := repository(url)) is None:
        return url
    place, _, path = url.removeprefix(f"hf://{name}").partition("/")
    return f"https://huggingface.co/{name}/blob/{place.removeprefix('@') or 'main'}/{path}"


def _adapted(call: str, base: str, scheduler: str, network: tuple[str, str, str] | None) -> list[str]:
    """The example for diffusers with the adapters on the teacher's pipeline, perhaps with a network of a file."""
    kind, given, made = (
        ("", "", []) if network is None else (f"{network[0]}, ", f", {network[1]}=network", [f"network = {network[2]}"])
    )
    return [
        "```python",
        f"from diffusers import DiffusionPipeline, {kind}{scheduler}",
        f'scheduler = {scheduler}.from_pretrained("PATH OF THIS FOLDER/scheduler")',
        *made,
        f'pipeline = DiffusionPipeline.from_pretrained("{base.removeprefix("hf://")}", scheduler=scheduler{given})',
        'pipeline.load_lora_weights("PATH OF THIS FOLDER")',
        f"image = {call}.images[0]",
        "```",
        "",
    ]


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

"""The gin text that describes a checkpoint: what a recipe has to bind for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from realuid.paths.interpolants import EDMInterpolant
from realuid.pretrained import components
from realuid.pretrained.components import Part
from realuid.pretrained.conventions import Foreign
from realuid.utils.printed import plain

PARTS = {"encoder": "PipelineEncoder", "decoder": "PipelineDecoder"}
"""What a teacher that is a pipeline has beside its model."""
NOT_TOLD = "the file does not tell; bind what it was trained with"


def described(foreign: Foreign, url: str) -> str:
    """A gin file with network, path, target, preconditioning and sampler of a teacher, and its checkpoint.

    It works with tools/sample.py as it stands, unless the file does not tell everything: then a comment says what to
    bind. `url` is where the checkpoint lies.
    """
    shape, name = foreign.arguments.get("shape"), foreign.network
    pipeline = name == "PipelineNetwork"
    lines = [
        plain(
            f"# {foreign.format}: {name}, weights `{foreign.weights}`, {_images(foreign)}, "
            + (f"{foreign.classes} classes" if foreign.classes else "no class labels")
            + (", a null class for guidance" if foreign.null else "")
        ),
        "",
        f"SHAPE = {tuple(shape)!r}" if shape else f"# SHAPE: {NOT_TOLD}",
        *(() if pipeline else (f"CLASSES = {foreign.classes}",)),
        "",
        *_block("MatchingModel", _model(foreign)),
        "",
        *_block(name, {key: _argument(key, value) for key, value in foreign.arguments.items()}),
        "",
        *_parts(foreign),
        *_block(
            "Teacher",
            {
                "model": "@teacher/MatchingModel()",
                "sampler": f"@{_sampler(foreign)}()",
                "checkpoint": repr(url),
                **({"format": repr(foreign.format)} if foreign.format else {}),
                **({"known": repr({"folder": foreign.folder})} if foreign.folder else {}),
                **({key: f"@{part}()" for key, part in PARTS.items()} if pipeline else {}),
            },
        ),
        "",
        *(_pipeline_parts(foreign, foreign.folder or url) if pipeline else ()),
        *_sampling(foreign),
    ]
    return "\n".join(lines) + "\n"


def _images(foreign: Foreign) -> str:
    scaling = foreign.scaling
    numbers = ", ".join(f"{key} {value}" for key, value in scaling.numbers.items())
    return f"{scaling.name} ({numbers})" if numbers else scaling.name


def _model(foreign: Foreign) -> dict[str, str]:
    path = components.path(foreign.path) if foreign.path else None
    target = components.TARGETS[foreign.target].__name__ if foreign.target else None
    source = "PairedCoupling" if foreign.path and foreign.path.name == "i2sb" else "IndependentCoupling"
    scalings = components.preconditioning(foreign.preconditioning, foreign.target)
    return {
        "network": f"@{foreign.network}()",
        "interpolant": f"@{path.kind.__name__}()" if path else f"# {NOT_TOLD}",
        "coupling": f"@{source}()",
        "target": f"@{target}()" if target else f"# {NOT_TOLD}",
        "preconditioning": f"@{scalings.kind.__name__}()",
        **({"source_conditioned": "True"} if foreign.arguments.get("in_multiplier", 1) == 2 else {}),
    }


def _argument(name: str, value: Any) -> str:
    macros = {"shape": "%SHAPE", "classes": "%CLASSES"}
    return macros.get(name) or repr(tuple(value) if isinstance(value, list) else value)


def _parts(foreign: Foreign) -> Iterator[str]:
    """Bindings of the components that have numbers of their own."""
    parts: list[Part] = [components.path(foreign.path)] if foreign.path else []
    for part in (*parts, components.preconditioning(foreign.preconditioning, foreign.target)):
        if part.arguments:
            yield from _block(part.kind.__name__, {key: repr(value) for key, value in part.arguments.items()})
            yield ""


def _pipeline_parts(foreign: Foreign, url: str) -> Iterator[str]:
    """Bindings of a pipeline's text encoders and autoencoder."""
    arguments = foreign.arguments
    yield from _block(
        PARTS["encoder"],
        {"folder": repr(url), **{name: _argument(name, arguments[name]) for name in ("pipeline", "config", "tokens")}},
    )
    yield ""
    yield from _block(PARTS["decoder"], {"folder": repr(url), "pipeline": repr(arguments["pipeline"])})
    yield ""


def _is_edm(foreign: Foreign) -> bool:
    return foreign.path is not None and components.path(foreign.path).kind is EDMInterpolant


def _sampler(foreign: Foreign) -> str:
    if foreign.sampler is not None:
        return foreign.sampler
    if foreign.path is not None and foreign.path.name == "i2sb":
        return "Posterior"
    return "Heun" if _is_edm(foreign) else "Euler"


def _sampling(foreign: Foreign) -> Iterator[str]:
    sampler = _sampler(foreign)
    if foreign.steps is not None:
        grid = components.grid(foreign.steps)
        yield from _block(sampler, {"steps": "50", "grid": f"@{grid.kind.__name__}()"})
        yield ""
        yield from _block(grid.kind.__name__, {key: repr(value) for key, value in grid.arguments.items()})
        return
    steps = {"Heun": 18, "Posterior": 100, "Euler": 50}[sampler]
    yield from _block(
        sampler, {"steps": str(steps), "grid": "@KarrasGrid()" if sampler == "Heun" else "@UniformGrid()"}
    )


def _block(name: str, arguments: Mapping[str, str]) -> list[str]:
    """A block of bindings; an argument whose value is a comment is left to the user."""
    lines = [f"    {'# ' if value.startswith('#') else ''}{key} = {value}" for key, value in arguments.items()]
    return [f"{name}:", *lines]

"""Values of a student or its teacher: one JSON line, a line for every checkpoint, or runs side by side."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from loguru import logger
from torch import Tensor

from realuid.config.files import find_file
from realuid.config.language import COMMAND_LINE, Binding, Import, read_binding, read_file
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.image_grid import image_grid
from realuid.evaluation.parts import images_of
from realuid.evaluation.reference import read_reference, write_reference
from realuid.evaluation.store import FeatureStore
from realuid.jobs import runs
from realuid.jobs.mistakes import no_run
from realuid.reports.comparison import Entry, html_page, markdown_page, rounded
from realuid.reports.history import curve, read_json, read_lines
from realuid.reports.page import save_text
from realuid.training.assessment import Assessment
from realuid.training.run_folder import RunFolder
from realuid.training.world import World
from realuid.utils.errors import CheckpointError, RunError
from realuid.utils.places import check_file


def work(arguments: argparse.Namespace) -> int:
    """Measures what the options ask for; returns the exit status."""
    if arguments.compare:
        return _compare(arguments)
    if arguments.watch is not None:
        return _watch(arguments)
    measured = Measured(arguments)
    if arguments.write_reference:
        return measured.write_reference(Path(arguments.write_reference))
    print(json.dumps(measured.line()))
    return 0


class Measured:
    """One model, measured by the evaluator of its run as the options change it.

    Raises:
        RunError, CheckpointError, ConfigError, DataError: if there is no such model, or nothing to judge it by.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        _refuse_settled(_statements(arguments))
        self.model = runs.reopen(arguments, [arguments.metrics] if arguments.metrics else [], arguments.bind)
        trainer, evaluator = self.model.trainer, self.model.trainer.evaluator
        if evaluator is None:
            raise RunError("the run binds no Trainer.evaluator")
        evaluator.count = evaluator.quick_count = arguments.num
        evaluator.seed = arguments.seed
        if arguments.reference:
            evaluator.reference = arguments.reference
        trainer.data.open(seed=trainer.seed, device=self.model.device)
        self.assessment = Assessment(trainer.method, trainer.data, evaluator, World(self.model.device))

    @property
    def evaluator(self) -> Evaluator:
        return self.assessment.ready()

    def values(self) -> dict[str, float]:
        """With the role before their names."""
        role, provenance = self.model.role, self.model.provenance
        logger.info("evaluating the {} ({}): {:,} images", role, provenance["sampler"], self.arguments.num)
        return self.assessment.measure(role, self.model.generator, kept=self._kept)

    def _kept(self, make: Callable[[], Tensor]) -> Tensor:
        """The features of the images, kept in the folder of --features under all that they depend on."""
        if not self.arguments.features:
            return make()
        of_features = {
            **self.evaluator.features.provenance(),
            "count": self.evaluator.count,
            "seed": self.evaluator.seed,
            **({"images_per_prompt": times} if (times := self.evaluator.images_per_prompt) > 1 else {}),
        }
        known = self.model.provenance
        of_images = {name: known.get(name) for name in ("weights", "sampler", "model")}
        if "storage" in known:  # of rounded weights alone
            of_images["storage"] = known["storage"]
        label: dict[str, Any] = {**of_features, **of_images, "data": self.assessment.pictures.checksum}
        label["sources"] = self.assessment.data.stated_checksum()
        return FeatureStore(self.arguments.features).get(label, make)

    def provenances(self) -> dict[str, dict[str, Any]]:
        """By the first name of each metric."""
        role = self.model.role
        return self.evaluator.provenances(role, self.assessment.metrics(role), **self.model.provenance)

    def line(self) -> dict[str, Any]:
        """The values, rounded to the digits they have, and their provenance, which differs in `settings` alone."""
        values, provenances = rounded(self.values()), self.provenances()
        settings = {
            name: provenance["settings"] for name, provenance in provenances.items() if "settings" in provenance
        }
        return values | {"provenance": next(iter(provenances.values())), "settings": settings}

    def write_reference(self, path: Path) -> int:
        """Mean and covariance of the run's data, in the evaluator's features."""
        evaluator, data = self.evaluator, self.assessment.pictures
        count, provenance = images_of(data), evaluator.features.provenance()
        write_reference(path, evaluator.moments(), count, provenance | {"reference": data.checksum})
        logger.info("statistics of {} images in {}", count, path)
        return 0


def _statements(arguments: argparse.Namespace) -> list[Import | Binding]:
    """Gin statements that the options add to those of a checkpoint: those of --metrics, which may be written anew, and
    the bindings."""
    files = [find_file(str(arguments.metrics), [Path.cwd()], "--metrics")] if arguments.metrics else []
    return [*(one for path in files for one in read_file(path)), *map(read_binding, arguments.bind)]


SETTLED = {"Evaluator.count": "--num", "Evaluator.quick_count": "--num", "Evaluator.seed": "--seed"}
"""What has an option of its own, which would win over the binding without a word."""


def _refuse_settled(statements: Sequence[Import | Binding]) -> None:
    for one in statements:
        if isinstance(one, Binding) and one.origin == COMMAND_LINE and one.key in SETTLED:
            raise RunError(f"--bind {str(one)!r} would have no effect: say it by {SETTLED[one.key]}")


def _watch(arguments: argparse.Namespace) -> int:
    """Evaluates each checkpoint of a run once, every average, into evaluations.jsonl, until the run is done."""
    if arguments.model or arguments.checkpoint is not None or arguments.ema is not None or arguments.teacher:
        raise RunError("--watch follows a run: give --run or --gin, and no --model, --checkpoint, --ema or --teacher")
    folder = RunFolder(arguments.run or Path("runs") / Path(arguments.gin).stem)
    if not folder.path.is_dir():
        raise RunError(f"there is no run {folder}")
    folder.check_links()
    record = folder.path / "evaluations.jsonl"
    asked = {"num": arguments.num, "seed": arguments.seed, "reference": arguments.reference}
    asked["override"] = "\n".join(map(str, _statements(arguments)))
    if arguments.reference:
        asked["reference_sha256"] = read_reference(arguments.reference).sha256
    while True:
        ended = read_json(folder.exit)  # before looking: what is written after it is found the next time
        done = {row["step"] for row in read_lines(record) if row.get("asked") == asked}
        for step in folder.store.steps():
            if step not in done:
                lines = _every_average(arguments, step)
                with record.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps({"step": step, "asked": asked, **line}) + "\n" for line in lines)
        if ended:
            return 0
        time.sleep(arguments.watch)


def _every_average(arguments: argparse.Namespace, step: int) -> list[dict[str, Any]]:
    """A line for every average of a checkpoint; none if it was removed in the meantime."""
    chosen = copy(arguments)
    chosen.checkpoint = step
    try:
        measured = Measured(chosen)
        lines = [measured.line()]
        for name in measured.model.trainer.method.ema.names[1:]:
            chosen.ema = name
            lines.append(Measured(chosen).line())
    except CheckpointError as error:
        logger.info("left out: {}", error)
        return []
    for line in lines:
        print(json.dumps({"step": step, **line}), flush=True)
    return lines


def _compare(arguments: argparse.Namespace) -> int:
    """One table of several runs, evaluated alike."""
    out = Path(arguments.out)
    if out.suffix not in (".html", ".md"):
        raise RunError(f"--out {out}: FILE.html or FILE.md is needed")
    check_file(out, "--out")
    for path in arguments.compare:  # before any is measured
        if not RunFolder(path).store.steps():
            raise no_run(path)
    entries, metric = [], ""
    for path, name in zip(arguments.compare, names_of(arguments.compare), strict=True):
        chosen = copy(arguments)
        chosen.run = path
        measured = Measured(chosen)
        metric = measured.evaluator.ranking.names[0]
        entries.append(_entry(Path(path), name, measured, metric))
        logger.info("{}: {}", path, json.dumps(rounded(entries[-1].values)))
    text = html_page(entries, metric) if out.suffix == ".html" else markdown_page(entries, metric, out)
    save_text(out, text)
    logger.info("comparison: {}", out)
    return 0


def names_of(paths: Sequence[str | Path]) -> list[str]:
    """What runs are called beside each other: by their folders, with as many of the folders around them as tell all
    apart."""
    parts = [Path(path).resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(path) for path in paths]


def _entry(path: Path, name: str, measured: Measured, metric: str) -> Entry:
    role, grids = measured.model.role, measured.assessment.grids
    bare = {name.removeprefix(f"{role}_"): value for name, value in measured.values().items()}
    provenances = {name.removeprefix(f"{role}_"): provenance for name, provenance in measured.provenances().items()}
    rows, summary = read_lines(path / "metrics.jsonl"), read_json(path / "summary.json")
    own, images = f"{role}_{metric}", grids.samples(measured.model.generator)
    return Entry(
        name,
        bare,
        provenances,
        image_grid(images, grids.columns, grids.scale(images)),
        {against: curve(rows, own, against) for against in ("images", "wall_s")},
        summary.get("provenance", {}).get(own),
        grids.captions,
    )

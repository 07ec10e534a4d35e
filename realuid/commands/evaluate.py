"""`tools/evaluate.py`: figures of a student, or of its teacher in many steps, as one JSON line; of every new checkpoint
of a run at work (--watch); or of several runs side by side (--compare)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

from loguru import logger

from realuid.commands import runs
from realuid.commands.console import guarded
from realuid.config.language import read_binding
from realuid.errors import CheckpointError, RunError
from realuid.evaluation.comparison import Entry, html_page, markdown_page, rounded
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.grids import image_grid
from realuid.evaluation.history import curve, read_json, read_lines
from realuid.evaluation.page import save_text
from realuid.evaluation.reference import write_reference
from realuid.evaluation.store import FeatureStore
from realuid.training.assessment import Assessment
from realuid.training.folder import RunFolder
from realuid.training.world import World

GRID_PIXELS = 500


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__)
    which = runs.add_arguments(parser)
    which.add_argument("--compare", nargs="+", metavar="RUN", help="run folders, into one table at --out")
    parser.add_argument(
        "--num",
        type=int,
        default=50_000,
        help="generated images (the run's own figures: Evaluator.count); a distance falls with their number",
    )
    parser.add_argument("--reference", metavar="FILE", help="npz of reference statistics instead of the run's data")
    parser.add_argument("--metrics", metavar="FILE", help="gin file that binds the Evaluator, as gin/metrics/*.gin")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument(
        "--features", metavar="DIR", help="keep the generated images' features here, and use them again"
    )
    parser.add_argument(
        "--write-reference", metavar="FILE", help="write the run's data as an npz of statistics, no more"
    )
    parser.add_argument(
        "--watch", type=float, metavar="SECONDS", help="evaluate checkpoints as they come, looking so often"
    )
    parser.add_argument(
        "--out", default="comparison.html", metavar="FILE", help="of --compare: .html, or .md with pictures"
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.num < 2:
            raise RunError(f"--num must be at least 2, got {arguments.num}")
        if arguments.compare:
            return _compare(arguments)
        if arguments.watch is not None:
            return _watch(arguments)
        evaluation = Evaluation(arguments)
        if arguments.write_reference:
            return evaluation.write_reference(Path(arguments.write_reference))
        print(json.dumps(evaluation.line()))
        return 0

    return guarded("evaluate.py", work)


class Evaluation:
    """One model, and the evaluator of its run as the options change it.

    Raises:
        RunError, CheckpointError, ConfigError, DataError: if there is no such model, or nothing to judge it by.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.model = runs.reopen(arguments, _override(arguments))
        trainer, evaluator = self.model.trainer, self.model.trainer.evaluator
        if evaluator is None:
            raise RunError("the run binds no Trainer.evaluator")
        evaluator.count = evaluator.quick_count = arguments.num
        evaluator.seed = arguments.seed
        if arguments.reference:
            evaluator.reference = arguments.reference
        trainer.data.open(seed=trainer.seed, device=self.model.device)
        self.assessment = Assessment(trainer.procedure, trainer.data, evaluator, World(self.model.device))

    @property
    def evaluator(self) -> Evaluator:
        return self.assessment.ready()

    def figures(self) -> dict[str, float]:
        """With the role before their names."""
        role, generator = self.model.role, self.model.generator
        folder = self.arguments.features
        if not folder or self.model.trainer.procedure.coupling.keeps_source:
            return self.assessment.figures(role, generator)
        label = {key: value for key, value in self.evaluator.stamp().items() if key not in ("settings", "reference")}
        label |= {key: value for key, value in self.model.stamp.items() if key != "checkpoint"}
        assessment = self.assessment
        features = FeatureStore(folder).get(label, lambda: self.evaluator.extract(assessment.images(generator)))
        return assessment.judged(role, None, features)

    def stamps(self) -> dict[str, dict[str, Any]]:
        """Of each metric, by the name of its first figure."""
        return self.evaluator.stamps(self.model.role, **self.model.stamp)

    def line(self) -> dict[str, Any]:
        """Figures, with the digits that they have, and the stamp; those of the other metrics differ in `settings`."""
        figures = rounded(self.figures())
        stamps = self.stamps()
        return figures | {
            "stamp": next(iter(stamps.values())),
            "settings": {n: s.get("settings") for n, s in stamps.items()},
        }

    def write_reference(self, path: Path) -> int:
        """Mean and covariance of the run's data, in the evaluator's features."""
        evaluator, data = self.evaluator, self.model.trainer.data
        stamp = {**evaluator.features.stamp(), "reference": data.checksum}
        write_reference(path, evaluator.moments(), len(data), stamp)
        logger.info("statistics of {} images in {}", len(data), path)
        return 0


def _override(arguments: argparse.Namespace) -> str:
    """Gin statements that the options add to those of a checkpoint."""
    lines = [f"include {str(arguments.metrics)!r}"] if arguments.metrics else []
    return "\n".join([*lines, *(str(read_binding(text)) for text in arguments.bind)])


def _watch(arguments: argparse.Namespace) -> int:
    """Evaluates each checkpoint of a run once, every average, into evaluations.jsonl, until the run is done."""
    if arguments.model or arguments.checkpoint is not None or arguments.ema is not None or arguments.teacher:
        raise RunError("--watch follows a run: give --run or --gin, and no --model, --checkpoint, --ema or --teacher")
    folder = RunFolder(arguments.run or Path("runs") / Path(arguments.gin).stem)
    if not folder.path.is_dir():
        raise RunError(f"there is no run {folder}")
    record = folder.path / "evaluations.jsonl"
    asked = {"num": arguments.num, "seed": arguments.seed, "reference": arguments.reference}
    asked["override"] = _override(arguments)
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
        evaluation = Evaluation(chosen)
        lines = [evaluation.line()]
        for name in evaluation.model.trainer.procedure.ema.names[1:]:
            chosen.ema = name
            lines.append(Evaluation(chosen).line())
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
    entries, figure = [], ""
    for path in arguments.compare:
        chosen = copy(arguments)
        chosen.run = path
        evaluation = Evaluation(chosen)
        figure = evaluation.evaluator.ranking.figures[0]
        entries.append(_entry(Path(path), evaluation, figure))
        logger.info("{}: {}", path, json.dumps(rounded(entries[-1].figures)))
    text = html_page(entries, figure) if out.suffix == ".html" else markdown_page(entries, figure, out)
    save_text(out, text)
    logger.info("comparison: {}", out)
    return 0


def _entry(path: Path, evaluation: Evaluation, figure: str) -> Entry:
    role, assessment = evaluation.model.role, evaluation.assessment
    bare = {name.removeprefix(f"{role}_"): value for name, value in evaluation.figures().items()}
    stamps = {name.removeprefix(f"{role}_"): stamp for name, stamp in evaluation.stamps().items()}
    rows, summary = read_lines(path / "metrics.jsonl"), read_json(path / "summary.json")
    own = f"{role}_{figure}"
    return Entry(
        path.resolve().name,
        bare,
        stamps,
        _grid(assessment, evaluation),
        {against: curve(rows, own, against) for against in ("images", "wall_s")},
        summary.get("stamps", {}).get(own),
    )


def _grid(assessment: Assessment, evaluation: Evaluation) -> Any:
    images = assessment.grid(evaluation.model.generator)
    return image_grid(images, assessment.columns, max(1, GRID_PIXELS // (assessment.columns * images.shape[-1])))

"""`tools/evaluate.py`: the Fréchet distance of a student, or of its teacher in many steps; prints one JSON line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from realuid.commands import runs
from realuid.commands.console import guarded
from realuid.errors import RunError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__)
    runs.add_arguments(parser)
    parser.add_argument(
        "--num",
        type=int,
        default=50_000,
        help="generated images (the run's own figures: Evaluator.count); a distance falls with their number",
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        model = runs.reopen(arguments)
        trainer, evaluator = model.trainer, model.trainer.evaluator
        if evaluator is None:
            raise RunError("the run binds no Trainer.evaluator")
        trainer.data.open(seed=trainer.seed, device=model.device)
        if arguments.num < 2:
            raise RunError(f"--num must be at least 2, got {arguments.num}")
        evaluator.count, evaluator.seed = arguments.num, arguments.seed
        evaluator.prepare(trainer.data, model.device)
        images = evaluator.generate(model.generator)
        result = {f"{model.role}_frechet": evaluator.frechet(images)}
        if trainer.data.classes and evaluator.features.reads_labels:
            result[f"{model.role}_agreement"] = evaluator.agreement(images, evaluator.labels)
        print(json.dumps(result | {"stamp": evaluator.stamp(**model.stamp)}))
        return 0

    return guarded("evaluate.py", work)

"""The best checkpoint of a run: of all that were looked at during the training, the one whose averages are best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.provenance import differences
from realuid.training.run_folder import RunFolder
from realuid.training.world import World

__all__ = ["keep_best"]


def keep_best(
    folder: RunFolder,
    world: World,
    evaluator: Evaluator,
    *,
    name: str,
    ranked: Mapping[str, float],
    state: Mapping[str, Any],
    averages: Callable[[], dict[str, Any]],
) -> None:
    """Keeps the averages as checkpoints/best.pt if one of them is better than all before; best.json says what it is.

    Args:
        folder: of the run.
        world: the processes, which do this together.
        evaluator: that measured them.
        name: of the value that models are ranked by.
        ranked: that value of every average, by name.
        state: `step`, `images` and `config`, which the checkpoint holds beside the averages.
        averages: their whole state; all processes ask for it, if any does.
    """
    sign = 1 if evaluator.ranking.higher_is_better else -1
    best = max(ranked, key=lambda average: sign * ranked[average])
    provenance = evaluator.provenance(quick=True, ema=best, step=state["step"])
    before = world.on_main(lambda: folder.read_json(folder.best))
    same = before and not differences(before["provenance"], provenance)
    if same and sign * before["value"] >= sign * ranked[best]:
        return
    entry = {"metric": name, "value": ranked[best], "ema": best, "step": state["step"], "images": state["images"]}
    content = {**state, "ema": averages()}
    world.on_main(lambda: folder.save_best(content, {**entry, "provenance": provenance}))

"""Where a run stands, beside its networks: a part of every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from realuid.training.compute import Precision


@dataclass
class RunState:
    """What is known of a run between two steps."""

    done: int = 0
    """Steps taken."""
    spent_s: float = 0.0
    """Wall time up to the checkpoint that the run was resumed from."""
    rolled_back: int = 0
    """How often the run went back to a checkpoint, and on with other random numbers."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Damaged samples that were tolerated, with the reason."""
    flops: int | None = None
    """Floating-point operations of a step of all processes, counted in the first of the phase."""
    regression: Precision | None = None
    """The precision of regressions, where the machine chose it when the run began."""
    last_line: dict[str, Any] | None = None
    """Metrics of the last step, which are written with those of the evaluation at the end."""

    def state_dict(self) -> dict[str, Any]:
        """All but `done` and `spent_s`, which a checkpoint says with its place."""
        return {
            "damaged": self.damaged,
            "line": self.last_line,
            "rolled_back": self.rolled_back,
            "flops": self.flops,
            "regression": self.regression,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state from a whole checkpoint."""
        self.done, self.spent_s, self.damaged = state["step"], state["wall_s"], state["damaged"]
        self.last_line, self.rolled_back, self.flops = state["line"], state["rolled_back"], state["flops"]
        self.regression = state.get("regression", self.regression)

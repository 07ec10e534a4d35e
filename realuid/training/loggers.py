"""Where the numbers of metrics.jsonl are shown as they come: dashboards that are installed beside RealUID."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from typing import Any, Literal

from realuid.training.run_folder import RunFolder
from realuid.utils.errors import RunError

__all__ = ["TensorBoard", "WandB"]


class MetricLogger(ABC):
    """Shows numbers against images seen; only process 0 has one at work."""

    @abstractmethod
    def open(self, folder: RunFolder, images: int) -> None:
        """Starts, or continues after so many images; whatever was shown after them is outdated.

        Raises:
            RunError: if what it needs is not installed.
        """

    @abstractmethod
    def write(self, images: int, numbers: dict[str, float]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class TensorBoard(MetricLogger):
    """Event files in the folder `tensorboard` of the run; needs the package tensorboard."""

    def open(self, folder: RunFolder, images: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise RunError("Trainer.loggers = [@TensorBoard()] needs the package: pip install tensorboard") from None
        self._writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=images + 1 if images else None)

    def write(self, images: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, images)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB(MetricLogger):
    """Weights & Biases; needs the package wandb. A resumed run goes on under its own name.

    Args:
        project: where the run is filed.
        mode: `offline` writes into the run folder alone, to be sent with `wandb sync`.
    """

    free_on_resume = frozenset({"project", "mode"})

    def __init__(self, *, project: str = "realuid", mode: Literal["online", "offline"] = "offline") -> None:
        self.project, self.mode = project, mode

    def open(self, folder: RunFolder, images: int) -> None:
        try:
            import wandb
        except ImportError:
            raise RunError("Trainer.loggers = [@WandB()] needs the package: pip install wandb") from None
        name = folder.path / "wandb.id"
        if not name.exists():
            folder.write_text(name, uuid.uuid4().hex)
        self._run: Any = wandb.init(
            project=self.project,
            mode=self.mode,
            dir=str(folder.path),
            id=name.read_text(encoding="utf-8"),
            name=folder.path.name,
            resume="allow",
            config={"gin": folder.config.read_text(encoding="utf-8")},
        )
        self._run.define_metric("*", step_metric="images")

    def write(self, images: int, numbers: dict[str, float]) -> None:
        self._run.log(numbers | {"images": images})

    def close(self) -> None:
        self._run.finish()

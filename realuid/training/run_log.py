"""What a run says: its first lines, and the metrics between two lines of metrics.jsonl."""

from __future__ import annotations

from collections import Counter

import torch
from loguru import logger

from realuid.training.clock import Clock
from realuid.training.device_metrics import arithmetic, memory_gib
from realuid.training.method import Context
from realuid.training.run_state import RunState
from realuid.training.tracking import Meters
from realuid.training.trainer import Trainer
from realuid.utils.progress import Pulse, duration

HEADLINES = ("_loss", "_grad_norm", "gap")
"""How the names of the metrics end that the log shows, too."""


class RunLog:
    """Collects the metrics of a run and shows some of them in the log.

    Args:
        trainer: what is trained.
        context: of this process.
        meters: of the method's scalars.
        state: where the run stands.
    """

    def __init__(self, trainer: Trainer, context: Context, meters: Meters, state: RunState) -> None:
        self.trainer, self.context, self.meters, self.state = trainer, context, meters, state
        self._pulse = Pulse()

    def announce(self, where: str) -> None:
        """The first lines: what is trained, how long, and on what."""
        trainer, world = self.trainer, self.context.world
        logger.info(
            "{}: {:,} images in {:,} steps of {}, {} process{} of {} at once, seed {}, {} on {} threads",
            where,
            trainer.images + trainer.leading_steps * trainer.batch,
            trainer.steps,
            trainer.batch,
            world.size,
            "es" if world.size > 1 else "",
            trainer.batch // world.size // self.context.parts,
            trainer.seed,
            world.device,
            torch.get_num_threads(),
        )
        for role, network in trainer.method.networks().items():
            logger.info("{}: {:,} parameters", role, sum(p.numel() for p in network.parameters()))
        if leading := trainer.leading_steps:
            logger.info("warm start: the first {:,} images, {:,} steps", leading * trainer.batch, leading)
        if self.state.done:
            logger.info("resumed after {:,} images", self.state.done * trainer.batch)
        self._pulse = Pulse()

    def progress(self, step: int, clock: Clock) -> None:
        """A line without metrics, where the next line with them is far: images may be slow, or lines far apart."""
        if self._pulse.due():
            images = step * self.trainer.batch
            self._show(images, clock.mean_speed(images), "")

    def metrics(self, step: int, clock: Clock) -> dict[str, float | str]:
        """The means since the last line, shown, and what machine and data say."""
        images = step * self.trainer.batch
        means: dict[str, float | str] = dict(self.meters.take())
        speed = clock.speed(images)
        self._pulse.shown()
        shown = (f"{name} {value:.4g}" for name, value in means.items() if name.endswith(HEADLINES))
        self._show(images, speed, "  ".join(shown))
        if leading := self.trainer.leading_steps:
            means["phase"] = "warm start" if step <= leading else "distillation"
        return means | {"images_per_s": round(speed, 2)} | self._device(speed) | self._left_out() | self._data()

    def _show(self, images: int, speed: float, metrics: str) -> None:
        all_images = self.trainer.steps * self.trainer.batch
        speed_shown = f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"
        left = duration((all_images - images) / max(speed, 1e-9))
        line = "{:>4.0%}  {:>9,} images  {:>6} img/s  {} left   {}"
        logger.info(line, images / all_images, images, speed_shown, left, metrics)

    def damaged(self) -> dict[str, int]:
        """Damaged samples that were tolerated so far, by reason."""
        return {f"damaged_{reason}": count for reason, count in sorted(Counter(self.state.damaged.values()).items())}

    def _device(self, speed: float) -> dict[str, float]:
        """Memory and arithmetic."""
        device, trainer = self.context.device, self.trainer
        read = {"memory_gib": memory_gib(device)}
        if self.state.flops:
            peak = trainer.peak_flops if device.type == "cuda" else None
            read |= arithmetic(self.state.flops, speed, trainer.batch, self.context.world.size, peak)
        return {name: float(f"{value:.4g}") for name, value in read.items()}

    def _left_out(self) -> dict[str, int]:
        """Updates left out so far, by network, where there were any."""
        counts = {role: int(optimizer.skipped) for role, optimizer in self.trainer.method.optimizers().items()}
        return {f"{role}_updates_left_out": count for role, count in counts.items() if count}

    def _data(self) -> dict[str, float]:
        """Seconds spent waiting for data since the last line, where there was any, and damaged samples; each new one is
        named in the log."""
        damaged = self.trainer.data.damaged()
        for sample in damaged.keys() - self.state.damaged.keys():
            logger.warning("tolerated: {}: {}", sample, damaged[sample])
        self.state.damaged |= damaged
        wait = self.trainer.data.wait_s()
        return ({"data_wait_s": round(wait, 3)} if wait else {}) | self.damaged()

"""The trainer: the loop around a procedure. What it needs is bound in gin; it runs outside of gin."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from typing import Any, ClassVar

import torch
from loguru import logger

from realuid import __version__, checkpoints
from realuid.data.dataset import Dataset
from realuid.errors import RunError
from realuid.evaluation.evaluator import Evaluator
from realuid.keys import key
from realuid.training.assessment import Assessment
from realuid.training.folder import RunFolder
from realuid.training.procedure import Context, Procedure
from realuid.training.randomness import Randomness
from realuid.training.signals import Interrupted, StopSignal
from realuid.training.tracking import Meters, Tracker

__all__ = ["Trainer"]


class Trainer:
    """Trains a procedure on data; the root of every assembly. All amounts are in images, rounded up to whole steps.

    Args:
        procedure: what is trained: `@Distillation()` or `@TeacherTraining()`.
        data: the real images.
        evaluator: how samples are judged; None for no figures.
        seed: of everything random.
        batch: samples of the global batch; one process takes all of them.
        lanes: the global batch is drawn in this many independent parts, see `realuid.training.randomness`.
        images: length of the run.
        log_images: distance of two lines in metrics.jsonl.
        sample_images: distance of two sample grids.
        evaluate_images: distance of two evaluations; None for only the last.
        checkpoint_images: distance of two checkpoints.
        keep: checkpoints kept.
        device: `auto` (CUDA if there is any), `cpu`, `cuda`, `cuda:1`, ...
        threads: CPU threads; None for torch's choice.
        peak_flops: floating-point operations a second that the dry run reckons with (an H100's bf16 tensor cores).
        mfu: share of the peak, in (0, 1], that it expects to reach.

    Raises:
        ValueError: if an amount is less than one or the batch does not divide into lanes.
    """

    free_on_resume: ClassVar[frozenset[str]] = frozenset(
        {
            "images",
            "log_images",
            "sample_images",
            "evaluate_images",
            "checkpoint_images",
            "keep",
            "device",
            "threads",
            "evaluator",
            "peak_flops",
            "mfu",
        }
    )

    def __init__(
        self,
        *,
        procedure: Procedure,
        data: Dataset,
        evaluator: Evaluator | None = None,
        seed: int = 0,
        batch: int,
        lanes: int = 1,
        images: int,
        log_images: int,
        sample_images: int,
        evaluate_images: int | None = None,
        checkpoint_images: int,
        keep: int = 2,
        device: str = "auto",
        threads: int | None = None,
        peak_flops: float = 989e12,
        mfu: float = 0.4,
    ) -> None:
        amounts = {"batch": batch, "lanes": lanes, "images": images, "log_images": log_images, "keep": keep}
        amounts |= {"sample_images": sample_images, "checkpoint_images": checkpoint_images}
        for name, amount in amounts.items():
            if amount < 1:
                raise ValueError(f"{name} must be at least 1, got {amount}")
        if batch % lanes:
            raise ValueError(f"the batch of {batch} does not divide into {lanes} lanes")
        if (threads is not None and threads < 1) or peak_flops <= 0 or not 0 < mfu <= 1:
            raise ValueError(f"threads, peak_flops and mfu must be positive, got {threads}, {peak_flops} and {mfu}")
        self.procedure, self.data, self.evaluator = procedure, data, evaluator
        self.seed, self.batch, self.lanes, self.images = seed, batch, lanes, images
        self.log_images, self.sample_images = log_images, sample_images
        self.evaluate_images, self.checkpoint_images = evaluate_images, checkpoint_images
        self.keep, self.device, self.threads = keep, device, threads
        self.peak_flops, self.mfu = peak_flops, mfu

    @property
    def steps(self) -> int:
        """Length of the run in steps."""
        return -(-self.images // self.batch)

    def context(self, device: torch.device) -> Context:
        """What the procedure is given; the data are not opened here."""
        frequencies = torch.ones(self.data.classes, device=device)
        randomness = Randomness(seed=self.seed, lanes=self.lanes, device=device)
        return Context(device, self.batch, self.data.shape, self.data, frequencies, randomness)

    def complete(self, folder: RunFolder) -> bool:
        """Whether the folder holds this run, trained to its end and evaluated."""
        summary = folder.read_json(folder.summary)
        return summary is not None and summary["steps"] >= self.steps and bool(folder.checkpoint_steps())

    def check_machine(self) -> None:
        """Raises RunError if the device is not there, or more than one process was started."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RunError("a run takes one process for now: start it without torchrun")
        device_named(self.device)

    def prepare(self) -> None:
        """Opens the data and starts the procedure: after this it can step, be loaded and be sampled.

        Raises:
            DataError, CheckpointError: if data or weights are missing or do not fit.
            ValueError: if assembled parts do not fit each other.
        """
        if self.threads:
            torch.set_num_threads(self.threads)
        device = device_named(self.device)
        self.data.open(seed=self.seed, device=device)
        context = self.context(device)
        if self.data.classes:
            context.frequencies.copy_(self.data.label_counts)
        self.procedure.start(context)
        self.assessment = Assessment(self.procedure, self.data, self.evaluator, device)
        self.meters, self.done, self.spent_s = Meters(), 0, 0.0
        self.damaged: dict[str, str] = {}

    def resume(self, folder: RunFolder) -> None:
        """Loads the newest checkpoint of the folder, if there is any, into the prepared procedure.

        Raises:
            CheckpointError: if it is damaged, or of a run with another teacher.
        """
        if not folder.checkpoint_steps():
            return
        state = checkpoints.load(str(folder.newest_checkpoint()), self.procedure_device)
        if state["versions"] != self._versions():
            logger.warning("begun with {}, resumed with {}: results may differ", state["versions"], self._versions())
        self.procedure.load_state_dict(state["procedure"])
        self.procedure.ema.load_state_dict(state["ema"])
        self.meters.load_state_dict(state["meters"])
        self.done, self.spent_s, self.damaged = state["step"], state["wall_s"], state["damaged"]

    def run(self, folder: RunFolder, config: str, stop: StopSignal) -> None:
        """Trains, once prepared and resumed, to the end; evaluates.

        Args:
            folder: where everything is written.
            config: the flattened gin text, kept in every checkpoint.
            stop: looked at after every step.

        Raises:
            Interrupted: after SIGINT or SIGTERM, the state saved.
            RunError: if a loss or a gradient is no longer finite; the last good checkpoint stands.
        """
        self._announce(folder)
        # A run stopped while it was being closed is closed again: its last line may be there already.
        closing = self.done >= self.steps and self.meters.count > 0
        tracker = Tracker(folder, self.done - 1 if closing else self.done)
        clock = _Clock(self.spent_s, self.done * self.batch)
        with stop.deferred():
            for step in range(self.done + 1, self.steps + 1):
                torch.manual_seed(key("step", self.seed, step))  # for dropout; all other draws have keys of their own
                self.meters.add(self.procedure.step(step - 1))
                if step < self.steps:
                    self._report(folder, tracker, clock, step, config)
                if step == self.steps or stop.number or self._due(step, self.checkpoint_images):
                    self._save(folder, step, clock.wall(), config)
                if stop.number and step < self.steps:
                    tracker.close()
                    raise Interrupted(stop.number)
        self._close(folder, tracker, clock, max(self.done, self.steps), config)
        tracker.close()

    def _report(self, folder: RunFolder, tracker: Tracker, clock: _Clock, step: int, config: str) -> None:
        """What is due after a step within the run: numbers, a grid, figures."""
        line: dict[str, Any] = {}
        if self._due(step, self.log_images):
            line |= self._read_meters(step, clock)
        if self._due(step, self.sample_images):
            self.assessment.save_grid(folder, f"step_{step:08d}")
        if self.evaluate_images and self._due(step, self.evaluate_images):
            line |= self.assessment.quick(folder, step, step * self.batch, config)
        if line:
            tracker.write(self._where(step, clock.wall()) | line)

    def _close(self, folder: RunFolder, tracker: Tracker, clock: _Clock, step: int, config: str) -> None:
        """The end of a run whose state is saved: the last numbers, grids and figures, summary.json."""
        trained_s = clock.wall()
        line = self._read_meters(step, clock) if self.meters.count else {}
        self.assessment.save_grid(folder, f"step_{step:08d}")
        logger.info("evaluating")
        figures = self.assessment.final(folder, step, step * self.batch, config)
        for name, value in figures.items():
            if isinstance(value, float):
                logger.info("{:<24} {:.4g}", name, value)
        where = self._where(step, clock.wall())
        if line:
            tracker.write(where | line | self.assessment.curve(figures))
            self._save(folder, step, clock.wall(), config)
        amounts = {"steps": step, "images": where["images"], "wall_s": where["wall_s"]}
        speed = round(where["images"] / trained_s, 2)
        folder.write_json(folder.summary, figures | amounts | {"images_per_s": speed} | self._faults())

    def _announce(self, folder: RunFolder) -> None:
        logger.info(
            "{}: {:,} images in {:,} steps of {} (one process takes {}), seed {}, {} on {} threads",
            folder,
            self.images,
            self.steps,
            self.batch,
            self.batch,
            self.seed,
            self.procedure_device,
            torch.get_num_threads(),
        )
        for role, network in self.procedure.networks().items():
            logger.info("{}: {:,} parameters", role, sum(p.numel() for p in network.parameters()))
        if self.done:
            logger.info("resumed after {:,} images", self.done * self.batch)

    @property
    def procedure_device(self) -> torch.device:
        return next(next(iter(self.procedure.networks().values())).parameters()).device

    def _versions(self) -> dict[str, Any]:
        """What the same numbers depend on beside the bindings."""
        return {"realuid": __version__, "torch": str(torch.__version__), "threads": torch.get_num_threads()}

    def _save(self, folder: RunFolder, step: int, wall: float, config: str) -> None:
        if broken := self.meters.broken():
            raise RunError(f"step {step}: {', '.join(broken)} not finite; the last good checkpoint stands")
        state = {
            **self._where(step, wall),
            "config": config,
            "versions": self._versions(),
            "procedure": self.procedure.state_dict(),
            "ema": self.procedure.ema.state_dict(),
            "meters": self.meters.state_dict(),
            "damaged": self.damaged,
        }
        folder.save_checkpoint(step, state, self.keep)

    def _where(self, step: int, wall: float) -> dict:
        return {"step": step, "images": step * self.batch, "wall_s": round(wall, 3)}

    def _due(self, step: int, every: int) -> bool:
        """Whether a multiple of `every` images was passed in this step."""
        return step * self.batch // every > (step - 1) * self.batch // every

    def _read_meters(self, step: int, clock: _Clock) -> dict[str, float]:
        """The means since the last line, shown and checked."""
        numbers = self.meters.take()
        speed = clock.speed(step * self.batch)
        logger.info(
            "{:>4.0%}  {:>9,} images  {:>6.0f} img/s  {:>5.0f} s left   {}",
            step / self.steps,
            step * self.batch,
            speed,
            (self.steps - step) * self.batch / max(speed, 1e-9),
            "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()),
        )
        if broken := [name for name, value in numbers.items() if not math.isfinite(value)]:
            raise RunError(f"step {step}: {', '.join(broken)} not finite; the last good checkpoint stands")
        return numbers | {"images_per_s": round(speed, 2)} | self._read_data()

    def _read_data(self) -> dict[str, float]:
        """Seconds spent waiting for data since the last line, where there was any waiting, and the damaged samples that
        were tolerated so far, by reason; each new one is named in the log."""
        damaged = self.data.damaged()
        for sample in damaged.keys() - self.damaged.keys():
            logger.warning("tolerated: {}: {}", sample, damaged[sample])
        self.damaged |= damaged
        wait = self.data.wait_s()
        return ({"data_wait_s": round(wait, 3)} if wait else {}) | self._faults()

    def _faults(self) -> dict[str, int]:
        return {f"damaged_{reason}": count for reason, count in sorted(Counter(self.damaged.values()).items())}


class _Clock:
    """Seconds of a run over all its sessions, and images a second since the last question."""

    def __init__(self, seconds: float, images: int) -> None:
        self.before, self.images = seconds, images
        self.started = self.asked = time.perf_counter()

    def wall(self) -> float:
        return self.before + time.perf_counter() - self.started

    def speed(self, images: int) -> float:
        """Images a second between this call and the one before, or the start."""
        now = time.perf_counter()
        speed = (images - self.images) / (now - self.asked)
        self.images, self.asked = images, now
        return speed


def device_named(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"Trainer.device = {name!r} is not to be had (auto, cpu, cuda or cuda:N): {reason}") from None
    return device

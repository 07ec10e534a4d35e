"""The trainer: what is trained, on what, how long and where. The root of every assembly; `loop.py` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

import torch

from realuid.conditions import unmet
from realuid.data.dataset import Dataset
from realuid.evaluation.evaluator import Evaluator
from realuid.networks.base import Network
from realuid.training.checkpointing import Checkpoints
from realuid.training.compute import Compute
from realuid.training.loggers import MetricLogger
from realuid.training.method import Context, Method
from realuid.training.parallelism import DDP, Parallelism
from realuid.training.randomness import Randomness
from realuid.training.replaced import HELD, replaced, stated
from realuid.training.run_folder import RunFolder
from realuid.training.world import World
from realuid.utils.errors import DataError, RunError
from realuid.utils.limits import LONGEST_S, check_at_most

__all__ = ["Trainer"]

MOST_IN_BATCH, MOST_THREADS = 1 << 24, 4096


class Trainer:
    """Trains a method on data; the root of every assembly. All amounts are in images, rounded up to whole steps.

    Args:
        method: what is trained: `@Distillation()` or `@TeacherTraining()`.
        data: the real images, with their conditions.
        prompts: what the conditions of generated samples are drawn from, perhaps without images; None for `data`.
        evaluator: how samples are judged; None for no metrics.
        seed: of everything random.
        batch: samples of the global batch, which the processes share.
        lanes: the global batch is drawn in this many independent parts, see `realuid.training.randomness`; the
            processes share them, so that their number must divide by that of the processes.
        images: length of the run; those of a warm start come before them.
        log_images: distance of two lines in metrics.jsonl.
        sample_images: distance of two sample grids.
        evaluate_images: distance of two evaluations; None for only the last.
        checkpoint_images: distance of two checkpoints.
        checkpoints: how they are kept.
        loggers: dashboards that show the numbers of metrics.jsonl.
        parallelism: how networks are spread over the processes that torchrun starts.
        compute: how the arithmetic is done.
        micro_batch: samples that a process works on at once; its gradients are summed up over as many passes as it
            takes. None for all at once.
        patience: updates of a network that may be left out in a row (see `Adam`) before the run goes back to the newest
            checkpoint and on with other random numbers.
        rollbacks: how often it does that before it stops.
        timeout_s: seconds after which a step counts as hung.
        device: `auto` (CUDA if there is any), `cpu`, `cuda`, `cuda:1`, ...
        threads: CPU threads; None for torch's choice.
        peak_flops: floating-point operations a second of one device (an H100's bf16 tensor cores), of which the metrics
            give the share that is reached, on CUDA.
        mfu: share of it, in (0, 1], that the dry run expects to reach.
        device_memory: bytes of one device (an H100's), against which the dry run holds what a run takes.

    Raises:
        ValueError: if an amount is less than one, `batch` or `threads` beyond reason, `rollbacks` negative, or the
            batch does not divide into lanes; if the data give no images, source images or classes where method,
            coupling or evaluator need them, or not the conditions that a network reads; if a learning rate is zero
            before the run ends.
    """

    free_on_resume: ClassVar[frozenset[str]] = frozenset(
        {
            "images",
            "log_images",
            "sample_images",
            "evaluate_images",
            "checkpoint_images",
            "checkpoints",
            "loggers",
            "parallelism",
            "micro_batch",
            "patience",
            "rollbacks",
            "timeout_s",
            "device",
            "threads",
            "evaluator",
            "peak_flops",
            "device_memory",
            "mfu",
        }
    )

    def __init__(
        self,
        *,
        method: Method,
        data: Dataset,
        prompts: Dataset | None = None,
        evaluator: Evaluator | None = None,
        seed: int = 0,
        batch: int,
        lanes: int = 1,
        images: int,
        log_images: int,
        sample_images: int,
        evaluate_images: int | None = None,
        checkpoint_images: int,
        checkpoints: Checkpoints | None = None,
        loggers: Sequence[MetricLogger] = (),
        parallelism: Parallelism | None = None,
        compute: Compute | None = None,
        micro_batch: int | None = None,
        patience: int = 20,
        rollbacks: int = 2,
        timeout_s: float = 1800.0,
        device: str = "auto",
        threads: int | None = None,
        peak_flops: float = 989e12,
        device_memory: float = 80e9,
        mfu: float = 0.4,
    ) -> None:
        amounts = {"batch": batch, "lanes": lanes, "images": images, "log_images": log_images}
        amounts |= {"sample_images": sample_images, "checkpoint_images": checkpoint_images, "patience": patience}
        amounts |= {} if micro_batch is None else {"micro_batch": micro_batch}
        for name, amount in amounts.items():
            if amount < 1:
                raise ValueError(f"{name} must be at least 1, got {amount}")
        check_at_most(MOST_IN_BATCH, batch=batch, lanes=lanes)
        check_at_most(MOST_THREADS, threads=threads)
        check_at_most(LONGEST_S, timeout_s=timeout_s)
        if batch % lanes:
            raise ValueError(f"the batch of {batch} does not divide into {lanes} lanes")
        if rollbacks < 0 or timeout_s <= 0:
            raise ValueError(f"rollbacks must not be negative and timeout_s positive, got {rollbacks} and {timeout_s}")
        if (threads is not None and threads < 1) or min(peak_flops, device_memory) <= 0 or not 0 < mfu <= 1:
            raise ValueError(
                f"threads, peak_flops, device_memory and mfu must be positive, got {threads}, {peak_flops}, "
                f"{device_memory} and {mfu}"
            )
        if method.coupling.source == "data" and not data.has_sources:
            raise ValueError(
                f"{type(method.coupling).__name__} takes its source from the data, but data = "
                f"@{type(data).__name__}() gives no source images: bind @Degraded(), @Unpaired() or a set of pairs"
            )
        needs_images = evaluator is not None or method.images_read(batch) or method.leading_steps(batch)
        if not data.has_images and needs_images:
            raise ValueError(
                f"data = @{type(data).__name__}() gives conditions without images, and real images are read: bind "
                "Trainer.data to a set with images, and this one as Trainer.prompts; or a loss without real data and "
                "Trainer.evaluator = None"
            )
        if evaluator is not None and evaluator.features.reads_labels and data.classes < 2:
            raise ValueError(
                f"evaluator: {type(evaluator.features).__name__} learns from labels, but @{type(data).__name__}() has "
                f"{data.classes} classes: bind another Evaluator.features, or Trainer.evaluator = None"
            )
        for optimizer in method.optimizers().values():
            optimizer.lr_schedule.check(images)
        _check_conditions(method, data, prompts)
        _check_shapes(method, data, prompts)
        self.method, self.data, self.prompts, self.evaluator = method, data, prompts, evaluator
        self.seed, self.batch, self.lanes, self.images = seed, batch, lanes, images
        self.log_images, self.sample_images = log_images, sample_images
        self.evaluate_images, self.checkpoint_images = evaluate_images, checkpoint_images
        self.checkpoints, self.loggers = checkpoints or Checkpoints(), loggers
        self.parallelism, self.compute = parallelism or DDP(), compute or Compute()
        self.micro_batch, self.patience, self.rollbacks, self.timeout_s = micro_batch, patience, rollbacks, timeout_s
        self.device, self.threads = device, threads
        self.peak_flops, self.mfu, self.device_memory = peak_flops, mfu, device_memory

    @property
    def asked(self) -> Dataset:
        """The set that the conditions of generated samples are drawn from."""
        return self.data if self.prompts is None else self.prompts

    @property
    def steps(self) -> int:
        """Length of the run in steps, those of a warm start included."""
        return self.leading_steps + -(-self.images // self.batch)

    @property
    def leading_steps(self) -> int:
        """Steps before those of `images`: of a warm start."""
        return self.method.leading_steps(self.batch)

    def context(self, world: World) -> Context:
        """What the method is given; the data are not opened here.

        Raises:
            RunError: if the lanes cannot be shared out.
        """
        if self.lanes % world.size:
            raise RunError(
                f"{world.size} processes cannot share {self.lanes} lanes: bind Trainer.lanes to a multiple of "
                f"{world.size} (another number of lanes is another run)"
            )
        lanes = self.lanes // world.size
        own = range(world.rank * lanes, (world.rank + 1) * lanes)
        randomness = Randomness(seed=self.seed, lanes=self.lanes, device=world.device, own=own)
        frequencies = torch.ones(self.asked.classes, device=world.device)
        return Context(
            device=world.device,
            batch=self.batch,
            shape=self.data.shape,
            data=self.data,
            prompts=self.prompts,
            frequencies=frequencies,
            randomness=randomness,
            parts=self._parts(lanes),
            world=world,
            parallelism=self.parallelism,
            compute=self.compute,
        )

    def _parts(self, lanes: int) -> int:
        """In how many micro-batches a process takes its lanes: as few as `micro_batch` allows."""
        lane = self.batch // self.lanes
        most = lanes * lane if self.micro_batch is None else self.micro_batch
        for parts in range(1, lanes + 1):
            if lanes % parts == 0 and lanes // parts * lane <= most:
                return parts
        raise RunError(
            f"a micro-batch holds whole lanes: Trainer.micro_batch = {most} is less than the {lane} samples of one; "
            "bind a larger one, or more Trainer.lanes (another number of lanes is another run)"
        )

    def complete(self, folder: RunFolder) -> bool:
        """Whether the folder holds this run, trained to its end and evaluated.

        Raises:
            RunError: if it does, and its data have been replaced by others since.
        """
        summary = folder.read_json(folder.summary)
        if summary is None:
            return False
        before = {name: summary.get(f"{name}_sha256") for name in HELD}
        now: dict[str, str | None] = {}
        with suppress(DataError):  # that they are gone is nothing to a run that is complete
            now = stated(self.data, self.prompts)
        if (name := replaced(before, now)) is not None:
            raise RunError(
                f"{folder} was trained on other {HELD[name]} than its data set holds now: move it aside to train anew, "
                f"or bring the old {HELD[name]} back"
            )
        return summary["steps"] >= self.steps and bool(folder.store.steps())


def _check_shapes(method: Method, data: Dataset, prompts: Dataset | None) -> None:
    """Makes sure that the networks take all sizes of a set of several.

    Raises:
        ValueError: naming a network and the size, or prompts of several sizes, which are those of no step.
    """
    if prompts is not None and len(prompts.shapes) > 1:
        raise ValueError(
            f"prompts = @{type(prompts).__name__}() has several sizes: bind one of its sets, or @Prompts() of one"
        )
    for role, module in method.networks().items() if len(data.shapes) > 1 else ():
        for network in (part for part in module.modules() if isinstance(part, Network)):
            for shape in data.shapes:
                if (reason := network.unfit(shape)) is not None:
                    raise ValueError(
                        f"data = @{type(data).__name__}() has samples of the shape {tuple(shape)}, but the {role}'s "
                        f"{type(network).__name__} {reason}: leave that set out, or bind another network"
                    )


def _check_conditions(method: Method, data: Dataset, prompts: Dataset | None) -> None:
    """Makes sure that the sets give what the networks read.

    Raises:
        ValueError: naming both sides and what to bind.
    """
    sets = {"data": data} | ({} if prompts is None else {"prompts": prompts})
    for role, module in method.networks().items():
        for network in (part for part in module.modules() if isinstance(part, Network)):
            for argument, one in sets.items():
                if (reason := unmet(network.conditions, one.conditions)) is not None:
                    name = type(network).__name__
                    raise ValueError(
                        f"the {role}'s {name} {reason} by Trainer.{argument} = @{type(one).__name__}(): bind the set's "
                        f"classes, encoder or conditions, or the {name}'s classes or context, so that they agree"
                    )

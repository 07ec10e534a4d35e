"""The trainer: what is trained, on what, how long and where. The root of every assembly; `loop.py` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from realuid.data.dataset import Dataset
from realuid.errors import RunError
from realuid.evaluation.evaluator import Evaluator
from realuid.training.boards import Board
from realuid.training.checkpointing import Checkpoints
from realuid.training.compute import Compute
from realuid.training.distribution import Distribution, Replicated
from realuid.training.folder import RunFolder
from realuid.training.procedure import Context, Procedure
from realuid.training.randomness import Randomness
from realuid.training.world import World

__all__ = ["Trainer"]


class Trainer:
    """Trains a procedure on data; the root of every assembly. All amounts are in images, rounded up to whole steps.

    Args:
        procedure: what is trained: `@Distillation()` or `@TeacherTraining()`.
        data: the real images.
        evaluator: how samples are judged; None for no figures.
        seed: of everything random.
        batch: samples of the global batch, which the processes share.
        lanes: the global batch is drawn in this many independent parts, see `realuid.training.randomness`; the
            processes share them, so that their number must divide by that of the processes.
        images: length of the run.
        log_images: distance of two lines in metrics.jsonl.
        sample_images: distance of two sample grids.
        evaluate_images: distance of two evaluations; None for only the last.
        checkpoint_images: distance of two checkpoints.
        checkpoints: how they are kept.
        boards: dashboards that show the numbers of metrics.jsonl.
        distribution: how networks are spread over the processes that torchrun starts.
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

    Raises:
        ValueError: if an amount is less than one, `rollbacks` negative, or the batch does not divide into lanes; if the
            data give no source images or no classes where the coupling or the evaluator's features need them.
    """

    free_on_resume: ClassVar[frozenset[str]] = frozenset(
        {
            "images",
            "log_images",
            "sample_images",
            "evaluate_images",
            "checkpoint_images",
            "checkpoints",
            "boards",
            "distribution",
            "micro_batch",
            "patience",
            "rollbacks",
            "timeout_s",
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
        checkpoints: Checkpoints | None = None,
        boards: Sequence[Board] = (),
        distribution: Distribution | None = None,
        compute: Compute | None = None,
        micro_batch: int | None = None,
        patience: int = 20,
        rollbacks: int = 2,
        timeout_s: float = 1800.0,
        device: str = "auto",
        threads: int | None = None,
        peak_flops: float = 989e12,
        mfu: float = 0.4,
    ) -> None:
        amounts = {"batch": batch, "lanes": lanes, "images": images, "log_images": log_images}
        amounts |= {"sample_images": sample_images, "checkpoint_images": checkpoint_images, "patience": patience}
        amounts |= {} if micro_batch is None else {"micro_batch": micro_batch}
        for name, amount in amounts.items():
            if amount < 1:
                raise ValueError(f"{name} must be at least 1, got {amount}")
        if batch % lanes:
            raise ValueError(f"the batch of {batch} does not divide into {lanes} lanes")
        if rollbacks < 0 or timeout_s <= 0:
            raise ValueError(f"rollbacks must not be negative and timeout_s positive, got {rollbacks} and {timeout_s}")
        if (threads is not None and threads < 1) or peak_flops <= 0 or not 0 < mfu <= 1:
            raise ValueError(f"threads, peak_flops and mfu must be positive, got {threads}, {peak_flops} and {mfu}")
        if procedure.coupling.source == "data" and not data.has_sources:
            raise ValueError(
                f"{type(procedure.coupling).__name__} takes its source from the data, but data = "
                f"@{type(data).__name__}() gives no source images: bind @Degraded(), @Unpaired() or a set of pairs"
            )
        if evaluator is not None and evaluator.features.reads_labels and data.classes < 2:
            raise ValueError(
                f"evaluator: {type(evaluator.features).__name__} learns from labels, but @{type(data).__name__}() has "
                f"{data.classes} classes: bind another Evaluator.features, or Trainer.evaluator = None"
            )
        self.procedure, self.data, self.evaluator = procedure, data, evaluator
        self.seed, self.batch, self.lanes, self.images = seed, batch, lanes, images
        self.log_images, self.sample_images = log_images, sample_images
        self.evaluate_images, self.checkpoint_images = evaluate_images, checkpoint_images
        self.checkpoints, self.boards = checkpoints or Checkpoints(), boards
        self.distribution, self.compute = distribution or Replicated(), compute or Compute()
        self.micro_batch, self.patience, self.rollbacks, self.timeout_s = micro_batch, patience, rollbacks, timeout_s
        self.device, self.threads = device, threads
        self.peak_flops, self.mfu = peak_flops, mfu

    @property
    def steps(self) -> int:
        """Length of the run in steps."""
        return -(-self.images // self.batch)

    def context(self, world: World) -> Context:
        """What the procedure is given; the data are not opened here.

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
        frequencies = torch.ones(self.data.classes, device=world.device)
        return Context(
            device=world.device,
            batch=self.batch,
            shape=self.data.shape,
            data=self.data,
            frequencies=frequencies,
            randomness=randomness,
            parts=self._parts(lanes),
            world=world,
            distribution=self.distribution,
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
        """Whether the folder holds this run, trained to its end and evaluated."""
        summary = folder.read_json(folder.summary)
        return summary is not None and summary["steps"] >= self.steps and bool(folder.store.steps())

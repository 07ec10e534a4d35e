"""How the state of a run is kept: how many, how often for good, where, and what happens when saving fails."""

from __future__ import annotations

import threading
import time
from typing import Any

from loguru import logger

from realuid.checkpoints import CheckpointStore
from realuid.checkpoints.nested import joined, split
from realuid.training.parallelism import Parallelism, may_be_sharded
from realuid.training.world import World
from realuid.utils.limits import LONGEST_S, check_at_most

__all__ = ["Checkpoints"]


class Checkpoints:
    """Keeps the state of a run. It is copied to the CPU at once and written beside the training: into one file, or, of
    sharded networks, by all processes.

    A save that fails is repeated; if it fails for good, the last good checkpoint stands and the run goes on, until
    `tolerate` saves in a row were lost.

    Args:
        folder: URL of the folder, anywhere fsspec reaches; None for `checkpoints/` in the run folder.
        keep: the newest ones that are kept; with one alone, a save that is cut off leaves none for that time.
        keep_images: checkpoints at multiples of so many images are kept for good; None for none.
        retries: how often a failed save is repeated, after 1, 2, 4, ... times `pause_s`.
        pause_s: seconds.
        stall_s: a save that takes longer counts as failed.
        tolerate: failed saves in a row that do not stop the run.

    Raises:
        ValueError: if `keep` or `keep_images` is less than one, or another number is negative or beyond reason.
    """

    free_on_resume = frozenset({"folder", "keep", "keep_images", "retries", "pause_s", "stall_s", "tolerate"})

    def __init__(
        self,
        *,
        folder: str | None = None,
        keep: int = 2,
        keep_images: int | None = None,
        retries: int = 3,
        pause_s: float = 1.0,
        stall_s: float = 600.0,
        tolerate: int = 3,
    ) -> None:
        if keep < 1 or (keep_images is not None and keep_images < 1):
            raise ValueError(f"keep and keep_images must be at least 1, got {keep} and {keep_images}")
        if min(retries, pause_s, stall_s, tolerate) < 0:
            raise ValueError(
                f"retries, pause_s, stall_s and tolerate must not be negative, got {retries}, {pause_s}, "
                f"{stall_s} and {tolerate}"
            )
        check_at_most(LONGEST_S, pause_s=pause_s, stall_s=stall_s)
        self.folder, self.keep, self.keep_images = folder, keep, keep_images
        self.retries, self.pause_s, self.stall_s, self.tolerate = retries, pause_s, stall_s, tolerate


class Saver:
    """Saves beside the training, one checkpoint at a time.

    Args:
        policy: see `Checkpoints`.
        store: where to.
        world: all processes make one; where networks are sharded all take part in each save.
        parallelism: of the networks.
        batch: images of a step.
    """

    def __init__(
        self, policy: Checkpoints, store: CheckpointStore, world: World, parallelism: Parallelism, batch: int
    ) -> None:
        self.policy, self.store, self.world, self.batch = policy, store, world, batch
        self.sharded = parallelism.shards(world)
        self.group = world.group() if self.sharded else None
        self.takes_part = self.sharded or world.main
        self.failures, self.lost = 0, 0
        """Failed saves, in a row and all."""
        self._thread: threading.Thread | None = None
        self._started = 0.0
        self._step = 0

    @property
    def fault(self) -> str | None:
        """Why the run cannot go on, if it cannot."""
        if self.failures <= self.policy.tolerate:
            return None
        return f"{self.failures} checkpoints in a row could not be saved to {self.store.url}"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copies the state and lets it be written; waits for the save before it."""
        if not self.takes_part:
            return
        self.wait()
        state = staged(state)
        self._step, self._started = step, time.monotonic()
        self._thread = threading.Thread(target=self._write, args=(step, state), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits until the latest save has ended, or is given up."""
        if self._thread is None:
            return
        self._thread.join(max(0.0, self._started + self.policy.stall_s - time.monotonic()))
        if self._thread.is_alive():
            self._failed(self._step, f"it has not ended after {self.policy.stall_s:g} s")
        self._thread = None

    def _write(self, step: int, state: dict[str, Any]) -> None:
        mine = threading.current_thread()
        for attempt in range(self.policy.retries + 1):
            try:
                self._write_once(step, state)
                if mine is self._thread:
                    self.failures = 0
                return
            except Exception as error:  # every kind of storage has errors of its own
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                if attempt < self.policy.retries and mine is self._thread:
                    logger.warning("checkpoint of step {}: {}; trying again", step, reason)
                    time.sleep(self.policy.pause_s * 2**attempt)
        if mine is self._thread:
            self._failed(step, reason)

    def _write_once(self, step: int, state: dict[str, Any]) -> None:
        if self.group is None:
            self.store.save(step, state)
        else:
            self.store.save_shards(step, *split(state), self.group, self.world.main)
        if self.world.main:
            for old in self.store.steps()[: -self.policy.keep]:
                if not self._for_good(old):
                    self.store.remove(old)

    def _for_good(self, step: int) -> bool:
        every = self.policy.keep_images
        return every is not None and step * self.batch // every > (step - 1) * self.batch // every

    def _failed(self, step: int, reason: str) -> None:
        self.failures, self.lost = self.failures + 1, self.lost + 1
        logger.error("checkpoint of step {} is lost: {}; the last good one stands", step, reason)


def staged(state: dict[str, Any]) -> dict[str, Any]:
    """A copy of a nested state on the CPU, that training does not change; shards stay shards."""
    tensors, rest = split(state)
    if not any(map(may_be_sharded, tensors.values())):
        return joined(rest, {place: value.to("cpu", copy=True) for place, value in tensors.items()})
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions  # imported where needed: it is slow

    options = StagingOptions(
        use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
    )
    return joined(rest, DefaultStager(options).stage(tensors))  # type: ignore[arg-type]

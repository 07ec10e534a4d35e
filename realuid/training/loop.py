"""The loop: steps, what is due after them, checkpoints, and the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from realuid import __version__
from realuid.checkpoints import CheckpointStore
from realuid.checkpoints.nested import joined, split
from realuid.training.assessment import Assessment
from realuid.training.checkpointing import Saver
from realuid.training.clock import Clock
from realuid.training.flops import FlopCounter
from realuid.training.parallelism import own_part, whole
from realuid.training.precision import choose
from realuid.training.replaced import HELD, replaced, stated
from realuid.training.run_folder import RunFolder
from realuid.training.run_log import RunLog
from realuid.training.run_state import RunState
from realuid.training.signals import Interrupted, StopSignal
from realuid.training.tracking import Meters, Tracker
from realuid.training.trainer import Trainer
from realuid.training.watchdog import Watchdog
from realuid.training.world import World
from realuid.utils.errors import CheckpointError, RunError, tolerated
from realuid.utils.keys import key
from realuid.utils.old_files import with_keys_of_today

FAULT = 255
"""Code that a process reports, in place of a signal number, when it cannot continue."""


class Loop:
    """A trainer at work in a run folder: it can be resumed, run and sampled.

    Args:
        trainer: assembled.
        world: the processes; each makes a loop of its own, and they go through it together.
        folder: where everything is written.
        config: the flattened gin text, kept in every checkpoint.
        digests: of what each role's samples depend on, see `Assessment`.

    Raises:
        DataError, CheckpointError, RunError: if data or weights are missing or do not fit, or the processes cannot
            share the work.
        ValueError: if assembled parts do not fit each other.
    """

    def __init__(
        self,
        trainer: Trainer,
        world: World,
        folder: RunFolder,
        config: str,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        if trainer.threads:
            torch.set_num_threads(trainer.threads)
        self.trainer, self.world, self.folder, self.config = trainer, world, folder, config
        self.method, self.context = trainer.method, trainer.context(world)
        with world.main_first():  # who makes a built-in set
            for data in (trainer.data, trainer.prompts):
                if data is not None:
                    data.open(seed=trainer.seed, device=world.device)
        self.stated = stated(trainer.data, trainer.prompts)  # of what was opened, whatever lies there later
        if trainer.asked.classes:
            self.context.frequencies.copy_(trainer.asked.label_counts)
        choice = choose(trainer.compute, self.method, self.context)
        self.method.start(self.context)
        self.assessment = Assessment(self.method, trainer.data, trainer.evaluator, world, digests)
        self.meters, self.state = Meters(world), RunState(regression=choice.precision if choice else None)
        if choice is not None:
            logger.info("regressions in {}: {}", choice.precision, choice.reason)
        self.log = RunLog(trainer, self.context, self.meters, self.state)

    def resume(self) -> None:
        """Loads the newest checkpoint of the folder that is not damaged, if there is any.

        Raises:
            CheckpointError: if all are damaged, or of a run with another teacher, or with other data.
        """
        store = self.folder.store
        while (step := self.world.on_main(store.recover)) is not None:
            state = self._read(store, step)
            if self.world.agree(int(not _finite(state["method"]))) == 0:
                break
            logger.error("the checkpoint of step {} holds weights that are not finite: it is dropped", step)
            self.world.on_main(lambda step=step: store.remove(step))  # type: ignore[misc]
        else:
            return
        if (name := replaced(state, self.stated)) is not None:
            raise CheckpointError(
                f"{self.folder} was begun with other {HELD[name]} than Trainer.{name} holds now: choose another --out, "
                "or --fresh to move it aside"
            )
        if state["versions"] != self._versions():
            logger.warning("begun with {}, resumed with {}: results may differ", state["versions"], self._versions())
        self.method.load_state_dict(state["method"])
        self.method.ema.load_state_dict(state["ema"])
        self.meters.load_state_dict(state["meters"])
        self.state.load_state_dict(state)
        self.context.randomness.attempt = self.state.rolled_back
        compute = self.trainer.compute
        if self.state.regression != compute.chosen:
            logger.info("regressions in {}, as when the run began", self.state.regression)
            compute.chosen = self.state.regression

    def _read(self, store: CheckpointStore, step: int) -> dict[str, Any]:
        self.method.enter(step)
        template = None
        if self.trainer.parallelism.shards(self.world) or not store.path(step).endswith(".pt"):
            for optimizer in self.method.optimizers().values():
                optimizer.materialise()
            template = self._checkpoint(0, 0.0)
        return with_keys_of_today(store.load(step, self.world.device, template))

    def run(self, stop: StopSignal) -> None:
        """Trains, once resumed, to the end; evaluates. Process 0 writes the files.

        Args:
            stop: looked at after every step.

        Raises:
            Interrupted: after SIGINT or SIGTERM to any process, the state saved.
            RunError: if updates keep being left out, or checkpoints cannot be saved; the last good one stands.
        """
        trainer, state = self.trainer, self.state
        self.log.announce(str(self.folder))
        # A run stopped while it was being closed is closed again: its last line may be there already.
        closing = state.done >= trainer.steps and state.last_line is not None
        self.tracker = Tracker(self.folder, state.done - closing, trainer.batch, trainer.loggers, self.world.main)
        if not closing and state.last_line is not None and not self.tracker.has(state.done):
            self.tracker.write(self._where(state.done, state.spent_s) | state.last_line)  # of a run now made longer
        state.last_line = state.last_line if closing else None
        self.saver = Saver(trainer.checkpoints, self.folder.store, self.world, trainer.parallelism, trainer.batch)
        watchdog = Watchdog(
            trainer.timeout_s, lambda reason: self.folder.write_json(self.folder.exit, {"code": 1, "reason": reason})
        )
        self._start_clock()
        with stop.deferred():
            while (step := state.done + 1) <= trainer.steps:
                with watchdog.step(step):
                    # For dropout; all other draws have keys of their own.
                    torch.manual_seed(key("step", trainer.seed, step, self.context.randomness.own.start))
                    self.meters.add(self._counted(step - 1) if state.flops is None else self.method.step(step - 1))
                    asked = self.world.agree(max(stop.number or 0, FAULT if self.saver.fault else 0))
                if self._logs(step) and (stuck := self._stuck(step)):
                    self._roll_back(step, " and ".join(stuck))
                    continue
                state.done = step
                self._report(step)
                if step == trainer.leading_steps:
                    state.flops = None  # the next phase has other steps
                if asked == FAULT:
                    raise RunError(f"step {step}: {self.saver.fault or 'process 0 cannot save checkpoints'}")
                if step == trainer.steps or asked or self._due(step, trainer.checkpoint_images):
                    self.saver.save(step, self._checkpoint(step, self.clock.wall()))
                if asked and step < trainer.steps:
                    self.saver.wait()
                    self.tracker.close()
                    raise Interrupted(asked)
            self.saver.wait()
        if self.world.agree(FAULT if self.saver.failures else 0):
            raise RunError(f"the last checkpoint could not be saved to {self.folder.store.url}")
        self._close()
        self.tracker.close()

    def _start_clock(self) -> None:
        self.clock = Clock(self.state.spent_s, self.state.done * self.trainer.batch)

    def _counted(self, index: int) -> dict[str, Tensor]:
        """The method's step, its arithmetic counted."""
        with FlopCounter() as counter:
            scalars = self.method.step(index)
        self.state.flops = counter.total * self.world.size
        return scalars

    def _report(self, step: int) -> None:
        """Logs metrics, saves grids and evaluates when due; the last step's metrics are written at the end."""
        line: dict[str, Any] = {}
        if self._logs(step):
            line |= self.log.metrics(step, self.clock)
        else:
            self.log.progress(step, self.clock)
        if step == self.trainer.steps:
            self.state.last_line = line
            return
        if self._due(step, self.trainer.sample_images):
            with tolerated("the grid of samples"):
                self.assessment.save_grid(self.folder, f"step_{step:08d}")
        if self.trainer.evaluate_images and self._due(step, self.trainer.evaluate_images):
            line |= self.assessment.quick(self.folder, step, step * self.trainer.batch, self.config)
        if line:
            self.tracker.write(self._where(step, self.clock.wall()) | line)

    def _close(self) -> None:
        """The end of a run whose state is saved: the last metrics, grids, the evaluation, summary.json."""
        trained_s, step = self.clock.wall(), self.state.done
        with tolerated("the grid of samples"):
            self.assessment.save_grid(self.folder, f"step_{step:08d}")
        values = self.assessment.final(self.folder, step, step * self.trainer.batch, self.config)
        for name, value in values.items():
            if isinstance(value, float):
                logger.info("{:<24} {:.4g}", name, value)
        if not self.world.main:
            return
        where = self._where(step, self.clock.wall())
        if self.state.last_line is not None:
            self.tracker.write(where | self.state.last_line | self.assessment.curve(values))
        amounts = {"steps": step, "images": where["images"], "wall_s": where["wall_s"]}
        speed = round(where["images"] / trained_s, 2)
        self.folder.write_json(
            self.folder.summary,
            values
            | amounts
            | {"images_per_s": speed}
            | self.log.damaged()
            | {f"{name}_sha256": checksum for name, checksum in self.stated.items()},
        )

    def _stuck(self, step: int) -> list[str]:
        """Networks whose last `patience` updates (or all so far) were left out."""
        patience = min(self.trainer.patience, step)
        return [role for role, adam in self.method.optimizers().items() if int(adam.in_a_row) >= patience]

    def _roll_back(self, step: int, stuck: str) -> None:
        """Goes back to the newest checkpoint, and on with other random numbers.

        Raises:
            RunError: if that was done too often, or there is no checkpoint; the state is saved for inspection.
        """
        self.saver.wait()
        steps = self.world.on_main(lambda: self.folder.store.steps())
        rolled_back = self.state.rolled_back + 1
        if not steps or rolled_back > self.trainer.rollbacks:
            state = _whole(self._checkpoint(step, self.state.spent_s))
            path = self.world.on_main(lambda: self.folder.store.save_broken(step, state))
            raise RunError(
                f"step {step}: the latest updates of the {stuck} were all left out, their gradients not finite or far "
                f"too large; the state is in {path}" + ("; the last good checkpoint stands" if steps else "")
            )
        logger.warning("step {}: the latest updates of the {} were left out: back to step {}", step, stuck, steps[-1])
        self.resume()
        self.state.rolled_back = self.context.randomness.attempt = rolled_back
        self.tracker.roll_back(self.state.done)
        self._start_clock()

    def _versions(self) -> dict[str, Any]:
        """What the results depend on beside the bindings."""
        return {
            "realuid": __version__,
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
        }

    def _checkpoint(self, step: int, wall: float) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            **self._where(step, wall),
            "config": self.config,
            "versions": self._versions(),
            **self.stated,
            "method": self.method.state_dict(),
            "ema": self.method.ema.state_dict(),
            "meters": self.meters.state_dict(),
            **self.state.state_dict(),
        }

    def _where(self, step: int, wall: float) -> dict:
        return {"step": step, "images": step * self.trainer.batch, "wall_s": round(wall, 3)}

    def _logs(self, step: int) -> bool:
        """Whether the metrics are read after this step: at the end of each phase, too."""
        return self._due(step, self.trainer.log_images) or step in (self.trainer.leading_steps, self.trainer.steps)

    def _due(self, step: int, every: int) -> bool:
        """Whether a multiple of `every` images was passed in this step."""
        return step * self.trainer.batch // every > (step - 1) * self.trainer.batch // every


def _finite(state: dict[str, Any]) -> bool:
    """Whether all floats of this process's part of a state are finite."""
    tensors, _ = split(state)
    local = map(own_part, tensors.values())
    return all(bool(tensor.isfinite().all()) for tensor in local if tensor.is_floating_point())


def _whole(state: dict[str, Any]) -> dict[str, Any]:
    """A state with whole tensors; all processes must ask for it."""
    tensors, rest = split(state)
    return joined(rest, {place: whole(value) for place, value in tensors.items()})

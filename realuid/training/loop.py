"""The loop: steps, what is due after them, checkpoints, and the end of a run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from loguru import logger
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from realuid import __version__
from realuid.checkpoints import sharded
from realuid.errors import RunError
from realuid.keys import key
from realuid.training.assessment import Assessment
from realuid.training.checkpointing import Saver
from realuid.training.clock import Clock
from realuid.training.distribution import Sharded, whole
from realuid.training.folder import RunFolder
from realuid.training.gauges import arithmetic, memory_gib
from realuid.training.signals import Interrupted, StopSignal
from realuid.training.tracking import Meters, Tracker
from realuid.training.trainer import Trainer
from realuid.training.watchdog import Watchdog
from realuid.training.world import World

HEADLINES = ("_loss", "_grad_norm", "gap")
"""How the names of the numbers end that the log shows, too."""

FAULT = 255
"""What a process says instead of a signal's number if it cannot go on."""


class Loop:
    """A trainer at work: it can step, be loaded and be sampled.

    Args:
        trainer: assembled.
        world: the processes; each makes a loop of its own, and they go through it together.

    Raises:
        DataError, CheckpointError, RunError: if data or weights are missing or do not fit, or the processes cannot
            share the work.
        ValueError: if assembled parts do not fit each other.
    """

    def __init__(self, trainer: Trainer, world: World) -> None:
        if trainer.threads:
            torch.set_num_threads(trainer.threads)
        self.trainer, self.world = trainer, world
        self.procedure, self.data = trainer.procedure, trainer.data
        self.context = trainer.context(world)
        with world.main_first():  # who makes a built-in set
            self.data.open(seed=trainer.seed, device=world.device)
        if self.data.classes:
            self.context.frequencies.copy_(self.data.label_counts)
        self.procedure.start(self.context)
        self.assessment = Assessment(self.procedure, self.data, trainer.evaluator, world)
        self.meters, self.done, self.spent_s, self.rolled_back = Meters(world), 0, 0.0, 0
        self.damaged: dict[str, str] = {}
        self.flops: int | None = None
        """Floating-point operations of a step of all processes, counted in the run's first."""
        self.last_line: dict[str, Any] | None = None
        """Numbers of the last step, which are written with the figures at the end."""

    def resume(self, folder: RunFolder) -> None:
        """Loads the newest checkpoint of the folder that is not damaged, if there is any, into the prepared procedure.

        Raises:
            CheckpointError: if all are damaged, or of a run with another teacher.
        """
        store = folder.store
        step = self.world.on_main(store.recover)
        if step is None:
            return
        path = store.path(step)
        sharded_now = isinstance(self.trainer.distribution, Sharded) and self.world.size > 1
        template = None
        if sharded_now or not path.endswith(".pt"):
            for optimizer in self.procedure.optimizers().values():
                optimizer.materialise()
            template = self._state(0, 0.0, "")
        state = store.load(step, self.world.device, template)
        if state["versions"] != self._versions():
            logger.warning("begun with {}, resumed with {}: results may differ", state["versions"], self._versions())
        self.procedure.load_state_dict(state["procedure"])
        self.procedure.ema.load_state_dict(state["ema"])
        self.meters.load_state_dict(state["meters"])
        self.done, self.spent_s, self.damaged = state["step"], state["wall_s"], state["damaged"]
        self.last_line, self.rolled_back, self.flops = state["line"], state["rolled_back"], state["flops"]
        self.context.randomness.attempt = self.rolled_back

    def run(self, folder: RunFolder, config: str, stop: StopSignal) -> None:
        """Trains, once prepared and resumed, to the end; evaluates. Process 0 writes the files.

        Args:
            folder: where everything is written.
            config: the flattened gin text, kept in every checkpoint.
            stop: looked at after every step.

        Raises:
            Interrupted: after SIGINT or SIGTERM to any process, the state saved.
            RunError: if updates keep being left out, or checkpoints cannot be saved; the last good one stands.
        """
        self._announce(folder)
        # A run stopped while it was being closed is closed again: its last line may be there already.
        closing = self.done >= self.trainer.steps and self.last_line is not None
        tracker = None
        if self.world.main:
            tracker = Tracker(folder, self.done - closing, self.trainer.batch, self.trainer.boards)
        if not closing and self.last_line is not None and tracker is not None and not tracker.has(self.done):
            tracker.write(self._where(self.done, self.spent_s) | self.last_line)  # of a run that is now made longer
        self.last_line = self.last_line if closing else None
        saver = Saver(self.trainer.checkpoints, folder.store, self.world, self.trainer.distribution, self.trainer.batch)
        watchdog = Watchdog(
            self.trainer.timeout_s, lambda reason: folder.write_json(folder.exit, {"code": 1, "reason": reason})
        )
        clock = Clock(self.spent_s, self.done * self.trainer.batch)
        with stop.deferred():
            while (step := self.done + 1) <= self.trainer.steps:
                with watchdog.step(step):
                    # For dropout; all other draws have keys of their own.
                    torch.manual_seed(key("step", self.trainer.seed, step, self.context.randomness.own.start))
                    self.meters.add(self._counted(step - 1) if self.flops is None else self.procedure.step(step - 1))
                    asked = self.world.agree(max(stop.number or 0, FAULT if saver.fault else 0))
                logs = self._due(step, self.trainer.log_images) or step == self.trainer.steps
                if logs and (stuck := self._stuck(step)):
                    self._roll_back(folder, saver, tracker, step, config, " and ".join(stuck))
                    clock = Clock(self.spent_s, self.done * self.trainer.batch)
                    continue
                self.done = step
                self._report(folder, tracker, clock, step, config)
                if asked == FAULT:
                    raise RunError(f"step {step}: {saver.fault or 'process 0 cannot save checkpoints'}")
                if step == self.trainer.steps or asked or self._due(step, self.trainer.checkpoint_images):
                    saver.save(step, self._state(step, clock.wall(), config))
                if asked and step < self.trainer.steps:
                    saver.wait()
                    if tracker is not None:
                        tracker.close()
                    raise Interrupted(asked)
            saver.wait()
        if self.world.agree(FAULT if saver.failures else 0):
            raise RunError(f"the last checkpoint could not be saved to {folder.store.url}")
        self._close(folder, tracker, clock, config)
        if tracker is not None:
            tracker.close()

    def _counted(self, index: int) -> dict[str, Tensor]:
        """The procedure's step, its arithmetic counted."""
        with FlopCounterMode(display=False) as counter:
            scalars = self.procedure.step(index)
        self.flops = counter.get_total_flops() * self.world.size
        return scalars

    def _report(self, folder: RunFolder, tracker: Tracker | None, clock: Clock, step: int, config: str) -> None:
        """What is due after a step: numbers, a grid, figures; what the last step says waits for the run's end."""
        line: dict[str, Any] = {}
        if self._due(step, self.trainer.log_images) or step == self.trainer.steps:
            line |= self._read_meters(step, clock)
        if step == self.trainer.steps:
            self.last_line = line
            return
        if self._due(step, self.trainer.sample_images):
            self.assessment.save_grid(folder, f"step_{step:08d}")
        if self.trainer.evaluate_images and self._due(step, self.trainer.evaluate_images):
            line |= self.assessment.quick(folder, step, step * self.trainer.batch, config)
        if line and tracker is not None:
            tracker.write(self._where(step, clock.wall()) | line)

    def _close(self, folder: RunFolder, tracker: Tracker | None, clock: Clock, config: str) -> None:
        """The end of a run whose state is saved: the last numbers, grids and figures, summary.json."""
        trained_s, step = clock.wall(), self.done
        self.assessment.save_grid(folder, f"step_{step:08d}")
        logger.info("evaluating")
        figures = self.assessment.final(folder, step, step * self.trainer.batch, config)
        for name, value in figures.items():
            if isinstance(value, float):
                logger.info("{:<24} {:.4g}", name, value)
        if tracker is None:
            return
        where = self._where(step, clock.wall())
        if self.last_line is not None:
            tracker.write(where | self.last_line | self.assessment.curve(figures))
        amounts = {"steps": step, "images": where["images"], "wall_s": where["wall_s"]}
        speed = round(where["images"] / trained_s, 2)
        folder.write_json(folder.summary, figures | amounts | {"images_per_s": speed} | self._faults())

    def _stuck(self, step: int) -> list[str]:
        """The networks of which so many updates in a row were left out, or all, that going on makes no sense."""
        patience = min(self.trainer.patience, step)
        return [role for role, adam in self.procedure.optimizers().items() if int(adam.in_a_row) >= patience]

    def _roll_back(
        self, folder: RunFolder, saver: Saver, tracker: Tracker | None, step: int, config: str, stuck: str
    ) -> None:
        """Goes back to the newest checkpoint, and on with other random numbers.

        Raises:
            RunError: if that was done too often, or there is no checkpoint; the state is saved for inspection.
        """
        saver.wait()
        steps = self.world.on_main(lambda: folder.store.steps())
        rolled_back = self.rolled_back + 1
        if not steps or rolled_back > self.trainer.rollbacks:
            state = _whole(self._state(step, self.spent_s, config))
            path = self.world.on_main(lambda: folder.store.save_broken(step, state))
            raise RunError(
                f"step {step}: the latest updates of the {stuck} were all left out, their gradients not finite or far "
                f"too large; the state is in {path}" + ("; the last good checkpoint stands" if steps else "")
            )
        logger.warning("step {}: the latest updates of the {} were left out: back to step {}", step, stuck, steps[-1])
        self.resume(folder)
        self.rolled_back = self.context.randomness.attempt = rolled_back
        if tracker is not None:
            tracker.roll_back(self.done)

    def _announce(self, folder: RunFolder) -> None:
        logger.info(
            "{}: {:,} images in {:,} steps of {}, {} process{} of {} at once, seed {}, {} on {} threads",
            folder,
            self.trainer.images,
            self.trainer.steps,
            self.trainer.batch,
            self.world.size,
            "es" if self.world.size > 1 else "",
            self.trainer.batch // self.world.size // self.context.parts,
            self.trainer.seed,
            self.world.device,
            torch.get_num_threads(),
        )
        for role, network in self.procedure.networks().items():
            logger.info("{}: {:,} parameters", role, sum(p.numel() for p in network.parameters()))
        if self.done:
            logger.info("resumed after {:,} images", self.done * self.trainer.batch)

    def _versions(self) -> dict[str, Any]:
        """What the same numbers depend on beside the bindings."""
        return {
            "realuid": __version__,
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
        }

    def _state(self, step: int, wall: float, config: str) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            **self._where(step, wall),
            "config": config,
            "versions": self._versions(),
            "procedure": self.procedure.state_dict(),
            "ema": self.procedure.ema.state_dict(),
            "meters": self.meters.state_dict(),
            "damaged": self.damaged,
            "line": self.last_line,
            "rolled_back": self.rolled_back,
            "flops": self.flops,
        }

    def _where(self, step: int, wall: float) -> dict:
        return {"step": step, "images": step * self.trainer.batch, "wall_s": round(wall, 3)}

    def _due(self, step: int, every: int) -> bool:
        """Whether a multiple of `every` images was passed in this step."""
        return step * self.trainer.batch // every > (step - 1) * self.trainer.batch // every

    def _read_meters(self, step: int, clock: Clock) -> dict[str, float]:
        """The means since the last line, shown."""
        numbers = self.meters.take()
        speed = clock.speed(step * self.trainer.batch)
        logger.info(
            "{:>4.0%}  {:>9,} images  {:>6.0f} img/s  {:>5.0f} s left   {}",
            step / self.trainer.steps,
            step * self.trainer.batch,
            speed,
            (self.trainer.steps - step) * self.trainer.batch / max(speed, 1e-9),
            "  ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name.endswith(HEADLINES)),
        )
        return numbers | {"images_per_s": round(speed, 2)} | self._gauges(speed) | self._left_out() | self._read_data()

    def _gauges(self, speed: float) -> dict[str, float]:
        """What the machine says."""
        device, trainer = self.world.device, self.trainer
        read = {"memory_gib": memory_gib(device)}
        if self.flops:
            peak = trainer.peak_flops if device.type == "cuda" else None
            read |= arithmetic(self.flops, speed, trainer.batch, self.world.size, peak)
        return {name: float(f"{value:.4g}") for name, value in read.items()}

    def _left_out(self) -> dict[str, int]:
        """Updates left out so far, by network, where there were any."""
        counts = {role: int(optimizer.skipped) for role, optimizer in self.procedure.optimizers().items()}
        return {f"{role}_updates_left_out": count for role, count in counts.items() if count}

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


def _whole(state: dict[str, Any]) -> dict[str, Any]:
    """A state with whole tensors; all processes must ask for it."""
    tensors, rest = sharded.split(state)
    return sharded.joined(rest, {place: whole(value) for place, value in tensors.items()})

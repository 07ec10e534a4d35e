"""Path, target, time convention and steps of a pipeline, from its scheduler's configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from realuid.pretrained.conventions import Convention
from realuid.pretrained.other_paths import refuse_other_paths
from realuid.pretrained.pipelines.family import Config, Family
from realuid.utils.errors import CheckpointError

FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
OTHER_STEPS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
"""Settings that space the steps in ways for which we have no grid. The path is the same."""
TARGETS = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
SOLVERS = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler")
SECOND_ORDER = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "final_sigmas_type": "zero",
    "thresholding": False,
}
"""What `DPMSolver` computes, among the settings of `DPMSolverMultistepScheduler`."""
INTERPOLATING = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler")
"""Schedulers whose default is `linspace`, and which then visit times between the entries of the table."""


@dataclass(frozen=True)
class Schedule:
    """What a scheduler's configuration tells.

    Attributes:
        path: of the model, in the path's own time.
        target: what its network predicts.
        time_scale: its network is given the path's time multiplied by this.
        steps: where it is evaluated in many steps, `flow_match` or `table`; None if we have no such grid.
        sampler: which of our samplers takes these steps as the scheduler does, or, where none does, of first order.
    """

    path: Convention
    target: str
    time_scale: float
    steps: Convention | None
    sampler: str


def schedule(config: Config, family: Family, image_tokens: int, per_step: float, origin: str) -> Schedule:
    """Reads a scheduler's configuration.

    Args:
        config: of the scheduler.
        family: the pipeline's entry.
        image_tokens: of an image, on which a dynamic shift depends.
        per_step: what the pipeline multiplies a scheduler's time by before it calls its network.
        origin: name of the folder, for messages.

    Raises:
        CheckpointError: if it is of a kind that we have no path for.
    """
    refuse_other_paths(config, f"{origin}/scheduler")
    kind, entries = str(config.get("_class_name")), int(config.get("num_train_timesteps", 1000))
    if kind in FLOWS or config.get("use_flow_sigmas"):
        path = Convention("linear", {"t_source": 1.0, "t_data": 0.0})
        steps = _flow(config, family, image_tokens, entries)
        return Schedule(path, "velocity", per_step * entries, steps, _sampler(config, "Euler"))
    betas = config.get("trained_betas") or config.get("beta_schedule")
    prediction = str(config.get("prediction_type", "epsilon"))
    if betas is None or prediction not in TARGETS:
        raise CheckpointError(f"{origin}: no path of ours is that of a {kind} with the prediction {prediction}")
    numbers = {"steps": entries, "betas": betas}
    if betas in ("linear", "scaled_linear"):
        numbers |= {"beta_start": config.get("beta_start", 1e-4), "beta_end": config.get("beta_end", 0.02)}
    path = Convention("ddpm", numbers)
    return Schedule(path, TARGETS[prediction], per_step, _table(config, kind), _sampler(config, "DDIM"))


def _sampler(config: Config, first_order: str) -> str:
    """Of second order where the scheduler is, and as ours."""
    usual = all(config.get(name, value) == value for name, value in SECOND_ORDER.items())
    return "DPMSolver" if usual and config.get("_class_name") == "DPMSolverMultistepScheduler" else first_order


def _table(config: Config, kind: str) -> Convention | None:
    """The entries of the table that a scheduler visits."""
    usual = "linspace" if kind in (*SOLVERS, *INTERPOLATING) else "leading"
    spacing = str(config.get("timestep_spacing") or usual)
    if any(config.get(name) for name in OTHER_STEPS) or (kind in INTERPOLATING and spacing == "linspace"):
        return None
    if kind in SOLVERS:
        return Convention("table", {"spacing": "solver"}) if spacing == "linspace" else None
    numbers: dict[str, str | int] = {"spacing": spacing}
    if spacing == "leading":
        numbers["offset"] = int(config.get("steps_offset", 0))
    return Convention("table", numbers)


def _flow(config: Config, family: Family, image_tokens: int, entries: int) -> Convention | None:
    if any(config.get(name) for name in OTHER_STEPS):
        return None
    if str(config.get("_class_name")) not in FLOWS:  # a scheduler for diffusion, on the linear path
        shift = float(config.get("flow_shift") or 1.0)
        return Convention("flow_match", {"shift": shift, "first": 1 - 1 / entries})
    numbers: dict[str, float] = {"shift": float(config.get("shift") or 1.0)}
    smallest = numbers["shift"] / (entries + numbers["shift"] - 1)
    if config.get("use_dynamic_shifting"):
        mu = dynamic_shift(config, image_tokens)
        numbers["shift"] = math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
        smallest = 1 / entries
    if not family.hands_levels:
        numbers["last"] = smallest
    if config.get("shift_terminal"):
        numbers["terminal"] = float(config["shift_terminal"])
    return Convention("flow_match", numbers)


def dynamic_shift(config: Config, image_tokens: int) -> float:
    """mu, linear in the number of tokens of an image."""
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return float(low + (high - low) * (image_tokens - few) / (many - few))

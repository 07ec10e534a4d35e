"""What must fit in a distillation, looked at when it is assembled."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch

from realuid.distillation.students import Student
from realuid.losses import DistillationLoss
from realuid.losses.adversarial import Adversary
from realuid.models.matching import MatchingModel, PosteriorMean, matching_model_of
from realuid.paths.conversions import UndeterminedError
from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight
from realuid.utils.limits import check_at_most

MOST_COUNTED = {"real_batch": 1 << 24, "times_per_sample": 100}
"""Most of what is counted in a step; 10,000 of anything else."""


def check_counts(**counts: int) -> None:
    """Numbers of updates, times and samples are at least one, and such that a step comes to its end.

    Raises:
        ValueError: naming one that is not.
    """
    for name, count in counts.items():
        check_at_most(MOST_COUNTED.get(name, 10_000), **{name: count})
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_models(
    teacher: PosteriorMean,
    student: Student,
    fake: PosteriorMean,
    loss: DistillationLoss,
    times: Iterable[tuple[TimeSampler, Weight]],
    adversary: Adversary | None,
) -> None:
    """Teacher and fake are on one path and determine the loss's target at all times that are drawn; the student starts
    where the teacher's coupling does, and the adversary's head, if there is one, fits the fake network.

    Raises:
        ValueError: if networks, times, weights, paths, sources or features do not fit.
        UndeterminedError: if the loss's target is not determined.
    """
    path = teacher.interpolant
    for model in (teacher, fake):
        if (matching := matching_model_of(model)) is not None:
            matching.check_network()
    for time_sampler, weight in times:
        span = time_sampler.span(path)
        weight.check(path.at(span))
        for who, model in (("teacher", teacher), ("fake", fake)):
            try:
                model.check(loss.target, span)
            except UndeterminedError as error:
                raise UndeterminedError(f"{type(loss).__name__}.target of the {who}: {error}") from None
    _check_same_path(teacher, fake)
    _check_source(student, teacher)
    if adversary is not None:
        _check_adversary(adversary, fake)


def _check_adversary(adversary: Adversary, fake: PosteriorMean) -> None:
    """The head fits the fake network's middle features.

    Raises:
        ValueError: if it does not, or the network has none.
    """
    adversary.time_sampler.span(fake.interpolant)
    given = fake.network.middle_channels if isinstance(fake, MatchingModel) else None
    if given is None:
        raise ValueError("an adversary reads the fake's middle features: a MatchingModel of a UNet is needed")
    if given != adversary.head.channels:
        raise ValueError(
            f"Discriminator.channels = {adversary.head.channels}, but the adversary's fake network gives {given}"
        )


def check_adapted(student: Student) -> None:
    """A student that adapts the teacher's network is shown what that is shown.

    Raises:
        ValueError: if it is given noise as well, or the network takes another number of images.
    """
    if student.noise:
        raise ValueError(
            f"{type(student).__name__}.noise = {student.noise}, but the student is @LoRA(), and the teacher's network "
            f"takes no noise: bind {type(student).__name__}.noise = 0, or a network of the student's own"
        )
    student.model.check_network()


def check_idle(loss: DistillationLoss, sharing: Collection[str], sharded: bool) -> None:
    """The teacher can do without its device while the fake network is trained.

    Raises:
        ValueError: if it is asked meanwhile, shares its weights with the roles in `sharing`, or is cut into shards.
    """
    if loss.fake_step_needs_teacher:
        raise ValueError(f"Teacher.idle_device: {type(loss).__name__} asks the teacher in every fake step: bind None")
    if sharing:
        raise ValueError(
            f"Teacher.idle_device: the teacher's weights are those of the {' and the '.join(sorted(sharing))}, which "
            "adapt them and need them: bind None"
        )
    if sharded:
        raise ValueError("Teacher.idle_device: shards stay on their devices: bind None, or @DDP()")


def _check_source(student: Student, teacher: PosteriorMean) -> None:
    """The student starts where the teacher's coupling does.

    Raises:
        ValueError: if it does not.
    """
    mine, theirs = student.model.coupling.source, teacher.coupling.source
    if mine != theirs:
        raise ValueError(f"the student starts from a {mine} source, the teacher's coupling has a {theirs} source")


def _check_same_path(teacher: PosteriorMean, fake: PosteriorMean) -> None:
    """Teacher and fake must share path and conditioning."""
    mine, theirs = teacher.interpolant, fake.interpolant
    if teacher.source_conditioned != fake.source_conditioned:
        raise ValueError("teacher and fake must both be conditioned on x0, or neither")
    if not same_path(mine, theirs):
        raise ValueError(f"the fake is on {type(theirs).__name__}, the teacher on another path ({type(mine).__name__})")


def same_path(mine: Interpolant, theirs: Interpolant) -> bool:
    """Whether two paths have the same ends and schedules."""
    if (mine.t_source, mine.t_data) != (theirs.t_source, theirs.t_data):
        return False
    times = mine.time(torch.linspace(0, 1, 9, dtype=torch.float64))
    k, j = mine.at(times), theirs.at(times)
    return all(torch.allclose(x, y) for x, y in ((k.a, j.a), (k.b, j.b), (k.g_squared, j.g_squared)))

"""All checks of one assembly, in the order in which one would look for a culprit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from loguru import logger
from torch import Tensor

from realuid.check.game import NOT_QUADRATIC, loss_rows
from realuid.check.gaussian import ExactModel, GaussianPairs, Moments, claimed_moments, data_moments, exact
from realuid.check.network import growth_rows, student_rows, time_rows_of_networks
from realuid.check.path import path_rows, time_rows
from realuid.check.regression import conversion_row, determined, optimum_row, preconditioning_rows
from realuid.check.sampling import sampler_rows
from realuid.check.start import start_rows
from realuid.check.table import Caution, Note, Row, failed
from realuid.check.training import training_rows
from realuid.check.wrong_teacher import wrong_teacher_notes
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import BackwardSimulation
from realuid.distillation.teacher_training import TeacherTraining
from realuid.models.matching import MatchingModel, PosteriorMean, matching_model_of
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight
from realuid.training.method import Method


def check(method: Method, dimensions: Sequence[int] = (1,)) -> list[Row | Note | Caution]:
    """The rows for a teacher's training or a distillation. The method's networks are replaced and not usable after.

    A row that fails may keep later ones from being tried.

    Args:
        method: what is checked.
        dimensions: of the data, for the notes on a wrong teacher.
    """
    if isinstance(method, Distillation):
        return _check_distillation(method, dimensions)
    assert isinstance(method, TeacherTraining)
    return _check_teacher(method)


def _check_teacher(method: TeacherTraining) -> list[Row | Note | Caution]:
    model = method.model
    moments = data_moments(model)
    rows = _check_path(model, moments)
    if failed(rows):
        return rows
    rows += time_rows(model.interpolant, method.time_sampler, method.weight, model.target, "training")
    if failed(rows):
        return rows
    rows += teacher_rows(method)
    rows += _check_model(model, moments, _inner(method.time_sampler, model))
    _begin("sampler")
    return rows + sampler_rows(method.sampler, exact(model, moments), moments)


def _check_distillation(method: Distillation, dimensions: Sequence[int]) -> list[Row | Note | Caution]:
    teacher, loss = method.teacher.model, method.loss
    native = matching_model_of(teacher)
    basis = native if native is not None else matching_model_of(method.fake)
    assert basis is not None, "a fake network is a matching model"
    moments = data_moments(basis)
    path = teacher.interpolant
    rows: list[Row | Note | Caution] = [*start_rows(method)]
    rows += _check_path(teacher, moments)
    if failed(rows):
        return rows
    laws = {"fake": (method.time_sampler, method.weight)}
    generator = method.generator_time_sampler, method.generator_weight
    if generator != laws["fake"]:
        laws["generator"] = generator
    _begin("times and weights")
    for who, (time_sampler, weight) in laws.items():
        rows += time_rows(path, time_sampler, weight, loss.target, who)
    if failed(rows):
        return rows
    _begin("what networks make of it")
    rows += _network_rows(method, moments, generator)
    times = _inner(method.time_sampler, teacher)
    law = GaussianPairs(
        interpolant=path, coupling=teacher.coupling, moments=moments, source_conditioned=teacher.source_conditioned
    )
    if native is not None:
        native_times = times if native is teacher else native.interpolant.time_at(path.sigma_at(times))
        rows += _check_model(native, moments, native_times)
    known = exact(teacher, moments)
    rows.append(conversion_row(known, law, loss.target, times, "loss", _tolerance(teacher)))
    _begin("sampler")
    rows += sampler_rows(method.sampler, known, moments)
    _begin("student and loss")
    rows += _student_rows(method, moments)
    rows += loss_rows(loss, law, times[::4])
    if failed(rows) or rows[-1].what == NOT_QUADRATIC:
        return rows
    rows += time_rows_of_networks(
        loss, law, *generator, "generator", "Distillation.generator_time_sampler or Distillation.time_sampler"
    )
    rows.append(optimum_row(law, loss.target, times, "loss"))
    _begin("training: a small student under the loss")
    rows += training_rows(method.student, loss, law, *generator)
    if isinstance(method.student, BackwardSimulation):
        rows.append(Note("training: BackwardSimulation", "checked as FewSteps: a run's loss sees all its steps mixed"))
    _begin("a wrong teacher")
    return rows + wrong_teacher_notes(loss, law, *generator, dimensions)


def _network_rows(
    method: Distillation, moments: Moments, generator: tuple[TimeSampler, Weight]
) -> list[Row | Note | Caution]:
    """What networks make of the framework, before they are replaced."""
    rows: list[Row | Note | Caution] = []
    target = method.loss.target
    if matching_model_of(method.teacher.model) is not None:
        rows += growth_rows("teacher", method.teacher.model, target, *generator)
    rows += growth_rows("fake", method.fake, target, *generator)
    return rows + student_rows(method.student, moments)


def teacher_rows(method: TeacherTraining) -> list[Note | Caution]:
    """How a teacher's training weighs the errors of its network."""
    return growth_rows(
        "model", method.model, method.model.target, method.time_sampler, method.weight, "TeacherTraining"
    )


def _begin(what: str) -> None:
    """Says what is looked at now: some of it takes a while."""
    logger.info("checking {}", what)


def _check_path(model: PosteriorMean, moments: Moments) -> list[Row | Note | Caution]:
    _begin("path")
    rows: list[Row | Note | Caution] = [*path_rows(model.interpolant, model.coupling, moments)]
    native = matching_model_of(model)
    if native is not None and native is not model and not failed(rows):
        rows += path_rows(native.interpolant, native.coupling, moments)
    return rows


def _check_model(model: MatchingModel, moments: Moments, times: Tensor) -> list[Row | Note | Caution]:
    _begin("model and conversions")
    known = exact(model, moments)
    assert isinstance(known, ExactModel)
    rows: list[Row | Note | Caution] = [optimum_row(known.law, model.target, times, "model")]
    conversions, refused = determined(known, known.law, times)
    rows += conversions
    if refused:
        rows.append(Note("conversion: not determined", ", ".join(refused)))
    return rows + preconditioning_rows(model, claimed_moments(model, moments), times[::4])


def _student_rows(method: Distillation, moments: Moments) -> list[Row | Note | Caution]:
    student, coupling = method.student, method.coupling
    rest = 1 - moments.covariance**2 / (moments.variance0 * moments.variance1)
    if coupling.keeps_source and rest > 1e-9:
        name = type(student).__name__
        note = "" if student.noise else f"x1 is random given x0: bind {name}.noise = 1, and its network's in_multiplier"
        return [Row("student: images of noise beside x0", student.noise, 1, note, "at least")]
    return []


def _inner(law: TimeSampler, model: PosteriorMean) -> Tensor:
    """Times `[9]` of which the law draws, without its outermost thousandths."""
    return law.quantile(torch.linspace(0.001, 0.999, 9, dtype=torch.float64), model.interpolant)


def _tolerance(model: PosteriorMean) -> float:
    """Another path's noise levels are clamped to the native range, which costs a little at its ends."""
    return 1e-4 if isinstance(model, MatchingModel) else 0.05

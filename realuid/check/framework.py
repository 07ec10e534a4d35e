"""All checks of one assembly, in the order in which one would look for a culprit."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.check.game import NOT_QUADRATIC, loss_rows
from realuid.check.gaussian import ExactModel, GaussianPairs, Moments, claimed_moments, data_moments, exact
from realuid.check.path import path_rows, time_rows
from realuid.check.regression import conversion_row, determined, optimum_row, preconditioning_rows
from realuid.check.sampling import sampler_rows
from realuid.check.table import Note, Row, failed
from realuid.check.training import training_rows
from realuid.matching import MatchingModel, PosteriorMean, matching_model_of
from realuid.time_samplers import TimeSampler
from realuid.training.distillation import Distillation
from realuid.training.procedure import Procedure
from realuid.training.teacher import TeacherTraining


def check(procedure: Procedure) -> list[Row | Note]:
    """The rows for a teacher's training or a distillation. The procedure's networks are replaced and not usable after.

    A row that fails may keep later ones from being tried.
    """
    if isinstance(procedure, Distillation):
        return _check_distillation(procedure)
    assert isinstance(procedure, TeacherTraining)
    return _check_teacher(procedure)


def _check_teacher(procedure: TeacherTraining) -> list[Row | Note]:
    model = procedure.model
    moments = data_moments(model)
    rows = _check_path(model, moments)
    if failed(rows):
        return rows
    rows += time_rows(model.interpolant, procedure.time_sampler, procedure.weight, model.target, "training")
    if failed(rows):
        return rows
    rows += _check_model(model, moments, _inner(procedure.time_sampler, model))
    return rows + sampler_rows(procedure.sampler, exact(model, moments), moments)


def _check_distillation(procedure: Distillation) -> list[Row | Note]:
    teacher, loss = procedure.teacher.model, procedure.loss
    native = matching_model_of(teacher)
    basis = native if native is not None else matching_model_of(procedure.fake)
    assert basis is not None, "a fake network is a matching model"
    moments = data_moments(basis)
    path = teacher.interpolant
    rows = _check_path(teacher, moments)
    if failed(rows):
        return rows
    laws = {"fake": (procedure.time_sampler, procedure.weight)}
    generator = procedure.generator_time_sampler, procedure.generator_weight
    if generator != laws["fake"]:
        laws["generator"] = generator
    for who, (time_sampler, weight) in laws.items():
        rows += time_rows(path, time_sampler, weight, loss.target, who)
    if failed(rows):
        return rows
    times = _inner(procedure.time_sampler, teacher)
    law = GaussianPairs(interpolant=path, coupling=teacher.coupling, moments=moments, conditioned=teacher.conditioned)
    if native is not None:
        native_times = times if native is teacher else native.interpolant.time_at(path.noise_to_data(times))
        rows += _check_model(native, moments, native_times)
    known = exact(teacher, moments)
    rows.append(conversion_row(known, law, loss.target, times, "loss", _tolerance(teacher)))
    rows += sampler_rows(procedure.sampler, known, moments)
    rows += _student_rows(procedure, moments)
    rows += loss_rows(loss, law, times[::4])
    if failed(rows) or rows[-1].what == NOT_QUADRATIC:
        return rows
    rows.append(optimum_row(law, loss.target, times, "loss"))
    return rows + training_rows(procedure.student, loss, law, *generator)


def _check_path(model: PosteriorMean, moments: Moments) -> list[Row | Note]:
    rows: list[Row | Note] = [*path_rows(model.interpolant, model.coupling, moments)]
    native = matching_model_of(model)
    if native is not None and native is not model and not failed(rows):
        rows += path_rows(native.interpolant, native.coupling, moments)
    return rows


def _check_model(model: MatchingModel, moments: Moments, times: Tensor) -> list[Row | Note]:
    known = exact(model, moments)
    assert isinstance(known, ExactModel)
    rows: list[Row | Note] = [optimum_row(known.law, model.target, times, "model")]
    conversions, refused = determined(known, known.law, times)
    rows += conversions
    if refused:
        rows.append(Note("conversion: not determined", ", ".join(refused)))
    return rows + preconditioning_rows(model, claimed_moments(model, moments), times[::4])


def _student_rows(procedure: Distillation, moments: Moments) -> list[Row | Note]:
    student, coupling = procedure.student, procedure.coupling
    rest = 1 - moments.covariance**2 / (moments.variance0 * moments.variance1)
    if coupling.keeps_source and rest > 1e-9:
        name = type(student).__name__
        note = "" if student.noise else f"x1 is random given x0: bind {name}.noise = 1, and its network's inputs"
        return [Row("student: images of noise beside x0", student.noise, 1, note, "at least")]
    return []


def _inner(law: TimeSampler, model: PosteriorMean) -> Tensor:
    """Times `[9]` of which the law draws, without its outermost thousandths."""
    return law.quantile(torch.linspace(0.001, 0.999, 9, dtype=torch.float64), model.interpolant)


def _tolerance(model: PosteriorMean) -> float:
    """Another path's noise levels are clamped to the native range, which costs a little at its ends."""
    return 1e-4 if isinstance(model, MatchingModel) else 0.05

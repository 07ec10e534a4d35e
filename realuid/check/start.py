"""Where the networks of a distillation start."""

from __future__ import annotations

from realuid.check.table import Caution, Row, failure
from realuid.distillation.distillation import Distillation
from realuid.distillation.initialisation import start_from
from realuid.distillation.warm_start import HINT
from realuid.models.matching import matching_model_of


def start_rows(method: Distillation) -> list[Row | Caution]:
    """Whether student and fake network can start as they are to, by the shapes of their weights. The networks lose
    their weights."""
    rows: list[Row | Caution] = []
    teacher = matching_model_of(method.teacher.model)
    if teacher is not None:
        teacher.network.to("meta")
    for role, init, posterior in (
        ("student", method.student_init, method.student.model),
        ("fake", method.fake_init, method.fake),
    ):
        model = matching_model_of(posterior)
        if model is None:
            return [failure(f"{role}: a network", f"the {role} is a closed form: it has nothing to train")]
        if init == "random":
            if role == "student" and method.warm_start is None:
                rows.append(
                    Caution("student: starts from random weights", f"distillations collapse from there: {HINT}")
                )
            continue
        if init == "teacher" and role not in method.sharing:  # an adapter of the teacher's network is on it already
            model.network.to("meta")
            try:
                start_from(model, method.teacher.model)
            except ValueError as error:
                rows.append(failure(f"{role}: starts from the teacher", str(error)))
    return rows

"""A teacher that leaves its device while the fake network is trained."""

import pytest
import torch

from realuid.distillation.idle_weights import IdleWeights
from realuid.losses import NormalisedRealUID
from realuid.networks.mlp import MLP
from realuid.paths.targets import Velocity
from tests.distillation.test_lora import distillation, lora, mlp, started
from tests.extras import needs_peft


@pytest.fixture(name="teacher", scope="module")
def _teacher(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(mlp().state_dict(), path)
    return str(path)


def idle(teacher: str, student: MLP, fake: MLP):
    made = distillation(teacher, student, fake)
    made.teacher.idle_device = "cpu"
    return made


def test_the_run_is_the_same_for_the_teacher_is_not_asked_meanwhile(teacher, monkeypatch):
    """While it is away its weights are not numbers."""

    def leave(self: IdleWeights) -> None:
        for weight in self.weights:
            weight.data = torch.full_like(weight, torch.nan)

    monkeypatch.setattr(IdleWeights, "leave", leave)
    plain, made = started(distillation(teacher, mlp(), mlp())), started(idle(teacher, mlp(), mlp()))
    for index in range(2):
        plain.step(index)
        made.step(index)
    for one, other in (
        (plain.student, made.student),
        (plain.fake, made.fake),
        (plain.teacher.model, made.teacher.model),
    ):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@needs_peft
def test_a_teacher_whose_weights_are_the_students_is_never_idle(teacher):
    with pytest.raises(ValueError, match="the teacher's weights are those of the student, which adapt them"):
        started(idle(teacher, lora(), mlp()))


def test_refusals(teacher):
    made = idle(teacher, mlp(), mlp())
    made.loss = NormalisedRealUID(target=Velocity(), alpha=0.9, beta=0.9)
    with pytest.raises(ValueError, match="NormalisedRealUID asks the teacher in every fake step"):
        started(made)

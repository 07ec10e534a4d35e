"""What the training method is told of a loss is true of every one of them."""

import inspect
from dataclasses import replace

import pytest
import torch

from realuid import losses
from realuid.losses import (
    DMD,
    FGM,
    DiffInstruct,
    DistillationLoss,
    GeneralRealUID,
    NormalisedRealUID,
    RealSiD,
    RealUID,
    Reflected,
    SiD,
)
from realuid.paths.targets import Data
from tests.losses.scenes import gradients, images, leaves, timeless

LOSSES = [
    RealUID(target=Data(), alpha=1, beta=1),
    RealUID(target=Data(), alpha=0.92, beta=0.94),
    GeneralRealUID(target=Data(), alpha=1, beta=1, gamma=1),
    GeneralRealUID(target=Data(), alpha=0.92, beta=0.94, gamma=0.8, parametrisation="beta"),
    NormalisedRealUID(target=Data(), alpha=1, beta=1),
    NormalisedRealUID(target=Data(), alpha=0.92, beta=0.94),
    RealSiD(target=Data(), alpha=0.92, beta=0.94, a=0.5),
    SiD(target=Data(), a=1.2),
    FGM(target=Data()),
    DiffInstruct(target=Data()),
    DiffInstruct(target=Data(), alpha=0.9),
    DMD(target=Data()),
    Reflected(loss=RealUID(target=Data(), alpha=1, beta=1), correction=0.75),
]
EACH = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


def test_every_listed_loss_is_concrete_and_here():
    listed = [getattr(losses, name) for name in losses.__all__]
    assert set(listed) == {type(loss) for loss in LOSSES}
    assert all(issubclass(kind, DistillationLoss) and not inspect.isabstract(kind) for kind in listed)


@EACH
def test_the_fake_step_gets_by_with_what_it_declares(loss):
    generated, real = images()
    if not loss.fake_step_needs_teacher:
        generated, real = (replace(terms, teacher=None) for terms in (generated, real))
    value = loss.fake_loss(generated, real if loss.uses_real_data else None)
    assert value.shape == ()
    found = torch.autograd.grad(value, (generated.fake, real.fake), allow_unused=True)
    assert bool(found[0].any())
    assert (found[1] is not None and bool(found[1].any())) is loss.uses_real_data
    if loss.fake_step_needs_teacher:
        asked = generated if loss.fake_step_needs_generated_teacher else real
        without = replace(asked, teacher=None)
        parts = (without, None) if asked is generated else (generated, without)
        with pytest.raises(AssertionError, match="needs the teacher"):
            loss.fake_loss(*parts)


@EACH
def test_gradients_flow_where_it_declares(loss):
    terms = leaves(images()[0])
    value = loss.generator_loss(terms)
    assert value.shape == ()
    fake, target, teacher = gradients(value, terms)
    assert bool(target.any())
    assert bool(fake.any()) is bool(teacher.any()) is loss.differentiates_networks
    if not loss.differentiates_networks:
        plain = replace(terms, fake=terms.fake.detach(), teacher=terms.teacher.detach())
        assert torch.equal(torch.autograd.grad(loss.generator_loss(plain), terms.target)[0], target)


@EACH
def test_weights_and_batches(loss):
    """A weight of zero drops a sample; means run over the batch."""
    generated, _ = images()
    weight = generated.weight * torch.tensor([1.0, 0.0, 1.0, 0.0])
    whole = loss.generator_loss(replace(generated, weight=weight))
    rows = [0, 2]
    part = timeless(*(part[rows] for part in (generated.fake, generated.target, generated.weight, generated.teacher)))
    torch.testing.assert_close(2 * whole, loss.generator_loss(part))

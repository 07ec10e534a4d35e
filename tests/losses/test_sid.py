"""SiD, RealSiD and FGM against their published formulas, written sample by sample, and against RealUID."""

from dataclasses import replace

import pytest
import torch

from realuid.losses import FGM, RealSiD, RealUID, SiD
from realuid.paths.targets import Data, Velocity
from tests.losses.scenes import SCENES, dot, gradients, images, leaves, square

SHARES = [(1.0, 1.0), (0.9, 0.9), (0.92, 0.94)]


def published(terms, a):
    """SiD's generator loss: delta ((y_r - y) - a delta) / omega, omega = mean |y - y_r| clipped and kept constant."""
    total = 0
    for y_f, y, y_r, w in zip(terms.fake, terms.target, terms.teacher, terms.weight, strict=True):
        omega = max((y - y_r).abs().mean().item(), 0.00001)
        total = total + w * ((y_r - y_f) * ((y_r - y) - a * (y_r - y_f)) / omega).sum()
    return total / len(terms.weight)


@pytest.mark.parametrize("a", [0.5, 1.0, 1.2])
def test_sid_is_twice_the_published_loss(a):
    """Value and gradients with respect to f, c and f*: the normaliser has none."""
    terms = leaves(images()[0])
    found, expected = SiD(target=Data(), a=a).generator_loss(terms), 2 * published(terms, a)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, terms), gradients(expected, terms))


def test_the_normaliser_is_clipped():
    terms = leaves(images()[0])
    terms = replace(terms, target=terms.teacher.detach() + 1e-9)  # c = f*
    torch.testing.assert_close(SiD(target=Data(), a=1.2).generator_loss(terms), 2 * published(terms, 1.2))


@pytest.mark.parametrize(("alpha", "beta"), SHARES)
def test_realsid_with_a_half_is_realuid_to_the_last_bit(alpha, beta):
    generated, real = (leaves(terms) for terms in images())
    realuid = RealUID(target=Data(), alpha=alpha, beta=beta)
    realsid = RealSiD(target=Data(), alpha=alpha, beta=beta, a=0.5, normalised=False)
    losses = [loss.generator_loss(generated) for loss in (realuid, realsid)]
    assert torch.equal(*losses)
    assert all(map(torch.equal, *(gradients(loss, generated) for loss in losses)))
    assert torch.equal(realuid.fake_loss(generated, real), realsid.fake_loss(generated, real))
    f, c, teacher = generated.fake, generated.target, generated.teacher
    formula = (teacher - f) * (alpha * (teacher + f) - 2 * beta * c)
    assert torch.equal(losses[0], (formula.flatten(1).sum(1) * generated.weight).mean())


@pytest.mark.parametrize(("alpha", "beta"), SHARES)
@pytest.mark.parametrize("a", [0.5, 1.2])
def test_realsid_is_its_published_formula(alpha, beta, a):
    """A.3: -2 a alpha |d|^2 + 2 alpha <d, f*> - 2 beta <d, c>, over omega if normalised."""
    terms = leaves(images()[0])
    d, w = terms.teacher - terms.fake, terms.weight
    omega = torch.stack([row.abs().mean() for row in (terms.target - terms.teacher).detach()])
    for normalised, weight in ((False, w), (True, w / omega)):
        loss = RealSiD(target=Data(), alpha=alpha, beta=beta, a=a, normalised=normalised)
        expected = -2 * a * alpha * square(d, weight) + 2 * alpha * dot(d, terms.teacher, weight)
        expected = expected - 2 * beta * dot(d, terms.target, weight)
        found = loss.generator_loss(terms)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradients(found, terms), gradients(expected, terms))


@pytest.mark.parametrize("normalised", [True, False])
def test_sid_is_realsid_without_real_data_and_its_fake_network_uids(normalised):
    terms, _ = images()
    sid = SiD(target=Data(), a=1.2, normalised=normalised)
    realsid = RealSiD(target=Data(), alpha=1, beta=1, a=1.2, normalised=normalised)
    uid = RealUID(target=Data(), alpha=1, beta=1)
    assert torch.equal(sid.generator_loss(terms), realsid.generator_loss(terms))
    assert torch.equal(sid.fake_loss(terms, None), uid.fake_loss(terms, None))
    assert not sid.uses_real_data
    assert torch.equal(SiD(target=Data(), a=0.5, normalised=False).generator_loss(terms), uid.generator_loss(terms))


def test_fgm_is_uid_without_its_first_term():
    """FGM's objective is |u* - u|^2 + 2 <u* - u, u - c>, UID's; published are the gradients of the second term."""
    terms = leaves(images()[0])
    d, w = terms.teacher - terms.fake, terms.weight
    second = 2 * dot(d, terms.fake - terms.target, w)
    uid = RealUID(target=Velocity(), alpha=1, beta=1).generator_loss(terms)
    torch.testing.assert_close(uid, square(d, w) + second)
    found = FGM(target=Velocity()).generator_loss(terms)
    torch.testing.assert_close(found, second)
    torch.testing.assert_close(gradients(found, terms), gradients(second, terms))
    assert torch.equal(found, SiD(target=Velocity(), a=1.0, normalised=False).generator_loss(terms))


@pytest.mark.parametrize("a", [0.5, 1.0, 1.2])
def test_the_value_at_the_fakes_optimum(a):
    """2 (1 - a) E ||f* - f^theta||^2: nothing is left to see at a = 1, a negative number beyond."""
    s = SCENES["2-D"]
    distance = float((s.q * (s.teacher - s.own).square()).sum())
    found = float(SiD(target=Velocity(), a=a, normalised=False).generator_loss(s.generated(s.own)))
    assert found == pytest.approx(2 * (1 - a) * distance, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "numbers", "message"),
    [
        (SiD, {"a": 0.0}, "a must be positive, got 0.0"),
        (RealSiD, {"alpha": 0.9, "beta": 0.9, "a": -1.0}, "a must be positive, got -1.0"),
        (RealSiD, {"alpha": 1.2, "beta": 0.9, "a": 0.5}, r"alpha must lie in \(0, 1\]"),
        (RealSiD, {"alpha": 1.0, "beta": 0.9, "a": 0.5}, "alpha = 1 needs beta = 1"),
    ],
)
def test_refusals(kind, numbers, message):
    with pytest.raises(ValueError, match=message):
        kind(target=Data(), **numbers)

"""Normalised RealUID: its inner maximum is the l2 distance of arXiv 2509.22459, A.4, not its square."""

from dataclasses import replace

import pytest
import torch

from realuid.losses import NormalisedRealUID
from realuid.paths.targets import Velocity
from tests.losses.scenes import SCENES, gradients, images, leaves

SHARES = [(1.0, 1.0), (0.9, 0.9), (0.92, 0.94), (0.92, 0.8), (1.0, 0.9)]


def best(s, alpha, beta):
    """What d should point along, times density: ((beta - alpha) p + alpha q) f* - beta q f^theta."""
    return ((beta - alpha) * s.p + alpha * s.q) * s.teacher - beta * s.q * s.own


def objective(loss, s, fake):
    return -loss.fake_loss(s.generated(fake), s.real(fake) if loss.uses_real_data else None)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize(("alpha", "beta"), SHARES)
def test_the_inner_maximum_is_the_distance(name, alpha, beta):
    """Any fake that points the right way attains it: the length of d is free."""
    s, loss = SCENES[name], NormalisedRealUID(target=Velocity(), alpha=alpha, beta=beta)
    assert loss.uses_real_data is not (alpha == beta == 1)
    v = best(s, alpha, beta)
    distance = float(v.norm(dim=1).sum())
    direction = v / v.norm(dim=1, keepdim=True).clamp_min(1e-300)
    length = 0.1 + torch.rand(len(v), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(objective(loss, s, s.teacher - length * direction)) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.92, 0.8)])
def test_ascent_finds_that_maximum_and_no_more(alpha, beta):
    s, loss = SCENES["2-D"], NormalisedRealUID(target=Velocity(), alpha=alpha, beta=beta)
    distance = float(best(s, alpha, beta).norm(dim=1).sum())
    start = torch.randn(s.teacher.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fake = (s.teacher + start).requires_grad_()
    optimizer = torch.optim.Adam([fake], lr=0.05, eps=1e-30, maximize=True)
    values = []
    for _ in range(200):
        optimizer.zero_grad()
        value = objective(loss, s, fake)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[0] < 0.5 * distance
    assert 0.999 * distance < max(values) <= distance * (1 + 1e-9)


def test_the_norm_is_a_samples():
    """Sample by sample, with gradients through the norm; the generator's loss is the generated line."""
    alpha, beta = 0.92, 0.94
    generated, real = (leaves(terms) for terms in images())
    loss = NormalisedRealUID(target=Velocity(), alpha=alpha, beta=beta)

    def line(terms, alpha, beta):
        total = 0
        for f, c, teacher, w in zip(terms.fake, terms.target, terms.teacher, terms.weight, strict=True):
            d = teacher - f
            total = total + w * (d * (alpha * teacher - beta * c)).sum() / d.square().sum().sqrt()
        return total / len(terms.weight)

    found, expected = loss.generator_loss(generated), line(generated, alpha, beta)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, generated), gradients(expected, generated))
    found, expected = loss.fake_loss(generated, real), -expected - line(real, 1 - alpha, 1 - beta)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, real), gradients(expected, real))


def test_a_fake_network_started_from_the_teacher_can_move():
    terms = leaves(images()[0])
    terms = replace(terms, fake=terms.teacher.detach().clone().requires_grad_())
    loss = NormalisedRealUID(target=Velocity(), alpha=1, beta=1).fake_loss(terms, None)
    gradient = gradients(loss, terms)[0]
    assert float(loss.detach()) == 0
    assert bool(torch.isfinite(gradient).all() & (gradient != 0).any())


@pytest.mark.parametrize(("alpha", "beta", "message"), [(0.0, 1.0, "alpha must lie"), (0.9, 1.1, "beta must lie")])
def test_refusals(alpha, beta, message):
    with pytest.raises(ValueError, match=message):
        NormalisedRealUID(target=Velocity(), alpha=alpha, beta=beta)

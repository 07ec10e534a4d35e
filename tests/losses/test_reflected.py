"""Reflected: against General RealUID's closed form, at its fixed point by quadrature, and as a wrapper."""

from dataclasses import replace

import pytest
import torch

from realuid.losses import DMD, FGM, GeneralRealUID, NormalisedRealUID, RealUID, Reflected, SiD
from realuid.losses.ramp import Ramp
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Noise, Velocity
from tests.losses.scenes import gradients, images, leaves, line_law


def uid(target=None):
    return RealUID(target=target or Data(), alpha=1.0, beta=1.0)


@pytest.mark.parametrize("critic", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("s", [1.25, 2.0, 4.0])
def test_with_uid_it_is_general_realuid_with_two_knobs(s, critic):
    """beta = s, alpha = s - kappa (s - 1), gamma = s / (2 s - 1), d = (2 s - 1)(f* - f), times s (2 s - 1): the same
    gradients."""
    ours = Reflected(loss=uid(), correction=1 - 1 / s, critic=critic)
    theirs = GeneralRealUID(target=Data(), alpha=s - critic * (s - 1), beta=s, gamma=s / (2 * s - 1))
    generated, real = (leaves(terms) for terms in images())
    kappa, scale = 2 * s - 1, s * (2 * s - 1)

    def stretched(terms):
        return replace(terms, fake=terms.teacher - kappa * (terms.teacher - terms.fake))

    found, wanted = (
        torch.autograd.grad(loss, (generated.fake, real.fake))
        for loss in (ours.fake_loss(generated, real), theirs.fake_loss(stretched(generated), stretched(real)))
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(scale * one, other)
    for one, other in zip(
        gradients(ours.generator_loss(generated), generated),
        gradients(theirs.generator_loss(stretched(generated)), generated),
        strict=True,
    ):
        torch.testing.assert_close(scale * one, other)


@pytest.mark.parametrize("target", [Velocity(), Data(), Noise()], ids=lambda target: type(target).__name__)
@pytest.mark.parametrize("r", [0.25, 0.75, 1.0])
@pytest.mark.parametrize("inner", [uid, lambda target: SiD(target=target, a=1.2), lambda target: FGM(target=target)])
def test_the_fake_network_is_the_teacher_where_the_error_is_down_to_its_share(inner, r, target):
    """At q = p + (1 - r)(p* - p), a mixture of two Gaussians, no gradient moves f from f*; elsewhere one does."""
    x, t = torch.linspace(-7, 7, 1001, dtype=torch.float64)[:, None], 0.4
    (p, f_data), (p_star, f_star) = (line_law(LinearInterpolant(), target, t, *law) for law in ((0.3, 0.8), (0.7, 0.6)))
    loss = Reflected(loss=inner(target), correction=r)
    terms = images()[0]
    for share, still in ((1 - r, True), (1 - r / 2, False)):
        q = (1 - share) * p(x) + share * p_star(x)
        own = ((1 - share) * p(x) * f_data(x) + share * p_star(x) * f_star(x)) / q
        fake = f_star(x).clone().requires_grad_()
        generated = replace(terms, fake=fake, target=own, weight=q[:, 0], teacher=None)
        real = replace(terms, fake=fake, target=f_data(x), weight=p(x)[:, 0], teacher=f_star(x))
        (gradient,) = torch.autograd.grad(loss.fake_loss(generated, real), fake)
        assert bool(gradient.abs().max() < 1e-12) is still


def test_with_all_of_it_any_function_will_do_for_the_teacher():
    """At q = p no gradient moves f from f*, which here is nobody's posterior mean."""
    generated, real = (leaves(terms) for terms in images())
    same = replace(generated, fake=generated.teacher.detach().requires_grad_(), target=real.target)
    for r, critic, still in ((1.0, 0.0, True), (1.0, 0.7, True), (0.5, 0.0, False)):
        loss = Reflected(loss=uid(), correction=r, critic=critic)
        (gradient,) = torch.autograd.grad(loss.fake_loss(same, same), same.fake)
        assert bool(gradient.abs().max() < 1e-12) is still


def test_a_critic_sees_masses_to_which_the_regression_is_blind():
    """Two modes far apart, of which the student makes one too often: near the clean end every posterior mean is the
    teacher's, so that only the critic moves f from f*. Its divergence is the integral of |f*|^2 (q - p)^2 / (q + p)."""
    x = torch.tensor([[-3.0], [3.0]], dtype=torch.float64)
    p, q, kappa = torch.tensor([0.5, 0.5]).double(), torch.tensor([0.7, 0.3]).double(), 0.5
    terms = images()[0]
    for critic in (0.0, kappa):
        loss = Reflected(loss=uid(), correction=1.0, critic=critic)
        fake = x - critic * ((p - q) / (p + q))[:, None] * x  # the optimum
        fake.requires_grad_()
        generated = replace(terms, fake=fake, target=x, weight=2 * q, teacher=x)
        real = replace(generated, weight=2 * p)
        (gradient,) = torch.autograd.grad(loss.fake_loss(generated, real), fake)
        assert bool(gradient.abs().max() < 1e-12)
        divergence = (critic**2 * x[:, 0] ** 2 * (q - p) ** 2 / (q + p)).sum()
        of_real = 2 * p @ ((x - fake)[:, 0] * (2 * critic * x[:, 0] - (x - fake)[:, 0])) / 2
        torch.testing.assert_close(loss.generator_loss(generated) + of_real, divergence)


def test_a_critic_of_one_leaves_the_teacher_out():
    """With r = kappa = 1 both losses know f and f* by their difference alone, whatever f* is."""
    loss, (generated, real) = Reflected(loss=uid(), correction=1.0, critic=1.0), images()
    other = [replace(terms, teacher=-3 * terms.teacher.sin()) for terms in (generated, real)]
    moved = [
        replace(theirs, fake=theirs.teacher + ours.fake - ours.teacher)
        for ours, theirs in zip((generated, real), other, strict=True)
    ]
    torch.testing.assert_close(loss.generator_loss(moved[0]), loss.generator_loss(generated))
    found, wanted = (
        torch.autograd.grad(loss.fake_loss(*terms), [part.fake for part in terms])
        for terms in ([leaves(part) for part in moved], [leaves(generated), leaves(real)])
    )
    for one, other_one in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other_one)


def test_without_correction_it_is_the_loss_itself():
    generated, _ = images()
    loss = Reflected(loss=SiD(target=Data(), a=1.2), correction=0.0, critic=0.5)
    assert not loss.uses_real_data
    assert torch.equal(loss.fake_loss(generated, None), loss.loss.fake_loss(generated, None))
    assert torch.equal(loss.generator_loss(generated), loss.loss.generator_loss(generated))


def test_what_the_teacher_is_asked_in_a_fake_step():
    """Of generated samples only where the loss itself asks."""
    assert not Reflected(loss=uid(), correction=0.5).fake_step_needs_generated_teacher
    assert Reflected(loss=uid(), correction=0.5, critic=0.1).fake_step_needs_generated_teacher
    assert not Reflected(loss=uid(), correction=0.0, critic=0.5).fake_step_needs_generated_teacher
    normalised = NormalisedRealUID(target=Data(), alpha=1.0, beta=1.0)
    assert Reflected(loss=normalised, correction=0.5).fake_step_needs_generated_teacher
    assert not Reflected(loss=DMD(target=Data()), correction=0.5).differentiates_networks


def test_a_ramp_begins_with_the_loss_itself():
    ramp = Ramp(start=100, end=300)
    assert [ramp(images) for images in (0, 100, 150, 200, 300, 900)] == [0, 0, 0.25, 0.5, 1, 1]
    loss = Reflected(loss=uid(), correction=0.8, critic=0.5, ramp=ramp)
    generated, real = images()
    assert loss.uses_real_data
    assert torch.equal(loss.at(50).fake_loss(generated, real), uid().fake_loss(generated, None))
    half = Reflected(loss=uid(), correction=0.4, critic=0.5)
    assert torch.equal(loss.at(200).fake_loss(generated, real), half.fake_loss(generated, real))
    assert half.at(200) is half
    for start, end in ((3, 3), (-1, 2)):
        with pytest.raises(ValueError, match="0 <= start < end"):
            Ramp(start=start, end=end)


def test_refusals():
    for correction in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"correction must lie in \[0, 1\]"):
            Reflected(loss=uid(), correction=correction)
    with pytest.raises(ValueError, match="critic must not be negative, got -1"):
        Reflected(loss=uid(), correction=1.0, critic=-1.0)
    with pytest.raises(ValueError, match="this RealUID uses them: bind its alpha and beta to 1"):
        Reflected(loss=RealUID(target=Data(), alpha=0.92, beta=0.94), correction=0.5)

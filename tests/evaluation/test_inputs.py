"""Sources, labels and fresh noise of an evaluation: image i depends on the seed and on i alone."""

import pytest
import torch

from realuid.conditions import labelled
from realuid.data.dataset import Batch
from realuid.data.pixels import to_float
from realuid.evaluation.draws import noise
from realuid.evaluation.inputs import GaussianInputs, GivenInputs, ImageInputs, generate
from realuid.utils.errors import DataError
from tests.evaluation.stand_ins import Given

BATCHES = (1, 5, 7, 23, 100)


class Pairs(Given):
    """Images with sources of their own."""

    def __init__(self, images, sources, labels):
        super().__init__(images, labels)
        self.sources, self.has_sources = sources, True

    def examples(self, start, count):
        rows = torch.arange(start, start + count) % len(self)
        return Batch(self.images[rows], labelled(self.labels[rows]), self.sources[rows])


@pytest.fixture(scope="module")
def pairs():
    images, sources = torch.randint(256, (2, 9, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Pairs(images, sources, torch.tensor([0, 1, 1, 0, 2, 2, 1, 0, 1]))


def kinds(data, seed):
    return {
        "noise": GaussianInputs(data, seed),
        "noise, labels in turn": GaussianInputs(data, seed, labelled(torch.arange(3))),
        "images": ImageInputs(data, seed),
        "given images": GivenInputs(data, seed, labelled(torch.arange(2)), data.sources[:4]),
    }


KINDS = ("noise", "noise, labels in turn", "images", "given images")


def mixed(x0, condition, noise):
    """An image that shows its source, its label and two fresh draws."""
    assert not torch.is_grad_enabled()
    return (x0 / 3 + condition["label"][:, None, None, None] / 10 + noise(0) / 5 - noise(1) / 7).clamp(-1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_generated_images_do_not_depend_on_the_batch(kind, pairs):
    inputs = kinds(pairs, 1)[kind]
    whole = generate(mixed, inputs, count=23, batch=23)
    assert whole.shape == (23, 1, 4, 4)
    assert whole.dtype == torch.uint8
    for batch in BATCHES:
        assert torch.equal(generate(mixed, inputs, count=23, batch=batch), whole)
        assert torch.equal(generate(mixed, inputs, start=4, count=11, batch=batch), whole[4:15])
    assert not torch.equal(generate(mixed, kinds(pairs, 2)[kind], count=23, batch=23), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_draws_are_independent_of_each_other_and_of_the_source(kind, pairs):
    inputs = kinds(pairs, 0)[kind]
    draws = [inputs.noise(0, 300, draw).flatten() for draw in range(3)]
    draws.append(noise(0, 0, 300, (1, 4, 4)).flatten())  # the Gaussian source
    correlations = torch.corrcoef(torch.stack(draws)) - torch.eye(4)
    assert float(correlations.abs().max()) < 5 / (300 * 16) ** 0.5
    assert torch.equal(inputs.noise(40, 10, 2), inputs.noise(0, 300, 2)[40:50])


def test_a_gaussian_source_is_that_of_the_seed(pairs):
    assert torch.equal(GaussianInputs(pairs, 3).x0(5, 7), noise(3, 5, 7, (1, 4, 4)))


def test_labels_are_in_proportion_or_in_turn(pairs):
    labels = GaussianInputs(pairs, 0).condition(0, 9)["label"]
    assert torch.equal(torch.bincount(labels), pairs.label_counts)
    assert GaussianInputs(pairs, 0, labelled(torch.tensor([2, 0]))).condition(3, 4)["label"].tolist() == [0, 2, 0, 2]


def test_source_images_come_in_the_order_of_storage_again_and_again(pairs):
    inputs = ImageInputs(pairs, 0)
    rows = torch.arange(6, 6 + 15) % 9
    torch.testing.assert_close(inputs.x0(6, 15), pairs.sources[rows].float() / 127.5 - 1)
    assert torch.equal(inputs.condition(6, 15)["label"], pairs.labels[rows])


def test_given_images_come_again_and_again_with_labels_in_turn(pairs):
    inputs = GivenInputs(pairs, 0, labelled(torch.tensor([1, 2])), pairs.images[:3])
    torch.testing.assert_close(inputs.x0(2, 5), pairs.images[[2, 0, 1, 2, 0]].float() / 127.5 - 1)
    assert inputs.condition(2, 5)["label"].tolist() == [1, 2, 1, 2, 1]


def test_data_without_source_images_are_refused(pairs):
    with pytest.raises(DataError, match="starts from source images, but the data set gives none"):
        ImageInputs(Given(pairs.images, pairs.labels), 0)


def noise_of(shape):
    return GaussianInputs(Given(torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)), 0)


def test_generated_pixels_are_rounded_not_truncated():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    generated = generate(lambda x0, condition, noise: to_float(levels), noise_of((1, 16, 16)), count=1, batch=1)
    assert torch.equal(generated, levels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_do_not_become_pixels(value):
    def broken(x0, condition, noise):
        return x0 if len(x0) == 4 else x0 * value

    with pytest.raises(FloatingPointError, match="images 4 to 5"):
        generate(broken, noise_of((1, 2, 2)), count=6, batch=4)

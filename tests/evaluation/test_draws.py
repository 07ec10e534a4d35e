import pytest
import torch

from realuid.evaluation.draws import _image_seed, balanced_labels, noise


def test_noise_of_an_image_does_not_depend_on_the_cut():
    whole = noise(3, 0, 50, (1, 8, 8))
    assert whole.shape == (50, 1, 8, 8)
    assert whole.dtype == torch.float32
    parts = [noise(3, 0, 7, (1, 8, 8)), noise(3, 7, 1, (1, 8, 8)), noise(3, 8, 42, (1, 8, 8))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(noise(4, 0, 50, (1, 8, 8)), whole)


def test_noise_is_standard_normal_and_independent_between_images():
    draws = noise(0, 0, 4000, (64,)).double()
    assert abs(draws.mean()) < 5 / (4000 * 64) ** 0.5
    assert abs(draws.square().mean() - 1) < 5 * (2 / (4000 * 64)) ** 0.5
    assert abs((draws[1:] * draws[:-1]).mean()) < 5 / (4000 * 64) ** 0.5
    assert torch.linalg.eigvalsh(torch.cov(draws.T)).max() < 1.35  # Marchenko-Pastur: (1 + sqrt(64/4000))^2 = 1.27


def test_no_two_images_share_a_seed():
    for draw in (0, 1):
        seeds = {_image_seed(0, draw, index) for index in range(200_000)}
        assert len(seeds) == 200_000
        assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("counts", [[178, 182, 177, 183, 181, 182, 181, 179, 174, 180], [1, 100, 10], [5, 0, 5], [7]])
def test_label_frequencies_follow_the_data(counts):
    counts = torch.tensor(counts)
    total = int(counts.sum())
    labels = balanced_labels(counts, 0, 2 * total)
    assert torch.equal(torch.bincount(labels[:total], minlength=len(counts)), counts)
    assert torch.equal(labels[:total], labels[total:])
    for count in range(1, total, max(1, total // 50)):
        exact = counts * count / total
        assert (torch.bincount(labels[:count], minlength=len(counts)) - exact).abs().max() <= 1


def test_labels_are_those_of_a_greedy_apportionment():
    counts = [3, 11, 6]
    seats, expected = [0, 0, 0], []
    for _ in range(20):
        winner = max(range(3), key=lambda k: (counts[k] / (2 * seats[k] + 1), -k))
        seats[winner] += 1
        expected.append(winner)
    assert balanced_labels(counts, 0, 20).tolist() == expected


def test_label_of_an_image_does_not_depend_on_the_cut():
    counts = torch.tensor([3, 11, 6])
    whole = balanced_labels(counts, 0, 70)
    assert torch.equal(torch.cat([balanced_labels(counts, start, 7) for start in range(0, 70, 7)]), whole)


def test_unconditional_data_has_label_zero():
    assert balanced_labels(torch.zeros(0, dtype=torch.int64), 5, 4).tolist() == [0, 0, 0, 0]

import time

import pytest
import torch
from loguru import logger

from realuid.data.pixels import to_float
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.small_classifier import SmallClassifier
from realuid.utils.errors import DataError
from tests.evaluation.stand_ins import Given


def few(count=40, shape=(1, 8, 8), classes=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    return Given(images, torch.arange(count) % classes)


def test_it_learns_the_digits(classifier, digits):
    assert classifier.accuracy >= 0.97
    assert (classifier.predict(digits.images) == digits.labels).double().mean() >= 0.97


def test_training_takes_seconds(digits, tmp_path):
    start = time.process_time()
    SmallClassifier(epochs=1, cache=str(tmp_path)).prepare(digits, "cpu")
    assert 20 * (time.process_time() - start) < 15 * 4  # one of twenty epochs; four times the promise for slow machines


def test_features_are_standardised_on_the_real_data(classifier, digits):
    features = classifier(digits.images).double()
    assert features.shape == (len(digits), classifier.num_features)
    assert torch.allclose(features.mean(0), torch.zeros(64, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(features.std(0), torch.ones(64, dtype=torch.float64), atol=1e-5)


def test_it_is_trained_once_and_read_back_bit_equal(classifier, digits, cache, monkeypatch):
    monkeypatch.setattr(SmallClassifier, "_train", lambda *_: pytest.fail("trained although it lies in the cache"))
    lines = []
    sink = logger.add(lines.append, format="{message}")
    again = SmallClassifier(cache=str(cache))
    again.prepare(digits, "cpu")
    logger.remove(sink)
    assert again.checksum == classifier.checksum
    assert again.accuracy == classifier.accuracy
    assert torch.equal(again(digits.images[:50]), classifier(digits.images[:50]))
    assert f"accuracy {classifier.accuracy:.4f}" in "".join(lines)
    assert len(list(cache.iterdir())) == 1


def test_training_twice_gives_the_same_weights_and_other_settings_others(tmp_path):
    def trained(folder, **settings):
        network = SmallClassifier(cache=str(tmp_path / folder), **{"width": 8, "epochs": 1, **settings})
        network.prepare(few(), "cpu")
        return network.checksum

    first = trained("a")
    assert trained("b") == first
    assert trained("a", seed=1) != first
    assert trained("a", width=16) != first
    assert len(list((tmp_path / "a").iterdir())) == 3


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 9, 13)])
def test_any_image_size(shape, tmp_path):
    network = SmallClassifier(width=8, epochs=1, cache=str(tmp_path))
    data = few(shape=shape, classes=3)
    network.prepare(data, "cpu")
    assert network(data.images).shape == (40, 64)
    assert network.predict(data.images).max() <= 2


def test_the_provenance_names_weights_and_accuracy(classifier):
    provenance = classifier.provenance()
    assert provenance == {
        "network": "small-classifier",
        "network_sha256": classifier.checksum,
        "resize": "none",
        "accuracy": classifier.accuracy,
    }
    assert len(classifier.checksum) == 64


def test_checksum_sees_every_weight(tmp_path):
    network = SmallClassifier(width=8, epochs=1, cache=str(tmp_path))
    network.prepare(few(), "cpu")
    before = network.checksum
    network.deviation[3] += 1e-3
    assert network.checksum != before


def test_autocast_outside_does_not_reach_the_features(classifier, digits):
    images = digits.images[:20]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, labels = classifier(images), classifier.predict(images)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, classifier(images))
    assert torch.equal(labels, classifier.predict(images))


def test_training_mode_changes_nothing(classifier, digits):
    expected = classifier(digits.images[:5])
    assert torch.equal(classifier.train()(digits.images[:5]), expected)
    classifier.eval()


def test_mistakes_are_named(classifier, digits, tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="uint8"):
        classifier(to_float(digits.images[:2]))
    with pytest.raises(RuntimeError, match="prepare"):
        SmallClassifier()(digits.images[:2])
    with pytest.raises(DataError, match="labels"):
        SmallClassifier(cache=str(tmp_path)).prepare(few(classes=1), "cpu")
    with pytest.raises(ValueError, match="multiple of 8"):
        SmallClassifier(width=12)
    monkeypatch.setenv("REALUID_DATA", "s3://bucket")
    with pytest.raises(DataError, match=r"SmallClassifier\.cache"):
        SmallClassifier().prepare(few(), "cpu")


def test_a_damaged_file_is_named(tmp_path):
    network = SmallClassifier(width=8, epochs=1, cache=str(tmp_path))
    network.prepare(few(), "cpu")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=path.name):
        network.prepare(few(), "cpu")


def test_the_default_place_is_beside_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path))
    SmallClassifier(width=8, epochs=1).prepare(few(), "cpu")
    assert [path.suffix for path in (tmp_path / "features").iterdir()] == [".pt"]


def test_a_network_without_labels_says_so():
    class Pixels(FeatureNetwork):
        name, num_features = "pixels", 4

        def prepare(self, data, device):
            pass

        def embed(self, images):
            return images.flatten(1).float()

    assert not Pixels().reads_labels
    with pytest.raises(NotImplementedError, match="pixels"):
        Pixels().predict(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))

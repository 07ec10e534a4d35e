import pytest
import torch
from sklearn.datasets import load_digits

from realuid.evaluation.small_classifier import SmallClassifier
from tests.evaluation.stand_ins import Given


@pytest.fixture(autouse=True)
def one_thread_and_the_global_generator_left_alone():
    """No test of this folder may move the global random state; asserted after each."""
    torch.set_num_threads(1)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(autouse=True, scope="session")
def place(tmp_path_factory):
    """REALUID_DATA of these tests, where evaluators keep features."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def digits():
    raw = load_digits()
    images = torch.from_numpy(raw.images * (255 / 16)).round().to(torch.uint8)[:, None]
    return Given(images, torch.from_numpy(raw.target), checksum="digits")


@pytest.fixture(scope="session")
def cache(shared):
    folder, _ = shared
    return folder / "features"


@pytest.fixture(scope="session")
def classifier(digits, cache, shared):
    network = SmallClassifier(cache=str(cache))
    _, lock = shared
    with lock:
        network.prepare(digits, "cpu")
    return network

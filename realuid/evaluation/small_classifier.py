"""A feature network that is trained on the data themselves: a small classifier of labelled images."""

import hashlib
import json
import time
from pathlib import Path

import torch
from loguru import logger
from torch import Tensor, nn
from torch.nn import functional as F

from realuid import checkpoints
from realuid.conditions import LABEL
from realuid.data.dataset import Dataset
from realuid.data.pixels import to_float
from realuid.data.shards.location import locate
from realuid.evaluation.features import FeatureNetwork
from realuid.utils.adamw import AdamW
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import DataError
from realuid.utils.limits import check_at_most

__all__ = ["SmallClassifier"]

LEAST = 4
"""Images that a classifier is trained on and measured with: 80% and 20% are at least one each."""


class SmallClassifier(FeatureNetwork):
    """A small convolutional classifier of the data's own labels; for sets that no published network knows.

    It is trained once, on 80% of the real images, and kept as a file beside the data; its accuracy on the other 20% is
    logged, stored and recorded. The features are its 64 penultimate values, before their nonlinearity (nearer to a
    Gaussian, which is what a Frechet distance assumes), each shifted and scaled to zero mean and unit variance on all
    real images: otherwise the scale of a distance would be an accident of training.

    The weights, and with them the distances, depend on the machine that trained them: compare only results of equal
    provenance. On the CPU the same machine and thread count give the same weights again; a GPU may differ in the last
    bits.

    Args:
        width: channels of the first layer; a multiple of 8.
        epochs: passes over the training part. 20 suit about a thousand images; large sets need fewer.
        seed: of the split, the initial weights, the order and the shifts.
        cache: local folder of the weights; by default `features` inside `REALUID_DATA`.
    """

    name = "small-classifier"
    num_features = 64
    reads_labels = has_logits = True
    body: nn.Sequential
    head: nn.Sequential
    mean: Tensor
    deviation: Tensor

    def __init__(self, *, width: int = 32, epochs: int = 20, seed: int = 0, cache: str | None = None) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise ValueError(f"SmallClassifier.width must be a multiple of 8, not {width}")
        check_at_most(8192, width=width, epochs=epochs)
        self.width, self.epochs, self.seed, self.cache = width, epochs, seed, cache
        self.accuracy = float("nan")  # on the held-out 20%, known after prepare

    def prepare(self, data: Dataset, device: torch.device | str) -> None:
        """Read the weights trained on `data` before, or train and keep them.

        Raises:
            DataError: as `check` does, or the kept file is damaged.
        """
        self.check(data)
        settings = {
            "format": 1,  # count up when the architecture or the training below changes
            "data": data.checksum,
            "shape": list(data.shape),
            "classes": data.classes,
            "width": self.width,
            "epochs": self.epochs,
            "seed": self.seed,
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        path = Path(self._folder) / f"{self.name}-{key}.pt"
        self._build(data.shape, data.classes)
        self.to(device)
        if path.exists():
            self._read(path)
        else:
            start = time.perf_counter()
            self._train(data)
            content = {"settings": settings, "accuracy": self.accuracy, "weights": self.state_dict()}
            write_atomically(path, lambda file: torch.save(content, file))
            logger.info("{}: trained in {:.1f} s", self.name, time.perf_counter() - start)
        logger.info("{}: held-out accuracy {:.4f}, weights in {}", self.name, self.accuracy, path)

    def check(self, data: Dataset) -> None:
        """Raises DataError if the data has fewer than two classes or four images, or there is no place to keep the
        weights."""
        if data.classes < 2:
            raise DataError("SmallClassifier learns from labels: evaluate against the data with its classes declared")
        if len(data) < LEAST:
            raise DataError(f"SmallClassifier learns from {LEAST} images or more, and there are {len(data)}")
        if "://" in self._folder:
            raise DataError(f"{self._folder} is no local folder: bind SmallClassifier.cache to one")

    @property
    def _folder(self) -> str:
        return self.cache or locate("features")

    def embed(self, images: Tensor) -> Tensor:
        return (self.body(to_float(images)) - self.mean) / self.deviation

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        return self.head(features.to(self.device) * self.deviation + self.mean)

    def predict(self, images: Tensor, batch: int = 1000) -> Tensor:
        """Labels [N] (int64, on the CPU) that the classifier reads from uint8 images [N, C, H, W]."""
        with self._plain():
            parts = (self.head(self.body(to_float(part.to(self.device)))) for part in images.split(batch))
            return torch.cat([logits.argmax(dim=1).cpu() for logits in parts])

    def provenance(self) -> dict[str, object]:
        return super().provenance() | {"accuracy": self.accuracy}

    def _build(self, shape: tuple[int, int, int], classes: int) -> None:
        channels, height, width = shape
        body: list[nn.Module] = []
        inputs, outputs = channels, self.width

        def block(stride: int) -> None:
            body.extend([nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()])

        # Layers draw initial values from the global generator on construction: give it back as it was.
        with torch.random.fork_rng(devices=[]):
            block(stride=1)
            while min(height, width) > 4:
                inputs, outputs = outputs, min(2 * outputs, 4 * self.width)
                block(stride=2)
                height, width = (height + 1) // 2, (width + 1) // 2
            inputs = outputs
            block(stride=1)
            body += [nn.Flatten(), nn.Linear(outputs * height * width, self.num_features)]
            self.body = nn.Sequential(*body)
            self.head = nn.Sequential(nn.SiLU(), nn.Linear(self.num_features, classes))
        self.register_buffer("mean", torch.zeros(self.num_features))
        self.register_buffer("deviation", torch.ones(self.num_features))
        self.requires_grad_(False).eval()

    def _read(self, path: Path) -> None:
        try:
            content = checkpoints.load(str(path))
            self.load_state_dict(content["weights"])
            self.accuracy = content["accuracy"]
        except Exception as error:  # whatever a damaged archive raises says nothing about the file
            raise DataError(f"{path} cannot be read ({error}): delete it, and it is made again") from error

    def _train(self, data: Dataset, batch: int = 64, rate: float = 2e-3) -> None:
        """AdamW with a one-cycle rate and shifts of one pixel (no flips: a mirrored digit is another digit)."""
        generator = torch.Generator().manual_seed(self.seed)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                bound = layer.weight[0].numel() ** -0.5
                for weight in layer.parameters():
                    weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))

        real = data.examples(0, len(data))
        labels = real.condition[LABEL]
        order = torch.randperm(len(real.images), generator=generator)
        train, held_out = order.tensor_split([round(0.8 * len(order))])
        steps = self.epochs * -(-len(train) // batch)
        self.requires_grad_(True)
        optimizer = AdamW(self.parameters(), lr=rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        for _ in range(self.epochs):
            for chosen in train[torch.randperm(len(train), generator=generator)].split(batch):
                images = _shifted(real.images[chosen], generator)
                with torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
                    logits = self.head(self.body(to_float(images.to(self.device))))
                    loss = F.cross_entropy(logits, labels[chosen].to(self.device))
                    optimizer.zero_grad()
                    loss.backward()
                optimizer.step()
                schedule.step()
        self.requires_grad_(False)

        features = torch.cat([self(part).double() for part in real.images.split(1000)])
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_(features.std(dim=0).clamp(min=1e-6))
        read = self.predict(real.images[held_out])
        self.accuracy = (read == labels[held_out].cpu()).double().mean().item()


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [N, C, H, W] moved by -1, 0 or 1 pixels both ways; what enters repeats the edge."""
    count, _, height, width = images.shape
    offsets = torch.randint(-1, 2, (2, count, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height)).clamp(0, height - 1)[:, :, None]  # [N, H, 1]
    columns = (offsets[1] + torch.arange(width)).clamp(0, width - 1)[:, None, :]  # [N, 1, W]
    items = torch.arange(count)[:, None, None]
    return images.permute(0, 2, 3, 1)[items, rows, columns].permute(0, 3, 1, 2)

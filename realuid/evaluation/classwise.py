"""The Frechet distance within each class."""

from __future__ import annotations

from realuid.evaluation.frechet import frechet_distance
from realuid.evaluation.metric import Metric, Samples
from realuid.evaluation.moments import Moments

__all__ = ["ClasswiseFrechet"]


class ClasswiseFrechet(Metric):
    """`classwise_frechet`: the mean over the classes of the Frechet distance between generated and real images of one
    class.

    This is the intra-class FID of Miyato and Koyama (2018, arXiv:1802.05637). `worst_class_frechet` is the largest of
    the distances, `compared_classes` the number of classes with `least_of_class` images or more in both sets.

    It shows a badly drawn class that the distance of all images together hides. It needs many images: like the distance
    of a whole set, that of a class falls with the number of its images.

    Args:
        least_of_class: smallest number of images of a class on either side; classes with fewer are left out.

    Raises:
        ValueError: if `least_of_class` is less than two; when computed, if no class is left.
    """

    names = ("classwise_frechet", "worst_class_frechet", "compared_classes")
    reads = ("features", "label")
    halves = 3

    def __init__(self, *, least_of_class: int = 2) -> None:
        if least_of_class < 2:
            raise ValueError(f"ClasswiseFrechet.least_of_class must be at least 2, got {least_of_class}")
        self.least_of_class = least_of_class
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"least_of_class": self.least_of_class}

    def measure(self, real: Samples, generated: Samples) -> dict[str, float]:
        distances = []
        for label in generated["label"].unique():
            sides = [side["features"][side["label"] == label] for side in (generated, real)]
            if min(len(features) for features in sides) >= self.least_of_class:
                distances.append(frechet_distance(*(Moments.of(features) for features in sides)))
        if not distances:
            raise ValueError(f"ClasswiseFrechet: no class has {self.least_of_class} images on both sides")
        values = (sum(distances) / len(distances), max(distances), float(len(distances)))
        return dict(zip(self.names, values, strict=True))

"""Whether generated images show what was asked for."""

from __future__ import annotations

from realuid.evaluation.metric import Metric, Samples

__all__ = ["LabelAccuracy"]


class LabelAccuracy(Metric):
    """`label_accuracy`: share in [0, 1] of the generated images that the feature network reads as the class label that
    was asked for.

    An `Evaluator` adds it by itself if the feature network's classes are those of the data (`reads_labels`).
    """

    names = ("label_accuracy",)
    higher_is_better = True
    reads = ("logits", "label")
    reads_real = ()
    cheap = True
    least = 1

    def measure(self, real: Samples, generated: Samples) -> dict[str, float]:
        agree = generated["logits"].argmax(dim=1) == generated["label"]
        return {"label_accuracy": agree.double().mean().item()}

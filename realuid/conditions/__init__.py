"""What a model is told beside x_t: class labels, prompt embeddings, images, or nothing."""

from realuid.conditions.condition import Condition, labelled
from realuid.conditions.fields import LABEL, Field, class_label, classes_of, unmet

__all__ = ["LABEL", "Condition", "Field", "class_label", "classes_of", "labelled", "unmet"]

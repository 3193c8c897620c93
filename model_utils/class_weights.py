"""Weights of classes: given by name, or from how often each one occurs.

    weights = ClassWeights(labels, "balanced"); weights.balance({"rare": 10, "common": 990})
    weights = ClassWeights(labels, {"rare": 5.0})       # 1 for all others
    cross_entropy(logits, gold, weights())

C classes.

Copy: alone; needs torch.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn


class ClassWeights(nn.Module):
    """A buffer, so that a saved model has the weights that it was trained with."""

    values: torch.Tensor

    def __init__(self, labels: Sequence[str], weights: str | Mapping[str, float] | None, binary: bool = False):
        """
        Args:
            labels: class names in the order of the class numbers.
            weights: None, "balanced", or weights of some classes by label.
            binary: every class is a decision of its own, see `balance`.

        Raises: ValueError for a label that is not there or a weight that is none.
        """
        super().__init__()
        self.labels, self.binary = list(labels), binary
        self.balanced = weights == "balanced"
        if weights is None:
            return
        if not self.balanced and not isinstance(weights, Mapping):
            raise ValueError(f"class_weights must be balanced, or weights by label, found {weights!r}")
        given = dict(weights) if isinstance(weights, Mapping) else {}
        if unknown := [label for label in given if label not in self.labels]:  # also 1 where a label is '1'
            raise ValueError(f"class_weights: no label {unknown[0]!r}; there are {', '.join(map(repr, self.labels))}")
        if wrong := [v for v in given.values() if not isinstance(v, int | float) or not 0 <= v < math.inf]:
            raise ValueError(f"class_weights: {wrong[0]!r} is no weight; give numbers, not negative")
        self.register_buffer("values", torch.tensor([float(given.get(label, 1.0)) for label in self.labels]))

    def balance(self, counts: Mapping[str, int], num_records: int) -> None:
        """Weights from the training data, if they are "balanced".

        records / (classes that occur * occurrences), so that the mean weight of a record is 1 (as in scikit-learn); for
        binary decisions (records - occurrences) / occurrences, so that yes and no weigh the same in each class. 1 for a
        class that does not occur, and for a binary one that every record has.
        """
        if not self.balanced:
            return
        found = torch.tensor([float(counts.get(label, 0)) for label in self.labels])
        weights = (num_records - found) / found if self.binary else num_records / ((found > 0).sum() * found)
        self.values.copy_(torch.where((found > 0) & (weights > 0), weights, 1.0))

    def forward(self) -> torch.Tensor | None:
        """(C,), or None."""
        return getattr(self, "values", None)

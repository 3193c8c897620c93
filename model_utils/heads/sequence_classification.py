"""One label per text (or pair of texts).

    head = Head(hidden_size=384, labels=["negative", "positive"], pooling="mean")

B texts, H hidden size, C classes.

Copy: with ../class_weights.py, ../inputs.py, ../losses.py, ../pooling.py, ../scores/classification.py; needs torch,
numpy; can use scikit-learn, seqeval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..class_weights import ClassWeights
from ..inputs import record_mean
from ..losses import Criterion, cross_entropy, kl_divergence
from ..pooling import check_pooling, pool


class Head(nn.Module):
    """Pooling, dropout, linear layer, cross-entropy."""

    LABEL_LEVEL = "sequence"
    MONITOR = "accuracy"
    LOWER_IS_BETTER = ()

    def __init__(
        self,
        hidden_size: int,
        labels: Sequence[str],
        dropout: float = 0.1,
        pooling: str = "cls",
        class_weights: str | dict[str, float] | None = None,
    ):
        """
        Args:
            labels: class names in the order of the class numbers.
            pooling: one of pooling.POOLING.
            class_weights: "balanced", or label -> weight (1 where not given).
        """
        super().__init__()
        self.labels, self.pooling = list(labels), check_pooling(pooling)
        self.all_layers = pooling == "first_last_mean"
        self.class_weights = ClassWeights(labels, class_weights)
        self.criterion: Criterion = cross_entropy
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, len(self.labels))

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        pooled = record_mean(pool(hidden_states, batch["attention_mask"], self.pooling), batch)  # (B, H)
        return self.classifier(self.dropout(pooled))  # (B, C)

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Texts with a gold label; labels (B,)."""
        return (labels != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        criterion = self.criterion if self.training else cross_entropy
        return criterion(logits, labels, self.class_weights()).sum()

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        losses = cross_entropy(logits, labels, self.class_weights())
        return losses.masked_fill(labels == -100, float("nan"))

    def divergence(self, logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return kl_divergence(logits, others, labels != -100)

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[str]:
        return [self.labels[i] for i in logits.argmax(-1).tolist()]

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[float]:
        """Probability of the predicted label."""
        return logits.float().softmax(-1).amax(-1).tolist()

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score

        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }

    def report(
        self, predictions: Sequence[str], references: Sequence[str], confidences: Sequence[float]
    ) -> dict[str, Any]:
        """Figures per class, confusions, calibration."""
        from ..scores.classification import calibration, class_report, confusions

        right = [predicted == gold for predicted, gold in zip(predictions, references, strict=True)]
        return {
            **class_report(predictions, references, self.labels),
            "confusions": confusions(predictions, references, self.labels),
            "calibration": calibration(confidences, right),
        }

"""One label per text (or pair of texts).

    head = Head(hidden_size=384, labels=["negative", "positive"], pooling="mean")

Copy together with: model_utils/pooling.py. B texts, H hidden size, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..pooling import POOLING, pool


class Head(nn.Module):
    """Pooling, dropout, linear layer, cross-entropy."""

    LABEL_LEVEL = "sequence"
    MONITOR = "accuracy"
    LOWER_IS_BETTER = ()

    def __init__(self, hidden_size: int, labels: Sequence[str], dropout: float = 0.1, pooling: str = "cls"):
        """labels: class names in the order of the class numbers; pooling: one of pooling.POOLING."""
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"unknown pooling {pooling!r}; there are {', '.join(POOLING)}")
        self.labels = list(labels)
        self.pooling = pooling
        self.all_layers = pooling == "first_last_mean"
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, len(self.labels))

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        pooled = pool(hidden_states, batch["attention_mask"], self.pooling)  # (B, H)
        return self.classifier(self.dropout(pooled))  # (B, C)

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Texts with a gold label; labels (B,)."""
        return (labels != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        return F.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum")

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

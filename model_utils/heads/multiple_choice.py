"""Which of some choices is right, each read together with the text (and question).

    head = Head(hidden_size=384, labels=[])

B records, R inputs (one per choice), K most choices of a record.

Copy: with ../inputs.py, ../losses.py, ../pooling.py, ../scores/classification.py; needs torch, numpy; can use
scikit-learn, seqeval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..inputs import per_record
from ..losses import kl_divergence
from ..pooling import check_pooling, pool


class Head(nn.Module):
    """Pooling, dropout, a score per choice, cross-entropy over the choices of a record."""

    LABEL_LEVEL = "choice"
    MONITOR = "accuracy"
    LOWER_IS_BETTER = ()

    def __init__(self, hidden_size: int, labels: Sequence[str] = (), dropout: float = 0.1, pooling: str = "cls"):
        """labels: none; pooling: one of pooling.POOLING."""
        super().__init__()
        self.pooling = check_pooling(pooling)
        self.all_layers = pooling == "first_last_mean"
        self.dropout = nn.Dropout(dropout)
        self.scorer = nn.Linear(hidden_size, 1)

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        """(B, K); -inf where a record has no such choice."""
        pooled = pool(hidden_states, batch["attention_mask"], self.pooling)  # (R, H)
        scores = per_record(self.scorer(self.dropout(pooled))[:, 0].float(), batch)  # (B, K)
        return scores.masked_fill(~batch["input_mask"], float("-inf"))

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Records with a gold choice; labels (B,)."""
        return (labels != -100).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        losses = F.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
        return losses.masked_fill(labels == -100, float("nan"))

    def divergence(self, logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return kl_divergence(logits, others, labels != -100)

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[int]:
        return logits.argmax(-1).tolist()

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[float]:
        """Probability of the predicted choice."""
        return logits.softmax(-1).amax(-1).tolist()

    def score(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        right = sum(predicted == gold for predicted, gold in zip(predictions, references, strict=True))
        return {"accuracy": right / len(references)}

    def report(
        self, predictions: Sequence[int], references: Sequence[int], confidences: Sequence[float]
    ) -> dict[str, Any]:
        """Calibration."""
        from ..scores.classification import calibration

        right = [predicted == gold for predicted, gold in zip(predictions, references, strict=True)]
        return {"calibration": calibration(confidences, right)}

"""One number per text (or pair of texts).

    head = Head(hidden_size=384, labels=[], pooling="mean")

B texts, H hidden size.

Copy: with ../inputs.py, ../pooling.py, ../scores/ranking.py; needs torch; can use numpy, scipy.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..inputs import record_mean
from ..pooling import check_pooling, pool

LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}


class Head(nn.Module):
    """Pooling, dropout, linear layer, squared (or absolute) error."""

    LABEL_LEVEL = "number"
    MONITOR = "spearman"
    LOWER_IS_BETTER = ("mse", "mae")
    EXACT = False

    def __init__(
        self,
        hidden_size: int,
        labels: Sequence[str] = (),
        dropout: float = 0.1,
        pooling: str = "cls",
        loss: str = "mse",
        limits: Sequence[float] | None = None,
    ):
        """
        Args:
            labels: none.
            pooling: one of pooling.POOLING.
            loss: "mse", "l1" or "smooth_l1".
            limits: lowest and highest number; the output is a sigmoid between them.
        """
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; there are {', '.join(LOSSES)}")
        if limits is not None and not (len(limits) == 2 and -math.inf < limits[0] < limits[1] < math.inf):
            raise ValueError(f"limits must be the lowest and the highest number, found {limits}")
        self.pooling, self.error, self.limits = check_pooling(pooling), LOSSES[loss], limits
        self.all_layers = pooling == "first_last_mean"
        self.dropout = nn.Dropout(dropout)
        self.regressor = nn.Linear(hidden_size, 1)

    def forward(self, hidden_states: Sequence[torch.Tensor], batch: Mapping[str, Any]) -> torch.Tensor:
        pooled = record_mean(pool(hidden_states, batch["attention_mask"], self.pooling), batch)  # (B, H)
        with torch.autocast(pooled.device.type, enabled=False):  # bf16 has two or three digits
            numbers = self.regressor(self.dropout(pooled).float())[:, 0]  # (B,)
        if self.limits is None:
            return numbers
        low, high = self.limits
        return low + (high - low) * numbers.sigmoid()

    def num_items(self, labels: torch.Tensor) -> torch.Tensor:
        """Texts with a gold number; labels (B,), NaN = none."""
        return (~labels.isnan()).sum()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        known = ~labels.isnan()
        # not logits[known]: its size would have to be read back from the device
        return self.error(torch.where(known, logits, 0.0), torch.where(known, labels, 0.0), reduction="sum")

    def record_losses(self, logits: torch.Tensor, labels: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        return self.error(logits, labels.to(logits.dtype), reduction="none")  # NaN stays NaN

    def divergence(self, logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Squared differences."""
        return torch.where(labels.isnan(), 0.0, (logits - others) ** 2).sum()

    def decode(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[float]:
        return logits.tolist()

    def confidences(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[None]:
        """None: a number has no probability."""
        return [None] * len(logits)

    def score(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        import numpy as np

        from ..scores.ranking import pearson, spearman

        errors = np.asarray(predictions) - np.asarray(references)
        return {
            "spearman": spearman(predictions, references),
            "pearson": pearson(predictions, references),
            "mse": float(np.square(errors).mean()),
            "mae": float(np.abs(errors).mean()),
        }

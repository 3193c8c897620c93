"""GHM, the gradient harmonizing mechanism: items whose gradients are like those of many others count less.

Li, Liu, Wang: Gradient Harmonized Single-stage Detector, AAAI 2019, https://arxiv.org/abs/1811.05181, GHM-C. The
length g = 1 - p of an item's gradient, p being the probability of what is right, falls into one of M equal bins
between 0 and 1. With R items of N in its bin the loss of an item is N / (R * M) times its cross-entropy; R is a
running mean over batches. Very easy items count less as there are so many of them, and so do outliers that stay
wrong, as they are alike, too.

Three ways to use it:

    criterion = GHM(bins=10, momentum=0.75)
    loss = criterion(scores, labels).mean()             # 1. familiar call: scores (…, C), labels (…), a loss per item
    loss = criterion(scores, yes_or_no, weights).mean() # 2. decisions: labels (…, C) of 0 and 1, a loss per decision

    sh run.sh --use_ghm --ghm_bins 10                   # 3. by flag, for all tasks of classes

A task alone: `criterion: {name: ghm, bins: 10}` in `tasks`. Evaluation reports the plain loss.
Exact where copies of this trick usually are not: the running mean starts at the first batch's counts, not at 0;
weights have no gradient; items with label -100 are in no bin; `state_dict` resumes the counts; no value is read back
from the device; fp32 also under autocast.
Cost: none to speak of. The counts are those of a micro-batch of one process, so accumulation and several processes
change them a little. Conflicts: label smoothing, focal and dice; labels of a CRF.

Copy: alone; needs torch.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class GHM:
    """Cross-entropy divided by the density of gradients."""

    def __init__(self, bins: int = 10, momentum: float = 0.75):
        """bins: M above; momentum: share of the old counts in the running mean, below 1. Raises ValueError."""
        if bins < 1 or not 0 <= momentum < 1:
            raise ValueError(f"GHM: bins must be at least 1, momentum at least 0 and below 1, "
                             f"found {bins} and {momentum}")  # fmt: skip
        self.bins, self.momentum = bins, momentum
        self.counts: Tensor | None = None  # (M,), once a batch has been seen

    def __call__(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """
        Args:
            scores: (…, C), before softmax or sigmoid.
            labels: class numbers (…), -100 = none; or (…, C) of 0 and 1, -100 = unknown.
            weights: (C,) of the classes; of decisions they count where the label is 1.

        Returns: losses shaped like `labels`.
        """
        scores = scores.float()
        if labels.shape == scores.shape:
            gold = labels.clamp(min=0).float()
            losses = F.binary_cross_entropy_with_logits(scores, gold, pos_weight=weights, reduction="none")
            lengths = torch.where(labels > 0, -scores, scores).detach().sigmoid()
            return self.weights(lengths, labels >= 0) * torch.where(labels < 0, 0.0, losses)
        losses = F.cross_entropy(scores.flatten(0, -2), labels.flatten(), weights, reduction="none").view(labels.shape)
        right = scores.detach().softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return self.weights(1 - right, labels != -100) * losses

    def weights(self, lengths: Tensor, known: Tensor) -> Tensor:
        """N / (R * M) of each item, after this batch has been counted."""
        bins = (lengths * self.bins).long().clamp(max=self.bins - 1)
        found = torch.zeros(self.bins, device=bins.device).index_add_(0, bins.flatten(), known.float().flatten())
        if self.counts is None:
            self.counts = found
        else:
            self.counts = self.counts.to(found.device).lerp(found, 1 - self.momentum)
        return self.counts.sum() / (self.counts[bins] * self.bins).clamp(min=1e-12)

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.counts = state["counts"]


if __name__ == "__main__":
    p = torch.tensor([[0.9, 0.1], [0.85, 0.15], [0.05, 0.95], [0.5, 0.5]])  # g = 0.1, 0.15, 0.95 and one without label
    expected = -p[:3, 0].log() * torch.tensor([3 / (2 * 4), 3 / (2 * 4), 3 / (1 * 4)])  # 3 items; bins 0, 0, 3 of 4
    losses = GHM(bins=4)(p.log(), torch.tensor([0, 0, 0, -100]))
    torch.testing.assert_close(losses, torch.cat([expected, torch.zeros(1)]))

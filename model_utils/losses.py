"""Classification losses with class weights, and divergences of predictions.

    losses = cross_entropy(scores, labels, class_weights)       # class numbers, or a decision of its own for each class
    apart = kl_divergence(scores, others, known)                # a sum

C classes; "…" stands for any dimensions in front.

Copy: alone; needs torch.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

Criterion = Callable[..., torch.Tensor]
"""(scores, labels, class_weights=None) -> losses, as `cross_entropy`; those of tricks/ take its place in training."""


def cross_entropy(
    scores: torch.Tensor, labels: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """
    Args:
        scores: (…, C) before softmax or sigmoid; computed in fp32.
        labels: class numbers (…), -100 = none; or (…, C) of 1 for the classes that an item has, else 0, -100 = unknown.
        class_weights: (C,); an item's loss is multiplied by that of its label, a decision's where the item has the
            class (torch's `pos_weight`). The sum is not divided by them.

    Returns: losses shaped like `labels`, 0 where there is none.
    """
    scores = scores.float()
    if labels.shape == scores.shape:
        gold = labels.clamp(min=0).float()
        losses = F.binary_cross_entropy_with_logits(scores, gold, pos_weight=class_weights, reduction="none")
        return torch.where(labels < 0, 0.0, losses)
    return F.cross_entropy(scores.flatten(0, -2), labels.flatten(), class_weights, reduction="none").view(labels.shape)


def kl_divergence(scores: torch.Tensor, others: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """KL(P || Q) of the softmax of scores and others (…, C), which may have -inf at the same places, summed over those
    items (…) that are known: 0-dim, fp32."""
    p, q = (s.float().clamp(min=-1e4).log_softmax(-1) for s in (scores, others))  # -inf - -inf would be NaN
    return torch.where(known, (p.exp() * (p - q)).sum(-1), 0.0).sum()

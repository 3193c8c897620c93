"""Sums of classification losses, with class weights, label smoothing and focal weighting.

    loss = cross_entropy(logits, labels, class_weights=weights, label_smoothing=0.1)
    loss = binary_cross_entropy(logits, gold, class_weights=weights, focal_gamma=2.0)

Label smoothing: Szegedy et al. 2016 (arXiv 1512.00567). Focal loss: Lin et al. 2017 (arXiv 1708.02002), each loss times
(1 - p)^gamma, p being the probability of what is right. Both together are refused: smoothing asks for p below 1, focal
weighting reads p as how easy an item is. Imports torch only. B items, C classes.
"""

import math

import torch
from torch.nn import functional as F

# (1 - p)^gamma has an infinite derivative at p = 1 if gamma is below 1, and p is rounded to 1 in fp32
LEAST = 1e-7


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> torch.Tensor:
    """
    Args:
        logits: (B, C); computed in fp32.
        labels: (B,), -100 = none.
        class_weights: (C,); an item's loss is multiplied by that of its label (with smoothing, the part of each class
            by its own). The sum is not divided by them.
        label_smoothing: 1 and 0 become 1 - s + s/C and s/C.
        focal_gamma: 0 = off.

    Returns: the sum over the items, 0-dim.
    """
    refuse_both(label_smoothing, focal_gamma)
    logits = logits.float()
    losses = F.cross_entropy(logits, labels, class_weights, reduction="none", label_smoothing=label_smoothing)  # (B,)
    if focal_gamma:
        right = logits.softmax(-1).gather(-1, labels.clamp(min=0)[:, None])[:, 0]
        losses = (1 - right).clamp(min=LEAST) ** focal_gamma * losses
    return losses.sum()


def binary_cross_entropy(
    logits: torch.Tensor,
    gold: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> torch.Tensor:
    """
    Args:
        logits: (B, C); computed in fp32.
        gold: (B, C), 1 for the classes that an item has, else 0.
        class_weights: (C,); multiplies the loss of a class where an item has it, as torch's `pos_weight`.
        label_smoothing: 1 and 0 become 1 - s/2 and s/2.
        focal_gamma: 0 = off.

    Returns: the losses of each item, summed over its classes: (B,).
    """
    refuse_both(label_smoothing, focal_gamma)
    logits, gold = logits.float(), gold.float()
    target = gold * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits, target, pos_weight=class_weights, reduction="none")
    if focal_gamma:
        wrong = torch.where(gold > 0, -logits, logits).sigmoid()  # 1 - p
        losses = wrong.clamp(min=LEAST) ** focal_gamma * losses
    return losses.sum(-1)


def refuse_both(label_smoothing: float, focal_gamma: float) -> None:
    if label_smoothing and focal_gamma:
        raise ValueError("give label_smoothing or focal_gamma, not both")
    if not 0 <= label_smoothing < 1 or not 0 <= focal_gamma < math.inf:
        raise ValueError("label_smoothing must be at least 0 and below 1, focal_gamma not negative")

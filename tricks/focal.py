"""Focal loss: items that are already right count little.

Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002.
The loss of an item is -(1 - p)^gamma * log(p), p being the probability of what is right; gamma 0 is cross-entropy.

Three ways to use it:

    criterion = Focal(gamma=2.0)
    loss = criterion(scores, labels).mean()             # 1. familiar call: scores (…, C), labels (…), a loss per item
    loss = criterion(scores, yes_or_no, weights).mean() # 2. decisions: labels (…, C) of 0 and 1, a loss per decision

    sh run.sh --use_focal --focal_gamma 2.0             # 3. by flag, for all tasks of classes

A task alone: `criterion: {name: focal, gamma: 2.0}` in `tasks`. Evaluation reports the plain loss.
Exact where copies of this trick usually are not: (1 - p) comes from the opposite score, not from rounding p; the
gradient is finite at p = 1 also for gamma below 1; the factor has a gradient of its own, as in the paper; items with
label -100 have loss 0; fp32 also under autocast.
Cost: none to speak of. Conflicts: label smoothing (it asks for p below 1, while focal weighting reads p as how easy
an item is), dice, GHM; labels of a CRF.

Copy: alone; needs torch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# (1 - p)^gamma has an infinite derivative at p = 1 if gamma is below 1, and p is rounded to 1 in fp32
LEAST = 1e-7


class Focal:
    """Cross-entropy weighted by how wrong an item is."""

    def __init__(self, gamma: float = 2.0):
        """gamma: not negative; larger = easy items count less. Raises ValueError."""
        if not 0 <= gamma < math.inf:
            raise ValueError(f"focal: gamma must not be negative, found {gamma}")
        self.gamma = gamma

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
            losses = torch.where(labels < 0, 0.0, losses)
            wrong = torch.where(labels > 0, -scores, scores).sigmoid()
        else:
            losses = F.cross_entropy(scores.flatten(0, -2), labels.flatten(), weights, reduction="none")
            losses = losses.view(labels.shape)
            others = scores.softmax(-1).scatter(-1, labels.clamp(min=0)[..., None], 0.0)
            wrong = others.sum(-1)  # 1 - p
        return wrong.clamp(min=LEAST) ** self.gamma * losses


if __name__ == "__main__":
    scores, labels = torch.tensor([[3.0, 1.0, -2.0], [0.0, 0.0, 1.0]], requires_grad=True), torch.tensor([1, -100])
    p = scores[0].softmax(0)[1]
    torch.testing.assert_close(Focal(1.5)(scores, labels).sum(), -((1 - p) ** 1.5) * p.log())
    q = scores[1].sigmoid()[2]
    torch.testing.assert_close(Focal(1.5)(scores[1:], torch.tensor([[0, 0, 1]]))[0, 2], -((1 - q) ** 1.5) * q.log())
